"""Folders of transformers that strangers made, opened in a watched process: code and pickles in them are not run,
nothing is fetched, and every refusal is one line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from confining import Action, Outcome, confined_each
from robusteval.cli.running import open_checkpoints
from robusteval.core.errors import UserError
from robusteval.data import read_images
from robusteval.models.libraries.vision import with_torchvision

FOLDERS = 52
"""docs/safety.md has the same number."""
CONFIG, WEIGHTS, IMAGES = "config.json", "model.safetensors", "preprocessor_config.json"
ROOT = Path(__file__).parents[2]
Change = Callable[[Path], object]


class Runs:
    """Unpickled, makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.canary}'",)


def small(folder: Path) -> None:
    """A ViT for 1x8x8 images with random weights."""
    try:
        transformers = with_torchvision("transformers", "hf", "for this test")
    except UserError as error:
        pytest.skip(str(error))
    own = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    own |= {"image_size": 8, "patch_size": 4, "num_channels": 1}
    network = transformers.AutoModelForImageClassification.from_config(transformers.ViTConfig(**own))
    network.save_pretrained(folder)
    (folder / IMAGES).write_text(json.dumps({"size": {"height": 8, "width": 8}, "do_resize": True}))


def settings(**changed: Any) -> Change:
    """Other numbers and words in the configuration."""
    return changes_of(CONFIG, changed)


def images(**changed: Any) -> Change:
    return changes_of(IMAGES, changed)


def changes_of(name: str, changed: Mapping[str, Any]) -> Change:
    def change(folder: Path) -> None:
        held = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(held | changed))

    return change


