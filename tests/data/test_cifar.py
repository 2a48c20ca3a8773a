"""CIFAR's batches, python and binary, as they are distributed; pickles are read without unpickling."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from commands import here
from robusteval.core.errors import UserError
from robusteval.core.reading import Reading
from robusteval.data import read_images
from robusteval.files.pickled_arrays import PickledArray, read_plain

RNG = np.random.default_rng(2)
NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
COUNT = 4


def rows(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (COUNT, 3072), dtype=np.uint8)


def python_10(root: Path) -> Path:
    for i, name in enumerate([*(f"data_batch_{j}" for j in range(1, 6)), "test_batch"]):
        labels = [(i + j) % 10 for j in range(COUNT)]
        batch = {b"data": rows(i), b"labels": labels, b"batch_label": b"x", b"filenames": [b"a.png"] * COUNT}
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    (root / "batches.meta").write_bytes(pickle.dumps({b"label_names": NAMES, b"num_vis": 3072}, protocol=2))
    return root


def binary_10(root: Path) -> Path:
    for i, name in enumerate([*(f"data_batch_{j}" for j in range(1, 6)), "test_batch"]):
        labels = np.array([(i + j) % 10 for j in range(COUNT)], np.uint8)
        (root / f"{name}.bin").write_bytes(np.hstack([labels[:, None], rows(i)]).tobytes())
    (root / "batches.meta.txt").write_text("\n".join(name.decode() for name in NAMES) + "\n\n")
    return root


def python_100(root: Path) -> Path:
    for i, name in enumerate(["train", "test"]):
        batch = {"data": rows(i), "fine_labels": [90 + j for j in range(COUNT)], "coarse_labels": list(range(COUNT))}
        (root / name).write_bytes(pickle.dumps(batch, protocol=4))
    names = {"fine_label_names": [f"f{i}" for i in range(100)], "coarse_label_names": [f"c{i}" for i in range(20)]}
    (root / "meta").write_bytes(pickle.dumps(names))
    return root


def binary_100(root: Path) -> Path:
    for i, name in enumerate(["train", "test"]):
        labels = np.array([[j, 90 + j] for j in range(COUNT)], np.uint8)
        (root / f"{name}.bin").write_bytes(np.hstack([labels, rows(i)]).tobytes())
    (root / "fine_label_names.txt").write_text("\n".join(f"f{i}" for i in range(100)))
    (root / "coarse_label_names.txt").write_text("\n".join(f"c{i}" for i in range(20)))
    return root


def pixels(seed: int) -> torch.Tensor:
    return torch.from_numpy(rows(seed).reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("build", [python_10, binary_10])
def test_cifar_10(build: Any, tmp_path: Path) -> None:
    folder = build(tmp_path)
    test = read_images(str(folder))
    assert torch.equal(test.pixels, pixels(5))
    assert test.labels.tolist() == [5, 6, 7, 8]
    assert test.class_names == tuple(name.decode() for name in NAMES)
    suffix = ".bin" if build is binary_10 else ""
    assert test.ids[1] == f"test_batch{suffix}-00001"
    train = read_images(f"{folder}:train")
    assert torch.equal(train.pixels, torch.cat([pixels(i) for i in range(5)]))
    assert len(set(train.ids)) == 5 * COUNT
    assert torch.equal(read_images(f"{folder}:train", COUNT + 1).pixels, train.pixels[: COUNT + 1])
    one = read_images(str(folder / f"data_batch_2{suffix}"), 2, reading=Reading(resize=16))
    assert one.labels.tolist() == [1, 2]
    assert one.shape == (3, 16, 16)
    (folder / f"data_batch_4{suffix}").unlink()
    with pytest.raises(UserError, match="data_batch_4"):
        read_images(f"{folder}:train")


@pytest.mark.parametrize("build", [python_100, binary_100])
def test_cifar_100_has_fine_labels_and_coarse_ones(build: Any, tmp_path: Path) -> None:
    folder = build(tmp_path)
    test = read_images(str(folder))
    assert torch.equal(test.pixels, pixels(1))
    assert test.labels.tolist() == [90, 91, 92, 93]
    assert test.class_names[93] == "f93"
    coarse = read_images(str(folder), reading=Reading(label_column="coarse_labels", split="train"))
    assert torch.equal(coarse.pixels, pixels(0))
    assert coarse.labels.tolist() == [0, 1, 2, 3]
    assert coarse.class_names[19] == "c19"
    with pytest.raises(UserError, match=r"--label-column of .* got 'fine_label' \(did you mean 'fine_labels'\?\)"):
        read_images(str(folder), reading=Reading(label_column="fine_label"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["u1", "<i8", ">f4", "<f8"])
def test_every_protocol_is_read_as_pickle_reads_it(protocol: int, kind: str) -> None:
    held: dict[str, Any] = {
        "a": np.arange(24).reshape(2, 3, 4).astype(kind),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3).astype(kind)),
        "list": [1, -5, 2**40, 2.5, None, True, False, "text \u00e9", (1, 2), (), [], {}, (1, 2, 3, 4), b"bytes"],
        "dict": {"x": {"y": [b"\xff\x00"]}},
    }
    if protocol == 0:
        held["a"] = np.zeros((2, 3), kind)
        held["f"] = held["a"]
    found = read_plain(pickle.dumps(held, protocol), "f")
    assert found.keys() == held.keys()
    for key in ("a", "f"):
        numbers = found[key].numbers()
        assert numbers.dtype == held[key].dtype
        assert np.array_equal(numbers, held[key])
    assert found["list"] == held["list"]
    assert found["dict"] == held["dict"]


def test_what_python_2_wrote() -> None:
    """As cPickle spells strings, and numpy of that time its names."""
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x01(cnumpy\nndarray\nq\x02K\x00\x85U\x01bq\x03tRq\x04"
    state = (
        b"(K\x01K\x01K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    )
    content = b"\x80\x02}(U\x04data" + array + state + b"K\x00tb\x89U\x03\x01\x02\xfftbU\x06labels](K\x01K\x02eu."
    found = read_plain(content, "f")
    assert found["data"].numbers().tolist() == [[1, 2, 255]]
    assert found["labels"] == [1, 2]


class _Calls:
    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(_Calls()), "a call of posix.system"),
        (pickle.dumps({"labels": [_Calls()]}), "a call of posix.system"),
        (pickle.dumps(np.zeros(3, np.uint8))[:40], "expected a pickle of plain"),
        (b"", "expected a pickle of plain"),
        (b"\x80\x02.", "expected a pickle of plain"),
        (b"\x80\x02K\x01R.", "expected a pickle of plain"),
        (b"(" * 10**4, "expected a pickle of plain"),
        (b"\x80\x02X\x01\0\0\0aQ.", "expected a pickle of plain"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "a call of builtins.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", "a call of numpy.load"),
    ],
)
def test_a_pickle_that_is_more_than_data_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        read_plain(content, "FILE")
    assert said in str(raised.value)
    assert "FILE" in str(raised.value)
    assert not (Path.cwd() / "canary").exists()


def test_what_is_beside_the_data_is_left() -> None:
    """Objects that are no data, and keys that are no names, in a batch that someone made."""
    held = {
        "data": rows(0),
        1: 2,
        "made": Path("x"),
        "kinds": {1, 2},
        "a": 1,
        b"a": 2,
        b"b": 3,
        "rate": np.float64(0.5),
    }
    found = read_plain(pickle.dumps(held), "f")
    assert np.array_equal(found["data"].numbers(), rows(0))
    assert found.keys() == {"data", "made", "kinds", "a", "b", "rate"}
    assert (found["a"], found["b"], found["rate"]) == (1, 3, 0.5)
    assert found["made"] == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(np.array([None, 1], dtype=object)), "which are no numbers"),
        (pickle.dumps(np.array(["a"])), "which are no numbers"),
        (pickle.dumps(np.zeros(2, "u1,u1")), "which are no numbers"),
        (pickle.dumps(np.zeros((1, 7), np.uint8), 2).replace(b"K\x01K\x07", b"K\x01K\x08"), "of another size"),
    ],
)
def test_an_array_that_is_none_is_found_out_where_it_is_wanted(content: bytes, said: str) -> None:
    found = read_plain(content, "f")
    assert isinstance(found, PickledArray)
    with pytest.raises(ValueError, match=said):
        found.numbers()


def test_bytes_are_made_once_of_one_text() -> None:
    """Else a small file fills the memory: as many bytes each time as the text has characters."""
    call = b"c_codecs\nencode\nh\x00X\x06\0\0\0latin1\x86R"
    content = b"\x80\x02](X\x10\x27\0\0" + b"a" * 10_000 + b"q\x00" + call * 1000 + b"e."
    found = read_plain(content, "f")
    assert found[1] == b"a" * 10_000
    assert len({id(made) for made in found[1:]}) == 1


def test_a_pickle_of_many_operations_is_bounded() -> None:
    with pytest.raises(UserError, match="at most 2,000,000 operations"):
        read_plain(b"\x80\x02" + b"N" * (2 * 10**6 + 10), "f")


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({b"data": rows(0), b"labels": [0, 1]}, "expected 4 integer labels"),
        ({b"data": rows(0)[:, :5], b"labels": [0] * 4}, "shape (4, 5)"),
        ({b"data": rows(0), b"labels": [0, 1, 2, 10]}, "got 10 for image"),
        ({b"data": rows(0), b"labels": [0, 1, 2, "3"]}, "whole numbers labels"),
        ({b"data": rows(0), b"labels": [0, 1, 2, 2**80]}, "integer labels"),
        ({b"images": rows(0)}, "got images"),
        ({b"data": np.array([None]), b"labels": [0]}, "an array of O8, which are no numbers"),
        ([1], "got none"),
    ],
)
def test_batches_that_are_none(batch: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(UserError) as raised:
        read_images(str(tmp_path))
    assert said in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_binary_batches_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(UserError, match="expected 3073 bytes an image in"):
        read_images(str(tmp_path))
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    (tmp_path / "batches.meta.txt").write_text("one two")
    with pytest.raises(UserError, match=r"names of 10 classes in .*, got 2"):
        read_images(str(tmp_path))


def test_cifar_through_the_command_line(tmp_path: Path) -> None:
    python_10(tmp_path)
    done = here("audit", "none.pt", "--data", tmp_path, "--limit", 3, "--out", tmp_path / "run")
    assert "none.pt, which does not exist" in done.stderr
    (tmp_path / "test_batch").write_bytes(pickle.dumps(_Calls()))
    refused = here("audit", "none.pt", "--data", tmp_path, "--out", tmp_path / "run")
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert "a call of posix.system, which plain data does not need" in line
