"""LogBarrier against exact distances; ADef on models that a deformation fools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oracles import affine, affine_distances, random_images, two_layer, two_layer_linf
from robusteval.attacks.adef import ADef, blurred, deform, inside, length
from robusteval.attacks.logbarrier import LogBarrier
from robusteval.attacks.starts import closer, starts
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier


def streams(images: Images, seed: int = 0) -> Streams:
    return Streams.for_images(seed, "test", images.ids, images.pixels)


def run(attack: LogBarrier | ADef, classifier: Classifier, images: Images) -> tuple[Tensor, dict[str, Tensor]]:
    candidates = attack.run(classifier.metered(len(images)), images, None, streams(images))
    points = candidates.examples
    assert points.isfinite().all()
    assert ((points >= 0) & (points <= 1)).all()
    return points, dict(candidates.measurements)


def fooled(classifier: Classifier, images: Images, points: Tensor) -> Tensor:
    return classifier.predict(points).argmax(1) != images.labels


@pytest.mark.parametrize("norm", LogBarrier.norms)
@pytest.mark.parametrize("seed", [0, 3])
def test_logbarrier_ends_near_the_exact_distance(norm: Norm, seed: int) -> None:
    """With the box active and classes permuted; also from an image that is misclassified."""
    classifier, weight, bias = affine(seed)
    images = random_images(seed, 10, classifier)
    points, _ = run(LogBarrier(norm=norm), classifier, images)
    assert fooled(classifier, images, points).all()
    ratio = norm.size(points.double() - images.pixels.double()).numpy()
    ratio /= affine_distances(weight, bias, images, norm)
    assert (ratio >= 1 - 1e-5).all()
    assert np.median(ratio) <= 1.02
    assert ratio.max() <= 1.1


@pytest.mark.parametrize("norm", LogBarrier.norms)
def test_the_descent_itself_reaches_the_boundary_from_far_away(norm: Norm) -> None:
    """From uniform images of the other class; with two classes there is one boundary to find."""
    classifier, weight, bias = affine(4, classes=2)
    images = random_images(4, 8, classifier)
    uniform = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    of = classifier.predict(uniform).argmax(1)
    start = torch.stack([uniform[of != label][i] for i, label in enumerate(images.labels.tolist())])
    exact = affine_distances(weight, bias, images, norm)
    assert np.median(norm.size(start - images.pixels).numpy() / exact) > 5
    points = LogBarrier(norm=norm).descend(classifier.metered(8), images, start)
    assert fooled(classifier, images, points).all()
    ratio = norm.size(points - images.pixels).numpy() / exact
    assert np.median(ratio) <= 1.1
    assert ratio.max() <= 1.5


def test_logbarrier_on_a_relu_network_solved_by_enumeration() -> None:
    classifier, parameters = two_layer(3)
    images = random_images(3, 6, classifier)
    flat = images.pixels.double().flatten(1).numpy()
    exact = np.array([two_layer_linf(parameters, x, c) for x, c in zip(flat, images.labels.tolist(), strict=True)])
    points, _ = run(LogBarrier(norm=Norm.LINF, outer=10, steps=60), classifier, images)
    distance = np.where(
        fooled(classifier, images, points).numpy(), Norm.LINF.size(points - images.pixels).numpy(), np.inf
    )
    assert (distance >= exact * (1 - 1e-5)).all()
    assert np.isfinite(distance[np.isfinite(exact)]).all(), "every image that can be misclassified must be"
    assert np.median((distance / exact)[np.isfinite(exact)]) <= 1.2


@pytest.mark.parametrize(
    "attack",
    [LogBarrier(norm=Norm.L2, outer=4, steps=40), LogBarrier(norm=Norm.LINF, outer=4, steps=40), ADef(norm=Norm.L2)],
    ids=["l2", "linf", "adef"],
)
def test_an_image_alone_gives_the_same(attack: LogBarrier | ADef) -> None:
    classifier, _, _ = affine(2)
    images = random_images(2, 4, classifier).to("cpu", torch.float64)
    classifier = classifier.to("cpu", torch.float64)
    together, measured = run(attack, classifier, images)
    for i in range(len(images)):
        alone, own = run(attack, classifier, images.select(torch.tensor([i])))
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-9)
        for quantity, values in own.items():
            torch.testing.assert_close(values[0], measured[quantity][i], rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(
    "attack", [LogBarrier(norm=Norm.L2), LogBarrier(norm=Norm.LINF), ADef(norm=Norm.L2)], ids=["l2", "linf", "adef"]
)
def test_unreachable_classes_and_misclassified_images(attack: LogBarrier | ADef) -> None:
    """One image that nothing in the box fools, between others that are fooled or wrong already: it returns itself."""
    linear = nn.Linear(64, 3)
    with torch.no_grad():
        linear.weight.zero_()
        # Class 2 leads class 0 by 60 times a pixel less 50; class 1 is never reached; label 0 elsewhere.
        linear.weight[2, 0] = 60.0
        linear.bias.copy_(torch.tensor([0.0, -1e3, -50.0]))
    classifier = make_classifier("one-pixel", nn.Sequential(nn.Flatten(), linear), (1, 8, 8))
    pixels = torch.zeros(4, 1, 8, 8)
    pixels[1] = 1.0
    pixels[2, 0, 0, 1:] = 0.9
    pixels[3] = 0.5
    images = Images(("black", "wrong", "edge", "grey"), pixels, torch.tensor([0, 0, 0, 0]))
    points, measured = run(attack, classifier, images)
    assert torch.equal(points[1], pixels[1])
    if isinstance(attack, ADef):
        assert fooled(classifier, images, points).tolist() == [False, True, True, False]
        assert torch.equal(points[[0, 3]], pixels[[0, 3]]), "no deformation changes a flat image"
        assert measured["deformation"].isnan().tolist() == [True, False, False, True]
        assert measured["deformation"][1] == 0
    else:
        assert fooled(classifier, images, points).all()
        size = attack.norm.size(points - pixels)
        torch.testing.assert_close(size, torch.tensor([5 / 6, 0.0, 5 / 6, 1 / 3]), rtol=0.05, atol=0)
        with torch.no_grad():
            linear.bias[2] = -61.0
        classifier = make_classifier("no-pixel", nn.Sequential(nn.Flatten(), linear), (1, 8, 8))
        stuck = Images(("black", "white"), pixels[:2], torch.zeros(2).long())
        assert torch.equal(run(attack, classifier, stuck)[0], stuck.pixels)


def test_a_start_is_found_where_noise_finds_none() -> None:
    """Misclassified only where half of the pixels are below 0.1 and the others above 0.9: neither noise nor uniform
    images go there, gradients do."""
    linear = nn.Linear(64, 2)
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[1] = torch.ones(64).index_fill(0, torch.arange(0, 64, 2), -1.0)
        linear.bias.copy_(torch.tensor([0.0, -28.0]))
    classifier = make_classifier("chess", nn.Sequential(nn.Flatten(), linear), (1, 8, 8))
    images = Images(("a", "b"), torch.full((2, 1, 8, 8), 0.5), torch.tensor([0, 1]))
    view = classifier.metered(2)
    found, points = starts(view, images, Norm.L2, streams(images))
    assert found.all()
    assert fooled(classifier, images, points).all()
    assert view.meter.backwards.tolist()[0] > 0
    assert view.meter.forwards.tolist()[1] == 1, "a misclassified image is its own start"
    near = closer(classifier, images, points, Norm.LINF, 20)
    assert Norm.LINF.size(near - images.pixels)[0] == pytest.approx(28 / 64, rel=1e-4)


def test_deformation_by_whole_and_half_pixels() -> None:
    points = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    field = torch.zeros(2, 2, 6, 7, dtype=torch.float64)
    field[0, 0] = 2.0
    field[1, 1] = -0.5
    moved = deform(points, field)
    torch.testing.assert_close(moved[0, :, :4], points[0, :, 2:])
    torch.testing.assert_close(moved[0, :, 4:], points[0, :, 5:].expand(3, 2, 7))
    torch.testing.assert_close(moved[1, :, :, 1:], (points[1, :, :, 1:] + points[1, :, :, :-1]) / 2)
    torch.testing.assert_close(deform(points, torch.zeros_like(field)), points)
    torch.testing.assert_close(deform(points, inside(field)), moved)
    assert length(field).tolist() == [2.0, 0.5]
    assert length(inside(3 * field))[0] == 5.0, "five rows down is the bottom"


def test_the_filter_is_symmetric_and_keeps_a_flat_middle() -> None:
    dots = torch.eye(12 * 13, dtype=torch.float64).view(-1, 12, 13)
    matrix = blurred(dots, 0.8).flatten(1)
    torch.testing.assert_close(matrix, matrix.T)
    flat = blurred(torch.ones(1, 21, 21, dtype=torch.float64), 0.8)
    assert flat[0, 10, 10] == pytest.approx(1.0, abs=1e-9)


def bumps(n: int) -> Tensor:
    """Smooth bright spots left of the middle, (n, 1, 16, 16), at different places."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.stack([torch.rand(n, generator=generator) * 6 + 5, torch.rand(n, generator=generator) * 2 + 5])
    down, right = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    away = (down - centres[0][:, None, None]) ** 2 + (right - centres[1][:, None, None]) ** 2
    return torch.exp(-away / 8)[:, None]


