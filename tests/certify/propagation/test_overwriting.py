"""Operations in place: what they overwrite is read as it is then, or the network is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from propagating import F64, candidates, evaluated
from robusteval.certify.propagation.crown import CROWN
from robusteval.certify.propagation.ibp import IBP
from robusteval.certify.propagation.trace import trace
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import Norm
from robusteval.models.making import make_classifier

SHAPE = (2, 4, 4)


class Written(nn.Module):
    """Layers for what works in place: `forward` is given."""

    count: Tensor
    quarter: Callable[[Tensor], Tensor]
    o: Callable[[Tensor], Tensor]

    def __init__(self, answer: Callable[[Written, Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer
        self.a, self.b = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 1)
        self.again = nn.Conv2d(3, 3, 1)
        self.relu, self.same, self.drop = nn.ReLU(inplace=True), nn.Identity(), nn.Dropout(0.5, inplace=True)
        self.flatten, self.pool = nn.Flatten(), nn.MaxPool2d(2)
        self.o, self.quarter = nn.Linear(48, 3), nn.Linear(12, 3)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self, x)

    def out(self, h: Tensor) -> Tensor:
        logits: Tensor = self.o(h.flatten(1))
        return logits


def written(answer: Callable[[Written, Tensor], Tensor]) -> Written:
    torch.manual_seed(4)
    return Written(answer)


def _sum_with_input(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    return n.out(functional.relu(h, inplace=True) + h)


def _module_whose_result_is_dropped(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    n.relu(h)
    return n.out(h)


def _method(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    r = h.relu_()
    return n.out(h + r + 1)


def _function(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    torch.relu_(h)
    return n.out(n.again(h) + h)


def _other_name(n: Written, x: Tensor) -> Tensor:
    h = g = n.a(x)
    g += 1
    g *= -0.5
    return n.out(functional.relu(g) + h)


def _through_identity(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    i = n.same(h)
    i.sub_(0.25)
    return n.out(functional.relu(h) + n.again(i))


def _through_dropout(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    n.drop(h).div_(-2)
    return n.out(functional.relu(h) + n.b(x))


def _block(n: Written, x: Tensor) -> Tensor:
    h = n.relu(n.a(x))
    out = n.again(h)
    out += h
    return n.out(n.relu(out))


def _to_itself(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    h += h
    return n.out(functional.relu(h))


def _copied_before(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    kept = h.clone()
    h.relu_()
    return n.out(kept + h)


def _added_before(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    kept = h + 0
    h.relu_()
    return n.out(n.again(kept) + h)


def _pooled_before(n: Written, x: Tensor) -> Tensor:
    h = n.relu(n.a(x))
    p = n.pool(h)
    h.mul_(-1)
    return n.out(n.again(h) + h) + n.quarter(p.flatten(1))


def _used_before(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    g = n.again(h)
    n.relu(h)
    return n.out(g - 0.5) + n.out(h)


def _twice_the_same_layer(n: Written, x: Tensor) -> Tensor:
    h, g = n.a(x), n.a(x)
    n.relu(h)
    n.relu(n.relu(g))
    return n.out(n.again(h) + g)


def _normalised_image(n: Written, x: Tensor) -> Tensor:
    x -= 0.5
    return n.out(n.a(x) + n.b(x))


def _shape_read_later(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    f = h.flatten(1)
    f.relu_()
    return n.o(f.view(h.size(0), h.shape[1], -1).flatten(1))


def _clamped(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    h.clamp_(max=0.2)
    return n.out(h)


def _weighted_sum(n: Written, x: Tensor) -> Tensor:
    return n.out(torch.add(n.a(x), n.b(x), alpha=3))


EXACT = [
    _sum_with_input,
    _module_whose_result_is_dropped,
    _method,
    _function,
    _other_name,
    _through_identity,
    _through_dropout,
    _block,
    _to_itself,
    _copied_before,
    _added_before,
    _pooled_before,
    _used_before,
    _twice_the_same_layer,
    _normalised_image,
    _shape_read_later,
    _clamped,
    _weighted_sum,
]


@pytest.mark.parametrize("answer", EXACT, ids=lambda f: f.__name__[1:])
def test_what_is_overwritten_is_read_as_it_is_then(answer: Callable[[Written, Tensor], Tensor]) -> None:
    classifier = make_classifier("written", written(answer), SHAPE, (0.4, 0.5), (0.3, 0.2)).to("cpu", F64)
    pixels = torch.cat([candidates(20, SHAPE), torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)]).double()
    logits = evaluated(trace(classifier), pixels)[-1].flatten(1)
    assert torch.allclose(logits, classifier.predict(pixels.clone()), atol=1e-12)


Answer = Callable[[Written, Tensor], Tensor]


def _flattened(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    f = h.flatten(1)
    h.relu_()
    return n.o(f)


def _flattened_by_module(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    f = n.flatten(h)
    n.relu(h)
    return n.o(f)


def _viewed(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    h.view(h.size(0), -1).relu_()
    return n.out(h)


def _detached(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    d = h.detach()
    h.add_(1)
    return n.out(n.again(d))


def _contiguous(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    c = h.contiguous()
    c.mul_(2)
    return n.out(h + n.again(c))


def _view_of_a_view(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    f = h.flatten(2).unsqueeze(2)
    h += 1
    return n.o(f.flatten(1))


def _column(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    h[:, 0] = 0
    return n.out(h)


def _slice(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    h[:, 0].relu_()
    return n.out(h)


def _permuted(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    h.permute(0, 2, 3, 1).relu_()
    return n.out(h)


def _chunk(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    upper, lower = h.chunk(2, 2)
    upper.mul_(2)
    return n.out(torch.cat([h[:, :, :2], lower], 2))


def _chunk_read_later(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    upper, _ = h.chunk(2, 2)
    h.relu_()
    return n.out(torch.cat([upper, upper], 2))


def _filled(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    h.copy_(n.b(x))
    return n.out(h)


def _into_another(n: Written, x: Tensor) -> Tensor:
    h, g = n.a(x), n.b(x)
    both = torch.cat([h, g], 1)
    torch.cat([g, h], 1, out=both)
    return n.out(h) + 0 * n.out(g)


def _many(n: Written, x: Tensor) -> Tensor:
    h = n.a(x)
    torch._foreach_mul_([h], 2.0)  # type: ignore[no-untyped-call, unused-ignore]
    return n.out(h)


def _counted(n: Written, x: Tensor) -> Tensor:
    n.count += 1
    return n.out(n.a(x))


def _constant_written(n: Written, x: Tensor) -> Tensor:
    n.count.add_(1)
    return n.out(n.a(x) * n.count)


REFUSED: dict[Answer, str] = {
    _flattened: "memory that 'flatten' shares",
    _flattened_by_module: "memory that 'network_flatten' shares",
    _viewed: "'relu_', which writes into memory that 'network_a' shares",
    _detached: "memory that 'detach' shares",
    _contiguous: "memory that 'network_a' shares",
    _view_of_a_view: "memory that 'unsqueeze' shares",
    _column: "setitem",
    _slice: "memory that 'network_a' shares",
    _permuted: "memory that 'network_a' shares",
    _chunk: "memory that '(getitem_1|network_a)' shares",
    _chunk_read_later: "memory that '(getitem|chunk)' shares",
    _filled: "copy_",
    _into_another: "into another value",
    _many: "_foreach_mul_",
    _counted: "count",
    _constant_written: "count",
}


@pytest.mark.parametrize("answer", REFUSED, ids=lambda f: f.__name__[1:])
def test_what_may_have_been_overwritten_is_refused_by_name(answer: Callable[[Written, Tensor], Tensor]) -> None:
    classifier = make_classifier("written", written(answer), SHAPE)
    with pytest.raises(UnsupportedError, match=REFUSED[answer]):
        trace(classifier)


def test_a_sign_that_differs_on_dark_images_only_is_proven_right() -> None:
    """relu(h) + h, in place, is 2 relu(h); read as if h were not overwritten it is another function of dark images."""

    class Dark(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.o = nn.Linear(16, 1), nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x.flatten(1))
            logits: Tensor = self.o(functional.relu(h, inplace=True) + h)
            return logits

    network = Dark()
    with torch.no_grad():
        network.a.weight.fill_(1 / 16)
        network.a.bias.fill_(-0.5)
        network.o.weight.copy_(torch.tensor([[-1.0], [0.0]]))
        network.o.bias.copy_(torch.tensor([0.2, 0.0]))
    # Class 0 where 2 relu(mean - 1/2) < 0.2: exactly below a mean of 0.6.
    pixels = torch.full((2, 1, 4, 4), 0.1)
    pixels[1] = 0.55
    labels = torch.zeros(2, dtype=torch.int64)
    for certificate in (IBP(norm=Norm.LINF), CROWN(norm=Norm.LINF)):
        radius = certificate(network, pixels, labels).radius
        assert (radius <= torch.tensor([0.5, 0.05], dtype=F64)).all()
        assert (radius >= 0.98 * torch.tensor([0.5, 0.05], dtype=F64)).all()
