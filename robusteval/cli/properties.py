"""A VNN-LIB property on the command line: its image for a model, and whether proofs cover its box."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robusteval.core.errors import UserError

if TYPE_CHECKING:
    from robusteval.core.images import Images
    from robusteval.results.run import Run


def check_asked(data: str | None, path: Path | None) -> None:
    """Raises UserError unless one of --data and --property is given."""
    if (data is None) == (path is None):
        raise UserError(f"expected --data or --property, got {'both' if data else 'none'}")


def property_image(path: Path, checkpoints: list[str]) -> tuple[Images, float]:
    """The middle of the box for a single ONNX model, and the budget in Linf that covers the box. Raises UserError."""
    from robusteval.data.vnnlib import read_property
    from robusteval.models.onnx.file import read_onnx
    from robusteval.models.onnx.network import image_shape

    if len(checkpoints) != 1 or not checkpoints[0].lower().endswith(".onnx"):
        raise UserError(f"expected one .onnx model for --property, got {', '.join(checkpoints)}")
    model = Path(checkpoints[0])
    return read_property(path).images(image_shape(read_onnx(model)))


def property_verdict(path: Path, run: Run, budget: float) -> str:
    """What the proofs of a run say of the property: that it holds, or that this is open."""
    from robusteval.core.methods import Guarantee
    from robusteval.core.norms import Norm

    rows = run.table("certificates")
    proofs = rows[
        (rows["kind"] == Guarantee.PROOF.value) & (rows["norm"] == Norm.LINF.value) & (rows["subject"] == "f")
    ]
    if proofs.empty:
        return f"Property {path}: open, no proof in Linf was computed"
    best = proofs.sort_values("radius").iloc[-1]
    if best["radius"] >= budget:
        return f"Property {path}: holds, {best['method']} proves the class within {best['radius']:.6g} of {budget:.6g}"
    return f"Property {path}: open, no proof covers its {budget:.6g}"
