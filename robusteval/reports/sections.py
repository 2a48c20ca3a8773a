"""What the parts of a report say, as plain text in rows: shared by HTML and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robusteval.audit.run import Run
from robusteval.reports import names, show
from robusteval.reports.distances import Reach, measured, norms, stage_wins, wins
from robusteval.reports.intervals import Mean, median
from robusteval.reports.show import Round
from robusteval.reports.summary import Summary

COLUMNS = 6
"""Of more budgets a table shows only so many; curves have them all."""


@dataclass(frozen=True)
class Grid:
    """A table: its title, its headings, and rows of text as long as they are. `text` columns come first."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    text: int = 1
    note: str = ""
    """What a reader must know, below it."""
    name: str = ""
    """Of its file, where it has one of its own."""


def verdict(summary: Summary) -> str:
    """The run in two sentences."""
    said = (
        f"{summary.model} classifies {show.percent(summary.clean.value)} of {summary.n:,} images of {summary.data} "
        "correctly."
    )
    strongest = {r.norm: r for r in summary.robust}
    parts = [
        f"at most {show.percent(r.share.value, Round.UP)} under {names.NORMS[r.norm]} {show.budget(r.budget)}"
        for r in strongest.values()
    ]
    return f"{said} Under attack that falls to {' and '.join(parts)}." if parts else said


def notes(summary: Summary) -> list[str]:
    """What a reader must know before believing the numbers."""
    found = []
    if not summary.complete:
        found.append("This run is not finished: stages are missing.")
    if summary.contradictions:
        where = "; ".join(f"{title} on {count:,}" for title, count in summary.contradicted)
        found.append(
            f"Contradictions: on {_images(summary.contradictions)} a lower bound lies above a witness, so it is wrong "
            f"there: {where}."
        )
    found += [f"{c.title} could not run: {c.reason}" for c in summary.unavailable]
    dependent = [c.title for c in summary.costs if c.available and not c.batch_independent]
    if dependent:
        found.append(
            f"Results of {'; '.join(dependent)} may depend on how the images were cut into batches; their seed is "
            "fixed per batch."
        )
    return found


def attacks(summary: Summary) -> list[Grid]:
    """Per norm: what each attack achieved at each budget, and what that took."""
    found = []
    for norm, title in names.NORMS.items():
        rows = [c for c in summary.costs if c.kind == "attack" and c.available and c.norm == norm]
        asked = {r.budget for r in summary.robust if r.norm == norm}
        budgets = _some(sorted({s.budget for c in rows for s in c.successes}), asked)
        if rows:
            grid = []
            for c in rows:
                at = {s.budget: show.percent(s.share.value) for s in c.successes}
                middle = show.upper(c.median.value, norm) if c.median else "-"
                grid.append([names.bare(c.title, norm), *(at.get(b, "-") for b in budgets), middle])
            headings = ["Attack", *(f"fooled at {show.budget(b)}" for b in budgets), "median distance"]
            found.append(Grid(f"Attacks in {title}", headings, grid))
    return found


def _some(budgets: list[float], first: set[float]) -> list[float]:
    """At most COLUMNS of them, those of the protocol first, then evenly from the smallest to the largest."""
    rest = [b for b in budgets if b not in first]
    wanted = min(max(COLUMNS - len(first), 0), len(rest))
    even = np.linspace(0, len(rest) - 1, wanted).round().astype(int)
    return sorted({*first.intersection(budgets), *(rest[i] for i in even)})


def distances(run: Run, found: list[Reach]) -> list[Grid]:
    """How far the attacks had to go, per norm; the areas under their curves; who came closest; what else they
    measured."""
    grids = [*(_minimum(n, found) for n in norms(run)), *(_averaged(n, found) for n in norms(run))]
    grids += [_wins(run), _stages(run), _measured(run)]
    return [g for g in grids if g.rows]


def _minimum(norm: str, found: list[Reach]) -> Grid:
    rows = [r for r in found if r.norm == norm and r.own]
    headings = ["Attack", "not found", "mean of found", "95 % interval", "median", "95 % interval"]
    headings += {"l2": ["mean square", "relative"], "linf": ["relative"]}.get(norm, [])
    cells = []
    for r in rows:
        cell = [names.bare(r.title, norm), f"{r.failures:,}", *_mean(r.mean, norm)]
        cell += [show.upper(r.median.value, norm), show.distances(r.median.low, r.median.high, norm)]
        if norm == "l2":
            cell.append(show.significant(r.mean_square))
        if norm in ("l2", "linf"):
            cell.append(show.significant(r.relative))
        cells.append(cell)
    note = (
        "Over all images, a misclassified one at 0. The mean leaves out the images without a witness, which are "
        "counted beside it; the median takes them as infinite. Distances of an attack with fixed budgets are those of "
        "its witness at the smallest budget that broke the image."
    )
    if norm == "l2":
        note += (
            " Mean square: squared distance over the number of pixel values (Moments' energy). Relative: distance over "
            "the size of the image, which is rho_adv for DeepFool."
        )
    return Grid(f"Minimum distances in {names.NORMS[norm]}", headings, cells, note=note)


