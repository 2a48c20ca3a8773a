"""How a run was made, in words."""

from __future__ import annotations

from robusteval.analysis import show
from robusteval.analysis.results import Results
from robusteval.results.digest import digest
from robusteval.results.keeping import number_left_out
from robusteval.results.manifest import ProtocolRecord


def facts(results: Results) -> list[tuple[str, str]]:
    """The manifest, as far as a reader wants it in words."""
    m = results.manifest
    model, data = m.model, m.data
    shape = " x ".join(map(str, model.input_shape))
    return [
        (
            "Model",
            f"{model.name} ({model.arch or 'architecture not named'}, {model.num_classes} classes, {shape})",
        ),
        *([("Trained by", model.training)] if model.training else []),
        ("Model file", model.path or "none: given in Python"),
        ("Model fingerprint", model.fingerprint),
        *([("Features", f"the input of layer {model.feature_layer}")] if model.feature_layer else []),
        *(("Source of transfer", f"{s.name}, {s.fingerprint}") for s in m.sources),
        ("Data", f"{data.source}, {show.images(data.count)}"),
        ("Data fingerprint", data.fingerprint),
        ("Protocol", f"{m.protocol.name}: {m.protocol.description}"),
        *(("Judged by", text) for text in judged_by(results)),
        ("Budgets", _budgets(m.protocol)),
        ("Seed", str(m.seed)),
        ("Computed on", f"{m.device}, {m.dtype}, batches of {m.batch_size}"),
        ("Started", m.started),
        ("Finished", m.finished or "not yet"),
        *(("Images kept", text) for text in images_kept(results)),
        ("Versions", ", ".join(f"{k} {v}" for k, v in ({"robusteval": m.robusteval} | m.versions).items())),
        ("Digest of the run", f"{digest(m)} (sha256 of its claims and evidence; robusteval verify prints it)"),
    ]


def judged_by(results: Results) -> list[str]:
    """What counts as right, where that is not the class that the model predicts."""
    top, target = results.manifest.protocol.top, results.manifest.protocol.target
    said = [f"the top {top}: an image is right while its label is among the model's {top} best classes"] * (top > 1)
    if target is not None:
        names = results.manifest.data.class_names
        called = f" ({names[target]})" if target < len(names) and names[target] != str(target) else ""
        said.append(
            f"class {target}{called} alone: an image is right while the model does not give that class, whatever else "
            f"it gives; the images of that class were left out"
        )
    return said


def images_kept(results: Results) -> list[str]:
    """Whose images the run keeps as evidence, where that is not all of them."""
    kind, left = results.manifest.images_kept, number_left_out(results.manifest)
    if kind == "all":
        return []
    whose = f"of {show.images(results.manifest.data.count - left)}, drawn by the seed" if kind == "sample" else "none"
    return [
        f"{whose} (--evidence {kind}): the adversarial examples of {left:,} cannot be looked at again; verifying "
        "with --data and --attacks searches them anew"
    ]


def _budgets(protocol: ProtocolRecord) -> str:
    said = [f"{n.symbol} {', '.join(map(show.budget, values))}" for n, values in protocol.budgets.items()]
    for norm, own in protocol.own_budgets.items():
        low, high = (show.budget(pick(own.values(), default=0.0)) for pick in (min, max))
        said.append(f"{norm.symbol}, each image its own, {low} to {high}")
    return "; ".join(said) or "none"
