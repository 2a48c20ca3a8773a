"""Settings of a training: options of the command line, recipes in TOML, defenses of the user; and what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import here
from robusteval.defenses import DEFENSES
from robusteval.models.card import ModelCard, read_card
from robusteval.training.recipe import option, value_of
from robusteval.training.settings import TrainingSettings
from trainings import rows_of_light, write_npz

NETWORK = "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))\n"
DEFENSE = '''
from robusteval.defenses.base import losses
from robusteval.defenses.standard import Standard

class Scaled(Standard):
    """The loss, scaled."""

    name = "scaled"
    title = "Scaled loss"
    summary = "cross-entropy times a number"

    scale: float
    """Of the loss."""
    tag: str = "none"
    """Any word."""

    def objective(self, network, batch, state):
        return self.scale * losses(network(batch.pixels), batch.labels).mean(), state

class Clash(Scaled):
    name = "clash"
    limit: int = 3
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    write_npz(folder / "d.npz", rows_of_light())
    (folder / "net.py").write_text(NETWORK)
    (folder / "scaled.py").write_text(DEFENSE)
    return folder


def arguments(folder: Path, defense: object, out: Path, *options: object) -> list[object]:
    data = ["--data", folder / "d.npz", "--arch", f"{folder / 'net.py'}:build", "--out", out / "m.safetensors"]
    return ["train", defense, *data, *options]


def made(folder: Path, defense: object, out: Path, *options: object) -> ModelCard:
    done = here(*arguments(folder, defense, out, *options, "--epochs", 1))
    assert done.returncode == 0, done.stderr
    card = read_card(out / "m.safetensors")
    assert card is not None
    return card


def mistaken(folder: Path, defense: object, out: Path, *options: object) -> str:
    done = here(*arguments(folder, defense, out, *options))
    assert done.returncode == 2, done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not (out / "m.safetensors").exists()
    return lines[0]


@pytest.mark.parametrize("name", DEFENSES)
def test_every_setting_of_every_defense_is_an_option(name: str) -> None:
    done = here("train", name, "--help")
    assert done.returncode == 0
    words = done.stdout.replace("│", " ").split()
    for setting in {**DEFENSES[name].model_fields, **TrainingSettings.model_fields}:
        assert option(setting) in words, setting
    for shared in ("--data", "--arch", "--out", "--limit", "--test", "--device"):
        assert shared in words
    assert f"{DEFENSES[name].title}: " in done.stdout


def test_help_names_every_defense() -> None:
    words = here("train", "--help").stdout.split()
    assert set(DEFENSES) <= set(words)


def test_a_recipe_is_the_options_in_a_file(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[defense]\nmethod = "pgd-training"\nbudget = "8/255"\nsteps = 2\n'
        '[training]\nepochs = 1\nschedule = "step"\nmilestones = [2, 4]\nflip = true\n'
    )
    typed = ["--budget", "8/255", "--steps", 2, "--schedule", "step", "--milestones", "2,4", "--flip"]
    (one := tmp_path / "one").mkdir()
    (two := tmp_path / "two").mkdir()
    first, second = made(folder, recipe, one), made(folder, "pgd-training", two, *typed)
    assert first.trained == second.trained
    assert first.trained.settings["budget"] == 8 / 255
    assert first.trained.training["milestones"] == [2, 4]
    assert first.trained.training["flip"] is True
    assert (one / "m.safetensors").read_bytes() == (two / "m.safetensors").read_bytes()


def test_options_win_over_the_file(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[defense]\nmethod = "sgr"\nweight = 2\ncentred = true\n[training]\nseed = 5\nflip = true\nbatch_size = 20\n'
    )
    card = made(folder, recipe, tmp_path, "--weight", 0.5, "--no-flip", "--no-centred", "--seed", 6)
    assert (card.trained.settings["weight"], card.trained.settings["centred"]) == (0.5, False)
    training = card.trained.training
    assert (training["seed"], training["flip"], training["batch_size"]) == (6, False, 20)
    shown = " ".join(here("train", recipe, "--help").stdout.replace("│", " ").split())
    assert "(default: 20)" in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[defense]\nmethod = "standrd"', "did you mean 'standard'"),
        ("[defense]\nsteps = 3", "expected method = NAME in [defense] of r.toml, got None"),
        ('[defense]\nmethod = "sgr"\nwieght = 3', "[defense] of r.toml, got 'wieght' (did you mean 'weight'?)"),
        (
            '[defense]\nmethod = "sgr"\n[training]\nepoch = 3',
            "of r.toml, got 'epoch' (did you mean 'epochs'?)",
        ),
        ('[defense]\nmethod = "sgr"\n[trainig]\nepochs = 3', "[defense] and [training] in r.toml, got 'trainig'"),
        ('training = 3\n[defense]\nmethod = "sgr"', "[defense] and [training] in r.toml, got 'training'"),
        ('[defense]\nmethod = "sgr"\nweight = "much"', "expected a valid number, got 'much' for --weight"),
        ("[defense", "expected a TOML file in"),
        ('[defense]\nmethod = "gone.py:Scaled"', "gone.py, which does not exist"),
    ],
)
def test_mistakes_in_a_recipe_are_named(text: str, expected: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(text)
    assert expected in mistaken(folder, tmp_path / "r.toml", tmp_path)


MISTAKES = [
    ("standrd", [], "expected a known defense, got 'standrd' (did you mean 'standard'?)"),
    ("gone.toml", [], "gone.toml, which does not exist"),
    ("pgd-training", [], "expected --budget, got none"),
    ("pgd-training", ["--budget", "1/0"], "a finite number or a fraction such as '8/255', got '1/0' for --budget"),
    ("pgd-training", ["--budget", "much"], "a finite number or a fraction such as '8/255', got 'much' for --budget"),
    ("pgd-training", ["--budget", "-8/255"], "greater than 0"),
    ("pgd-training", ["--budget", "0.1", "--norm", "5"], "got '5' for --norm"),
    ("smooth-kernels", ["--base", "T"], "expected a budget for base T, got none"),
    ("moment-regularization", ["--sigma", "wide"], "expected a valid number, got 'wide' for --sigma"),
    ("sgr", ["--beta", "1.5"], "less than or equal to 1, got '1.5' for --beta"),
    ("sgr", ["--weight", "nan"], "expected a finite number, got 'nan' for --weight"),
    ("standard", ["--epochs", "many"], "expected a valid integer, got 'many' for --epochs"),
    ("standard", ["--epochs", "2.5"], "expected a valid integer, got '2.5' for --epochs"),
    ("standard", ["--epochs", "0"], "expected a value greater than 0, got '0' for --epochs"),
    ("standard", ["--optimizer", "5"], "expected 'adam' or 'sgd', got '5' for --optimizer"),
    ("standard", ["--learning-rate", "1e39"], "for --learning-rate"),
    ("standard", ["--learning-rate", "inf"], "for --learning-rate"),
    ("standard", ["--learning-rate", "0.1,0.2"], "for --learning-rate"),
    ("standard", ["--seed", str(10**30)], "for --seed"),
    ("standard", ["--schedule", "step", "--milestones", "2,soon"], "got 'soon' for --milestones"),
    ("standard", ["--schedule", "step"], "expected milestones for the schedule step, got none"),
    ("standard", ["--schedule", "plateau"], "expected a validation share for the schedule plateau"),
    ("standard", ["--nesterov"], "expected sgd with momentum for nesterov"),
    ("standard", ["--validation", "0.999"], "expected images on both sides of --validation 0.999"),
    ("standard", ["--validation", "1"], "expected a value less than 1, got '1' for --validation"),
    ("standard", ["--crop", "4"], "expected --crop below 4, the shorter side of the images, got 4"),
    ("standard", ["--cutout", str(10**20)], "expected --cutout below 4"),
]


@pytest.mark.parametrize(("defense", "options", "expected"), MISTAKES)
def test_a_wrong_value_names_its_option(
    defense: str, options: list[str], expected: str, folder: Path, tmp_path: Path
) -> None:
    assert expected in mistaken(folder, defense, tmp_path, *options)


def test_an_unknown_option_is_refused(folder: Path, tmp_path: Path) -> None:
    done = here(*arguments(folder, "standard", tmp_path, "--budget", 3))
    assert done.returncode == 2
    assert "--budget" in done.stderr


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("8/255", float, 8 / 255),
        ("2,4", tuple[int, ...], ("2", "4")),
        ("2", tuple[int, ...], ("2",)),
        ("1/4,0.5", float | tuple[float, ...], (0.25, "0.5")),
        ("0.5", float | tuple[float, ...], "0.5"),
        ("a,b/c", str, "a,b/c"),
        ("9007199254740993", int, "9007199254740993"),
    ],
)
def test_what_was_typed_is_read_by_the_type_of_its_setting(text: str, kind: object, value: object) -> None:
    assert value_of(text, kind) == value


def test_a_seed_is_taken_to_its_last_digit_and_one_milestone_is_enough(folder: Path, tmp_path: Path) -> None:
    seed = 2**53 + 1
    card = made(folder, "standard", tmp_path, "--seed", seed, "--schedule", "step", "--milestones", 2)
    assert card.trained.training["seed"] == seed
    assert card.trained.training["milestones"] == [2]


def test_a_class_in_a_file_of_the_user_trains(folder: Path, tmp_path: Path) -> None:
    card = made(folder, f"{folder / 'scaled.py'}:Scaled", tmp_path, "--scale", "1/2", "--tag", "8,5")
    assert (card.trained.defense, card.trained.title) == ("scaled", "Scaled loss")
    assert card.trained.settings == {"scale": 0.5, "tag": "8,5"}
    assert card.trained.package.startswith("scaled.py sha256:")


def test_a_recipe_names_a_class_in_a_file_beside_it(folder: Path, tmp_path: Path) -> None:
    recipe = folder / "scaled.toml"
    recipe.write_text('[defense]\nmethod = "scaled.py:Scaled"\nscale = 2\n')
    assert made(folder, recipe, tmp_path).trained.settings["scale"] == 2


def test_mistakes_in_a_file_of_the_user_are_named(folder: Path, tmp_path: Path) -> None:
    source = folder / "scaled.py"
    assert "expected --scale, got none" in mistaken(folder, f"{source}:Scaled", tmp_path)
    assert "did you mean 'Scaled'" in mistaken(folder, f"{source}:Scald", tmp_path)
    assert "subclass of Defense" in mistaken(folder, f"{source}:losses", tmp_path)
    assert "names of their own, got 'limit'" in mistaken(folder, f"{source}:Clash", tmp_path)
