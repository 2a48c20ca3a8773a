"""A small finished run, made of tables alone: every number in it can be computed by hand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from records import attack_record, certificate_record, metric_record
from robusteval.certify import CERTIFICATES
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.core.norms import Norm
from robusteval.metrics import METRICS
from robusteval.results.bracket import bracket
from robusteval.results.files import write_arrays, write_frame
from robusteval.results.manifest import DataRecord, Manifest, ModelRecord, ProtocolRecord
from robusteval.results.records import CLEAN, AttackRecord, CertificateRecord, CleanRecord, Cost, MetricRecord, Stages
from robusteval.results.run import Run, witness_key
from robusteval.results.tables import (
    CALIBRATION_TABLE,
    CERTIFICATES_TABLE,
    IMAGES_TABLE,
    MEASUREMENTS_TABLE,
    STATISTICS_TABLE,
    TABLES,
    WITNESSES_TABLE,
)

SPENT = Cost(seconds=1.0, forwards=8.0, backwards=4.0)
EVIL = "<script>alert(1)</script>"
CLASSES = [EVIL, "a|b", "two"]
N = 8
IDS = [f"image-{i}" for i in range(N - 1)] + ["<img src=x onerror=alert(2)>|`x`"]
LABELS = [i % 3 for i in range(N)]
CORRECT = [True] * (N - 1) + [False]
PGD = {8 / 255: [True, False, False, False, False, False, False], 0.1: [True, True, True, False, False, False, False]}
"""Which of the seven correct images PGD fools at each budget; its witnesses lie on the border, in float32."""
DEEPFOOL_L2 = [0.2, 0.3, 0.45, 0.6, 0.8, np.inf, np.inf]
DEEPFOOL_LINF = [0.05, 0.09, 0.15, 0.2, 0.3, np.inf, np.inf]
L_BOUND = [0.25123459, 0.1, 0.2, 0.3, 0.55, 0.6, 0.7, 0.0]
"""The first lies above its witness at L2 0.2."""
CALIBRATED = {"method": ["l-bound-l2"], "norm": ["l2"], "delta": [0.25], "calibrating": [4], "factor": [0.79619]}
CALIBRATED |= {"tested": [3], "violated_before": [1], "violated_after": [0]}
SMOOTHING = [0.6, 0.5, 0.4, 0.0, 0.7, 0.8, 0.9, 0.9]


def build_run(path: Path, *, certificates: bool = True, metrics: bool = True, copies: int = 1, side: int = 4) -> Run:
    """Write the run into `path`; `copies` repeats the images, each with images of `side` x `side` pixels, of which
    the first five of every eight have a witness."""
    ids = IDS + [f"copy-{i}" for i in range(N * (copies - 1))]
    images = _images(ids)
    tables = {
        "images": images,
        "witnesses": pd.concat([_pgd(ids), _deepfool(ids)], ignore_index=True),
        "certificates": _certificates(ids) if certificates else CERTIFICATES_TABLE.frame(),
        "measurements": _measurements(ids) if metrics else MEASUREMENTS_TABLE.frame(),
        "statistics": _statistics() if certificates else STATISTICS_TABLE.frame(),
    }
    tables["bounds"] = bracket(images, tables["witnesses"], tables["certificates"])
    tables["calibration"] = CALIBRATION_TABLE.frame(CALIBRATED if certificates else None)
    for name in TABLES:
        write_frame(path / "tables" / f"{name}.parquet", tables[name])
    run = Run(path, _manifest(len(ids), certificates, metrics))
    ramp = np.linspace(0, 0.15, side * side, dtype=np.float32).reshape(1, side, side)
    pixels = {i: ramp + np.float32(0.1 * (k % N + 1)) for k, i in enumerate(ids)}
    write_arrays(run.array_file(CLEAN, "00000"), pixels)
    write_arrays(
        run.array_file("deepfool-l2", "00000"),
        {witness_key(i, np.nan): pixels[i] + np.float32(0.05) for k, i in enumerate(ids) if k % N < 5},
    )
    write_arrays(
        run.array_file("pgd-linf", "00000"),
        # Once each, under the smallest budget that the witness serves.
        {
            witness_key(i, min(b for b, hits in PGD.items() if hits[k % N])): pixels[i]
            for k, i in enumerate(ids)
            if k % N < 3
        },
    )
    run.write_manifest()
    return run


@dataclass(frozen=True)
class Fake:
    """An attack and the distances of its witnesses, image by image; `budgets` make it one with fixed budgets."""

    label: str
    method: str
    norm: str
    distances: dict[str, list[float]]
    budgets: tuple[float, ...] = ()


@dataclass(frozen=True)
class FakeCertificate:
    label: str
    radii: list[float]
    norm: str = "l2"
    settings: dict[str, Any] = field(default_factory=dict)


def build_paper_run(
    path: Path,
    protocol: str,
    correct: list[bool],
    attacks: Sequence[Fake],
    *,
    name: str = "tiny",
    budgets: dict[str, list[float]] | None = None,
    certificates: Sequence[FakeCertificate] = (),
    measurements: Sequence[tuple[str, str, float, list[float]]] = (),
    statistics: Sequence[tuple[str, str, float, float]] = (),
    brightness: float = 0.5,
    settings: dict[str, dict[str, Any]] | None = None,
) -> Run:
    """A run of a protocol of that name, of images of 1 x 4 x 4 pixels, all of one brightness. Distances that a fake
    leaves out are 1; measurements are (label, quantity, at, values), statistics (label, quantity, at, value);
    `settings` are those of metrics by their label."""
    ids = [f"image-{i}" for i in range(len(correct))]
    images = IMAGES_TABLE.frame(
        {"image_id": ids, "label": 0, "predicted": [int(not c) for c in correct], "correct": correct}
        | {"logit_margin": 1.0, "probability_margin": 0.5}
    )
    witnesses = [
        WITNESSES_TABLE.frame(),
        *(_fake_rows(ids, fake, b) for fake in attacks for b in fake.budgets or (np.nan,)),
    ]
    bound: dict[str, Any] = {"subject": "f", "alpha": np.nan, "abstained": False, "predicted": images["predicted"]}
    radii = [
        CERTIFICATES_TABLE.frame({"image_id": ids, "norm": c.norm, "radius": c.radii, **_says(c), **bound})
        for c in certificates
    ]
    measured = [
        MEASUREMENTS_TABLE.frame({"image_id": ids, "method": m, "quantity": q, "at": at, "value": v})
        for m, q, at, v in measurements
    ]
    tables = {
        "images": images,
        "witnesses": pd.concat(witnesses, ignore_index=True),
        "certificates": pd.concat([CERTIFICATES_TABLE.frame(), *radii], ignore_index=True),
        "measurements": pd.concat([MEASUREMENTS_TABLE.frame(), *measured], ignore_index=True),
        "statistics": STATISTICS_TABLE.frame(
            dict(zip(STATISTICS_TABLE.names, zip(*statistics, strict=True), strict=True)) if statistics else None
        ),
    }
    tables["bounds"] = bracket(images, tables["witnesses"], tables["certificates"])
    tables["calibration"] = CALIBRATION_TABLE.frame()
    for table in TABLES:
        write_frame(path / "tables" / f"{table}.parquet", tables[table])
    measured_by = {m for m, *_ in (*measurements, *statistics)}
    metrics = sorted(measured_by - {f.label for f in attacks} - {c.label for c in certificates})
    manifest = _manifest(len(ids), certificates=False, metrics=False)
    run = Run(
        path,
        manifest.model_copy(
            update={
                "stages": (
                    manifest.stages[0],
                    *(_fake_attack(fake) for fake in attacks),
                    *(
                        certificate_record(
                            c.label, _named(c.label, CERTIFICATES), c.norm, cost=SPENT, settings=c.settings
                        )
                        for c in certificates
                    ),
                    *(_fake_metric(label, (settings or {}).get(label, {})) for label in metrics),
                ),
                "protocol": ProtocolRecord(
                    name=protocol, budgets={Norm(n): tuple(b) for n, b in (budgets or {}).items()}
                ),
                "model": manifest.model.model_copy(update={"name": name}),
            }
        ),
    )
    pixels = np.full((1, 4, 4), brightness, np.float32)
    write_arrays(run.array_file(CLEAN, "00000"), dict.fromkeys(ids, pixels))
    run.write_manifest()
    return run


def _fake_rows(ids: list[str], fake: Fake, budget: float) -> pd.DataFrame:
    own = np.array(fake.distances[fake.norm])
    found = np.isfinite(own) & (np.isnan(budget) | (own <= budget))
    sizes = {n: np.where(found, fake.distances.get(n, np.ones(len(ids))), np.inf) for n in ("l0", "l1", "l2", "linf")}
    rows = {"image_id": ids, "method": fake.label, "norm": fake.norm, "budget": budget, "success": found, **sizes}
    return WITNESSES_TABLE.frame({**rows, "predicted": 1, "forwards": 1.0, "backwards": 1.0})


def _images(ids: list[str]) -> pd.DataFrame:
    correct = np.resize(CORRECT, len(ids))
    labels = np.resize(LABELS, len(ids))
    predicted = np.where(correct, labels, (labels + 1) % 3)
    margins = {"logit_margin": np.where(correct, 1.0, -1.0), "probability_margin": np.where(correct, 0.5, -0.5)}
    return IMAGES_TABLE.frame({"image_id": ids, "label": labels, "predicted": predicted, "correct": correct, **margins})


def _attack(ids: list[str], method: str, norm: str, budget: float, **sizes: Any) -> pd.DataFrame:
    data = {k: np.resize(np.append(v, 0.0), len(ids)) for k, v in sizes.items()}
    found = np.isfinite(data[norm])
    l0 = np.where(found, np.where(data[norm] > 0, 16.0, 0.0), np.inf)
    rows = {"image_id": ids, "method": method, "norm": norm, "budget": budget, "success": found, "l0": l0, **data}
    return WITNESSES_TABLE.frame({**rows, "predicted": 0, "forwards": 10.0, "backwards": 5.0})


def _pgd(ids: list[str]) -> pd.DataFrame:
    frames = []
    for budget, hits in PGD.items():
        linf = np.where(hits, float(np.float32(budget)) * (1 + 1e-8), np.inf)
        frames.append(_attack(ids, "pgd-linf", "linf", budget, l1=linf * 16, l2=linf * 4, linf=linf))
    return pd.concat(frames)


def _deepfool(ids: list[str]) -> pd.DataFrame:
    l2 = np.array(DEEPFOOL_L2)
    return _attack(ids, "deepfool-l2", "l2", np.nan, l1=4 * l2, l2=l2, linf=np.array(DEEPFOOL_LINF))


def _certificates(ids: list[str]) -> pd.DataFrame:
    images = _images(ids)
    common = {"image_id": ids, "norm": "l2", "predicted": images["predicted"]}
    bound = {"method": "l-bound-l2", "subject": "f", "kind": "estimate", "alpha": np.nan, "abstained": False}
    smooth = {"method": "smoothing-l2", "subject": "smooth(f, 0.25)", "kind": "confidence", "alpha": 0.001}
    smoothing = np.resize(SMOOTHING, len(ids))
    return pd.concat(
        [
            CERTIFICATES_TABLE.frame({**common, **bound, "radius": np.resize(L_BOUND, len(ids))}),
            CERTIFICATES_TABLE.frame({**common, **smooth, "radius": smoothing, "abstained": smoothing == 0}),
        ],
        ignore_index=True,
    )


def _measurements(ids: list[str]) -> pd.DataFrame:
    frames = []

    def add(method: str, quantity: str, at: float, values: Any) -> None:
        rows = {"image_id": ids, "method": method, "quantity": quantity, "at": at, "value": np.resize(values, len(ids))}
        frames.append(MEASUREMENTS_TABLE.frame(rows))

    for sigma in (0.0, 0.1, 0.2):
        for quantity in ("kept", "kept_single"):
            add("gaussian-noise", quantity, sigma, [float(k >= 20 * sigma) for k in range(N)])
    add("gaussian-noise", "noise_area", 0.0, [0.5])
    for rank in (1, 2, 3):
        add("jacobian-spectrum", "singular_value", rank, [4.0 / rank, 2.0 / rank])
        add("jacobian-spectrum", "singular_value_adversarial", rank, [np.nan, 3.0 / rank])
    return pd.concat(frames, ignore_index=True)


def _statistics() -> pd.DataFrame:
    maxima = 2 + np.linspace(0, 1, 20) ** 2
    values = {"gev_shape": 0.1, "gev_loc": 2.2, "gev_scale": 0.3, "observed_maximum": 3.0, "fit_code": 0.0, "L": 3.5}
    rows = [("maximum", float(i), v) for i, v in enumerate(maxima)] + [(q, 0.0, v) for q, v in values.items()]
    quantities, at, value = zip(*rows, strict=True)
    return STATISTICS_TABLE.frame({"method": "l-bound-l2", "quantity": quantities, "at": at, "value": value})


def _named(label: str, registry: Collection[str]) -> str:
    """The method whose name a label begins with; empty for none."""
    return next((name for name in sorted(registry, key=len, reverse=True) if label.startswith(name)), "")


def _fake_attack(fake: Fake) -> AttackRecord:
    """Its label may name the model that it was made on: "transfer-from-other"."""
    label, _, source = fake.label.partition("-from-")
    made = {"label": label, "source": source} if source else {}
    return attack_record(fake.label, fake.method, fake.norm, fake.budgets, cost=SPENT, **made)


OTHERWISE = {"fool": "prediction-distance"}
"""Labels of protocols that do not begin with the name of their metric."""


def _says(fake: FakeCertificate) -> dict[str, str]:
    return {"method": fake.label, "kind": str(CERTIFICATES[_named(fake.label, CERTIFICATES)].kind)}


def _fake_certificate(fake: FakeCertificate) -> CertificateRecord:
    return certificate_record(fake.label, _named(fake.label, CERTIFICATES), fake.norm, cost=SPENT)


def _fake_metric(label: str, settings: dict[str, Any]) -> MetricRecord:
    """A metric by the name of its label, as far as there is one of that name."""
    method = OTHERWISE.get(label) or _named(label, METRICS) or "noise"
    titled = METRICS[method](**settings).heading() if settings else METRICS[method].title
    norm = settings.get("norm")
    return metric_record(
        label, method, title=titled, settings=settings, norm=norm, witnesses=settings.get("witnesses"), cost=SPENT
    )


def _manifest(count: int, certificates: bool, metrics: bool) -> Manifest:
    cost = Cost(seconds=1.5, forwards=80.0, backwards=40.0)
    stages: list[Stages] = [
        CleanRecord(name=CLEAN, title="Clean predictions", status="done", cost=cost),
        attack_record("pgd-linf", "pgd", "linf", tuple(PGD), cost=cost),
        attack_record("deepfool-l2", "deepfool", "l2", batch_independent=False, cost=cost),
        attack_record(
            "transfer-linf", "transfer", "linf", tuple(PGD), status="unavailable", reason=f"no source {EVIL}"
        ),
    ]
    if certificates:
        smooth = Smoothing(sigma=0.25)
        stages.append(certificate_record("l-bound-l2", "l-bound", cost=cost))
        stages.append(
            certificate_record(
                "smoothing-l2", "smoothing", title=smooth.heading(), subject="smooth(f, 0.25)", alpha=0.001, cost=cost
            )
        )
    if metrics:
        noise = {"distribution": "gaussian"}
        stages.append(metric_record("gaussian-noise", "noise", title="Gaussian noise", settings=noise, cost=cost))
        stages.append(metric_record("jacobian-spectrum", "jacobian-spectrum", cost=cost))
    return Manifest(
        robusteval="0.1.0",
        command=("robusteval", "audit", "models/a b.safetensors", "--out", "runs/tiny"),
        status="complete",
        seed=0,
        dtype="float32",
        device="cpu (2 threads)",
        batch_size=max(8, count),
        protocol=ProtocolRecord(name="small", description="By hand", budgets={Norm.LINF: tuple(PGD), Norm.L2: (0.5,)}),
        model=ModelRecord(
            name="tiny",
            path="models/a b.safetensors",
            arch="digits-cnn",
            fingerprint="f" * 64,
            num_classes=3,
            input_shape=(1, 4, 4),
        ),
        data=DataRecord(source="made", count=count, fingerprint="d" * 64, class_names=tuple(CLASSES)),
        versions={"python": "3.11.7"},
        started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T03:05:05+00:00",
        stages=tuple(stages),
    )
