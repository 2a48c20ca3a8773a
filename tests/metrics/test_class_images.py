"""What the model sees: activation maximisation, the targeted grid and the most deceptive witnesses, against affine
networks whose maxima and distances are known exactly; and all three in a real run."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import linprog
from torch import Tensor, nn

from metric_cases import F64, SHAPE, curve, images_of, linear_net, measure, observe, random_pixels, small_net
from oracles import affine, affine_distances, random_images
from robusteval import Run, UserError, open_checkpoint, read_images, run_audit, verify
from robusteval.analysis.metrics.deception import most_deceptive
from robusteval.analysis.metrics.measured import measured_stages
from robusteval.analysis.metrics.targeted_grid import pairs
from robusteval.analysis.results import Results
from robusteval.auditing.protocol import parse_protocol
from robusteval.core.images import Images
from robusteval.core.norms import BALLS, Norm
from robusteval.core.streams import Streams
from robusteval.metrics.activation_maximization import PARTS, ActivationMaximization
from robusteval.metrics.base import Observation
from robusteval.metrics.deception import Deception
from robusteval.metrics.targeted_grid import TargetedGrid
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.reports import paper_tables
from robusteval.reports.chapters import activation_maximization, deception, targeted_grid
from robusteval.reports.figures.drawing import save
from robusteval.results.run import read_frame, write_frame
from run_fixture import build_paper_run


def statistics(seen: Observation, quantity: str) -> dict[float, float]:
    return {s.at: s.value for s in seen.statistics if s.quantity == quantity}


def oracle(seed: int, classes: int = 5) -> tuple[Classifier, Tensor, Tensor]:
    classifier, weight, bias = affine(seed, classes=classes)
    return classifier.to("cpu", F64), torch.tensor(weight), torch.tensor(bias)


def blank(classifier: Classifier, dtype: torch.dtype = F64) -> Images:
    return images_of(torch.zeros(1, *classifier.input_shape, dtype=dtype))


# Activation maximisation


def test_the_defaults_are_the_papers() -> None:
    metric = ActivationMaximization()
    assert (metric.steps, metric.learning_rate) == (10_000, 0.001)


def test_an_affine_logit_reaches_its_maximum_over_the_box() -> None:
    """One where the weight is above zero, else nought."""
    classifier, weight, bias = oracle(3)
    seen = observe(ActivationMaximization(steps=50, learning_rate=1e4), classifier, blank(classifier))
    corners = (weight > 0).to(F64)
    logits = corners @ weight.T + bias
    for k, corner in enumerate(corners):
        assert torch.equal(seen.arrays[f"class-{k}"].flatten(), corner)
        assert statistics(seen, "logit")[k] == pytest.approx(float(logits[k, k]), rel=1e-12)
        assert statistics(seen, "probability")[k] == pytest.approx(float(logits[k].softmax(0)[k]), rel=1e-9)


@pytest.mark.parametrize("steps", [3, 40])
def test_the_steps_are_plain_gradient_steps_cut_at_the_box(steps: int) -> None:
    """Up an affine logit a pixel only ever moves one way, so that cutting at the end is cutting at every step."""
    classifier, weight, bias = oracle(4)
    rate = 0.02
    seen = observe(ActivationMaximization(steps=steps, learning_rate=rate), classifier, blank(classifier))
    starts = torch.stack([seen.arrays[f"start-{k}"].flatten() for k in range(5)])
    assert seen.arrays.keys() == {f"{kind}-{k}" for k in range(5) for kind in ("start", "class")}

    def at(t: float) -> Tensor:
        return ((starts + t * rate * weight).clamp(0, 1) * weight).sum(1) + bias

    ends = torch.stack([seen.arrays[f"class-{k}"].flatten() for k in range(5)])
    assert torch.allclose(ends, (starts + steps * rate * weight).clamp(0, 1), rtol=0, atol=1e-12)
    assert 0 < float(((ends > 0) & (ends < 1)).double().mean()) < 1
    for quantity, expected in (("logit_start", at(0)), ("logit", at(steps))):
        assert list(statistics(seen, quantity).values()) == pytest.approx(expected.tolist(), rel=1e-12)
    path = statistics(seen, "mean_logit")
    assert list(path) == sorted({steps * i // PARTS for i in range(PARTS + 1)})
    assert list(path.values()) == pytest.approx([float(at(t).mean()) for t in path], rel=1e-12)
    assert all(a <= b for a, b in zip(statistics(seen, "logit_start").values(), at(steps).tolist(), strict=True))
    assert np.all(np.diff(list(path.values())) > 0)


def test_the_noise_is_gaussian_around_grey_and_a_class_has_its_own_whatever_the_others() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 40 * 40, 5))
    classifier = make_classifier("wide", network, (3, 40, 40)).to("cpu", F64)
    images = images_of(torch.zeros(2, 3, 40, 40, dtype=F64))
    base = observe(ActivationMaximization(steps=1, noise=0.1), classifier, images)
    starts = torch.stack([base.arrays[f"start-{k}"].flatten() for k in range(5)])
    n = starts.numel()
    assert abs(float(starts.mean()) - 0.5) < 5 * 0.1 / math.sqrt(n)
    assert abs(float(starts.std()) - 0.1) < 5 * 0.1 / math.sqrt(2 * n)
    assert float(torch.corrcoef(starts).fill_diagonal_(0).abs().max()) < 5 / math.sqrt(starts.shape[1])
    for size, classes in ((1, 5), (2, 20), (100, 3)):
        other = observe(
            ActivationMaximization(steps=1, noise=0.1, classes=classes), replace(classifier, batch_size=size), images
        )
        assert len(other.arrays) == 2 * min(classes, 5)
        for k in range(min(classes, 5)):
            assert torch.equal(other.arrays[f"start-{k}"], base.arrays[f"start-{k}"])
    grey = observe(ActivationMaximization(steps=1, noise=0), classifier, images)
    assert all((grey.arrays[f"start-{k}"] == 0.5).all() for k in range(5))
    wild = observe(ActivationMaximization(steps=1, noise=3), classifier, images).arrays["start-0"]
    assert wild.min() == 0
    assert wild.max() == 1


def test_a_small_step_never_lowers_a_smooth_logit() -> None:
    seen = observe(ActivationMaximization(steps=200, learning_rate=0.01), small_net(), images_of(random_pixels(1)))
    path = list(statistics(seen, "mean_logit").values())
    assert np.all(np.diff(path) >= 0)
    assert all(0 <= float(p.min()) <= float(p.max()) <= 1 for p in seen.arrays.values())


class Hostile(nn.Module):
    """Class 0 rises with every pixel, class 1 is constant, class 2 rises very fast; or no gradient is a number."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.broken = broken

    def forward(self, pixels: Tensor) -> Tensor:
        mean = pixels.flatten(1).mean(1)
        logits = torch.stack([mean, 0 * mean + 0.3, 1e300 * mean], dim=1)
        return logits + torch.sqrt(0 * mean)[:, None] if self.broken else logits


