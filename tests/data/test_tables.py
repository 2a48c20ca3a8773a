"""Hugging Face's folders: shards of parquet and of arrow, with splits, columns and names of classes."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import robusteval as rv
from commands import here
from robusteval.core.errors import UserError
from robusteval.core.reading import Reading
from robusteval.data import read_images

IMAGES = np.random.default_rng(3).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = [0, 1, 2, 2, 1, 0]
PIXELS = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
NAMES = ["cat", "dog", "eel"]
FEATURES = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}


def png(image: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def table(rows: slice = slice(None), image: str = "image", label: str = "label", **more: Any) -> pa.Table:
    cells = pa.array(
        [{"bytes": png(p), "path": None} for p in IMAGES[rows]],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    return pa.table({image: cells, label: LABELS[rows], **more})


def write_arrow(path: Path, rows: pa.Table, *, file: bool = False, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    make = pa.ipc.new_file if file else pa.ipc.new_stream
    with make(str(path), rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(rows, max_chunksize=2)


def saved_to_disk(folder: Path, rows: slice = slice(None)) -> Path:
    """As datasets lays it out."""
    cut = (rows.start or 0) + 4
    write_arrow(folder / "data-00000-of-00002.arrow", table(slice(rows.start, cut)))
    write_arrow(folder / "data-00001-of-00002.arrow", table(slice(cut, rows.stop)))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES, "builder_name": "x"}))
    files = [{"filename": f"data-0000{i}-of-00002.arrow"} for i in range(2)]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": "test"}))
    (folder / "cache-0123.arrow").write_bytes(b"of a filter, no part of the data")
    return folder


def test_a_dataset_saved_to_disk(tmp_path: Path) -> None:
    folder = saved_to_disk(tmp_path / "data")
    images = read_images(str(folder))
    assert torch.equal(images.pixels, PIXELS)
    assert images.labels.tolist() == LABELS
    assert images.class_names == tuple(NAMES)
    assert images.ids[5] == "row-000005"
    assert torch.equal(read_images(str(folder), 5).pixels, PIXELS[:5])
    one = read_images(str(folder / "data-00001-of-00002.arrow"), 1, reading=Reading(crop=4))
    assert torch.equal(one.pixels, PIXELS[4:5, :, 2:6, 2:6])


def test_a_dictionary_of_splits(tmp_path: Path) -> None:
    saved_to_disk(tmp_path / "train")
    write_arrow(tmp_path / "test" / "data-00000-of-00001.arrow", table(slice(0, 3)))
    write_arrow(tmp_path / "unlabelled" / "data-00000-of-00001.arrow", table(slice(0, 1)))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test", "unlabelled"]}')
    assert len(read_images(f"{tmp_path}:train")) == 6
    assert len(read_images(str(tmp_path), reading=Reading(split="test"))) == 3
    assert len(read_images(str(tmp_path), reading=Reading(split="unlabelled"))) == 1
    with pytest.raises(UserError, match=r"splits of .*, test, train, unlabelled, got none; name it with --split"):
        read_images(str(tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"),
        ("train-0.parquet", "train-1.parquet", "test-0.parquet"),
        ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"),
    ],
)
def test_parquet_shards_of_a_repository(names: tuple[str, ...], tmp_path: Path) -> None:
    for name, rows in zip(names, (slice(0, 4), slice(4, 6), slice(0, 2)), strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        found = table(rows).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
        pq.write_table(found, tmp_path / name)
    (tmp_path / "README.md").write_text("---\n")
    train = read_images(f"{tmp_path}:train")
    assert torch.equal(train.pixels, PIXELS)
    assert train.labels.tolist() == LABELS
    assert train.class_names == tuple(NAMES)
    assert len(read_images(f"{tmp_path}:test")) == 2
    assert len(read_images(f"{tmp_path}:train", 5)) == 5


def test_columns_are_asked_for(tmp_path: Path) -> None:
    rows = table(image="picture", label="fine_label", coarse_label=[0, 0, 1, 1, 0, 0])
    pq.write_table(rows, tmp_path / "data.parquet")
    with pytest.raises(UserError, match=r"got picture, fine_label, coarse_label; .* with --image-column and --label-"):
        read_images(str(tmp_path / "data.parquet"))
    for column, labels in (("fine_label", LABELS), ("coarse_label", [0, 0, 1, 1, 0, 0])):
        asked = Reading(image_column="picture", label_column=column)
        assert read_images(str(tmp_path / "data.parquet"), reading=asked).labels.tolist() == labels
        assert read_images(str(tmp_path), reading=asked).labels.tolist() == labels
    with pytest.raises(
        UserError, match=r"--image-column among the columns of .*'pictures' \(did you mean 'picture'\?\)"
    ):
        read_images(str(tmp_path), reading=Reading(image_column="pictures"))


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"compression": "lz4"}])
def test_compressed_arrow_is_refused_with_the_step(options: dict[str, Any], tmp_path: Path) -> None:
    """Since what it unpacks to would not be known before."""
    write_arrow(tmp_path / "x.arrow", table(), **options)
    with pytest.raises(UserError, match=r"without compression in .*x.arrow, got one; save it as .parquet"):
        read_images(str(tmp_path / "x.arrow"))
    coded = table().append_column("kind", pa.array(["a"] * 6).dictionary_encode())
    write_arrow(tmp_path / "y.arrow", coded, **options)
    with pytest.raises(UserError, match="without compression"):
        read_images(str(tmp_path / "y.arrow"))


def test_the_file_format_of_arrow_and_dictionaries(tmp_path: Path) -> None:
    coded = table().append_column("kind", pa.array(list("aabbcc")).dictionary_encode())
    write_arrow(tmp_path / "x.arrow", coded, file=True)
    assert torch.equal(read_images(str(tmp_path / "x.arrow")).pixels, PIXELS)
    write_arrow(tmp_path / "y.arrow", coded)
    assert torch.equal(read_images(str(tmp_path / "y.arrow")).pixels, PIXELS)


def build_missing(root: Path) -> None:
    saved_to_disk(root)
    os.remove(root / "data-00000-of-00002.arrow")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_labels_of_text_are_counted_as_the_classes_of_a_folder(kind: pa.DataType, suffix: str, tmp_path: Path) -> None:
    texts = pa.array([["owl", "cat", "\u00e9lan"][i] for i in LABELS]).cast(kind)
    rows = table().set_column(1, "label", texts)
    path = tmp_path / f"x.{suffix}"
    write_arrow(path, rows) if suffix == "arrow" else pq.write_table(rows, path)
    found = read_images(str(path))
    assert found.class_names == ("cat", "owl", "\u00e9lan")
    assert found.labels.tolist() == [1, 0, 2, 2, 0, 1]
    # Which class a label is does not follow from how many images are read.
    assert read_images(str(path), 1).labels.tolist() == [1]
    assert read_images(str(path), 1).class_names == found.class_names
    drawn = read_images(str(path), sample=3, seed=1)
    assert drawn.labels.tolist() == [found.labels[found.ids.index(i)] for i in drawn.ids]
    asked = read_images(str(path), classes=["\u00e9lan", "owl", "cat", "dog"])
    assert asked.labels.tolist() == [1, 2, 0, 0, 2, 1]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", None, "b", "a", "b", "a"], "got null in row 1"),
        (["a", "", "b", "a", "b", "a"], "all names in"),
        (["a", "-1", "b", "a", "b", "a"], "got '-1'"),
        (["a", "2.5", "b", "a", "b", "a"], "got '2.5'"),
        (["a", "x" * 1000, "b", "a", "b", "a"], "of at most 800 characters"),
        (["0", "1", "2", "0", "1", "2"], "got string"),
    ],
)
def test_text_that_is_no_names(labels: list[str | None], said: str, tmp_path: Path) -> None:
    pq.write_table(table().set_column(1, "label", pa.array(labels)), tmp_path / "x.parquet")
    with pytest.raises(UserError) as raised:
        read_images(str(tmp_path / "x.parquet"))
    assert said in str(raised.value)


def test_text_in_one_shard_and_numbers_in_another(tmp_path: Path) -> None:
    write_arrow(tmp_path / "data-00000-of-00002.arrow", table().set_column(1, "label", pa.array(["a"] * 6)))
    write_arrow(tmp_path / "data-00001-of-00002.arrow", table())
    with pytest.raises(UserError, match=str(tmp_path)):
        read_images(str(tmp_path))


def build_two(root: Path) -> None:
    for name in ("a/train/0.parquet", "b/train/0.parquet"):
        (root / name).parent.mkdir(parents=True)
        pq.write_table(table(), root / name)


def build_cut(root: Path) -> None:
    saved_to_disk(root)
    path = root / "data-00001-of-00002.arrow"
    path.write_bytes(path.read_bytes()[:-300])


def build_other_columns(root: Path) -> None:
    saved_to_disk(root)
    write_arrow(root / "data-00001-of-00002.arrow", table(label="kind"))


def build_text(root: Path) -> None:
    root.mkdir()
    (root / "x.arrow").write_text("no table")


def build_labels(root: Path) -> None:
    write_arrow(root / "x.arrow", table().set_column(1, "label", pa.array(["a"] * 5 + ["1"])))


def build_info(root: Path) -> None:
    saved_to_disk(root)
    (root / "dataset_info.json").write_text("[" * 5000)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (build_missing, "expected all shards of one split in"),
        (build_two, "in one folder, got"),
        (build_cut, "expected an Arrow stream in"),
        (build_other_columns, "expected columns image and label in"),
        (build_text, "expected an Arrow stream in"),
        (build_labels, "all whole numbers from 0 or all names in"),
        (build_info, "expected JSON in"),
    ],
)
def test_folders_that_are_not_whole(build: Any, said: str, tmp_path: Path) -> None:
    build(tmp_path / "data")
    done = here("audit", "none.pt", "--data", tmp_path / "data", "--out", tmp_path / "run")
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert said in line
    assert str(tmp_path / "data") in line


def test_offsets_that_point_beyond_the_file_are_refused(tmp_path: Path) -> None:
    """Buffers that lie: the last offset of the images is another."""
    write_arrow(tmp_path / "x.arrow", table(slice(0, 2)))
    content = (tmp_path / "x.arrow").read_bytes()
    sizes = [len(png(p)) for p in IMAGES[:2]]
    offsets = np.array([0, sizes[0], sum(sizes)], np.int32).tobytes()
    assert offsets in content
    forged = np.array([0, sizes[0], 2**31 - 1], np.int32).tobytes()
    (tmp_path / "x.arrow").write_bytes(content.replace(offsets, forged))
    with pytest.raises(UserError, match="expected an Arrow stream in"):
        read_images(str(tmp_path / "x.arrow"))


def test_a_folder_of_tables_through_the_command_line(tmp_path: Path, demo_folder: Path) -> None:
    digits = read_images("digits", 4)
    grey = (digits.pixels[:, 0] * 255).round().byte().numpy()
    cells = pa.array([{"bytes": png(p)} for p in grey], pa.struct([("bytes", pa.binary())]))
    write_arrow(
        tmp_path / "data" / "test" / "data-00000-of-00001.arrow", pa.table({"img": cells, "y": digits.labels.numpy()})
    )
    (tmp_path / "p.toml").write_text('[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n')
    asked = ["audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", tmp_path / "data"]
    asked += ["--protocol", tmp_path / "p.toml", "--out", tmp_path / "run"]
    refused = here(*asked)
    assert "--label-column" in refused.stderr
    done = here(*asked, "--label-column", "y", "--split", "test")
    assert done.returncode == 0, done.stderr
    assert rv.Run.open(tmp_path / "run").manifest.data.reading == Reading(label_column="y", split="test")
    assert here("verify", tmp_path / "run", "--data", tmp_path / "data").returncode == 0