def content(name: str, raw: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(raw)


def special(name: str, target: str | None) -> Change:
    """A link in the place of a file, or a FIFO."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name) if target is None else (folder / name).symlink_to(target)

    return change


def code(**more: Any) -> Change:
    """A program in the folder, which the configuration names."""

    def change(folder: Path) -> None:
        for name in ("evil.py", "modeling_vit.py", "configuration_vit.py", "__init__.py"):
            (folder / name).write_text(f"open({str(folder / 'canary')!r}, 'w')\nclass C: pass\nclass M: pass\n")
        map_ = {"AutoConfig": "evil.C", "AutoModelForImageClassification": "evil.M", "AutoModel": "evil.M"}
        settings(auto_map=map_, trust_remote_code=True, **more)(folder)

    return change


def pickled(name: str, keep: bool = False) -> Change:
    def change(folder: Path) -> None:
        if not keep:
            (folder / WEIGHTS).unlink()
        torch.save(Runs(folder / "canary"), folder / name)

    return change


def index(folder: Path) -> None:
    """Shards that lie elsewhere."""
    shutil.move(folder / WEIGHTS, folder.parent / f"{folder.name}-shard.safetensors")
    shard = f"../{folder.name}-shard.safetensors"
    held = {"metadata": {}, "weight_map": {"classifier.weight": shard, "classifier.bias": "/etc/passwd"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(held))


HOSTILE: dict[str, Change] = {
    "code": code(model_type="evil"),
    "code of no type": lambda f: (code()(f), changes_of(CONFIG, {"model_type": None})(f)),
    "code elsewhere": settings(model_type="evil", auto_map={"AutoConfig": "someone/else--evil.C"}),
    "pickled weights": pickled("pytorch_model.bin"),
    "pickled weights by name": pickled(WEIGHTS),
    "pickle": lambda f: (f / WEIGHTS).write_bytes(pickle.dumps(Runs(f / "canary"))),
    "pickled configuration": lambda f: (f / CONFIG).write_bytes(pickle.dumps(Runs(f / "canary"))),
    "weights of another program": lambda f: (pickled("tf_model.h5")(f), pickled("flax_model.msgpack", True)(f)),
    "index": index,
    "no weights": lambda f: (f / WEIGHTS).unlink(),
    "no configuration": lambda f: (f / CONFIG).unlink(),
    "cut weights": lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-100]),
    "nested": content(CONFIG, b"[" * 10**6),
    "nested objects": content(CONFIG, b'{"a":' * 10**5),
    "a list": content(CONFIG, b"[1]"),
    "long": content(CONFIG, b'{"a": "' + b"x" * 2**24 + b'"}'),
    "no words": content(CONFIG, b'{"model_type": "vit\xff"}'),
    "digits": content(CONFIG, b'{"model_type": "vit", "hidden_size": ' + b"9" * 10**5 + b"}"),
    "wide": settings(hidden_size=10**9),
    "very deep": settings(num_hidden_layers=10**5),
    "deep and wide": settings(num_hidden_layers=999, hidden_size=10**5, intermediate_size=10**5),
    "large images": settings(image_size=10**6, patch_size=1),
    "many channels": settings(num_channels=10**6, patch_size=1000, image_size=1000),
    "negative": settings(hidden_size=-8),
    "no size": settings(patch_size=0),
    "words for numbers": settings(hidden_size="8", num_hidden_layers="__import__('os')"),
    "infinite": content(CONFIG, b'{"model_type": "vit", "hidden_size": Infinity}'),
    "activation": settings(hidden_act="os.system"),
    "type of numbers": settings(dtype="evil", torch_dtype="evil"),
    "another network": settings(model_type="bert"),
    "no network": settings(model_type="../../evil"),
    "pretrained backbone": settings(backbone="resnet50", use_pretrained_backbone=True, use_timm_backbone=True),
    "backbone": settings(model_type="upernet", backbone="microsoft/resnet-50", backbone_config=None),
    "quantised": settings(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
    "quantised by another": settings(quantization_config={"quant_method": "evil.py"}),
    "other layers": settings(num_hidden_layers=2),
    "means of words": images(do_normalize=True, image_mean="abc", image_std=[1, 1, 1]),
    "one mean": images(do_normalize=True, image_mean=[0.5] * 7, image_std=[0.0] * 7),
    "no factor": images(do_normalize=True, image_mean=[0.5], image_std=[0.5], rescale_factor="x"),
    "crop": images(do_center_crop=True, crop_size={"height": -3, "width": 10**9}),
    "FIFO of images": special(IMAGES, None),
    **{f"{t or 'FIFO'} as {n}": special(n, t) for n in (CONFIG, WEIGHTS) for t in ("/dev/zero", ".", None)},
}
HARMLESS: dict[str, Change] = {
    "code beside": code(),
    "pickled weights beside": pickled("pytorch_model.bin", keep=True),
    "adapter": lambda f: (f / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}'),
    "name": settings(_name_or_path="http://localhost/evil"),
    "template": lambda f: (f / "chat_template.jinja").write_text("{{ ''.__class__ }}"),
}
"""What is left alone: nothing of it is needed for the network."""


def opened(folder: Path) -> Action:
    def action() -> int:
        try:
            open_checkpoints([f"hf:{folder}"], None, read_images("digits", 1), None, None)
        except UserError as error:
            print(f"error: {error}")
            return 2
        return 0

    return action


def outcomes_of(changes: Mapping[str, Change], tmp_path: Path) -> dict[str, Outcome]:
    read_images("digits", 1)
    small(tmp_path / "small")
    (tmp_path / "out").mkdir()
    actions: dict[str, Action] = {}
    for name, change in changes.items():
        folder = tmp_path / "files" / name.replace("/", "-")
        shutil.copytree(tmp_path / "small", folder)
        change(folder)
        actions[name] = opened(folder)
    return confined_each(actions, tmp_path / "out")


@pytest.mark.filterwarnings("ignore")
def test_folders_of_strangers_are_refused_in_a_line(tmp_path: Path) -> None:
    def wrong(found: Outcome) -> bool:
        lines = found.output.strip().splitlines()
        return not (found.clean and found.code == 2 and len(lines) == 1 and lines[0].startswith("error: expected "))

    outcomes = outcomes_of(HOSTILE, tmp_path)
    assert {name: found for name, found in outcomes.items() if wrong(found)} == {}
    assert len(outcomes) + len(HARMLESS) == FOLDERS
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.filterwarnings("ignore")
def test_what_lies_beside_a_network_is_left_alone(tmp_path: Path) -> None:
    outcomes = outcomes_of(HARMLESS, tmp_path)
    assert {name: found for name, found in outcomes.items() if found.code or not found.clean} == {}
    assert not list(tmp_path.rglob("canary"))


def test_the_number_is_that_of_the_documentation() -> None:
    assert f"| folders of transformers | {FOLDERS} |" in (ROOT / "docs" / "safety.md").read_text()