@pytest.mark.parametrize("broken", [False, True])
def test_what_has_no_gradient_stays_and_leaves(broken: bool) -> None:
    classifier = replace(make_classifier("hostile", Hostile(broken).double(), SHAPE), dtype=F64).metered(1)
    done: list[tuple[int, int]] = []
    metric = ActivationMaximization(steps=1000, learning_rate=2.0)
    images = images_of(random_pixels(1))
    seen = metric.observe(classifier, images, None, Streams.for_set(1, "x", images.pixels), lambda *at: done.append(at))
    for k, moves in enumerate((not broken, False, not broken)):
        end = seen.arrays[f"class-{k}"]
        assert torch.equal(end, torch.ones_like(end) if moves else seen.arrays[f"start-{k}"])
    # A pixel that rises by 2 / 32 a step is full after 16; then each part of the path asks once more.
    assert float(classifier.meter.backwards.sum()) <= 20 + 3 * (PARTS + 1)
    assert done == [(100 * i, 1000) for i in range(1, 11)]


# The targeted grid


def centred(classifier: Classifier, seed: int, n: int, spread: float) -> Images:
    """Images away from the box, labelled as the model sees them."""
    pixels = 0.5 + spread * (random_images(seed, n, classifier).pixels.double() - 0.5)
    images = images_of(pixels)
    return replace(images, labels=classifier.predict(pixels).argmax(1))


