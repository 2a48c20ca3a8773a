"""The gradient that every defense leaves in the weights is that of its loss with what is detached held fixed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn import functional

from defending import CLOSE, a_batch, begun, conv_net, dense_net, differences, gradient_left, pixel_gradients
from defense_cases import EXAMPLES, IDS
from robusteval.core.norms import Norm
from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.ascent_training import AdversarialTraining
from robusteval.defenses.base import Batch, Carried, Defense
from robusteval.defenses.free_training import FreeTraining
from robusteval.defenses.gaussian_augmentation import GaussianAugmentation
from robusteval.defenses.global_spectral_norm import GlobalSpectralNorm
from robusteval.defenses.gradient_regularization import GradientRegularization
from robusteval.defenses.logit_pairing import LogitPairing
from robusteval.defenses.moment_regularization import MomentRegularization
from robusteval.defenses.operator_norm import OperatorNormRegularization
from robusteval.defenses.perturbed_augmentation import PerturbedAugmentation
from robusteval.defenses.power_method import maximisers
from robusteval.defenses.second_moments import expanded
from robusteval.defenses.sgr import SGR
from robusteval.defenses.smooth_kernels import SmoothKernels, roughness
from robusteval.defenses.spectral_norm import SpectralNorm
from robusteval.defenses.standard import Standard
from robusteval.defenses.trades import Trades
from robusteval.defenses.weight_decay import WeightDecay

Loss = Callable[[], Tensor]


class Frozen:
    """The loss of a defense on one batch, written again, with the perturbations and directions of one call of
    `objective` held fixed. What is held is read off the inputs that the network saw."""

    def __init__(self, defense: Defense, network: nn.Module, state: Carried) -> None:
        self.network, self.state, self.batch = network, state, a_batch()
        seen: list[Tensor] = []
        hook = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        _, self.after = defense.objective(network, a_batch(), state)
        hook.remove()
        self.seen = [x.detach() for x in seen]

    def ce(self, pixels: Tensor) -> Tensor:
        return functional.cross_entropy(self.network(pixels), self.batch.labels)

    def kl(self, of: Tensor, approximated: Tensor) -> Tensor:
        p, q = self.network(of).softmax(1), self.network(approximated).softmax(1)
        divergence: Tensor = (p * (p / q).log()).sum(1).mean()
        return divergence

    def clean(self) -> Tensor:
        return self.ce(self.batch.pixels)


def held(defense: Defense, network: nn.Module, state: Carried) -> Loss:
    """The loss whose gradient `backward` should leave."""
    f = Frozen(defense, network, state)
    x, last = f.batch.pixels, f.seen[-1]
    match defense:
        case Standard() | WeightDecay() | MomentRegularization() | GaussianAugmentation():
            return lambda: defense.objective(network, a_batch(), state)[0]
        case SGR():
            return lambda: f.clean() + defense.weight * omega(defense, f)
        case GradientRegularization(by="double-backpropagation"):
            return lambda: defense.objective(network, a_batch(), state)[0]
        case GradientRegularization():
            g = pixel_gradients(network, f.batch).flatten(1)
            d = (g / g.norm(dim=1, keepdim=True) if defense.norm is Norm.L2 else g.sign() / 4).view_as(x)
            return lambda: f.clean() + defense.weight / 2 * slopes(f, d, defense.h).square().mean()
        case PerturbedAugmentation():
            return lambda: (f.clean() + f.ce(last)) / 2
        case PGDTraining():
            return lambda: f.ce(last)
        case FreeTraining():
            moved = (x + state["perturbation"]).clamp(0, 1)
            return lambda: f.ce(moved)
        case AdversarialTraining(loss="cross-entropy"):
            return lambda: f.clean() + f.ce(last)
        case AdversarialTraining():
            return lambda: f.clean() + (network(x) - network(last)).square().sum(1).mean() / 2
        case GlobalSpectralNorm():
            return spectral(defense, f)
        case SpectralNorm():
            gains = stretched(defense, f)
            return lambda: f.clean() + defense.weight / 2 * gains().square().mean()
        case OperatorNormRegularization():
            gains = stretched(defense, f)
            return lambda: f.clean() + defense.weight * gains().mean()
        case Trades():
            return lambda: f.clean() + f.kl(x, last)
        case LogitPairing():
            return lambda: f.ce(f.seen[-2]) + f.kl(f.seen[-2], x)
        case SmoothKernels():
            base = held(defense.added_to, network, state)
            return lambda: base() + defense.weight * roughness(network)
    raise AssertionError(f"expected a case for {defense.name}, got none: write its loss with what it detaches held")


def slopes(f: Frozen, d: Tensor, h: float) -> Tensor:
    """The finite difference of each image's loss along d, (N,)."""
    after, before = (
        -f.network(x).log_softmax(1)[range(5), f.batch.labels] for x in (f.batch.pixels + h * d, f.batch.pixels)
    )
    slope: Tensor = (after - before) / h
    return slope


