"""A model card as people read it."""

from __future__ import annotations

import shlex

from robusteval.models.card import ModelCard
from robusteval.reports.formats.markdown import escaped, fenced, titled_tables
from robusteval.reports.grid import Grid


def card_markdown(card: ModelCard) -> str:
    """The card in Markdown: what it is, how it was trained, how to use it."""
    t, accuracy = card.trained, card.accuracy
    shape = " x ".join(map(str, card.input_shape))
    shares = {"training images": accuracy.training, "images held out": accuracy.validation}
    shares[f"{accuracy.test_images} images of {accuracy.test_data}"] = accuracy.test
    own = {name: str(value) for name, value in t.settings.items() if value is not None}
    names = {name: f"{name.replace('_', ' ')}{' of the training' if name in own else ''}" for name in t.training}
    how = {
        "defense": f"{t.defense} ({t.package})",
        **own,
        **{names[name]: str(value) for name, value in t.training.items()},
        "images": f"{t.images} of {t.data}, sha256 {t.data_fingerprint[:16]}",
        "normalisation": _normalisation(card),
        "best epoch": "the last one" if card.best_epoch is None else str(card.best_epoch),
        "time": f"{card.seconds:g} s on {card.device}",
        "versions": f"robusteval {card.robusteval}, torch {card.torch}",
        "weights": f"sha256 {card.weights}",
    }
    measured = [[name, f"{share:.4f}"] for name, share in shares.items() if share is not None]
    grids = [
        Grid("Accuracy", ["on", "share"], measured),
        Grid("How it was trained", ["setting", "value"], [[name, value] for name, value in how.items()], text=2),
    ]
    parts = [
        f"# {escaped(card.name)}",
        f"{escaped(t.title)}. {escaped(card.arch)}, {card.parameters:,} parameters; images {shape} with pixels in "
        f"[0, 1], {card.num_classes} classes.",
        *titled_tables(grids),
        fenced(card.command),
        "Accuracy says nothing of robustness. An audit measures that, and needs no further setting:",
        fenced(f"robusteval audit {shlex.quote(card.name + '.safetensors')} --data DATA --out RUN"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _normalisation(card: ModelCard) -> str:
    if card.mean is None or card.std is None:
        return "none"
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (card.mean, card.std))
    return f"mean {mean}; standard deviation {std}"
