"""A new user's first hour: every way to give a model and data, and the usual mistakes, on files made on the spot.

    python benchmarks/first_hour.py [--only WORD]

Each step is a process of its own, of the robusteval that this Python has. A step that should work ends with exit code
0 and leaves its report; a mistake ends with exit code 2, without a traceback, in a line that says the next step.
Printed is a table of all steps; the exit code is 1 where one went another way. It needs the extras.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from first_hour_files import make_data, make_models

PROTOCOL = """
name = "first"
description = "One attack"
[budgets]
linf = ["8/255"]
[[attacks]]
method = "fgsm"
norm = "linf"
budgets = ["8/255"]
"""
GRAY = "gray.safetensors --arch digits-cnn"
COLOR = "color.safetensors --arch net.py:color"


@dataclass(frozen=True)
class Step:
    """A command, and what its error has to say (nothing: it ends with exit code 0)."""

    what: str
    command: str
    next_step: str = ""
    code: int = 2


def audit(what: str, model: str, data: str, next_step: str = "") -> Step:
    """An audit of a few images by one attack."""
    sample = "" if "--limit" in data else " --limit 4"
    return Step(what, f"audit {model} --data {data}{sample} --protocol first.toml --out runs/{{n}}", next_step)


MODELS = (
    audit("safetensors, a known network", GRAY, "digits"),
    audit("safetensors, a function of one's own", "gray.safetensors --arch net.py:gray", "digits"),
    audit("state dict .pt", "gray.pt --arch digits-cnn", "digits"),
    audit("training checkpoint .pth", "training.pth --arch digits-cnn", "digits"),
    audit("of DataParallel, .ckpt", "parallel.ckpt --arch digits-cnn", "digits"),
    audit(".bin", "gray.bin --arch digits-cnn", "digits"),
    audit(".pth.tar", "gray.pth.tar --arch digits-cnn", "digits"),
    audit("torch.export, trusted", "gray.pt2 --trust gray.pt2", "digits"),
    audit("TorchScript, trusted", "gray.ts --trust gray.ts", "digits"),
    audit("ONNX", "gray.onnx", "digits"),
    audit("timm", "timm.safetensors --arch timm:resnet10t", "batches"),
    audit("torchvision", "vision.pth --arch torchvision:mobilenet_v3_small", "batches"),
    audit("transformers", "hf:vit", "batches"),
    audit("the zoo", "zoo:standard-digits", "digits"),
    audit("two models and a transfer", "gray.safetensors other.safetensors --arch digits-cnn", "digits"),
    audit("weights without a network", "gray.safetensors", "digits", "--arch"),
    audit("a whole pickled model", "whole.pt --arch digits-cnn", "digits", "state_dict"),
    audit("torch.export, not trusted", "gray.pt2", "digits", "--trust"),
    audit("TorchScript, not trusted", "gray.ts", "digits", "--trust"),
    audit("another network's weights", "gray.safetensors --arch resnet18-cifar", "digits", "--arch|known|expected"),
    audit("a name with a slip", "gray.safetensors --arch digit-cnn", "digits", "digits-cnn"),
    audit("a package that is not there", "gray.safetensors --arch robustbench:Standard", "digits", "pip install"),
    audit("TensorFlow", "saved.h5", "digits", "onnx|safetensors"),
    audit("no such file", "grey.safetensors --arch digits-cnn", "digits", "does not exist"),
)
DATA = (
    audit("folder of classes", GRAY, "folder"),
    audit("its split", GRAY, "splits --split test"),
    audit("photographs of mixed sizes", COLOR, "photos --resize 40 --crop 32"),
    audit("CSV of paths", GRAY, "list.csv"),
    audit("columns of a TSV", GRAY, "named.tsv --image-column where --label-column what"),
    audit("CIFAR-10, python", COLOR, "batches"),
    audit("CIFAR-10, binary", COLOR, "binary"),
    audit("CIFAR-100, coarse", "color20.safetensors --arch net.py:color20", "hundred --label-column coarse_labels"),
    audit("Hugging Face, parquet shards", GRAY, "hub --split test"),
    audit("Hugging Face, arrow", GRAY, "saved"),
    audit("one parquet file", GRAY, "hub/data/test-00000-of-00002.parquet"),
    audit("WebDataset", GRAY, "shard-000000.tar"),
    audit("pair of .npy", GRAY, "pixels.npy --label-column answers.npy"),
    audit("tensors", GRAY, "tensors.pt"),
    audit("npz, images and labels", GRAY, "images.npz"),
    audit("npz, x_test and y_test (N, 1)", GRAY, "keras.npz"),
    audit("npz of 0..255 floats", GRAY, "bytes.npz --scale 255"),
    audit("IDX, gz", "mnist.safetensors --arch net.py:mnist", "idx"),
    audit("a sample", GRAY, "folder --limit 5 --sample"),
    audit("0..255 floats, unsaid", GRAY, "bytes.npz", "--scale 255"),
    audit("mixed sizes, unsaid", COLOR, "photos", "--resize"),
    audit("a folder of splits, unsaid", GRAY, "splits", "--split"),
    audit("HDF5", GRAY, "data.h5", "npz|folder|give"),
    audit("no such data", GRAY, "fodler", "does not exist"),
    audit("images of another size", GRAY, "batches", "expected"),
    audit("no such column", GRAY, "named.tsv --image-column file --label-column what", "where"),
)
AFTERWARDS = (
    Step("what there is", "list attacks"),
    Step("what there is of data", "list data"),
    Step("the version", "--version"),
    Step("help", "audit -h"),
    Step("the report again", "report runs/1"),
    Step("verify", "verify runs/1 --data digits"),
    Step("leaderboard", "leaderboard runs/1 runs/3 --out board"),
    Step("certify", f"certify {GRAY} --data digits --limit 3 --protocol proofs.toml --out certified"),
    Step("a property", "certify gray.onnx --property property.vnnlib --protocol proofs.toml --out property"),
    Step("train", "train standard --data digits --arch digits-cnn --out trained.safetensors --epochs 1 --limit 64"),
    Step(
        "a gate that opens",
        f"audit {GRAY} --data digits --limit 4 --protocol first.toml --out gate --require 'linf 8/255 >= 0%'",
    ),
    Step(
        "a gate that closes",
        f"audit {GRAY} --data digits --limit 4 --protocol first.toml --out gate --require 'certified linf 8/255 >= 1%'",
        "no such number",
        4,
    ),
    Step(
        "the same run with other data",
        f"audit {GRAY} --data folder --limit 4 --protocol first.toml --out runs/1",
        "--out",
    ),
    Step("a protocol that is none", f"audit {GRAY} --data digits --protocol quik --out runs/x", "quick"),
    Step("a command that is none", "adit", "audit"),
    Step("verify without a run", "verify runs/nothing", "expected"),
)
PROOFS = """
name = "proofs"
description = "One proof"
[budgets]
linf = ["2/255"]
[[certificates]]
method = "ibp"
norm = "linf"
"""


def steps(only: str) -> Iterator[tuple[int, Step]]:
    """All steps with their numbers, or those with a word."""
    for number, step in enumerate((*MODELS, *DATA, *AFTERWARDS), 1):
        if only.lower() in f"{step.what} {step.command}".lower():
            yield number, step


def went(step: Step, number: int, folder: Path) -> str:
    """What was wrong with a step; nothing if it went as it should."""
    command = [sys.executable, "-m", "robusteval", *shlex.split(step.command.format(n=number))]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, encoding="utf-8", env=os.environ | {"COLUMNS": "200"}
    )
    text = done.stderr.strip()
    if "Traceback" in text or "Traceback" in done.stdout:
        return f"a traceback: {text[-300:]}"
    expected = step.code if step.next_step else 0
    if done.returncode != expected:
        return f"exit code {done.returncode}, expected {expected}: {text[-300:]}"
    if step.next_step and not re.search(step.next_step, f"{done.stdout}{text}"):
        return f"no next step ({step.next_step}) in: {text[-300:]}"
    if not step.next_step and step.command.startswith("audit ") and "{n}" in step.command:
        reports = list((folder / "runs" / str(number)).rglob("report.html"))
        return "" if reports else "no report.html"
    return ""


def main() -> int:
    """Make the files, do the steps, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only the steps with this word")
    only = parser.parse_args().only
    wrong = count = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "first.toml").write_text(PROTOCOL, encoding="utf-8", newline="\n")
        (folder / "proofs.toml").write_text(PROOFS, encoding="utf-8", newline="\n")
        make_models(folder)
        make_data(folder)
        for number, step in steps(only):
            began = time.perf_counter()
            fault = went(step, number, folder)
            count, wrong = count + 1, wrong + bool(fault)
            print(
                f"{number:3} {'WRONG' if fault else 'ok':5} {time.perf_counter() - began:5.1f} s  {step.what}",
                flush=True,
            )
            if fault:
                print(f"      {step.command}\n      {fault}", flush=True)
    print(f"{count} steps, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
