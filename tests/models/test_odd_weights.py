"""Weights of odd types: served where the numbers keep their meaning, refused in one line everywhere else."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from commands import here
from robusteval.models.checkpoints import open_checkpoint

NET = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))

def double():
    return build().double()

class Stubborn(nn.Linear):
    def _load_from_state_dict(self, *_):
        raise RuntimeError("no\\nweights")

def stubborn():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), Stubborn(64, 10))
"""
SHAPE = (1, 8, 8)


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "1.weight": torch.rand(64, generator=generator) + 0.5,
        "1.bias": torch.rand(64, generator=generator),
        "1.running_mean": torch.rand(64, generator=generator),
        "1.running_var": torch.rand(64, generator=generator) + 0.5,
        "1.num_batches_tracked": torch.tensor(7),
        "2.weight": torch.randn(10, 64, generator=generator),
        "2.bias": torch.randn(10, generator=generator),
    }


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "net.py"
    path.write_text(NET)
    return path


def saved(change: dict[str, Tensor], folder: Path, suffix: str = "pt") -> Path:
    path = folder / f"w.{suffix}"
    content = weights() | change
    save_file(content, path) if suffix == "safetensors" else torch.save(content, path)
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_floating_point_of_any_length_is_rounded_to_the_networks(
    dtype: torch.dtype, suffix: str, net: Path, tmp_path: Path
) -> None:
    given = weights()["2.weight"].to(dtype)
    model = open_checkpoint(saved({"2.weight": given}, tmp_path, suffix), f"{net}:build", input_shape=SHAPE)
    found = model.module.state_dict()["network.2.weight"]
    assert found.dtype == torch.float32
    assert torch.equal(found, given.float())


def test_a_counter_may_be_of_another_type_where_its_value_stays(net: Path, tmp_path: Path) -> None:
    for counter in (torch.tensor(7.0), torch.tensor(7, dtype=torch.int32), torch.tensor(7, dtype=torch.uint8)):
        path = saved({"1.num_batches_tracked": counter}, tmp_path)
        assert open_checkpoint(path, f"{net}:build", input_shape=SHAPE).num_classes == 10


def _quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(weights()["2.weight"], 0.05, 0, torch.qint8)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "int8": ({"2.weight": weights()["2.weight"].mul(40).to(torch.int8)}, "got int8; dequantise"),
    "uint8": ({"2.weight": torch.ones(10, 64, dtype=torch.uint8)}, "got uint8; dequantise"),
    "int64": ({"2.bias": torch.arange(10)}, "got int64; dequantise"),
    "bool": ({"2.bias": torch.ones(10, dtype=torch.bool)}, "got bool; dequantise"),
    "complex": ({"2.weight": weights()["2.weight"].to(torch.complex64)}, "got complex64"),
    "complex counter": ({"1.num_batches_tracked": torch.tensor(7 + 0j)}, "got complex64"),
    "quantised": ({"2.weight": _quantised()}, "that is quantised"),
    "sparse": ({"2.weight": weights()["2.weight"].to_sparse()}, "that is sparse"),
    "no data": ({"2.weight": torch.empty(10, 64, device="meta")}, "that is without data"),
    "beyond float32": ({"2.bias": torch.full((10,), 1e39, dtype=torch.float64)}, "got 1e+39 of float64 in '2.bias'"),
    "NaN": ({"2.bias": torch.full((10,), torch.nan)}, "got NaN or infinity in '2.bias'"),
    "infinite float64": ({"2.bias": torch.full((10,), torch.inf, dtype=torch.float64)}, "NaN or infinity in '2.bias'"),
    "half a counter": ({"1.num_batches_tracked": torch.tensor(7.5)}, "'1.num_batches_tracked' (int64)"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_would_change_its_meaning_is_one_line(name: str, net: Path, tmp_path: Path) -> None:
    change, expected = REFUSED[name]
    path = saved(change, tmp_path)
    given = ["--arch", f"{net}:build", "--data", "digits", "--limit", 3, "--out", tmp_path / "run"]
    done = here("audit", path, *given)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: expected ")
    assert expected in line
    assert str(path) in line


def test_a_module_that_cannot_load_is_one_line(net: Path, tmp_path: Path) -> None:
    done = here(
        "audit",
        saved({}, tmp_path),
        "--arch",
        f"{net}:stubborn",
        "--data",
        "digits",
        "--limit",
        3,
        "--out",
        tmp_path / "r",
    )
    assert done.returncode == 2
    assert "got an error: no" in done.stderr
