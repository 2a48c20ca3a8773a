"""A CSV of paths and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import here
from robusteval.core.errors import UserError
from robusteval.core.reading import Reading
from robusteval.data import read_images

IMAGES = np.random.default_rng(4).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
PIXELS = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / "data" / "pictures" / f"{i}.png")
    return tmp_path / "data"


def listed(folder: Path, text: str, name: str = "list.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_text(text, encoding=encoding)
    return folder / name


ROWS = "pictures/2.png,1\npictures/0.png,3\npictures/1.png,0\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,label\n" + ROWS, "a.csv"),
        ("filename,Class\n" + ROWS, "a.csv"),
        (ROWS, "a.csv"),
        ('label,note,image\n1,x,pictures/2.png\n3,,pictures/0.png\n0,"a, b",pictures/1.png\n', "a.csv"),
        ("path\tlabel\n" + ROWS.replace(",", "\t"), "a.tsv"),
        ("path;label\n" + ROWS.replace(",", ";"), "a.csv"),
        ("path,label\r\n" + ROWS.replace("\n", "\r\n") + "\r\n", "A.CSV"),
        ("path,label\n" + ROWS.replace("/", "\\"), "a.csv"),
        ("\ufeffpath,label\n" + ROWS.replace("pictures/2", "./pictures/../pictures/2"), "a.csv"),
    ],
)
def test_paths_and_labels(text: str, name: str, folder: Path) -> None:
    images = read_images(str(listed(folder, text, name)))
    assert torch.equal(images.pixels, PIXELS[[2, 0, 1]])
    assert images.labels.tolist() == [1, 3, 0]
    assert images.ids[1].replace("\\", "/") == "pictures/0.png"
    assert images.class_names == ()
    assert len(read_images(str(folder / name), 2)) == 2


def test_absolute_paths_below_the_table(folder: Path) -> None:
    text = f"path,label\n{(folder / 'pictures' / '3.png').resolve()},0\n"
    assert torch.equal(read_images(str(listed(folder, text))).pixels, PIXELS[3:])


def test_names_are_classes_in_the_order_of_those_of_a_folder(folder: Path) -> None:
    path = listed(
        folder, "path,label\npictures/0.png,eel\npictures/1.png,cat\npictures/2.png,eel\npictures/3.png,Dog\n"
    )
    images = read_images(str(path))
    assert images.class_names == ("Dog", "cat", "eel")
    assert images.labels.tolist() == [2, 1, 2, 0]
    assert read_images(str(path), 1).class_names == images.class_names
    assert read_images(str(path), classes=["cat", "eel", "fox", "Dog"]).labels.tolist() == [1, 0, 1, 3]


def test_splits_and_columns(folder: Path) -> None:
    text = "a,b,split,c\npictures/0.png,0,train,5\npictures/1.png,1,val,6\npictures/2.png,2,train,7\n"
    path = listed(folder, text)
    asked = Reading(image_column="a", label_column="c", split="train", crop=2)
    images = read_images(str(path), reading=asked)
    assert images.labels.tolist() == [5, 7]
    assert torch.equal(images.pixels, PIXELS[[0, 2], :, 2:4, 2:4])
    named = Reading(image_column="a", label_column="b")
    assert read_images(f"{path}:validation", reading=named).labels.tolist() == [1]
    with pytest.raises(UserError, match=r"--split to name one of the splits of .* \(train, val\), got none"):
        read_images(str(path), reading=named)
    with pytest.raises(UserError, match=r"--split test in .*, got train, val"):
        read_images(f"{path}:test", reading=named)


OUT = "path,label\n{0},0\n"
REFUSED = {
    "no names": ("a,b\npictures/0.png,0\n", "got a, b; name them with --image-column and --label-column"),
    "pixels": ("label,pixel0,pixel1\n0,1,2\n", "name them with --image-column"),
    "one column": ("path\npictures/0.png\n", "got a single column"),
    "empty": ("", "got no rows"),
    "header alone": ("path,label\n", "got a header alone"),
    "short row": ("path,label\npictures/0.png\n", "expected 2 columns in every row"),
    "no label": ("path,label\npictures/0.png,\n", "a label in every row"),
    "half": ("path,label\npictures/0.png,0.5\n", "got '0.5'"),
    "negative": ("path,label\npictures/0.png,-1\n", "got '-1'"),
    "mixed": ("path,label\npictures/0.png,3\npictures/1.png,cat\n", "all whole numbers from 0 or all names"),
    "gone": ("path,label\npictures/9.png,0\n", "9.png', which is not there"),
    "folder": ("path,label\npictures,0\n", "pictures, which is a folder"),
    "no image": ("path,label\nlist.csv,0\n", "expected an image in"),
    "twice": ("path,label\npictures/0.png,0\npictures/0.png,0\n", "distinct image ids"),
    "above": ("path,label\n../other.png,0\n", "which leads out of it; move the table"),
    "elsewhere": ("path,label\n/etc/passwd,0\n", "which leads out of it"),
    "open quotes": ('path,label\n"pictures/0.png,0\n', "expected a table of paths and labels"),
    "zeros": ("path,label\npictures/0.png\0,0\n", "which is not there"),
    "long line": ("path,label\n" + "x" * 2**21 + ",0\n", "characters in a line"),
    "long field": ("path,label\n" + "x" * 2**18 + ",0\n", "field larger than field limit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_tables_are_one_line_on_the_command_line(name: str, folder: Path, tmp_path: Path) -> None:
    text, said = REFUSED[name]
    done = here("audit", "none.pt", "--data", listed(folder, text), "--out", tmp_path / "run")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: expected ")
    assert said in line
    assert str(folder) in line


def test_a_list_through_the_command_line(folder: Path, tmp_path: Path) -> None:
    path = listed(folder, "path,label\n" + ROWS)
    done = here("audit", "none.pt", "--data", path, "--resize", 4, "--out", tmp_path / "run")
    assert "none.pt, which does not exist" in done.stderr
    flat = here("audit", "none.pt", "--data", folder / "pictures", "--out", tmp_path / "run")
    assert "give a .csv beside them with their paths and labels" in flat.stderr


def test_a_table_of_many_rows_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robusteval.data.text_tables._ROWS", 2)
    with pytest.raises(UserError, match=r"at most 2 rows in .*, got 3"):
        read_images(str(listed(folder, "path,label\n" + ROWS)))


def test_a_file_that_is_not_there_names_the_table_and_where_it_looked(folder: Path) -> None:
    path = listed(folder, "path,label\nwrong/2.png,1\n")
    with pytest.raises(UserError, match=r"from the folder of .*list\.csv on, got 'wrong/2\.png', which is not there"):
        read_images(str(path))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_table_of_another_encoding_says_how_to_save_it(encoding: str, folder: Path) -> None:
    path = listed(folder, "path,label\n\u00e9.png,0\n", encoding=encoding)
    with pytest.raises(UserError, match=r"UTF-8 in .*list\.csv, got other bytes; save it as"):
        read_images(str(path))
