"""Which class is which: the same images have the same accuracy however their folders are named; doubt is an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import robusteval as rv
from commands import here, in_a_process
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data.classes import by_name, in_classes
from robusteval.models.classifier import CheckpointOrigin, Classifier
from robusteval.models.plain import check_fit, check_sources, labelled_for

PROTOCOL = '[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNT = 120


def folders(root: Path, images: Images, names: dict[int, str]) -> Path:
    """The images whose labels have a name, each in the folder of that name."""
    for image_id, pixels, label in zip(images.ids, images.pixels, images.labels.tolist(), strict=True):
        if label in names:
            folder = root / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels[0] * 255).round().byte().numpy()).save(folder / f"{image_id}.png")
    return root


@pytest.fixture(scope="module")
def many() -> Images:
    return rv.read_images("digits", COUNT)


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classes") / "p.toml"
    path.write_text(PROTOCOL)
    return path


def expected_accuracy(model: Classifier, images: Images, labels: set[int]) -> float:
    """Of the images themselves with these labels, from the data set that nothing renamed."""
    rows = torch.tensor([label in labels for label in images.labels.tolist()])
    some = images.select(rows)
    return float((model.predict(some.pixels).argmax(1) == some.labels).double().mean())


def zoo() -> Classifier:
    return rv.open_checkpoint("zoo:standard-digits", input_shape=(1, 8, 8))


@pytest.mark.parametrize(
    ("checkpoint", "options"),
    [
        ("zoo:standard-digits", []),  # whose card names the classes
        ("zoo:standard-digits", ["--classes", "10"]),
        ("digits-standard.safetensors", ["--arch", "digits-cnn", "--classes", "10"]),
    ],
    ids=["the card", "the card and a number", "a number"],
)
def test_folders_1_to_9_have_the_accuracy_of_the_same_digits(
    checkpoint: str, options: list[str], many: Images, protocol: Path, demo_folder: Path, tmp_path: Path
) -> None:
    data = folders(tmp_path / "data", many, {i: str(i) for i in range(1, 10)})
    (data / ".ipynb_checkpoints").mkdir()
    model = checkpoint if checkpoint.startswith("zoo:") else demo_folder / checkpoint
    done = in_a_process(
        "audit", model, "--data", data, "--protocol", protocol, *options, "--out", tmp_path / "run", "--batch-size", 64
    )
    assert done.returncode == 0, done.stderr
    found = rv.Run.open(tmp_path / "run").table("images")
    opened = rv.open_checkpoint(model, None if options == [] else "digits-cnn", input_shape=(1, 8, 8))
    assert set(found["label"]) == set(range(1, 10))
    assert found["correct"].mean() == expected_accuracy(opened, many, set(range(1, 10))) > 0.9


def test_without_a_card_or_a_mapping_it_is_an_error_that_says_what_to_do(
    many: Images, protocol: Path, demo_folder: Path, tmp_path: Path
) -> None:
    data = folders(tmp_path / "data", many, {i: str(i) for i in range(1, 10)})
    given = ["--arch", "digits-cnn", "--data", data, "--protocol", protocol, "--out", tmp_path / "run"]
    done = in_a_process("audit", demo_folder / "digits-standard.safetensors", *given)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: expected data of 10 classes for digits-standard, got 9 in ")
    assert "(1, 2, 3, 4, 5, 6, 7, 8, 9)" in line
    assert "--classes FILE" in line
    assert "--classes 10" in line
    assert not (tmp_path / "run").exists()


def read(data: Path, classes: object = None) -> Images:
    return rv.read_images(str(data), classes=classes)  # type: ignore[arg-type]


def same_labels(found: Images, many: Images) -> bool:
    label_of = dict(zip(many.ids, many.labels.tolist(), strict=True))
    return [label_of[Path(i).stem] for i in found.ids] == found.labels.tolist()


def test_numbers_are_in_the_order_of_numbers(many: Images, tmp_path: Path) -> None:
    data = folders(tmp_path, many, {i: str(i + 5) for i in range(10)})
    found = read(data)
    assert found.class_names == tuple(map(str, range(5, 15)))
    assert same_labels(found, many)
    check_fit(zoo(), found)


@pytest.mark.parametrize(
    "rubbish", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", ".git", "System Volume Information"]
)
def test_folders_that_are_no_classes(rubbish: str, many: Images, tmp_path: Path) -> None:
    data = folders(tmp_path, many, {i: str(i) for i in range(10)})
    whole = len(read(data))
    (data / rubbish).mkdir()
    (data / "3" / rubbish).mkdir()
    for place in (data / rubbish, data / "3" / rubbish):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(place / "x.png")
    (data / "3" / "._x.png").write_bytes(b"resource fork")
    (data / "3" / "Thumbs.db").write_bytes(b"thumbs")
    (data / "3" / "desktop.ini").write_text("[x]")
    (data / "README.txt").write_text("digits")
    assert len(read(data)) == whole
    assert same_labels(read(data), many)


def test_a_file_of_names_maps_folders(many: Images, tmp_path: Path) -> None:
    data = folders(tmp_path / "data", many, {i: WORDS[i] for i in range(1, 10)})
    file = tmp_path / "names.txt"
    file.write_bytes(("\ufeff" + "\r\n".join(WORDS) + "\r\n\r\n").encode())
    found = read(data, file)
    assert found.class_names == WORDS
    assert same_labels(found, many)
    assert same_labels(read(data, list(WORDS)), many)
    assert not same_labels(read(data), many)
    check_fit(zoo(), found)


def test_accents_are_the_same_however_they_are_encoded(many: Images) -> None:
    named = replace(many, class_names=tuple("cafe\u0301" if i == 3 else w for i, w in enumerate(WORDS)))
    backwards = tuple("caf\u00e9" if w == "three" else w for w in reversed(WORDS))
    found = by_name(named, backwards, "here")
    assert torch.equal(found.labels, 9 - many.labels)


MISTAKES = [
    ("number too small", "5", "expected classes named 0 to 4"),
    ("no class", "1", "expected --classes of 2 to 1,000,000 classes, got 1"),
    ("zero", "0", "expected --classes of 2 to"),
    ("too many", "9" * 15, "expected --classes of 2 to"),
    ("negative", "-3", "expected --classes as a number or a file with a name a line, got -3"),
    ("unicode digits", "\u0661\u0660", "expected --classes as a number or a file"),
    ("fraction", "1.5", "expected --classes as a number or a file"),
    ("empty", "", "expected --classes as a number or a file"),
    ("not all", b"a\nb\n", "once among those of"),
    ("twice", b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n3\n", "got '3' 2 times"),
    ("empty file", b"", "expected at least two names of classes in"),
    ("one line", b"a\n", "got 1 of them"),
    ("a hole", b"a\n\nb\n", "got line 2 empty"),
    ("no text", b"\xff\xfe\x00a", "expected --classes as a number or a file with a name a line"),
]


@pytest.mark.parametrize(("content", "expected"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistakes_in_classes(content: str | bytes, expected: str, many: Images, tmp_path: Path) -> None:
    classes = content if isinstance(content, str) else str(tmp_path / "names.txt")
    if isinstance(content, bytes):
        (tmp_path / "names.txt").write_bytes(content)
    done = here(
        "audit", "zoo:standard-digits", "--data", "digits", "--limit", 30, "--classes", classes, "--out", tmp_path / "r"
    )
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: expected ")
    assert expected in line


def carded(names: tuple[str, ...], name: str = "carded") -> Classifier:
    """A network of ten classes that a card gives names."""
    model = rv.make_classifier(name, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), (1, 8, 8))
    return replace(model, origin=CheckpointOrigin("here", class_names=names))


def test_the_card_and_the_data_name_the_classes_in_another_order(many: Images) -> None:
    named = replace(many, class_names=WORDS)
    assert torch.equal(labelled_for(carded(tuple(reversed(WORDS))), named).labels, 9 - many.labels)
    assert labelled_for(carded(WORDS), named).labels is many.labels or torch.equal(
        labelled_for(carded(WORDS), named).labels, many.labels
    )
    with pytest.raises(UserError, match=r"\(zero, one, .*\(0, 1, .* got '") as raised:
        labelled_for(carded(tuple("0123456789")), named)
    assert "the card of carded" in str(raised.value)
    # Nothing is known of names where one side has none, or a card has too few.
    assert labelled_for(carded(WORDS), replace(many, class_names=())).labels is many.labels
    assert labelled_for(carded(WORDS[:3]), named).labels is many.labels


def test_sources_of_transfer_have_the_same_classes(many: Images) -> None:
    named = replace(many, class_names=WORDS)
    check_sources(carded(WORDS), [carded(WORDS, "twin"), carded((), "nameless")], named)
    for data in (named, replace(many, class_names=())):
        with pytest.raises(UserError, match="in the same order"):
            check_sources(carded(WORDS), [carded(tuple(reversed(WORDS)), "turned")], data)


def test_counts_must_agree(many: Images) -> None:
    model = carded(())
    few = many.select(many.labels < 3)
    # A subset of the classes in mere numbers is data like any other.
    check_fit(model, replace(few, class_names=()))
    check_fit(model, in_classes(replace(few, class_names=()), 10))
    for wrong in (replace(few, class_names=WORDS[:3]), replace(many, class_names=(*WORDS, "ten"))):
        with pytest.raises(UserError, match="expected data of 10 classes for carded, got"):
            check_fit(model, wrong)
    with pytest.raises(UserError, match="expected data of 10 classes for carded, got 12 in"):
        check_fit(model, in_classes(replace(many, class_names=()), 12))


def test_idx_files_name_no_classes(tmp_path: Path) -> None:
    for kind, array in (("images-idx3", np.zeros((4, 5, 5), np.uint8)), ("labels-idx1", np.arange(4, dtype=np.uint8))):
        header = bytes([0, 0, 8, array.ndim]) + b"".join(s.to_bytes(4, "big") for s in array.shape)
        (tmp_path / f"t10k-{kind}-ubyte").write_bytes(header + array.tobytes())
    assert rv.read_images(str(tmp_path)).class_names == ()
    assert rv.read_images(str(tmp_path), classes=list(WORDS)).class_names == WORDS


def test_a_training_names_its_classes_and_maps_its_test_images(many: Images, tmp_path: Path) -> None:
    data = folders(tmp_path / "data", many, {i: str(i) for i in range(10)})
    some = folders(tmp_path / "test", many, {i: str(i) for i in range(4, 10)})
    out = tmp_path / "m.safetensors"
    given = ["--data", data, "--arch", "digits-cnn", "--epochs", 1]
    done = here("train", "standard", *given, "--test", some, "--out", out)
    assert done.returncode == 0, done.stderr
    model = rv.open_checkpoint(out, input_shape=(1, 8, 8))
    assert model.origin is not None
    assert model.origin.class_names == tuple("0123456789")
    share = expected_accuracy(model, many, set(range(4, 10)))
    assert f"{share:.3f}"[:4] in out.with_suffix(".md").read_text()
    refused = here("train", "standard", "--data", some, *given[2:], "--out", tmp_path / "n.safetensors")
    assert refused.returncode == 2
    assert "expected data of 10 classes for digits-cnn" in refused.stderr
    numbered = here(
        "train", "standard", "--data", some, *given[2:], "--classes", 10, "--out", tmp_path / "k.safetensors"
    )
    assert numbered.returncode == 0, numbered.stderr
