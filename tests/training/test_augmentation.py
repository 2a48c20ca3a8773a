"""Crops, flips and cutout by their properties: what they keep, what they change, and what they draw from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from defense_cases import EXAMPLES, IDS
from robusteval.defenses.base import Defense
from robusteval.defenses.standard import Standard
from robusteval.training.augment import augmented
from robusteval.training.loop import train
from robusteval.training.settings import TrainingSettings
from trainings import linear, rows_of_light, same, small_cnn, state_of

SHAPES = [(1, 6, 6), (3, 5, 8)]
CROP, FILL = 2, 0.25
of_shapes = pytest.mark.parametrize("shape", SHAPES, ids=["grey square", "colour wide"])


def pixels_of(shape: tuple[int, int, int], n: int = 200) -> Tensor:
    """Every value another one, none of them the fill."""
    count = n * shape[0] * shape[1] * shape[2]
    values = torch.arange(count, dtype=torch.float64) / count * 0.5 + 0.4
    return values.reshape(n, *shape).float()


def draw(pixels: Tensor, seed: int = 0, **settings: object) -> Tensor:
    return augmented(pixels, TrainingSettings.model_validate(settings), torch.Generator().manual_seed(seed))


def window(image: Tensor, padded: Tensor) -> tuple[int, int]:
    """Where a crop lies in its padded image."""
    _, height, width = image.shape
    found = [
        (i, j)
        for i in range(2 * CROP + 1)
        for j in range(2 * CROP + 1)
        if torch.equal(padded[:, i : i + height, j : j + width], image)
    ]
    assert len(found) == 1, found
    return found[0]


@of_shapes
def test_without_settings_nothing_changes(shape: tuple[int, int, int]) -> None:
    assert torch.equal(draw(pixels_of(shape)), pixels_of(shape))


@of_shapes
def test_a_crop_is_a_window_of_the_padded_image_and_all_windows_occur(shape: tuple[int, int, int]) -> None:
    pixels = pixels_of(shape)
    cropped = draw(pixels, crop=CROP, fill=FILL)
    assert cropped.shape == pixels.shape
    padded = functional.pad(pixels, (CROP,) * 4, value=FILL)
    places = [window(image, frame) for image, frame in zip(cropped, padded, strict=True)]
    assert {i for i, _ in places} == {j for _, j in places} == set(range(2 * CROP + 1))
    assert len(set(places)) > 20, "rows and columns are drawn together"
    outside = [image for image, place in zip(cropped, places, strict=True) if place == (0, 0)]
    assert outside
    assert all((image[:, :CROP] == FILL).all() and (image[:, :, :CROP] == FILL).all() for image in outside)


@of_shapes
def test_about_half_of_the_images_are_mirrored_left_to_right(shape: tuple[int, int, int]) -> None:
    pixels = pixels_of(shape, 400)
    flipped = draw(pixels, flip=True)
    mirrored = (flipped == pixels.flip(3)).flatten(1).all(1)
    kept = (flipped == pixels).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    # Five standard deviations of a fair coin.
    assert abs(int(mirrored.sum()) - 200) < 50


@of_shapes
@pytest.mark.parametrize("side", [1, 2, 3])
def test_cutout_blanks_one_square_in_all_channels(shape: tuple[int, int, int], side: int) -> None:
    pixels = pixels_of(shape)
    cut = draw(pixels, cutout=side, fill=FILL)
    blank = cut == FILL
    assert torch.equal(torch.where(blank, pixels, cut), pixels)
    assert (blank == blank[:, :1]).all()
    area = blank[:, 0].flatten(1).sum(1)
    assert area.max() == side**2
    assert area.min() >= 1
    for square in blank[:, 0]:
        rows, columns = square.any(1), square.any(0)
        assert rows.sum() <= side
        assert torch.equal(square, rows[:, None] & columns[None, :])
    assert blank[:, 0].any(0).all(), "every pixel is blanked in some image"


@of_shapes
def test_the_draws_depend_on_the_generator_alone(shape: tuple[int, int, int]) -> None:
    pixels, settings = pixels_of(shape), {"crop": 1, "flip": True, "cutout": 2}
    torch.manual_seed(1)
    first = draw(pixels, **settings)
    torch.manual_seed(2)
    assert torch.equal(draw(pixels, **settings), first)
    assert not torch.equal(draw(pixels, seed=1, **settings), first)
    assert torch.equal(pixels, pixels_of(shape)), "the images themselves stay"


@of_shapes
def test_a_training_sees_the_augmented_images(shape: tuple[int, int, int]) -> None:
    images, found = rows_of_light(shape=shape), []
    for settings in ({}, {"crop": 1}, {"flip": True}, {"cutout": 2}):
        network = linear(shape)
        train(network, images, Standard(), TrainingSettings.model_validate({"epochs": 1, **settings}))
        found.append(state_of(network))
    assert not any(same(found[0], other) for other in found[1:])


@pytest.mark.parametrize("defense", EXAMPLES, ids=IDS)
def test_every_defense_takes_augmented_images(defense: Defense) -> None:
    network, before = small_cnn(), state_of(small_cnn())
    settings = TrainingSettings(epochs=1, batch_size=20, crop=1, flip=True, cutout=2)
    train(network, rows_of_light(), defense, settings)
    assert not same(state_of(network), before)
