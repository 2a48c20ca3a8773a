"""What a caller hands in stays as it is: mode, weights, layout, gradients; the next training step works."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import robusteval as rv
from robusteval import UserError, make_classifier

SHAPE = (3, 6, 6)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 4)
    )
    net[1].eval()
    net[5].bias.requires_grad_(False)
    net[0].register_forward_hook(lambda module, inputs, output: None)
    return net


def data(n: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, *SHAPE, generator=generator), torch.randint(4, (n,), generator=generator)


def state(net: nn.Module) -> list[object]:
    facts: list[object] = [m.training for m in net.modules()]
    for m in net.modules():
        facts += [list(hooks.items()) for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)]
    for p in (*net.parameters(), *net.buffers()):
        facts += [p.requires_grad, p.dtype, p.device, p.stride(), p.grad is None, p.data_ptr()]
    return facts


USES: dict[str, Callable[[nn.Module, Path], object]] = {
    "classifier": lambda net, _: make_classifier("net", net, SHAPE).to("cpu", torch.float64),
    "attack": lambda net, _: rv.PGD(norm="linf", steps=3)(net, *data(), budget=0.1),
    "certificate": lambda net, _: rv.Smoothing(n0=4, n=10)(net, *data()),
    "metric": lambda net, _: rv.NoiseRobustness(sigmas=(0.1,), samples=2)(net, *data()),
    "audit": lambda net, out: rv.audit(net, data(), protocol=str(_protocol(out)), out=out / "run", batch_size=4),
}


def _protocol(folder: Path) -> Path:
    path = folder / "p.toml"
    path.write_text('[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n')
    return path


@pytest.mark.parametrize("use", USES)
def test_it_stays_as_it_is_and_trains_on(use: str, tmp_path: Path) -> None:
    net = network()
    before, weights = state(net), copy.deepcopy(net.state_dict())
    USES[use](net, tmp_path)
    assert state(net) == before
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    x, y = data()
    nn.functional.cross_entropy(net(x), y).backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1).step()


def test_a_network_in_training_mode_is_audited_in_eval_mode() -> None:
    net = network().train()
    model = make_classifier("net", net, SHAPE)
    x, _ = data()
    assert torch.equal(model(x), model(x)), "no dropout"
    torch.testing.assert_close(model(x), copy.deepcopy(net).eval()(x))


def test_two_types_of_one_classifier_do_not_disturb_each_other() -> None:
    single = make_classifier("net", network(), SHAPE)
    double = single.to("cpu", torch.float64)
    x, _ = data()
    assert single(x).dtype == torch.float32
    assert double(x.double()).dtype == torch.float64
    assert single.to("cpu", torch.float32) is single, "no copy where nothing changes"


def test_what_cannot_be_copied_is_one_line() -> None:
    class Holding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = torch.ones(4, requires_grad=True) * 2

        def forward(self, x: Tensor) -> Tensor:
            return self.held + x.flatten(1)[:, :4]

    with pytest.raises(UserError, match="expected a network that can be copied, got an error from net") as caught:
        make_classifier("net", Holding(), SHAPE)
    assert "\n" not in str(caught.value)