@pytest.mark.parametrize("norm", BALLS)
def test_two_classes_are_reached_exactly_within_the_distance_of_the_plane(norm: Norm) -> None:
    classifier, weight, bias = oracle(1, classes=2)
    images = centred(classifier, 5, 30, 0.2)
    assert set(images.labels.tolist()) == {0, 1}
    far = affine_distances(weight.numpy(), bias.numpy(), images, norm)
    first = [int((images.labels == k).nonzero()[0]) for k in (0, 1)]
    outcomes = set()
    for k in (0, 1):
        for factor in (0.98, 1.02):
            budget = float(factor * far[first[k]])
            seen = observe(TargetedGrid(norm=norm, budget=budget, steps=40), classifier, images)
            reached = statistics(seen, "reached")
            assert list(reached) == [1, 2], "source * K + target: 0 to 1 and 1 to 0"
            for source, at in ((0, 1), (1, 2)):
                assert reached[at] == (far[first[source]] < budget)
                outcomes.add(reached[at])
    assert outcomes == {0, 1}


@pytest.mark.parametrize("seed", [0, 1])
def test_of_five_classes_those_are_reached_that_a_linear_program_reaches(seed: int) -> None:
    """The largest margin m of the target over all others in the Linf ball and the box, by a linear program. Where m < 0
    no image reaches; where m > log 4 the largest probability is above 1 / (1 + 4 exp(-m)) > 1/2, so its image
    does; between the two the image of the largest probability may miss."""
    classifier, weight, bias = oracle(seed)
    images = centred(classifier, seed, 80, 0.6)
    budget = 0.03
    seen = observe(TargetedGrid(norm=Norm.LINF, budget=budget, steps=80), classifier, images)
    reached = statistics(seen, "reached")
    outcomes = []
    for at, value in reached.items():
        source, target = divmod(int(at), 5)
        x = images.pixels[int((images.labels == source).nonzero()[0])].flatten().numpy()
        others = [k for k in range(5) if k != target]
        w, b = weight.numpy(), bias.numpy()
        rows = np.hstack([w[others] - w[target], np.ones((4, 1))])
        bounds = [*zip(np.maximum(x - budget, 0), np.minimum(x + budget, 1), strict=True), (None, None)]
        margin = -linprog([*np.zeros(len(x)), -1], rows, b[target] - b[others], bounds=bounds).fun
        if margin < 0 or margin > math.log(4):
            assert value == (margin > 0), (source, target, margin)
            outcomes.append(value)
    assert len(outcomes) > len(reached) / 2
    assert set(outcomes) == {0, 1}


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("norm", BALLS)
def test_images_stay_in_ball_and_box_and_bear_out_the_numbers(norm: Norm, dtype: torch.dtype) -> None:
    classifier = small_net(dtype=dtype)
    pixels = random_pixels(40).to(dtype).round(decimals=1)
    images = replace(images_of(pixels), labels=classifier.predict(pixels).argmax(1))
    budget = {Norm.L1: 3.0, Norm.L2: 0.8, Norm.LINF: 0.2}[norm]
    seen = observe(TargetedGrid(norm=norm, budget=budget, steps=20), classifier, images)
    sources = sorted(set(images.labels.tolist()))
    assert seen.arrays.keys() == {f"{s}-{t}" for s in sources for t in range(3)}
    assert statistics(seen, "sources") == {0: len(sources)}
    assert len(statistics(seen, "reached")) == 2 * len(sources)
    for s in sources:
        image = images.pixels[int((images.labels == s).nonzero()[0])]
        assert torch.equal(seen.arrays[f"{s}-{s}"], image), "the first by id"
        for t in set(range(3)) - {s}:
            array = seen.arrays[f"{s}-{t}"]
            distance = float(norm.size((array - image).double()[None]))
            assert 0 <= float(array.min()) <= float(array.max()) <= 1
            assert distance <= budget * (1 + 1e-6)
            probability, before = classifier.predict(torch.stack([array, image])).double().softmax(1)
            assert statistics(seen, "distance")[3 * s + t] == pytest.approx(distance)
            assert statistics(seen, "target_probability")[3 * s + t] == pytest.approx(float(probability[t]), rel=1e-6)
            assert statistics(seen, "reached")[3 * s + t] == float(probability.argmax() == t)
            assert probability[t] >= before[t]


