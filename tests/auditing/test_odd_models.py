"""Every odd model through attacks, certificates and metrics, end to end: its exit code, its flag or its line, and never
a robust accuracy above the plain network's without a serious flag."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

import pytest

import odd_models
from commands import here
from robusteval import Run, open_checkpoint
from robusteval.analysis.summary import Summary, summarise
from robusteval.auditing.protocol import available_protocols
from robusteval.auditing.session import run_audit
from robusteval.core.progress import Silent
from robusteval.data import read_images

ARCH = Path(odd_models.__file__)
WEIGHTS = Path(__file__).parents[2] / "robusteval" / "demo" / "digits-standard.safetensors"
N, FEW = 6, 3
COUNTED = r"(?m)^(refits|batches|steps|iterations|queries|samples|n|points|starts|outer) = (\d+)$"
WHOLE = ("not_a_number", "raising")
LONGEST = (
    *("omega-bound", "l-bound", "crown", "smoothing-envelope", "smoothing-sequential", "autoattack", "logbarrier"),
    *("carlini-wagner", "ead", "activation-maximization", "covariance", "softmax-line", "targeted-grid", "deception"),
    *("linearity", "activation-patterns", "analytic-moments", "regularity", "kernels", "prediction-distance", "adef"),
    *("fab", "apgd", "auto", "fmn", "boundary", "clever", "transfer", "foolbox-fmn", "lbfgs"),
)


@dataclass(frozen=True)
class Expected:
    """Of one model: the names of flags that it must raise, its exit code, and words on the terminal."""

    flags: frozenset[str] = frozenset()
    code: int = 0
    words: str = ""
    as_plain: bool = False
    """Whether it is the plain network in another form, with the same numbers."""


def flagged(*flags: str, code: int = 0) -> Expected:
    return Expected(frozenset(flags), code)


SERVED = Expected(as_plain=True)


AUDITED = {
    "root": flagged("non-finite-gradients"),
    "not_a_number": flagged("non-finite-outputs"),
    "infinite": flagged("non-finite-outputs"),
    "gamma": flagged("non-finite-outputs", "non-finite-gradients"),
    "dropout": flagged("random-outputs"),
    "jitter": flagged("random-outputs"),
    "drift": flagged("random-outputs"),
    "random_off": flagged("random-outputs"),
    "random_backward": flagged("random-gradients"),
    "slow_drift": flagged("random-outputs"),
    "clocked": flagged("random-outputs"),
    "batch_statistics": flagged("batch-dependent-outputs"),
    "batch_mean": flagged("batch-dependent-outputs"),
    "detached": flagged("unavailable-gradients"),
    "numpy": flagged("unavailable-gradients"),
    "without_grad": flagged("unavailable-gradients"),
    "inference": flagged("unavailable-gradients"),
    "rounded": flagged("unavailable-gradients"),
    "hard": flagged("unavailable-gradients"),
    "no_backward": flagged("unavailable-gradients"),
    "saturated": Expected(),
    "temperature": flagged("vanishing-gradients"),
    "raising": flagged("failed-methods", code=3),
    "by_fours": SERVED,
    "by_32": SERVED,
    "one_by_one": SERVED,
    "not_one": SERVED,
    "dictionary": SERVED,
    "named_tuple": SERVED,
    "data_class": SERVED,
    "single_tuple": SERVED,
    "in_double": SERVED,
    "in_half": Expected(),
    "first_row": SERVED,
    "mutating": SERVED,
    "printing": SERVED,
    "constant": Expected(words="The outputs do not depend on the image"),
}
REFUSED = {
    "pair": "got tuple; wrap the network in a module whose forward gives the logits alone",
    "nested": "got dict with out; wrap the network",
    "classes": "expected logits of shape (1, classes >= 2) from digits-standard, got (1,)",
    "one_logit": "got (1, 1); if one logit stands for two classes, say so: --binary",
    "one_class": "got (1,); if one logit stands for two classes, say so: --binary",
    "exiting": "got an error from digits-standard: it called sys.exit",
    "one_size": "Input height (8) doesn't match model (224).",
    "always_nan": "expected finite logits from digits-standard, got NaN or infinity on image digits-",
    "nothing": "got NoneType; wrap the network",
}


def audited(name: str, out: Path, protocol: str | Path, count: int = N) -> tuple[int, str, Run | None]:
    done = here(
        *("audit", WEIGHTS, "--arch", f"{ARCH}:{name}", "--data", "digits", "--limit", count, "--out", out),
        *("--batch-size", count, "--protocol", protocol),
    )
    text = " ".join((done.stdout + done.stderr).split())
    return done.returncode, text, Run.open(out) if (out / "manifest.json").exists() else None


class Warned(Silent):
    """Remembers what an audit warns of."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def run_here(name: str, out: Path, protocol: str | Path, count: int = N) -> tuple[int, str, Run]:
    """The same without a command line and a report, which take longer than the audit."""
    model = open_checkpoint(WEIGHTS, f"{ARCH}:{name}", input_shape=(1, 8, 8))
    warned = Warned()
    images = read_images("digits", count)
    run = run_audit(model, images, str(protocol), out, batch_size=count, progress=warned)
    return 3 if run.manifest.failed else 0, " ".join(warned.said), run