def left_or_right() -> tuple[Classifier, nn.Linear]:
    """Class 1 if the light right of the middle outweighs that left of it; class 2 never."""
    linear = nn.Linear(256, 3)
    with torch.no_grad():
        side = torch.tanh((torch.arange(16.0) - 7.5) / 3).repeat(16)
        linear.weight.copy_(torch.stack([-side, 0 * side, 0 * side]))
        linear.bias.copy_(torch.tensor([0.0, 0.0, -1e3]))
    return make_classifier("left-or-right", nn.Sequential(nn.Flatten(), linear), (1, 16, 16)), linear


def test_adef_moves_a_spot_across_the_middle() -> None:
    """A shift of all pixels by the spot's distance from the middle fools the model: a deformation need not be much
    longer, and what it recolours is far more in L2 than the closest misclassified image."""
    classifier, linear = left_or_right()
    images = Images(tuple("abcdef"), bumps(6), torch.zeros(6).long())
    assert not fooled(classifier, images, images.pixels).any()
    points, measured = run(ADef(norm=Norm.LINF, sigma=2.0), classifier, images)
    assert fooled(classifier, images, points).all()
    assert (measured["deformation"] < 4.5).all()
    weight, bias = (p.detach().double().numpy() for p in (linear.weight, linear.bias))
    exact = affine_distances(weight, bias, images, Norm.L2)
    assert (Norm.L2.size(points - images.pixels).numpy() >= exact * (1 - 1e-5)).all()


def test_the_measured_deformation_is_that_of_the_image() -> None:
    classifier, _ = left_or_right()
    images = Images(tuple("abcdef"), bumps(6), torch.zeros(6).long())
    attack = ADef(norm=Norm.L2)
    points, measured = run(attack, classifier, images)
    field, won = attack.fields(classifier.metered(len(images)), images)
    assert won.all()
    assert torch.equal(deform(images.pixels, field), points)
    torch.testing.assert_close(measured["deformation"], field.square().sum(1).sqrt().flatten(1).amax(1))
    torch.testing.assert_close(inside(field), field, rtol=0, atol=1e-6)
    almost = deform(images.pixels, 0.99 * field)
    assert not fooled(classifier, images, almost).any(), "a smaller field in the same direction must not fool"


def test_fooled_images_leave() -> None:
    """Images near the boundary cost fewer evaluations than others in their batch."""
    classifier, _ = left_or_right()
    images = Images(("far", "near"), torch.cat([bumps(1), bumps(1).roll(2, dims=3)]), torch.zeros(2).long())
    view = classifier.metered(2)
    ADef(norm=Norm.L2, longest=0.2).run(view, images, None, streams(images))
    far, near = view.meter.backwards.tolist()
    assert near < 0.7 * far
