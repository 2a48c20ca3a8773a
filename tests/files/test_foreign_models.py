"""A model file that is not read is told what it is and the nearest way that can be, in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from robusteval.core.errors import UserError
from robusteval.models.checkpoints import SUFFIXES, open_checkpoint

ENDINGS = {
    "m.h5": "a model of Keras: convert it to .onnx",
    "m.hdf5": "a model of Keras: convert it to .onnx",
    "m.keras": "a model of Keras: convert it to .onnx",
    "m.pb": "a graph of TensorFlow: convert it to .onnx",
    "m.TFLITE": "a graph of TensorFlow: convert it to .onnx",
    "m.mlmodel": "a model of Core ML: convert it to .onnx",
    "m.gguf": "a GGUF file, of a language model: give an image classifier",
    "m.pkl": "a pickle, which may run code when it is opened: save the weights as .safetensors",
    "m.joblib": "a pickle, which may run code when it is opened: save the weights as .safetensors",
    "m.npz": "arrays: save the weights as .safetensors",
    "m.mat": "arrays: save the weights as .safetensors",
    "m.msgpack": "arrays: save the weights as .safetensors",
    "m.pdparams": "a model of another framework: convert it to .onnx",
    "m.engine": "a model compiled for one program: convert it to .onnx",
    "m.py": "code: give its weights, and --arch FILE.py:FUNCTION",
    "m.json": "a configuration: give the weights; hf:FOLDER",
    "m.onnx.data": "perhaps the weights of an .onnx beside it: give that .onnx",
    "m.zip": "a packed archive: unpack it first",
    "m.tar.gz": "a packed archive: unpack it first",
    "images.parquet": "data: give it with --data",
    "images.tfrecord": "data: give it with --data",
    "table.xlsx": "data: give it with --data",
}
BYTES = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras); save the weights as .safetensors",
    b"\x1c\0\0\0TFL3": "a model of TensorFlow Lite; convert it to .onnx",
    b"GGUF\x03\0\0\0": "a GGUF file; save the weights as .safetensors",
    b"MATLAB 5.0 MAT-file": "a MATLAB file; save the weights as .safetensors",
    b"PAR1\x15\x04": "a Parquet file; give it with --data",
    b"ARROW1\0\0": "an Arrow file; give it with --data",
    b"\x93NUMPY\x01\0": "a NumPy array; save the weights as .safetensors",
}


def refused(path: Path) -> str:
    with pytest.raises(UserError) as raised:
        open_checkpoint(path, "digits-cnn", input_shape=(1, 8, 8))
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", ENDINGS)
def test_a_model_of_another_program_by_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"anything")
    assert f"; {ENDINGS[name]}" in refused(tmp_path / name)


@pytest.mark.parametrize("content", BYTES)
def test_a_model_of_another_program_under_a_name_that_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(content + bytes(2000))
    assert BYTES[content] in refused(tmp_path / "m.pt")


def test_folders(tmp_path: Path) -> None:
    for name, beside, said in (
        ("a", "config.json", f"give hf:{tmp_path / 'a'}"),
        ("b", "saved_model.pb", "a model of TensorFlow: convert it to .onnx"),
        ("c", "model.safetensors", "a folder: give the file in it"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / beside).write_bytes(b"{}")
        assert said in refused(tmp_path / name)


def test_no_ending_that_is_read_is_told_otherwise() -> None:
    assert not {name for name in ENDINGS if Path(name.lower()).suffix in SUFFIXES}