@cache
def plain(folder: Path, protocol: str | Path, count: int = N) -> Summary:
    _, said, run = run_here("plain", folder / Path(protocol).stem, protocol, count)
    found = summarise(run)
    assert not said
    assert not any(f.severity == "serious" for f in found.flags)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(scope="module")
def everything(folder: Path) -> Path:
    """`everything`, a few steps of each method: benchmarks/odd_models_on_everything.py runs it whole on all."""
    text = available_protocols()["everything"].read_text()
    fewer = re.sub(COUNTED, lambda found: f"{found[1]} = {min(int(found[2]), max(5, int(found[2]) // 5))}", text)
    assert fewer.count("\n") == text.count("\n")
    (folder / "everything.toml").write_text(fewer)
    return folder / "everything.toml"


@pytest.fixture(scope="module")
def brief(everything: Path) -> Path:
    """The same without what takes longest in it and asks nothing else of a model; it runs whole on WHOLE."""
    tables = re.split(r"(?m)^(?=\[)", everything.read_text())
    kept = [t for t in tables if not any(f'method = "{name}"' in t for name in LONGEST)]
    (everything.parent / "brief.toml").write_text("".join(kept))
    return everything.parent / "brief.toml"


@pytest.mark.parametrize("name", AUDITED)
def test_an_odd_model(name: str, folder: Path, brief: Path, tmp_path: Path) -> None:
    code, text, run = run_here(name, tmp_path / "run", brief)
    holds(name, code, text, run, plain(folder, brief))


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_an_odd_model_through_everything(name: str, folder: Path, everything: Path, tmp_path: Path) -> None:
    code, text, run = audited(name, tmp_path / "run", everything, FEW)
    assert "Traceback" not in text
    assert run is not None
    holds(name, code, text, run, plain(folder, everything, FEW))
    page = (run.path / "report.html").read_text()
    assert all(escape(flag.title).replace("&#x27;", "&#39;") in page for flag in summarise(run).flags)


def holds(name: str, code: int, text: str, run: Run, usual: Summary) -> None:
    """Whether a run has what is expected of its model."""
    expected, found = AUDITED[name], summarise(run)
    assert code == expected.code, text
    assert expected.words in text
    serious = {f.name for f in found.flags if f.severity == "serious"}
    assert expected.flags <= {f.name for f in found.flags}
    if expected.as_plain:
        assert not serious
        assert [r.share.count for r in found.robust] == [r.share.count for r in usual.robust]
        assert found.clean.count == usual.clean.count
    for own, of_plain in zip(found.robust, usual.robust, strict=False):
        assert serious or own.share.value <= of_plain.share.high


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_served_is_one_line(name: str, tmp_path: Path) -> None:
    code, text, _ = audited(name, tmp_path / "run", "quick")
    assert code == 2, text
    assert "error: expected " in text
    assert REFUSED[name] in text
