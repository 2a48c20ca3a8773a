"""What no reader takes is told what it is and the nearest way that works; "does not exist" is said of nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from commands import here
from robusteval.core.errors import UserError
from robusteval.data import DATASETS, read_images

OTHERS = {
    "data.zip": "a packed archive: unpack it and give the folder",
    "cifar-10-python.tar.gz": "a packed archive: unpack it and give the folder",
    "images.gz": "a packed file: unpack it",
    "cat.JPG": "one image: put it into FOLDER/CLASS/ and give FOLDER, or list it with its label in a .csv",
    "data.h5": "save its arrays as an .npz with images and labels",
    "data.hdf5": "an HDF5 file: save its arrays as an .npz",
    "data.mat": "a MATLAB file: save its arrays as an .npz",
    "data.joblib": "a pickle, which may run code",
    "data.jsonl": "a list in text: list the paths of the images with their labels in a .csv",
    "clip.mp4": "a video: save its frames as images",
    "photo.HEIC": "an image without a reader: save it as .png",
    "model.keras": "a file of weights or a program: give the images",
    "model.pb": "a file of weights or a program: give the images",
    "model.tflite": "a file of weights or a program: give the images",
    "model.mlmodel": "a file of weights or a program: give the images",
    "model.gguf": "a file of weights or a program: give the images",
    "data.pkl": "a pickle, which may run code when it is opened: save its arrays as an .npz",
    "data.tfrecord": "records of TensorFlow: save its arrays as an .npz with images and labels, or the images as",
    "labels.json": "list the paths of the images with their labels in a .csv",
    "labels.xlsx": "a spreadsheet: save it as .csv",
    "list.txt": "name it .csv",
    "data.feather": "save the table as .parquet",
    "model.safetensors": "a file of weights or a program: give the images",
    "data": "no format that is read",
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_without_a_reader(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"anything")
    done = here("audit", "none.pt", "--data", tmp_path / name, "--out", tmp_path / "run")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert OTHERS[name] in line
    assert "exist" not in line


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to("none")
    for name, said in (
        ("pipe", "which is a FIFO"),
        ("circle", "Too many levels"),
        ("nowhere", "a link to what does not"),
    ):
        with pytest.raises(UserError, match=said):
            read_images(str(tmp_path / name))
    with pytest.raises(UserError, match=r"'digit', which does not exist \(did you mean 'digits'\?\)"):
        read_images("digit")
    with pytest.raises(UserError, match="which does not exist"):
        read_images(str(tmp_path / "none"))
    with pytest.raises(UserError, match="File name too long"):
        read_images("x" * 5000)


@pytest.mark.parametrize("name", [".parquet", ".npz", ".npy", ".pt", ".csv", ".tar", ".arrow"])
def test_files_that_are_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory"):
        read_images(str(tmp_path / f"x{name}"))


def test_the_folder_below_is_named(tmp_path: Path) -> None:
    """As torchvision lays out what it downloads."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(UserError, match=rf"got none; give {raw}, which is read as IDX_FOLDER"):
        read_images(str(tmp_path))
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"raw, which is read as IDX_FOLDER or .*cifar-10-batches-py, which is read as C"
    ):
        read_images(str(tmp_path))


def test_every_format_is_in_the_table_of_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    words = {"foolbox:NAME", "FILE.parquet", "FILE.npz", "FILE.npy", "FILE.pt", "FILE.csv", "FILE.tar"}
    assert words <= set(DATASETS)
    assert all(f"`{word}`" in text for word in words)
