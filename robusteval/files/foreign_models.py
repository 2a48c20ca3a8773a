"""Model files of other programs, by the endings of their names: what they are, and the nearest way that can be read."""

from __future__ import annotations

from pathlib import Path

_ONNX = "convert it to .onnx"
_WEIGHTS = "save the weights as .safetensors, and name the network with --arch"
_ENDINGS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    ((".h5", ".hdf5", ".keras"), "a model of Keras", f"{_ONNX}, with tf2onnx for example"),
    ((".pb", ".pbtxt", ".tflite", ".meta"), "a graph of TensorFlow", f"{_ONNX}, with tf2onnx for example"),
    ((".mlmodel", ".mlpackage"), "a model of Core ML", f"{_ONNX} from where it was made"),
    ((".gguf", ".ggml"), "a GGUF file, of a language model", "give an image classifier"),
    ((".pkl", ".pickle", ".joblib", ".dill"), "a pickle, which may run code when it is opened", _WEIGHTS),
    ((".npz", ".npy", ".mat", ".msgpack"), "arrays", _WEIGHTS),
    ((".pdparams", ".pdmodel", ".caffemodel", ".params", ".mnn", ".ncnn"), "a model of another framework", _ONNX),
    ((".engine", ".trt", ".plan", ".mar", ".ptl"), "a model compiled for one program", f"{_ONNX} from its source"),
    ((".py", ".ipynb"), "code", "give its weights, and --arch FILE.py:FUNCTION"),
    ((".json", ".yaml", ".yml", ".toml"), "a configuration", "give the weights; hf:FOLDER for one of transformers"),
    ((".data",), "perhaps the weights of an .onnx beside it", "give that .onnx"),
    ((".zip", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2", ".zst"), "a packed archive", "unpack it first"),
    ((".png", ".jpg", ".jpeg", ".csv", ".parquet", ".arrow", ".tfrecord", ".xlsx"), "data", "give it with --data"),
)


def nearest_model(path: Path) -> str:
    """What a path that no reader of models takes is, and what to give instead: "; X: Y", empty where nothing is known
    of it."""
    if path.is_dir():
        if (path / "config.json").exists():
            return f"; a folder of transformers: give hf:{path}"
        if (path / "saved_model.pb").exists():
            return f"; a model of TensorFlow: {_ONNX}, with tf2onnx for example"
        return "; a folder: give the file in it"
    name = path.name.lower()
    return next((f"; {what}: {step}" for ends, what, step in _ENDINGS if name.endswith(ends)), "")
