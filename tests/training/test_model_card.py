"""The card beside trained weights: what it says is true, and enough to open and audit them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from commands import here
from robusteval.core import limits
from robusteval.core.errors import UserError
from robusteval.data import read_images
from robusteval.models.card import ModelCard, card_path, read_card
from robusteval.models.checkpoints import open_checkpoint
from robusteval.results.run import Run
from robusteval.training.markdown import card_markdown
from trainings import rows_of_light, write_npz

QUICK = 'name = "tiny"\n[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("card") / "my [model]_<b>.safetensors"
    options = ["--epochs", 3, "--validation", 0.25, "--weight", 0.5, "--test", "digits", "--device", "cpu"]
    arguments = ["train", "sgr", "--data", "digits:train", "--limit", 300, "--arch", "digits-cnn", *options]
    done = here(*arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """Weights and card under another name."""
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"m{suffix}").write_bytes(model.with_suffix(suffix).read_bytes())
    return tmp_path / "m.safetensors"


def tiny(folder: Path) -> Path:
    (folder / "tiny.toml").write_text(QUICK)
    return folder / "tiny.toml"


def audited(model: Path, data: object, folder: Path, *options: object) -> Run:
    done = here(
        "audit", model, "--data", data, "--limit", 4, "--protocol", tiny(folder), "--out", folder / "run", *options
    )
    assert done.returncode == 0, done.stderr
    return Run.open(folder / "run")


def test_it_holds_what_the_network_is_and_how_it_was_made(model: Path) -> None:
    card = ModelCard.model_validate_json(card_path(model).read_text())
    images = read_images("digits:train", 300)
    assert (card.name, card.arch, card.input_shape, card.num_classes) == (model.stem, "digits-cnn", (1, 8, 8), 10)
    assert card.class_names == tuple("0123456789")
    assert (card.trained.defense, card.trained.settings["weight"]) == ("sgr", 0.5)
    assert (card.trained.training["epochs"], card.trained.training["validation"]) == (3, 0.25)
    assert (card.trained.images, card.trained.data) == (300, "digits:train")
    assert card.trained.data_fingerprint == images.fingerprint()
    assert card.mean == pytest.approx([float(images.pixels.mean())], abs=1e-4)
    assert card.std == pytest.approx([float(images.pixels.std(correction=0))], abs=1e-4)
    assert card.epochs == 3
    assert card.best_epoch in (1, 2, 3)
    assert card.parameters == 38_282


def test_its_accuracies_are_those_of_the_classifier_that_is_opened(model: Path) -> None:
    card = read_card(model)
    assert card is not None
    for data, share in ((read_images("digits:train", 300), card.accuracy.training),):
        opened = open_checkpoint(model, input_shape=data.shape)
        assert float((opened.predict(data.pixels).argmax(1) == data.labels).double().mean()) == share
    test = read_images("digits")
    right = open_checkpoint(model, input_shape=test.shape).predict(test.pixels).argmax(1) == test.labels
    assert (float(right.double().mean()), 500, "digits") == (
        card.accuracy.test,
        card.accuracy.test_images,
        card.accuracy.test_data,
    )
    assert card.accuracy.validation is not None
    assert 0 < card.accuracy.validation <= 1


def test_in_markdown_it_shows_command_settings_and_accuracy_and_no_markup_of_names(model: Path) -> None:
    card, text = read_card(model), model.with_suffix(".md").read_text()
    assert card is not None
    assert text == card_markdown(card)
    assert "# my \\[model\\]\\_&lt;b&gt;" in text
    assert "<b>" not in text.replace(f"'{model.name}'", "")
    assert f"```\n{card.command}\n```" in text
    assert f"robusteval audit '{model.name}' --data DATA" in text
    for name, value in (("weight", 0.5), ("epochs", 3), ("validation", 0.25), ("seed", 0)):
        assert any(line.split("|")[1:3] == [name, str(value)] for line in text.replace(" ", "").splitlines()), name
    assert f"{card.accuracy.training:.4f}" in text
    assert f"{card.accuracy.test:.4f}" in text


def test_an_audit_of_the_file_needs_no_architecture_and_no_normalisation(model: Path, tmp_path: Path) -> None:
    run, card = audited(model, "digits", tmp_path), read_card(model)
    assert card is not None
    record = run.manifest.model
    assert (record.arch, record.mean, record.std) == ("digits-cnn", card.mean, card.std)
    assert record.training == card.trained.title
    assert "Trained by" in (tmp_path / "run" / "report.md").read_text()
    assert f"Trained by: {card.trained.title}" in (tmp_path / "run" / "report.md").read_text().replace("\\", "")
    assert here("verify", tmp_path / "run").returncode == 0


def test_images_without_class_names_get_those_of_the_card(copy: Path, tmp_path: Path) -> None:
    names = [f"digit {i}" for i in range(10)]
    card = json.loads(card_path(copy).read_text()) | {"class_names": names}
    card_path(copy).write_text(json.dumps(card))
    data = read_images("digits", 4)
    run = audited(copy, write_npz(tmp_path / "d.npz", data), tmp_path)
    assert run.manifest.data.class_names == tuple(names)
    assert run.manifest.model.class_names == tuple(names)


def test_images_with_class_names_keep_their_own_and_names_that_do_not_fit_are_not_taken(
    copy: Path, tmp_path: Path
) -> None:
    card = json.loads(card_path(copy).read_text()) | {"class_names": ["a", "b"]}
    card_path(copy).write_text(json.dumps(card))
    (one := tmp_path / "one").mkdir()
    (two := tmp_path / "two").mkdir()
    assert audited(copy, "digits", one).manifest.data.class_names == tuple("0123456789")
    data = write_npz(tmp_path / "d.npz", read_images("digits", 4))
    assert audited(copy, data, two).manifest.data.class_names == ()


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_checkpoint(path, input_shape=(1, 8, 8))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_card_of_other_weights_is_refused(copy: Path) -> None:
    save_file({"weight": torch.ones(2)}, copy)
    assert refused(copy) == f"expected the card of {copy} in {card_path(copy)}, got that of other weights; remove it"


def test_a_broken_card_is_refused(copy: Path) -> None:
    good = card_path(copy).read_text()
    broken = {
        good[:200]: "name the network with --arch and remove it",
        f"[{good}]": f"expected a model card in {card_path(copy)}, got a damaged one: expected an object, got [{{",
        re.sub('"seconds": [^,]*', '"seconds": 1e999', good): "expected a finite number, got inf for 'seconds'",
        re.sub('"seconds": [^,]*', '"seconds": Infinity', good): "expected a finite number, got inf for 'seconds'",
        re.sub('"seconds": [^,]*', '"seconds": NaN', good): "got nan for 'seconds'",
        re.sub('"seconds": [^,]*', '"seconds": -5', good): "got -5 for 'seconds'",
        re.sub('"training": 0[^,]*', '"training": NaN', good): "got nan for 'accuracy.training'",
        good.replace('"version": 1', '"version": 2'): "'version'",
        good.replace('"num_classes": 10', '"num_classes": "ten"'): "got 'ten' for 'num_classes'",
    }
    for text, expected in broken.items():
        assert text != good
        card_path(copy).write_text(text)
        message = refused(copy)
        assert expected in message
        assert str(card_path(copy)) in message
    card_path(copy).write_bytes(b'\xff"robusteval model card"')
    assert str(card_path(copy)) in refused(copy)


def test_a_card_of_endless_lists_is_refused_before_it_is_parsed(copy: Path) -> None:
    content = b'["robusteval model card",' + b"[]," * (limits.CARD_BYTES // 3) + b"1]"
    card_path(copy).write_bytes(content)
    assert f"expected at most {limits.CARD_BYTES:,} bytes in {card_path(copy)}" in refused(copy)
    # Another program's file may be as long as it likes.
    card_path(copy).write_bytes(content.replace(b"robusteval", b"other"))
    assert read_card(copy) is None


@pytest.mark.parametrize("content", [b'{"loss": [1, 2]}', b"", b"\xff\xfe", b"[]"])
def test_a_file_of_another_program_is_no_card(content: bytes, copy: Path) -> None:
    card_path(copy).write_bytes(content)
    assert read_card(copy) is None
    assert "expected --arch" in refused(copy)
    assert open_checkpoint(copy, "digits-cnn", input_shape=(1, 8, 8)).num_classes == 10


NETWORK = """
from pathlib import Path
from torch import nn
with Path(__file__).with_suffix(".trace").open("a") as file:
    file.write(".")
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
"""


def test_a_card_does_not_run_the_file_that_it_names(tmp_path: Path) -> None:
    source, out, trace = tmp_path / "net.py", tmp_path / "m.safetensors", tmp_path / "net.trace"
    source.write_text(NETWORK)
    data = write_npz(tmp_path / "d.npz", rows_of_light())
    done = here("train", "standard", "--data", data, "--arch", f"{source}:build", "--epochs", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    assert trace.exists()
    source.write_text(NETWORK + "# another file, so that it is not known already\n")
    trace.unlink()
    arguments = ["audit", out, "--data", data, "--limit", 4, "--protocol", tiny(tmp_path), "--out", tmp_path / "run"]
    done = here(*arguments)
    assert done.returncode == 2
    assert f"run only if you name it: --arch {source}:build" in done.stderr
    assert not trace.exists()
    assert here(*arguments, "--arch", f"{source}:build").returncode == 0
    assert trace.exists()