def stretched(defense: SpectralNorm | OperatorNormRegularization, f: Frozen) -> Loss:
    """eps |J v|_q of each image, (N,), at the directions of the present weights."""
    p, q = (Norm.L2, Norm.L2) if isinstance(defense, SpectralNorm) else (defense.p, defense.q)
    u, v = maximisers(f.network, a_batch(), p, q, defense.iterations)

    def difference() -> Tensor:
        moved = f.network(f.batch.pixels + defense.eps * v) - f.network(f.batch.pixels)
        sizes: Tensor = torch.linalg.vector_norm(moved, ord=q.p, dim=1)
        return sizes

    def jacobian() -> Tensor:
        pushed: Tensor = jvp(f.network, (f.batch.pixels,), (v,))[1]
        return defense.eps * (u * pushed).sum(1)

    return difference if defense.form == "difference" else jacobian


def omega(defense: SGR, f: Frozen) -> Tensor:
    g, sigma = pixel_gradients(f.network, f.batch).flatten(1), f.after["sigma"]
    matrix = sigma if defense.representation == "matrix" else expanded(sigma, (1, 4, 4))
    mean_term = 0.0 if defense.centred else (g @ f.after["mean"].flatten()).mean()
    return 0.5 * torch.einsum("ni,ij,nj->n", g, matrix, g).mean() + mean_term


def spectral(defense: GlobalSpectralNorm, f: Frozen) -> Loss:
    layers = {name: m for name, m in f.network.named_modules() if name in f.state}

    def applied(name: str, v: Tensor) -> Tensor:
        # A layer less what it makes of zero is the layer without its bias.
        moved: Tensor = layers[name](v) - layers[name](torch.zeros_like(v))
        return moved

    left = {name: (u := applied(name, v).detach()) / u.norm() for name, v in f.state.items()}
    return lambda: (
        f.clean()
        + defense.weight
        / 2
        * sum(((left[name] * applied(name, v)).sum() ** 2 for name, v in f.after.items()), start=torch.zeros(()))
    )


@pytest.mark.parametrize("defense", EXAMPLES, ids=IDS)
def test_the_gradient_left_in_the_weights_is_that_of_the_loss_with_what_is_detached_held(defense: Defense) -> None:
    network, begin = conv_net(), a_batch(seed=9)
    # After one update: perturbations that carry over and running averages are not as they began.
    _, _, state = gradient_left(defense, network, begin, begun(defense, network, begin))
    expected = held(defense, network, state)
    loss, gradient, _ = gradient_left(defense, network, a_batch(), state)
    assert loss.item() == pytest.approx(expected().item(), rel=1e-12)
    assert (gradient - differences(expected, network)).abs().max() < CLOSE


@pytest.mark.parametrize(
    "defense",
    [
        *(SGR(weight=2.0, source=source, zeta=2.0) for source in ("lrc", "images", "identity")),
        SpectralNorm(weight=1.0, iterations=60, form="jacobian"),
        *(
            OperatorNormRegularization(p=p, q=q, weight=2.0, iterations=10, form="jacobian")
            for p, q in ((Norm.L1, Norm.L1), (Norm.LINF, Norm.LINF), (Norm.LINF, Norm.L1), (Norm.L1, Norm.LINF))
        ),
    ],
    ids=lambda d: d.name + d.says,
)
def test_objectives_that_are_functions_of_the_weights_alone_have_their_plain_gradient(defense: Defense) -> None:
    """Fixed Sigma; and maxima, whose gradient is that at the maximiser (envelope theorem), once it is reached."""
    network = dense_net(4, 4, 2, seed=3)

    def batch() -> Batch:
        return a_batch(3, (1, 2, 2), classes=2)

    state = begun(defense, network, batch())
    _, gradient, _ = gradient_left(defense, network, batch(), state)
    plain = differences(lambda: defense.objective(network, batch(), state)[0], network)
    assert (gradient - plain).abs().max() < CLOSE