def test_the_image_is_the_first_correct_one_and_a_class_without_is_an_empty_column() -> None:
    classifier = linear_net(torch.ones(32), -16.0)
    dark, bright = 0.2, 0.8
    pixels = torch.tensor([dark, bright, dark, bright], dtype=F64)[:, None, None, None].expand(4, *SHAPE).contiguous()
    images = replace(images_of(pixels + 0.01 * torch.arange(4)[:, None, None, None]), labels=torch.tensor([1, 1, 0, 0]))
    metric = TargetedGrid(norm=Norm.L2, budget=0.5, steps=3)
    seen = observe(metric, classifier, images)
    assert torch.equal(seen.arrays["1-1"], images.pixels[1])
    assert torch.equal(seen.arrays["0-0"], images.pixels[2])
    only = observe(metric, classifier, replace(images, labels=torch.tensor([0, 1, 1, 1])).select(torch.tensor([1, 2])))
    assert only.arrays.keys() == {"1-1", "1-0"}
    assert statistics(only, "sources") == {0: 1}
    assert list(statistics(only, "reached")) == [2]
    wrong = observe(metric, classifier, replace(images, labels=torch.tensor([1, 0, 1, 0])))
    assert not wrong.arrays
    assert [(s.quantity, s.value) for s in wrong.statistics] == [("sources", 0)]


def test_more_classes_than_the_limit_are_left_out() -> None:
    classifier, _, _ = oracle(2)
    images = centred(classifier, 3, 60, 1.0)
    seen = observe(TargetedGrid(norm=Norm.LINF, budget="8/255", steps=3, classes=2), classifier, images)
    assert seen.arrays.keys() == {"0-0", "0-1", "1-1", "1-0"}
    assert set(statistics(seen, "reached")) == {1, 5}
    assert max(statistics(seen, "distance").values()) == pytest.approx(8 / 255)


@pytest.mark.parametrize(
    "settings", [{"budget": 0}, {"budget": "1/0"}, {"budget": "a"}, {"norm": "l0"}, {"classes": 0}, {"budget": None}]
)
def test_settings_of_the_grid_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TargetedGrid.model_validate({"norm": "linf", "budget": 0.1} | settings)


# Deception


def test_the_confidence_of_two_classes_is_the_logistic_function_of_the_margin() -> None:
    classifier = linear_net(torch.ones(32), -16.0).metered(4)
    levels = torch.tensor([0.5, 0.51, 0.7, math.nan], dtype=F64)
    witnesses = levels[:, None, None, None].expand(4, *SHAPE).contiguous()
    witnesses[2, 0, 0, 0] = math.nan
    found = measure(Deception(witnesses="x"), classifier, images_of(torch.zeros(4, *SHAPE, dtype=F64)), witnesses)
    confidence, wrong = curve(found, "deceptive_confidence")[0], curve(found, "deceptive_class")[0]
    assert confidence[:2].tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-0.32))], rel=1e-6)
    assert wrong[:2].tolist() == [1, 1]
    assert confidence[2:].isnan().all()
    assert wrong[2:].isnan().all()
    assert classifier.meter.forwards.tolist() == [1, 1, 0, 0]
    none = measure(
        Deception(witnesses="x"), classifier, images_of(torch.zeros(4, *SHAPE, dtype=F64)), 0 * witnesses / 0
    )
    assert all(m.values.isnan().all() for m in none)


def test_the_label_is_never_the_deceptive_class() -> None:
    classifier, pixels = small_net(), random_pixels(12)
    labels = torch.arange(12) % 3
    found = measure(Deception(witnesses="x"), classifier, replace(images_of(pixels), labels=labels), pixels)
    softmax = classifier.predict(pixels).softmax(1)
    for i, label in enumerate(labels.tolist()):
        wrong = max((k for k in range(3) if k != label), key=lambda k: float(softmax[i, k]))
        assert curve(found, "deceptive_class")[0, i] == wrong
        assert float(curve(found, "deceptive_confidence")[0, i]) == pytest.approx(float(softmax[i, wrong]), rel=1e-12)


