"""What audits will run and may cost, as the command line says it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robusteval.core.times import spoken

if TYPE_CHECKING:
    from robusteval.auditing.forecast import Forecast
    from robusteval.auditing.protocol import Protocol
    from robusteval.core.images import Images
    from robusteval.models.classifier import Classifier


def forecasts(
    models: Sequence[Classifier], images: Images, protocol: Protocol, sources: Sequence[Classifier] = (), **options: Any
) -> list[Forecast]:
    """What the audits of these models, each with all others as sources, will run and may cost; `options` are those of
    auditing.forecast."""
    from robusteval.auditing.forecast import forecast

    return [
        forecast(model, images, protocol, [*(m for m in models if m is not model), *sources], **options)
        for model in models
    ]


def planned(found: Forecast) -> str:
    """A forecast in one line."""
    passes, unknown = found.passes, len(found.unknown)
    cost = f"{shortened(passes.forward)} forward and {shortened(passes.backward)} backward passes"
    time = f", about {spoken(found.seconds)} of the model alone" if math.isfinite(found.seconds) else ""
    others = "1 stage" if unknown == 1 else f"{unknown} stages"
    besides = f", besides {others} that nobody can tell beforehand" if unknown else ""
    images = "1 image" if found.images == 1 else f"{found.images:,} images"
    return f"plan: {found.model}: {len(found.stages)} stages on {images}, {cost}{time}{besides}"


def shortened(number: float) -> str:
    """Passes, to three digits: 950, 12,300, 4.56 million."""
    for size, word in ((1e9, " billion"), (1e6, " million")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{word}"
    return f"{float(f'{number:.3g}'):,.0f}"
