"""Warnings about labels: raised where they must be, and not by honest data of any size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from robusteval.sanity import sanity_warnings
from robusteval.sanity.labels import guessing, permuted

NOTHING = pd.DataFrame({"quantity": [], "at": [], "value": []})


def table(label: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"label": label, "predicted": predicted, "correct": label == predicted})


def predictions(n: int, k: int, accuracy: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True labels, and predictions that are right on a share of the images."""
    rng = np.random.default_rng(seed)
    label = rng.integers(k, size=n)
    wrong = rng.random(n) > accuracy
    return label, np.where(wrong, (label + rng.integers(1, max(k, 2), size=n)) % k, label)


@pytest.mark.parametrize("accuracy", [0.4, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("k", [2, 3, 10, 100])
@pytest.mark.parametrize("n", [1, 5, 20, 100, 1000])
def test_honest_labels_raise_nothing(n: int, k: int, accuracy: float) -> None:
    if accuracy < 2 / k or (accuracy < 0.6 and n < 100):
        pytest.skip("that is near chance")
    for seed in range(20):
        images = table(*predictions(n, k, accuracy, seed))
        assert sanity_warnings(images, NOTHING, k) == (), (n, k, accuracy, seed)


@pytest.mark.parametrize("k", [2, 10, 100])
def test_guessing_is_seen(k: int) -> None:
    raised = [list(guessing(table(*predictions(200, k, 1 / k, seed)), k)) for seed in range(20)]
    assert sum(map(bool, raised)) >= 19
    assert "exact binomial test" in next(r[0].text for r in raised if r)


@pytest.mark.parametrize("shift", [1, 5])
def test_shifted_labels_are_named(shift: int) -> None:
    label, predicted = predictions(100, 10, 0.95)
    (found,) = permuted(table((label + shift) % 10, predicted), list("abcdefghij"))
    assert found.name == "permuted-labels"
    assert f"{'abcdefghij'[shift]} is predicted as a" in found.text
    assert "0.0 % are right" in found.text or "right with the labels" in found.text


def test_two_swapped_classes_are_named_alone() -> None:
    label, predicted = predictions(200, 10, 0.95)
    swapped = np.where(label == 3, 7, np.where(label == 7, 3, label))
    (found,) = permuted(table(swapped, predicted), [str(k) for k in range(10)])
    assert "3 is predicted as 7, 7 is predicted as 3." in found.text


def test_noise_has_no_better_permutation() -> None:
    """Of 40 random tables at a level of 1 %, two halves each, hardly any."""
    rng = np.random.default_rng(1)
    raised = [
        list(permuted(table(rng.integers(10, size=60), rng.integers(10, size=60)), ["?"] * 10)) for _ in range(40)
    ]
    assert sum(map(bool, raised)) <= 2


def test_a_single_class() -> None:
    label, _ = predictions(30, 10, 1.0)
    found = sanity_warnings(table(label, np.full(30, 4)), NOTHING, 10)
    assert "one-class" in [w.name for w in found]


@pytest.mark.parametrize(("here", "there"), [(2, 5), (5, 2), (5, 4), (6, 5)])
def test_a_class_that_stays_as_well_as_it_moves_is_not_named(here: int, there: int) -> None:
    """Of one label half are predicted as it, half as another class, which is no label here."""
    label, predicted = predictions(200, 2, 1.0)
    label, predicted = np.where(label == 0, 3, 7), np.where(predicted == 0, 7, 3)
    both = np.concatenate([label, np.full(20, here)]), np.concatenate([predicted, np.tile([there, here], 10)])
    (found,) = permuted(table(*both), [str(k) for k in range(10)])
    assert "3 is predicted as 7, 7 is predicted as 3." in found.text


def test_most_of_a_few_images_right_is_no_guessing() -> None:
    """8 of 10 among two classes: p = 0.055, which few images cannot help."""
    right = np.array([True] * 8 + [False] * 2)
    label = np.arange(10) % 2
    assert list(guessing(table(label, np.where(right, label, 1 - label)), 2)) == []
    assert len(list(guessing(table(label, np.where(right[::-1], 1 - label, label)), 2))) == 1