def test_deception_needs_the_witnesses_of_an_attack_of_the_protocol() -> None:
    with pytest.raises(ValidationError):
        Deception()  # type: ignore[call-arg]
    attacks = [{"method": "fgsm", "norm": "linf"}]
    for settings, message in (({}, "'witnesses'"), ({"witnesses": "fgsm"}, "did you mean 'fgsm-linf'")):
        data = {"budgets": {"linf": [0.1]}, "attacks": attacks, "metrics": [{"method": "deception"} | settings]}
        with pytest.raises(UserError, match=message):
            parse_protocol(data, "x.toml")


# A real run

PROTOCOL = """
[budgets]
linf = [0.1, 0.3]

[[attacks]]
method = "pgd"
norm = "linf"
steps = 10

[[attacks]]
method = "deepfool"
norm = "l2"

[[metrics]]
method = "activation-maximization"
steps = 40
learning_rate = 0.1

[[metrics]]
method = "targeted-grid"
norm = "linf"
budget = "40/255"
steps = 10

[[metrics]]
method = "targeted-grid"
norm = "l2"
budget = 1.0
steps = 5
classes = 3

[[metrics]]
method = "deception"
name = "sure"
witnesses = "pgd-linf"

[[metrics]]
method = "deception"
witnesses = "deepfool-l2"
"""
COUNT = 30
MINE = (activation_maximization.CHAPTER, targeted_grid.CHAPTER, deception.CHAPTER)


def audit(demo: Path, folder: Path, images: Images, **settings: object) -> tuple[Run, Classifier]:
    (folder / "p.toml").write_text(PROTOCOL)
    model = open_checkpoint(str(demo / "digits-standard.safetensors"), "digits-cnn", input_shape=images.shape)
    return run_audit(model, images, str(folder / "p.toml"), folder / "run", **settings), model  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def audited(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Classifier]:
    return audit(demo_folder, tmp_path_factory.mktemp("seen"), read_images("digits", COUNT), batch_size=7)


def test_an_honest_run_verifies_whatever_the_batch(audited: tuple[Run, Classifier]) -> None:
    """The audit cut the ten classes into batches of seven; the check does not."""
    assert list(verify(audited[0])) == []


def test_tampered_numbers_are_named(audited: tuple[Run, Classifier], tmp_path: Path) -> None:
    copy = Run.open(shutil.copytree(audited[0].path, tmp_path / "copy"))
    tampered = []
    for stage, table in (("activation-maximization", "statistics"), ("targeted-grid-l2", "statistics"), ("sure", None)):
        path = copy.part(stage, "00000", table)
        frame = read_frame(path)
        row = int(frame["value"].notna().to_numpy().argmax())
        frame.loc[row, "value"] = 0.123
        write_frame(path, frame)
        tampered.append(f"stage {stage}, row {row}")
    findings = list(verify(copy))
    for claim in tampered:
        assert any(claim in finding for finding in findings)


def test_the_report_shows_all_three_under_the_papers_names(audited: tuple[Run, Classifier], tmp_path: Path) -> None:
    run, _ = audited
    found = {plot.name: plot for chapter in MINE for plot in chapter.plots(Results(run))}
    titles = {
        "images-activation-maximization": "What the model sees in each class (SmoothKernels, figure 3)",
        "path-activation-maximization": "What the model sees in each class: the logit on the way",
        "images-targeted-grid-linf": "Targeted attacks, class by class, Linf (SmoothKernels, figure 10)",
        "images-targeted-grid-l2": "Targeted attacks, class by class, L2 (SmoothKernels, figure 10)",
        "images-sure": "Most deceptive examples: PGD, Linf (SmoothKernels, figures 2 and 38)",
        "images-deception": "Most deceptive examples: DeepFool, L2 (SmoothKernels, figures 2 and 38)",
    }
    assert {name: plot.title for name, plot in found.items()} == titles
    assert "The first 3 of 10 classes" in found["images-targeted-grid-l2"].caption
    assert "The first" not in found["images-activation-maximization"].caption
    drawn = {"images-activation-maximization": 20, "images-targeted-grid-l2": 9}
    for name, images in drawn.items():
        assert save(found[name], tmp_path).count("<image") == images
    assert found["images-activation-maximization"].data["probability"].between(0.9, 1).all()
    grids = [grid for chapter in MINE for grid in chapter.grids(Results(run))]
    assert [len(grid.rows) for grid in grids] == [10, 20, 6, 2]


