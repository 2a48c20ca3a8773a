"""How a run was made, and what each of its stages took."""

from __future__ import annotations

from typing import Any

from robusteval.audit.run import Run
from robusteval.reports import names, show
from robusteval.reports.grid import Grid
from robusteval.reports.summary import Summary


def costs(summary: Summary) -> Grid:
    """What each stage took."""
    total = sum(c.seconds for c in summary.costs) or 1.0
    rows = [
        [
            c.title,
            c.kind,
            show.count(c.forwards / summary.n),
            show.count(c.backwards / summary.n),
            show.seconds(c.seconds),
            show.percent(c.seconds / total),
            "-" if c.outside is None else show.percent(c.outside),
        ]
        for c in summary.costs
        if c.available
    ]
    headings = ["Method", "kind", "forwards an image", "backwards an image", "time", "share of time"]
    note = (
        "Evaluations of the model an image, forward and backward, averaged over all images. Outside the model: the "
        "share of a method's time that went neither into a forward nor into a backward pass, its own overhead; all of "
        "it where a proof is carried through the layers."
    )
    return Grid("Cost of each method", [*headings, "outside the model"], rows, text=2, note=note)


def facts(run: Run) -> list[tuple[str, str]]:
    """The manifest, as far as a reader wants it in words."""
    m = run.manifest
    model, data = m["model"], m["data"]
    shape = " x ".join(map(str, model["input_shape"]))
    return [
        (
            "Model",
            f"{model['name']} ({model['arch'] or 'architecture not named'}, {model['num_classes']} classes, {shape})",
        ),
        ("Model file", model["path"] or "none: given in Python"),
        ("Model fingerprint", model["fingerprint"]),
        *(("Source of transfer", f"{s['name']}, {s['fingerprint']}") for s in m["sources"]),
        ("Data", f"{data['source']}, {show.images(data['count'])}"),
        ("Data fingerprint", data["fingerprint"]),
        ("Protocol", f"{m['protocol']['name']}: {m['protocol']['description']}"),
        ("Budgets", _budgets(m["protocol"]["budgets"])),
        ("Seed", str(m["seed"])),
        ("Computed on", f"{m['device']}, {m['dtype']}, batches of {m['batch_size']}"),
        ("Started", m["started"]),
        ("Finished", m["finished"] or "not yet"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in ({"robusteval": m["robusteval"]} | m["versions"]).items())),
    ]


def _budgets(budgets: dict[str, Any]) -> str:
    return (
        "; ".join(f"{names.NORMS[n]} {', '.join(map(show.budget, values))}" for n, values in budgets.items()) or "none"
    )