def _mean(mean: Mean, norm: str) -> list[str]:
    if not mean.n:
        return [show.NONE_FOUND, "-"]
    interval = show.distances(mean.low, mean.high, norm) if np.isfinite(mean.high) else "-"
    return [show.upper(mean.value, norm), interval]


def _averaged(norm: str, found: list[Reach]) -> Grid:
    rows = [r for r in found if r.norm == norm and r.own and r.areas]
    limits = [limit for limit, _ in rows[0].areas] if rows else []
    headings = ["Attack", *(h for x in limits for h in (f"over [0, {show.budget(x)}]", "95 % interval"))]
    cells = []
    for r in rows:
        cell = [names.bare(r.title, norm)]
        for _, share in r.areas:
            cell += [show.percent(share.value, Round.UP), show.percents(share.low, share.high)] if share else ["-", "-"]
        cells.append(cell)
    note = (
        "Accuracy averaged over all budgets of the range: the area under the curve, over its width. At most, as "
        "every accuracy under attack. None where an attack was tried at smaller budgets only."
    )
    return Grid(f"Averaged accuracy in {names.NORMS[norm]}", headings, cells, note=note)


def _wins(run: Run) -> Grid:
    counts = wins(run)
    rows = [[title, *(f"{n:,}" for n in row)] for title, row in zip(counts.index, counts.to_numpy(), strict=True)]
    headings = ["Attack", *(f"closest in {names.NORMS[n]}" for n in counts.columns)]
    note = "Images on which each attack found the closest witness of all, the first of equals."
    return Grid("Closest witness of each image", headings, rows if len(counts.columns) else [], note=note)


def _stages(run: Run) -> Grid:
    rows = [[title, stage, f"{images:,}"] for title, stage, images in stage_wins(run)]
    return Grid("What broke the images inside an ensemble", ["Attack", "stage", "images"], rows, text=2)


def _measured(run: Run) -> Grid:
    rows = [
        [title, quantity, show.significant(at), f"{n:,}", show.significant(mean), show.significant(middle)]
        for title, quantity, at, n, mean, middle in measured(run)
    ]
    headings = ["Attack", "quantity", "at", "images", "mean", "median"]
    return Grid("What attacks measured beside distances", headings, rows, text=2)


def certificates(run: Run) -> Grid | None:
    """Each certificate: what it speaks of, how far it can be trusted, its radii, the state of its fits."""
    table, statistics, titles = run.table("certificates"), run.table("statistics"), names.stages(run)
    rows = []
    for entry in run.stages("certificate"):
        own = table[table["method"] == entry["name"]]
        if entry["status"] != "done" or not len(own):
            continue
        radius, norm = median(own["radius"]), entry["norm"]
        doubt = f"alpha {entry['alpha']:g}" if entry["alpha"] is not None else ""
        codes = statistics[
            (statistics["method"] == entry["name"]) & statistics["quantity"].isin(["fit_code", "omega_fit_code"])
        ]["value"]
        rows.append(
            [
                titles[entry["name"]],
                names.subject(entry["subject"]),
                f"{entry['guarantee']}, {doubt}" if doubt else entry["guarantee"],
                "; ".join(names.FITS[int(c)] for c in np.unique(codes)) or "-",
                show.lower(radius.value, norm),
                f"{show.lower(radius.low, norm)} to {show.upper(radius.high, norm)}",
                show.percent(float((own["radius"] > 0).mean()), Round.DOWN),
            ]
        )
    headings = ["Lower bound", "speaks of", "guarantee", "fit", "median radius", "95 % interval", "radius above 0"]
    return Grid("Lower bounds", headings, rows, text=4) if rows else None


def calibration(summary: Summary) -> Grid | None:
    """How often estimates exceed a witness, before and after they were calibrated."""
    rows = [
        [
            c.title,
            show.percent(c.delta),
            f"{c.calibrating:,}",
            show.fixed(c.factor, 4, Round.DOWN) if c.factor else "0: too few images",
            f"{c.before.n:,}",
            *(
                text
                for p in (c.before, c.after)
                for text in (show.percent(p.value, Round.UP), show.percents(p.low, p.high))
            ),
        ]
        for c in summary.calibrated
    ]
    headings = ["Estimate", "allowed", "calibrated on", "factor", "counted on", "above a witness", "95 % interval"]
    headings += ["calibrated, above a witness", "95 % interval"]
    note = (
        "Images that are classified correctly and whose estimate is above zero. On one more such image the calibrated "
        "estimate exceeds the closest witness of the attacks of this run with at most the allowed probability, if "
        "images are exchangeable (split-conformal): that says how it compares with these attacks, not with the true "
        "distance. Calibrated radii are the columns calibrated_ of tables/bounds.csv."
    )
    return Grid("Calibration of the estimates", headings, rows, note=note) if rows else None


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
        ]
        for c in summary.costs
        if c.available
    ]
    headings = ["Method", "kind", "forwards an image", "backwards an image", "time", "share of time"]
    return Grid("Cost", headings, rows, text=2)


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
        ("Data", f"{data['source']}, {_images(data['count'])}"),
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


def _images(n: int) -> str:
    return f"{n:,} image" if n == 1 else f"{n:,} images"
