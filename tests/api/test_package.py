"""What `import robusteval` offers."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import robusteval as rv
from robusteval import UserError
from robusteval.attacks import ATTACKS
from robusteval.certify import CERTIFICATES
from robusteval.defenses import DEFENSES
from robusteval.metrics import METRICS

REGISTRIES = (ATTACKS, CERTIFICATES, METRICS, DEFENSES)


def test_every_method_and_every_public_name_can_be_imported_and_completed() -> None:
    assert rv.__version__ == version("robusteval")
    for registry in REGISTRIES:
        for name in registry.builtin:
            cls = registry[name]
            assert getattr(rv, cls.__name__) is cls
            assert cls.__name__ in dir(rv)
    for name in rv.__all__:
        assert getattr(rv, name) is not None
        assert name in dir(rv)
    assert not {"Any", "import_module", "os"} & set(dir(rv)), "completion offers what the package gives"
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = rv.Nothing


def test_names_of_methods_are_distinct() -> None:
    names = [reference.split(":")[1] for registry in REGISTRIES for reference in registry.builtin.values()]
    assert len({*names, *rv.__all__}) == len(names) + len(rv.__all__)


def test_completion_loads_no_torch() -> None:
    code = "import sys, robusteval; dir(robusteval); robusteval.Norm; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_audit_takes_files_and_arrays_alike(demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n')
    path = demo_folder / "digits-standard.safetensors"
    images = rv.read_images("digits", 6)
    protocol = str(tmp_path / "p.toml")
    model = rv.open_checkpoint(path, "digits-cnn", input_shape=images.shape)
    arrays = (images.pixels, images.labels)
    by_path = rv.audit(path, "digits", protocol, tmp_path / "a", arch="digits-cnn", limit=6, batch_size=6)
    by_classifier = rv.audit(model, images, protocol, tmp_path / "b", batch_size=6)
    by_arrays = rv.audit(model.module, arrays, protocol, tmp_path / "c", name="mine", batch_size=6)
    one, two, three = (sorted(run.bounds()["upper_linf"]) for run in (by_path, by_classifier, by_arrays))
    assert one == two == three
    assert by_arrays.manifest.model.name == "mine"
    assert list(rv.verify(by_path)) == []


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (nn.Flatten(), (torch.rand(2, 1, 4, 4),) * 3, "Images or a data set as for --data, got 3 of them"),
        (nn.Flatten(), [], "Images or a data set as for --data, got list"),
        (
            abs,
            (torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)),
            "expected a torch.nn.Module, .* got builtin",
        ),
    ],
)
def test_what_cannot_be_audited_is_one_line(model: Any, given: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        rv.audit(model, given, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_and_its_results_are_short_to_read(demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n')
    path = demo_folder / "digits-standard.safetensors"
    out = tmp_path / "a"
    run = rv.audit(path, "digits", arch="digits-cnn", limit=6, out=out, protocol=str(tmp_path / "p.toml"))
    assert repr(run) == f"Run('{out}', digits-standard on 6 images of digits, p, complete)"
    assert repr(rv.Results(run)) == f"Results('{out}', digits-standard on 6 images of digits, p, complete)"
    page = rv.Results(run)._repr_html_()
    assert page is not None
    assert "<td>Clean accuracy</td>" in page
    assert page == run._repr_html_()
    left = run.updated(status="incomplete")
    assert left._repr_html_() is rv.Results(left)._repr_html_() is None, "tables may be missing: the line stands for it"
    assert repr(left).endswith(", incomplete)")
