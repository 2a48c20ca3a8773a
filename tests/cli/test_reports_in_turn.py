"""Several models in one command: each report is there before the next model is audited."""

from __future__ import annotations

from pathlib import Path

from commands import here
from robusteval import Run

ATTACK = """
from pathlib import Path

from robusteval.attacks.base import Candidates, FixedBudgetAttack
from robusteval.core.norms import Norm


class Stopped(FixedBudgetAttack):
    name = "stopped"
    title = "Stopped"
    summary = "ends the command at the second model, for tests"
    norms = (Norm.LINF,)

    def within(self, classifier, images, budget, streams):
        if classifier.name == "digits-standard" and Path(FLAG).exists():
            raise KeyboardInterrupt
        return Candidates(images.pixels)
"""


def test_a_report_is_there_before_the_next_model_is_audited(demo_folder: Path, tmp_path: Path) -> None:
    flag, out = tmp_path / "flag", tmp_path / "runs"
    (tmp_path / "stopped.py").write_text(ATTACK.replace("FLAG", repr(str(flag))))
    (tmp_path / "p.toml").write_text(
        '[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "stopped.py:Stopped"\nnorm = "linf"\n'
        '[[attacks]]\nmethod = "transfer"\nnorm = "linf"\nsteps = 2\n'
    )
    models = [demo_folder / f"digits-{name}.safetensors" for name in ("pgd-linf", "standard")]
    asked = ("audit", *models, "--arch", "digits-cnn", "--data", "digits", "--limit", 4, "--out", out)
    flag.touch()
    stopped = here(*asked, "--protocol", tmp_path / "p.toml")
    assert stopped.returncode == 130, stopped.stderr
    assert f"Report: {out / 'digits-pgd-linf' / 'report.html'}" in stopped.stdout
    assert not (out / "digits-standard" / "report.html").exists()
    assert Run.open(out / "digits-pgd-linf").manifest.complete
    flag.unlink()
    done = here(*asked, "--protocol", tmp_path / "p.toml")
    assert done.returncode == 0, done.stderr
    assert [f"Report: {out / model.stem / 'report.html'}" in done.stdout for model in models] == [True, True]
    assert (out / "transfer.md").exists()
