"""Classifier: pixels to logits with the normalisation inside, every evaluation counted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robusteval.core.errors import UnsupportedError, UserError
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

SHAPE = (3, 4, 4)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 5)
    )


def classifier() -> Classifier:
    return make_classifier("net", network(), SHAPE)


def pixels(n: int = 6) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def counts(model: Classifier) -> tuple[list[float], list[float]]:
    return model.meter.forwards.tolist(), model.meter.backwards.tolist()


def test_it_knows_its_classes_and_answers_like_the_network_in_eval_mode() -> None:
    model, bare = classifier(), network().eval()
    assert model.num_classes == 5
    assert model.input_shape == SHAPE
    assert torch.allclose(model(pixels()), bare(pixels()), atol=1e-6), "no dropout, fixed batch norm"
    assert not any(p.requires_grad for p in model.module.parameters())


def test_normalisation_happens_inside() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    model = make_classifier("net", network(), SHAPE, mean, std)
    x = pixels().requires_grad_()
    by_hand = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(model(x), network().eval()(by_hand))


@pytest.mark.parametrize("part", [1, 4, 100])
def test_predict_splits_into_batches_and_keeps_no_graph(part: int) -> None:
    from dataclasses import replace

    seen: list[int] = []
    model = replace(classifier(), batch_size=part)
    model.module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    logits = model.predict(pixels())
    assert max(seen) <= part
    assert sum(seen) == 6
    assert not logits.requires_grad
    torch.testing.assert_close(logits, classifier()(pixels()))


def test_what_a_network_prints_is_no_output_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            print("loud")
            return super().forward(x)

    model = make_classifier("loud", nn.Sequential(nn.Flatten(), Loud(48, 2)), SHAPE)
    capsys.readouterr()
    model.predict(pixels())
    assert capsys.readouterr() == ("", "loud\n")


def test_gradient_matches_finite_differences() -> None:
    model = classifier().to("cpu", torch.float64)
    x = pixels(2).double()
    gradient, values, logits = model.gradient(x, lambda z: z[:, 0] * z[:, 1])
    torch.testing.assert_close(values, logits[:, 0] * logits[:, 1])
    assert not logits.requires_grad
    h = 1e-6
    for place in [(0, 0, 0), (2, 3, 1)]:
        step = torch.zeros_like(x)
        step[(slice(None), *place)] = h
        up, down = (model(x + s).detach() for s in (step, -step))
        expected = (up[:, 0] * up[:, 1] - down[:, 0] * down[:, 1]) / (2 * h)
        torch.testing.assert_close(gradient[(slice(None), *place)], expected, rtol=1e-5, atol=1e-8)


def test_a_gradient_is_given_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        gradient, _, _ = classifier().gradient(pixels(2), lambda z: z[:, 0])
    assert gradient.abs().sum() > 0


def test_the_meter_books_to_the_images_of_the_view() -> None:
    model = classifier().metered(4)
    x = pixels(4)
    model.predict(x)
    some = model.select(torch.tensor([True, False, True, False]))
    some.gradient(x[[0, 2]], lambda z: z[:, 0])
    some.select(torch.tensor([1])).predict(x[[2]].repeat(5, 1, 1, 1))
    assert counts(model) == ([2, 1, 7, 1], [1, 0, 1, 0])
    assert counts(model.metered(2)) == ([0, 0], [0, 0]), "a fresh meter"
    assert counts(model)[0] == [2, 1, 7, 1], "the old one stays"


def test_modules_for_libraries_and_features_are_booked_too() -> None:
    model = classifier().metered(3)
    module = model.as_module()
    x = pixels(3).requires_grad_()
    module(x).sum().backward()
    assert counts(model) == ([1, 1, 1], [1, 1, 1])
    model.features(pixels(3))
    found = 1 / 3  # which layer's input they are: one forward of one image
    assert counts(model)[0] == pytest.approx([2 + found] * 3)
    assert torch.equal(module(x), model(x))
    assert not module.training


def test_features_are_what_the_last_linear_layer_takes() -> None:
    net = network()
    last = net[-1]
    model = make_classifier("net", net, SHAPE)
    features = model.features(pixels())
    assert features.shape == (6, 16)
    torch.testing.assert_close(last(features), model(pixels()))
    x = pixels().requires_grad_()
    (gradient,) = torch.autograd.grad(model.features(x).sum(), x)
    assert gradient.abs().sum() > 0
    convolutional = make_classifier("conv", nn.Sequential(nn.Conv2d(3, 2, 4), nn.Flatten()), SHAPE)
    with pytest.raises(UnsupportedError, match=r"expected a network that ends in torch\.nn\.Linear .* got conv"):
        convolutional.features(pixels())
    assert not last._forward_pre_hooks, "the hook is taken off again"


def test_the_fingerprint_changes_with_every_weight_buffer_and_constant() -> None:
    original = classifier().fingerprint
    assert classifier().fingerprint == original
    for key in network().state_dict():
        changed = network()
        with torch.no_grad():
            changed.state_dict()[key].view(-1)[0] += 1
        assert make_classifier("net", changed, SHAPE).fingerprint != original, key
    for mean, std in (((0.1, 0.0, 0.0), None), (None, (1.0, 1.0, 2.0))):
        assert make_classifier("net", network(), SHAPE, mean, std).fingerprint != original
    assert make_classifier("another name", network(), SHAPE).fingerprint == original


def test_dtype_follows() -> None:
    single = classifier()
    logits = single(pixels())
    double = classifier().to("cpu", torch.float64)
    assert double(pixels().double()).dtype == torch.float64
    torch.testing.assert_close(double(pixels().double()).float(), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5,)}, "expected --mean with 3 values, one a channel, got 1"),
        ({"std": (0.5, 0.5)}, "expected --std with 3 values, one a channel, got 2"),
        ({"std": (0.5, 0.0, 1.0)}, "expected --std of finite numbers above zero for .*, got 0.5, 0.0, 1.0"),
        ({"input_shape": (3, 9, 9)}, "expected a network that takes images of shape 3x9x9, got an error from net"),
        ({"network": nn.Identity()}, r"expected logits of shape \(1, classes >= 2\) from net, got \(1, 3, 4, 4\)"),
        ({"network": nn.Sequential(nn.Flatten(), nn.Linear(48, 1))}, r"classes >= 2\) from net, got \(1, 1\)"),
    ],
)
def test_what_cannot_be_a_classifier_is_refused(change: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"name": "net", "network": network(), "input_shape": SHAPE, **change}
    with pytest.raises(UserError, match=message):
        make_classifier(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("flattens", [True, False])
def test_a_network_that_cannot_run_channels_last_is_left_as_it_is(flattens: bool) -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            logits: Tensor = self.linear(y.flatten(1) if flattens else y.view(len(y), -1))
            return logits

    torch.manual_seed(0)
    bare = Viewing()
    expected = bare(pixels()).detach()
    model = make_classifier("viewing", bare, SHAPE)
    assert torch.allclose(model(pixels()), expected, atol=1e-6)
    weight = model.module.get_parameter("network.conv.weight")
    channels_last = weight.is_contiguous(memory_format=torch.channels_last)
    assert channels_last == flattens
