"""The zoo: small and accurate networks whose cards say what zoo.toml's recipes give today."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from commands import ROOT, here
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.data import read_images
from robusteval.defenses import DEFENSES
from robusteval.models.card import ModelCard, read_card
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.zoo import FOLDER, PREFIX, expanded_names, located, zoo_names
from robusteval.results.run import Run
from robusteval.training.markdown import card_markdown
from robusteval.training.recipe import draft_of
from robusteval.training.zoo import RECIPES

ZOO = tomllib.loads(RECIPES.read_text())
NAMES = sorted(ZOO["networks"])
QUICK = 'name = "tiny"\n[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'

every_network = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def test_images() -> Images:
    return read_images(ZOO["test"])


@pytest.fixture(scope="module")
def training_images() -> Images:
    return read_images(ZOO["data"])


def card_of(name: str) -> ModelCard:
    card = read_card(located(PREFIX + name))
    assert card is not None
    return card


def test_the_folder_holds_what_the_recipes_name() -> None:
    assert zoo_names() == NAMES
    kinds = {".safetensors", ".json", ".md"}
    assert {path.name for path in FOLDER.iterdir()} == {f"{n}{k}" for n in NAMES for k in kinds} | {
        RECIPES.name,
        "README.md",
    }


@every_network
def test_a_network_is_small_and_accurate(name: str, test_images: Images) -> None:
    assert located(PREFIX + name).stat().st_size < 300_000
    classifier = open_checkpoint(PREFIX + name, input_shape=test_images.shape)
    right = classifier.predict(test_images.pixels).argmax(1) == test_images.labels
    accuracy = float(right.double().mean())
    assert accuracy >= 0.93
    # Another processor may round the logits of a close call to the other side.
    assert accuracy == pytest.approx(card_of(name).accuracy.test, abs=0.005)


@every_network
def test_a_card_says_what_its_recipe_gives_today(name: str, training_images: Images) -> None:
    card, network = card_of(name), ZOO["networks"][name]
    tables: dict[str, Any] = {
        "defense": network["defense"],
        "training": ZOO["training"] | network.get("training", {}),
    }
    recipe = draft_of(tables, RECIPES.name, FOLDER).recipe()
    assert (card.name, card.arch) == (name, ZOO["arch"])
    assert (card.trained.defense, card.trained.title) == (recipe.defense.name, recipe.title)
    assert card.trained.settings == recipe.defense.model_dump(mode="json")
    assert card.trained.training == recipe.training.model_dump(mode="json")
    assert (card.trained.data, card.trained.images) == (ZOO["data"], len(training_images))
    assert card.trained.data_fingerprint == training_images.fingerprint()
    assert (FOLDER / f"{name}.md").read_text() == card_markdown(card)


def test_networks_are_listed_with_what_trained_them() -> None:
    done = here("list", "models")
    assert done.returncode == 0
    for name in NAMES:
        (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == [f"zoo:{name}"]]
        assert card_of(name).trained.title[:40] in line


def test_defenses_are_listed() -> None:
    done = here("list", "defenses")
    assert done.returncode == 0
    for name, defense in DEFENSES.items():
        (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == [name]]
        assert defense.summary[:40] in line


def test_a_network_is_audited_by_its_name_alone(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(QUICK)
    out = tmp_path / "run"
    arguments = ["--data", "digits", "--limit", 4, "--protocol", tmp_path / "tiny.toml", "--out", out]
    done = here("audit", "zoo:sgr-digits", *arguments)
    assert done.returncode == 0, done.stderr
    model = Run.open(out).manifest.model
    assert (model.name, model.arch, model.training) == (
        "sgr-digits",
        "digits-cnn",
        card_of("sgr-digits").trained.title,
    )
    assert "Trained by" in (out / "report.html").read_text()


def test_all_stands_for_every_network() -> None:
    names = [f"zoo:{name}" for name in NAMES]
    assert expanded_names(["zoo:all"]) == names
    assert expanded_names(["a.pt", "zoo:all", "zoo:x"]) == ["a.pt", *names, "zoo:x"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("zoo:sgr-digit", "did you mean 'sgr-digits'?"),
        ("zoo:nope", "known: "),
        ("zoo:../demo/digits-standard", "or zoo:all"),
    ],
)
def test_an_unknown_name_hints_at_a_near_one(name: str, hint: str) -> None:
    with pytest.raises(UserError, match="expected a network of the zoo, got") as caught:
        located(name)
    assert hint in str(caught.value)
    done = here("audit", name, "--data", "digits", "--out", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected a network of the zoo, got")


def test_the_wheel_holds_the_zoo() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packed = project["tool"]["setuptools"]["package-data"]["robusteval"]
    found = {path for pattern in packed for path in (ROOT / "robusteval").glob(pattern)}
    assert set(FOLDER.iterdir()) <= found
