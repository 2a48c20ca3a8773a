"""VNN-LIB properties become an image, its class and a budget, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from commands import here
from robusteval.core.errors import UserError
from robusteval.data.vnnlib import read_property

ROBUST = "(assert (or (and (>= Y_0 Y_1)) (and (<= Y_1 Y_2))))"


def text(lower: list[float], upper: list[float], condition: str = ROBUST) -> str:
    declared = [f"(declare-const X_{i} Real)" for i in range(len(lower))] + ["(declare-const Y_0 Real)"]
    box = [
        f"(assert (>= X_{i} {a})) ; below\n(assert (<= X_{i} {b}))"
        for i, (a, b) in enumerate(zip(lower, upper, strict=True))
    ]
    return "\n".join([*declared, *box, condition])


def saved(content: str, folder: Path) -> Path:
    path = folder / "property.vnnlib"
    path.write_text(content)
    return path


def test_a_cube_is_its_middle_and_its_radius(tmp_path: Path) -> None:
    found = read_property(saved(text([0.1, 0.3, 0.0, 0.5], [0.3, 0.5, 0.2, 0.7]), tmp_path))
    images, budget = found.images((1, 2, 2))
    torch.testing.assert_close(images.pixels.flatten(), torch.tensor([0.2, 0.4, 0.1, 0.6]))
    assert images.labels.tolist() == [1]
    assert 0.1 <= budget < 0.1 + 1e-6


def test_the_ball_covers_a_box_of_unequal_sides(tmp_path: Path) -> None:
    lower, upper = [0.0, 0.25], [0.5, 0.3]
    images, budget = read_property(saved(text(lower, upper), tmp_path)).images((1, 1, 2))
    middle = images.pixels.double().flatten()
    assert (middle - budget <= torch.tensor(lower, dtype=torch.float64)).all()
    assert (middle + budget >= torch.tensor(upper, dtype=torch.float64)).all()
    assert budget == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        ("(assert (<= Y_2 Y_0))", 2),
        ("(assert (or (>= Y_0 Y_3) (>= Y_1 Y_3)))", 3),
        ("(assert (>= Y_0 Y_3)) (assert (>= Y_1 Y_3))", 3),
        ("(assert (or (and (>= Y_0 Y_3) (>= Y_0 Y_1)) (and (>= Y_2 Y_1))))", 1),
    ],
)
def test_the_class_is_one_that_no_unsafe_output_prefers(tmp_path: Path, condition: str, label: int) -> None:
    assert read_property(saved(text([0.1], [0.2], condition), tmp_path)).label == label


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (text([0.1], [0.2], "(assert (or (>= Y_0 Y_1) (>= Y_2 Y_3)))"), "one class"),
        (text([0.1], [0.2], "(assert (>= Y_1 Y_1))"), "one class"),
        (text([-0.5], [0.2]), "[0, 1]"),
        (text([0.3], [0.2]), "empty box"),
        (text([0.1], [0.2], "(assert (>= Y_0 0.5))"), "Y_j >= Y_c"),
        (text([0.1], [0.2], ""), "no condition"),
        ("(declare-const X_0 Real) (assert (>= X_0 0.1))" + ROBUST, "no bound of X_0"),
        (ROBUST, "no inputs"),
        ("(" * 10_000, "brackets"),
        ("(assert (>= X_0 nan))", "a number"),
        ("(assert", "cut short"),
        ("hello", "expected ("),
        ("(check-sat)", "declarations"),
    ],
)
def test_other_forms_are_refused_in_one_line(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        read_property(saved(content, tmp_path)).images((1, 1, 1))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert "property.vnnlib" in str(error.value)


@pytest.mark.parametrize("part", ["(>= X_0 (>= Y_0 Y_1))", "((x) X_0 1)", "(foo 1 X_0)", "(>= X_0)", "X_0"])
def test_a_conjunction_that_is_no_bound_is_refused_in_one_line(tmp_path: Path, part: str) -> None:
    with pytest.raises(UserError, match=r"property\.vnnlib"):
        read_property(saved(f"(declare-const X_0 Real) (assert (and {part}))", tmp_path))


def test_so_many_unsafe_sets_are_refused_before_they_are_made(tmp_path: Path) -> None:
    many = f"(assert (or {'(>= Y_1 Y_0) ' * 9_000}))"
    with pytest.raises(UserError, match=r"at most 10,000 unsafe sets .* got 81,000,000"):
        read_property(saved(f"(declare-const X_0 Real) {many * 2}", tmp_path))


def test_certify_says_whether_proofs_cover_a_property(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from onnx_graphs import model, node, written

    weights = np.array([[4, 0], [0, 4], [0, 0], [0, 0]], dtype=np.float32)
    made = model([node("Flatten", "image", "f"), node("MatMul", "f w")], {"w": weights}, [1, 1, 2, 2])
    net = written(made, tmp_path / "net.onnx")
    # Class 1 wins while x_1 > x_0, by 0.2 in the middle: up to 0.1 in Linf.
    for radius, verdict in ((0.09, "holds"), (0.11, "open")):
        box = text([v - radius for v in (0.4, 0.6, 0.5, 0.5)], [v + radius for v in (0.4, 0.6, 0.5, 0.5)])
        path = saved(box.replace("Y_2", "Y_0"), tmp_path)
        done = here("certify", net, "--property", path, "--out", tmp_path / verdict)
        assert done.returncode == 0, done.stderr
        assert f"property.vnnlib: {verdict}" in done.stdout
    # Here class 0 wins all over a box that has to be of class 1: what is proven is the wrong class.
    box = text([0.6, 0.3, 0.5, 0.5], [0.62, 0.32, 0.52, 0.52])
    done = here("certify", net, "--property", saved(box.replace("Y_2", "Y_0"), tmp_path), "--out", tmp_path / "wrong")
    assert "property.vnnlib: open" in done.stdout
    assert "--data or --property" in here("certify", net, "--out", tmp_path / "none").stderr
