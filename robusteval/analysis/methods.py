"""What the rows of a paper's table are called: the training method, as the model's card says it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from robusteval.analysis.by_label import ByLabel
from robusteval.analysis.results import Results
from robusteval.results.manifest import ModelRecord

Key = tuple[str, str]


def method_rows(runs: Sequence[Results]) -> list[ByLabel]:
    """The runs as rows, and with them what the models are called that their transfer attacks were made on."""
    shown = method_names([m for results in runs for m in (results.manifest.model, *results.manifest.sources)])
    return [
        ByLabel(
            results.run,
            shown[_key(results.manifest.model)],
            {source.name: shown[_key(source)] for source in results.manifest.sources},
        )
        for results in runs
    ]


def method_names(models: Sequence[ModelRecord]) -> dict[Key, str]:
    """By fingerprint and name, how each model was trained, or its name where no card says so. Models of the same
    training get their names as well, those of the same name the beginnings of their fingerprints."""
    found = {_key(m): m.training or m.name for m in models}
    found = _apart(found, {key: key[1] for key in found})
    return _apart(found, {key: key[0][:8] for key in found})


def _key(model: ModelRecord) -> Key:
    return model.fingerprint, model.name


def _apart(found: dict[Key, str], by: dict[Key, str]) -> dict[Key, str]:
    """The names, and where one is of several models what tells them apart."""
    often = Counter(found.values())
    return {k: f"{name} ({by[k]})" if often[name] > 1 and name != by[k] else name for k, name in found.items()}
