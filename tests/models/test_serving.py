"""Networks in other forms give the numbers of the plain one: batch sizes of their own, one logit, fields."""

from __future__ import annotations

import pytest
import torch
from plain_networks import SHAPE, data, linear
from torch import Tensor, nn

from robusteval import UserError, make_classifier
from robusteval.attacks.pgd import PGD
from robusteval.core.norms import Norm
from robusteval.models.serving import FixedBatch


class Only(nn.Module):
    """Takes batches of one size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.network, self.size, self.seen = linear(), size, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) != self.size:
            raise ValueError(f"a batch of {len(x)}")
        logits: Tensor = self.network(x)
        return logits


@pytest.mark.parametrize("size", [1, 2, 4, 10, 64])
def test_a_fixed_batch_size_is_filled_up(size: int) -> None:
    x, y = data(linear())
    served, plain = make_classifier("net", Only(size), SHAPE), make_classifier("net", linear(), SHAPE)
    for count in (1, 3, 6):
        assert torch.allclose(served.predict(x[:count]), plain.predict(x[:count]), atol=1e-5)
        gradient = served.gradient(x[:count], lambda z: z[:, 0])[0]
        assert torch.allclose(gradient, plain.gradient(x[:count], lambda z: z[:, 0])[0], atol=1e-5)
    assert served.predict(x[:0]).shape == (0, 5)
    found = [PGD(norm=Norm.LINF)(net, x, y, budget=0.2) for net in (served, plain)]
    assert torch.equal(found[0].success, found[1].success)


def test_a_size_that_is_not_tried_is_one_line() -> None:
    with pytest.raises(UserError, match="expected a network that takes images of shape 1x5x5, got an error from net"):
        make_classifier("net", Only(7), SHAPE)


def test_each_image_by_itself() -> None:
    """With batch statistics an image is another one in company; served one by one it is not."""
    network = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), linear())
    x, _ = data(linear())
    alone = FixedBatch(network.eval(), 1)
    assert not torch.allclose(network(x), alone(x), atol=1e-2)
    assert torch.equal(alone(x)[2:3], alone(x[2:3]))


@pytest.mark.parametrize("flat", [True, False])
def test_one_logit_stands_for_two_classes(flat: bool) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(25, 1), *([nn.Flatten(0)] if flat else []))
    x, _ = data(linear())
    z = network(x).reshape(-1)
    model = make_classifier("net", network, SHAPE, binary=True)
    assert model.num_classes == 2
    logits = model.predict(x)
    assert torch.equal(logits.argmax(1), (z > 0).long())
    assert torch.allclose(logits.softmax(1)[:, 1], torch.sigmoid(z), atol=1e-6)
    with pytest.raises(UserError, match="if one logit stands for two classes, say so: --binary"):
        make_classifier("net", network, SHAPE)


def test_two_logits_are_no_single_one() -> None:
    with pytest.raises(UserError, match=r"expected one logit an image from net with --binary, got \(1, 5\)"):
        make_classifier("net", linear(), SHAPE, binary=True)