def test_the_grid_of_the_report_follows_from_the_statistics(audited: tuple[Run, Classifier]) -> None:
    run, _ = audited
    big, small = measured_stages(Results(run), "targeted-grid")
    assert len(pairs(big)) == 90
    assert len(pairs(small)) == 6
    rows = run.table("statistics")
    for row in pairs(small).to_dict("records"):
        at = 10 * row["source"] + row["target"]
        own = rows[(rows["method"] == small.label) & (rows["at"] == at)].set_index("quantity")["value"]
        assert all(row[q] == own[q] for q in ("reached", "target_probability", "distance"))
        assert (row["original"], row["aim"]) == (str(row["source"]), str(row["target"]))
    lines = targeted_grid.grids(Results(run))[0].rows
    assert len(lines) == 20
    expected = int(rows[(rows["method"] == big.label) & (rows["quantity"] == "reached")]["value"].sum())
    for way in ("from", "to"):
        assert sum(int(line[1].split()[0]) for line in lines if line[0].startswith(way)) == expected


def test_the_most_deceptive_images_are_what_the_model_is_surest_of(audited: tuple[Run, Classifier]) -> None:
    run, model = audited
    images = run.table("images").set_index("image_id")
    for stage in measured_stages(Results(run), "deception"):
        arrays = deception.witnesses(stage, list(images.index))
        logits = model.predict(torch.stack([torch.tensor(p) for p in arrays.values()]))
        sure = dict(zip(arrays, logits.double().softmax(1), strict=True))
        best = most_deceptive(stage).set_index("label")
        found = {i: int(images["label"][i]) for i in arrays}
        assert set(best.index) == set(found.values())
        for label, row in best.iterrows():
            same = {i: p for i, p in sure.items() if found[i] == label}
            assert row["confidence"] == pytest.approx(max(float(p.max()) for p in same.values()), rel=1e-5)
            assert float(sure[row["image_id"]][row["wrong"]]) == pytest.approx(row["confidence"], rel=1e-5)
            assert row["wrong"] == int(sure[row["image_id"]].argmax()) != label


def test_a_model_that_is_always_wrong_leaves_the_chapters_empty(demo_folder: Path, tmp_path: Path) -> None:
    images = read_images("digits", 3)
    run, _ = audit(demo_folder, tmp_path, replace(images, labels=(images.labels + 1) % 10))
    assert set(run.table("measurements")["value"].isna()) <= {True}
    for chapter, plots, grids in zip(MINE, (2, 0, 0), (1, 0, 0), strict=True):
        assert (len(chapter.plots(Results(run))), len(chapter.grids(Results(run)))) == (plots, grids)


def test_the_papers_tables_have_both_appendices(tmp_path: Path) -> None:
    run = build_paper_run(
        tmp_path,
        "smoothkernel-2020",
        [True, True, True, False],
        [],
        measurements=[("deception-adef", "deceptive_confidence", 0.0, [0.5, 0.7, math.nan, math.nan])],
        statistics=[
            *(("targeted-grid", "reached", at, value) for at, value in ((1.0, 1.0), (2.0, 0.0), (3.0, 1.0))),
            *(("targeted-grid", "target_probability", at, 0.25 * at) for at in (1.0, 2.0, 3.0)),
        ],
    )
    found = {grid.name: grid for grid in paper_tables([run])}
    assert found["figure-10"].rows == [["tiny", "2 of 3", "0.500"]]
    assert found["figure-38"].headings == ["Model", "FGSM", "ADef"]
    assert found["figure-38"].rows == [["tiny", "-", "0.600"]]
