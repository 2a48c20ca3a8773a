"""Small audits of every kind of stage, by the command line: of the digits that come with robusteval, a second or two
each."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from commands import main as command  # noqa: E402
from robusteval import Run  # noqa: E402

DEMO = ROOT / "robusteval" / "demo"
SOURCE = ("--source", DEMO / "digits-pgd-linf.safetensors")
BUDGETS = "[budgets]\nlinf = [0.05, 0.2]\n"
TRANSFER = '[[attacks]]\nmethod = "transfer"\nnorm = "linf"\n'
FGSM = '[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'
EVERY = '[[attacks]]\nmethod = "fgsm"\nname = "every"\nnorm = "linf"\nevery_budget = true\n'
DEEPFOOL = '[[attacks]]\nmethod = "deepfool"\nnorm = "l2"\nsteps = 3\n'
ESTIMATE = '[[certificates]]\nmethod = "l-bound"\nnorm = "l2"\nbatches = 5\n'
SMOOTHING = '[[certificates]]\nmethod = "smoothing"\nsigma = 0.25\nn0 = 5\nn = 20\n'
PROOF = '[[certificates]]\nmethod = "lipschitz"\nnorm = "l2"\n[calibration]\ndelta = 0.2\n'
NOISE = '[[metrics]]\nmethod = "noise"\nsigmas = [0.2]\nsamples = 2\n'
SPECTRUM = '[[metrics]]\nmethod = "jacobian-spectrum"\nranks = 2\nwitnesses = "fgsm-linf"\n'
OF_THE_SET = '[[metrics]]\nmethod = "activation-maximization"\nsteps = 2\n'
AUDIT, REPORT, VERIFY = "audit", "report", "verify"


@dataclass(frozen=True)
class Case:
    """A protocol, and options of the command line."""

    name: str
    protocol: str
    options: tuple[object, ...] = SOURCE

    def action(self, verb: str, folder: Path) -> Callable[[], int]:
        """A command on the run in `folder`/run."""
        words: tuple[object, ...] = (verb, folder / "run")
        if verb == AUDIT:
            (folder / f"{self.name}.toml").write_text(self.protocol, encoding="utf-8", newline="\n")
            words = (AUDIT, DEMO / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", "digits")
            words += ("--limit", 6, "--batch-size", 4, "--device", "cpu", *self.options)
            words += ("--protocol", folder / f"{self.name}.toml", "--out", folder / "run")
        elif verb == VERIFY:
            words += ("--out", folder / "record")
        return partial(command, words)


CASES = (
    Case("attacks", BUDGETS + FGSM + EVERY + DEEPFOOL + TRANSFER),
    Case("certificates", ESTIMATE + SMOOTHING + PROOF),
    Case("metrics", BUDGETS + FGSM + NOISE + SPECTRUM + OF_THE_SET),
    Case("top-2", "top = 2\n" + BUDGETS + FGSM + TRANSFER, ()),
)


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbed, and the seconds that each command took."""

    case: Case
    run: Run
    seconds: dict[str, float]


def whole(case: Case, folder: Path) -> Whole:
    """The run that the others are held against. Raises RuntimeError where it does not end in order."""
    folder.mkdir()
    seconds = {}
    # In this process, so that none of those that die has to import anything; the first audit does that.
    for verb in (AUDIT, AUDIT, REPORT, VERIFY):
        if verb == AUDIT:
            shutil.rmtree(folder / "run", ignore_errors=True)
        began, said = time.monotonic(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            code = case.action(verb, folder)()
        seconds[verb] = time.monotonic() - began
        if code:
            raise RuntimeError(f"{case.name}: {verb} ended with {code}: {said.getvalue()}")
    return Whole(case, Run.open(folder / "run"), seconds)
