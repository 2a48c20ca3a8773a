"""A budget for each image, in a table beside the protocol: each image is attacked, judged and verified at its own."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from commands import here
from forging import copied, sealed
from oracles import affine, affine_distances, random_images
from robusteval import Run, UserError, open_checkpoint, read_images, read_protocol, run_audit, verify
from robusteval.analysis.leaderboard.compare import joined
from robusteval.analysis.requirements import parse_requirement
from robusteval.analysis.results import Results
from robusteval.analysis.summary import summarise
from robusteval.auditing.forecast import forecast
from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.together import audit_together
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.models.classifier import Classifier
from robusteval.reports import write_report
from robusteval.reports.formats.transfer import write_transfer_matrix
from robusteval.reports.leaderboard import leaderboard, write_board
from robusteval.reports.leaderboard.robustbench import submissions
from robusteval.results.files import read_arrays, read_cost, read_frame, write_arrays, write_frame
from robusteval.results.manifest import NAME
from robusteval.results.run import witness_key

COUNT = 20
PGD = {"method": "pgd", "norm": "linf", "steps": 40, "step": 0.1, "loss": "margin"}
ATTACKS: list[dict[str, Any]] = [
    PGD,
    {"method": "auto", "norm": "linf", "iterations": 10, "queries": 50},
    {"method": "square", "norm": "linf", "queries": 30},
    {"method": "fgsm", "norm": "linf", "budgets": [0.1], "name": "shared"},
    {"method": "fmn", "norm": "l2", "steps": 20},
    {"method": "polish", "norm": "linf", "steps": 20},
]


def case() -> tuple[Classifier, Images, dict[str, float], dict[str, bool]]:
    """Images of an affine model, the first one misclassified, their budgets, and whether each can be broken there: of
    every other one it is a half above the exact distance, of the rest a fifth below."""
    model, weight, bias = affine(1)
    images = random_images(1, COUNT, model)
    labels = images.labels.clone()
    exact = affine_distances(weight, bias, images, Norm.LINF)
    labels[0] = (labels[0] + 1) % 5
    broken = [i % 2 == 0 for i in range(COUNT)]
    radii = [float(d) * (1.5 if b else 0.8) for d, b in zip(exact, broken, strict=True)]
    return (
        model,
        Images(images.ids, images.pixels, labels, source="test"),
        dict(zip(images.ids, radii, strict=True)),
        dict(zip(images.ids, broken, strict=True)),
    )


def audit(out: Path, budgets: Any = None, **more: Any) -> Run:
    model, images, own, _ = case()
    data = {"name": "own", "attacks": ATTACKS, "budgets": {"linf": own if budgets is None else budgets}}
    asked = parse_protocol(data | more.pop("data", {}), "p.toml")
    return run_audit(model, images, asked, out, device="cpu", **{"batch_size": 7} | more)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return audit(tmp_path_factory.mktemp("own") / "run")


@pytest.mark.parametrize("stage", ["pgd-linf", "auto-linf"])
def test_each_image_is_broken_at_its_own_budget_where_it_can_be(run: Run, stage: str) -> None:
    _, images, own, broken = case()
    rows = run.table("witnesses").set_index("image_id")
    rows = rows[rows["method"] == stage].loc[list(images.ids)]
    assert len(rows) == COUNT
    assert rows["budget"].to_dict() == own
    assert rows["success"].to_dict() == broken
    assert (rows["linf"][rows["success"]] <= rows["budget"][rows["success"]] * (1 + 1e-6)).all()
    kept = {witness_key(image_id, own[image_id]) for image_id in images.ids[1:] if broken[image_id]}
    assert set(run.arrays(stage)) == kept


def test_an_attack_with_budgets_of_its_own_keeps_these(run: Run) -> None:
    rows = run.table("witnesses")
    assert set(rows["budget"][rows["method"] == "shared"]) == {0.1}
    assert rows["budget"][rows["method"] == "fmn-l2"].isna().all()


def test_every_claim_is_verified(run: Run) -> None:
    assert list(verify(run, case()[0], attacks=None)) == []


def test_batches_change_nothing(run: Run, tmp_path: Path) -> None:
    other = audit(tmp_path / "run", batch_size=COUNT)
    columns = ["image_id", "method", "budget", "success", "linf"]
    one, two = (r.table("witnesses")[columns].sort_values(columns[:2], ignore_index=True) for r in (run, other))
    pd.testing.assert_frame_equal(one, two, rtol=1e-5)


def test_what_is_shown_is_at_each_own_budget(run: Run) -> None:
    """No other attack is closer than the exact distance, so half of the images stand, but for the first."""
    summary = summarise(run)
    (robust,) = summary.robust
    assert (robust.norm, robust.budget, robust.share.count) == ("linf", None, COUNT // 2)
    (standing,) = summary.standings
    assert (standing.broken, standing.wrong, standing.open) == (COUNT // 2 - 1, 1, COUNT // 2)
    costs = {cost.name: cost for cost in summary.costs}
    (fooled,) = costs["pgd-linf"].successes
    assert (fooled.budget, fooled.share.count, fooled.share.n) == (None, COUNT // 2 - 1, COUNT - 1)
    assert summary.masking_checked, "Square and PGD have the same budgets"
    report = write_report(run)
    for text in (report.read_text(), report.with_suffix(".md").read_text()):
        assert "each image's own Linf budget" in text or "each image&#39;s own Linf budget" in text
        assert "fooled at its own" in text
        assert "Linf, each image its own, " in text


def test_proofs_count_at_each_own_budget(tmp_path: Path, demo_folder: Path) -> None:
    images = read_images("digits", 12)
    model = open_checkpoint(str(demo_folder / "digits-pgd-linf.safetensors"), "digits-cnn", input_shape=images.shape)
    own = {image_id: 0.001 if i % 3 else 0.9 for i, image_id in enumerate(images.ids)}
    data = {"budgets": {"linf": own}, "attacks": [PGD], "certificates": [{"method": "crown", "norm": "linf"}]}
    run = run_audit(model, images, parse_protocol(data, "p.toml"), tmp_path / "run", batch_size=5)
    (standing,) = summarise(run).standings
    assert (standing.proven, standing.broken) == (8, 4)
    assert list(verify(run, model, data=images)) == []


@pytest.mark.parametrize("judged", [{"top": 2}, {"target": 2}])
def test_other_questions_take_them_too(judged: dict[str, int], tmp_path: Path) -> None:
    run = audit(tmp_path / "run", data=judged)
    _, _, own, _ = case()
    rows = run.table("witnesses")
    rows = rows[rows["method"] == "pgd-linf"]
    assert rows["budget"].tolist() == [own[i] for i in rows["image_id"]]
    assert list(verify(run, case()[0])) == []


def test_transfer_takes_them_too(tmp_path: Path) -> None:
    run = audit(tmp_path / "run", data={"attacks": [{"method": "transfer", "norm": "linf"}]}, sources=(case()[0],))
    _, _, own, _ = case()
    rows = run.table("witnesses")
    assert rows["budget"].tolist() == [own[i] for i in rows["image_id"]]
    assert list(verify(run, case()[0])) == []


def test_models_are_ranked_and_held_to_it(run: Run, tmp_path: Path) -> None:
    """A leaderboard has a column of it, by which it ranks, and --require a word; RobustBench knows no such budgets."""
    board = leaderboard([run])
    assert board.ranked_by.key == "robust_linf_own"
    assert board.entries[0].scores["robust_linf_own"].value == 0.5
    assert [*submissions(board, board.entries[0])] == []
    write_board(board, tmp_path)
    assert "own" in (tmp_path / "leaderboard.md").read_text()
    summary = summarise(run)
    assert parse_requirement("linf own >= 50%", {}, [Norm.LINF]).unmet(summary) == ""
    said = parse_requirement("robust linf own >= 51%", {}, [Norm.LINF]).unmet(summary)
    assert said.startswith("robust each image's own Linf budget: 10 of 20 images")
    other = run.manifest.protocol.model_copy(update={"own_budgets": {}})
    with pytest.raises(UserError, match=r"different ones \(the budgets of single images\)"):
        joined([board, board.model_copy(update={"protocol": other})])
    for text in ("l2 own >= 50%", "certified linf own >= 50%"):
        with pytest.raises(UserError, match="--require"):
            parse_requirement(text, {}, [Norm.LINF])


def test_several_models_at_once(tmp_path: Path) -> None:
    one, images, own, _ = case()
    other = replace(affine(2)[0], name="other")
    data = {"attacks": [{"method": "transfer", "norm": "linf"}], "budgets": {"linf": own}}
    runs = audit_together([one, other], images, parse_protocol(data, "p.toml"), tmp_path, device="cpu")
    assert [len(r.table("witnesses")) for r in runs] == [COUNT, COUNT]
    matrix = write_transfer_matrix([Results(r) for r in runs], tmp_path)
    assert matrix is not None
    assert "## transfer-linf, each image's own Linf budget" in matrix.read_text()
    assert len(leaderboard(runs).entries) == 2


def written(folder: Path, table: str, attacks: str = "") -> Path:
    (folder / "budgets.csv").write_text(table, encoding="utf-8")
    path = folder / "p.toml"
    pgd = '[[attacks]]\nmethod = "pgd"\nnorm = "linf"\n'
    path.write_text(f'[budgets]\nlinf = "budgets.csv"\n{attacks or pgd}', encoding="utf-8")
    return path


def table_of(own: dict[str, float], extra: str = "") -> str:
    return "label,Budget,image_id\n" + "".join(f"1,{b!r},{i}\n" for i, b in reversed(own.items())) + extra


def test_a_table_beside_the_protocol(tmp_path: Path) -> None:
    """In any order and with more images than are audited; what the run holds are the budgets of its own images."""
    model, images, own, _ = case()
    protocol = read_protocol(str(written(tmp_path, table_of(own, "1,8/255,another\n"))))
    assert protocol.own_budgets[Norm.LINF] == own | {"another": 8 / 255}
    run = run_audit(model, images, protocol, tmp_path / "run", batch_size=7)
    assert run.manifest.protocol.own_budgets == {"linf": own}
    (tmp_path / "budgets.csv").unlink()
    assert list(verify(Run.open(tmp_path / "run"), model)) == []
    assert forecast(model, images, protocol, batch_size=7).images == COUNT


def test_a_table_that_was_changed_is_another_protocol(tmp_path: Path) -> None:
    model, images, own, _ = case()
    run = run_audit(model, images, read_protocol(str(written(tmp_path, table_of(own)))), tmp_path / "run", batch_size=7)
    part = run.part("pgd-linf", "00001")
    part.unlink()
    same = read_protocol(str(written(tmp_path, table_of(dict(reversed(own.items()))))))
    run_audit(model, images, same, tmp_path / "run", batch_size=7)
    assert pd.read_parquet(part)["budget"].tolist() == [own[i] for i in sorted(own)[7:14]]
    changed = own | {images.ids[4]: own[images.ids[4]] * 1.0001}
    other = read_protocol(str(written(tmp_path, table_of(changed))))
    with pytest.raises(UserError, match="expected the protocol of the run"):
        run_audit(model, images, other, tmp_path / "run", batch_size=7)


def test_a_changed_budget_in_a_run_is_noticed(run: Run, tmp_path: Path) -> None:
    """In the manifest, or of an image that the run has not."""
    _, images, own, _ = case()
    text = json.loads((run.path / NAME).read_text())
    for image_id, value in ((images.ids[2], own[images.ids[2]] / 2), ("another", 0.1)):
        forged = json.loads(json.dumps(text))
        forged["protocol"]["own_budgets"]["linf"][image_id] = value
        manifest = run.manifest.model_validate(forged)
        lines = list(verify(replace(run, manifest=manifest), case()[0]))
        assert any(image_id in line for line in lines), lines
    del text["protocol"]["own_budgets"]["linf"][images.ids[2]]
    manifest = run.manifest.model_validate(text)
    lines = list(verify(replace(run, manifest=manifest), case()[0]))
    assert any("expected a budget of its own for each image of pgd-linf, got none for" in line for line in lines)


def test_a_witness_outside_of_its_own_budget_is_none(run: Run, tmp_path: Path) -> None:
    """A forger claims a smaller budget everywhere: in the manifest, in the rows and in the names of what is kept."""
    model, images, own, _ = case()
    image_id, less = images.ids[2], own[images.ids[2]] / 10
    forged = copied(run, tmp_path / "run")
    for path in (forged.path / "parts").glob("*-linf/?????.parquet"):
        rows = read_frame(path)
        if "budget" in rows and rows["budget"].isin([own[image_id]]).any():
            rows.loc[rows["image_id"] == image_id, "budget"] = less
            write_frame(path, rows, read_cost(path))
            kept = forged.array_file(path.parent.name, path.stem)
            names = {witness_key(image_id, own[image_id]): witness_key(image_id, less)}
            write_arrays(kept, {names.get(name, name): array for name, array in read_arrays(kept).items()})
    protocol = forged.manifest.protocol
    budgets = {Norm.LINF: {**protocol.own_budgets[Norm.LINF], image_id: less}}
    forged = sealed(forged.updated(protocol=protocol.model_copy(update={"own_budgets": budgets})))
    lines = list(verify(forged, model))
    assert any("success is True, expected False" in line for line in lines if "stage pgd-linf, row" in line), lines


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("image_id,budget\na,0.1\na,0.2\n", "expected one budget for each image in .*budgets.csv, got two for 'a'"),
        ("image_id,budget\na,-0.1\n", "expected a budget above zero, .*for image 'a' in .*budgets.csv, got '-0.1'"),
        ("image_id,budget\na,nan\n", "for image 'a' in .*budgets.csv, got 'nan'"),
        ("image_id,budget\na,0\n", "for image 'a' in .*budgets.csv, got '0'"),
        ("image_id,budget\na,\n", "for image 'a' in .*budgets.csv, got ''"),
        ("image_id,budget\n", "expected a budget for at least one image in .*budgets.csv, got a header alone"),
        ("name,size\na,0.1\n", "expected columns of image ids .* and budgets .* in .*budgets.csv, got name, size"),
        ("image_id\na\n", "expected a table of image ids and budgets in .*budgets.csv"),
        ("image_id,budget\na,0.1,2\n", "expected 2 columns in every row of .*budgets.csv, got 3 in row 2"),
    ],
)
def test_a_table_that_is_none_is_one_line_on_the_command_line(
    table: str, said: str, tmp_path: Path, demo_folder: Path
) -> None:
    path = written(tmp_path, table)
    with pytest.raises(UserError, match=said):
        read_protocol(str(path))
    model = demo_folder / "digits-standard.safetensors"
    done = here("audit", model, "--arch", "digits-cnn", "--data", "digits", "--protocol", path, "--out", tmp_path / "r")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_every_image_needs_one(tmp_path: Path) -> None:
    _, images, own, _ = case()
    few = dict(list(own.items())[:-3])
    said = (
        rf"expected a budget for each of 20 images in budgets.linf, got none for 3 of them, such as '{images.ids[-3]}'"
    )
    with pytest.raises(UserError, match=said):
        audit(tmp_path / "run", few)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    attack = {"method": "pgd", "norm": "linf"}
    for data, said in (
        ({"attacks": [attack | {"every_budget": True}]}, "expected every_budget in p with budgets of all images"),
        ({"own_budgets": {"linf": {"a": 0.1}}}, "expected one table of budgets.linf in p, got two"),
        ({"budgets": {"linf": [0.1]}, "own_budgets": {"linf": {"a": 0.1}}}, "of all images or of each in Linf in p"),
        (
            {"budgets": {"linf": {}}},
            "expected a table of image ids and budgets for budgets.linf in p, got an empty one",
        ),
        ({"budgets": {"linf": {"a": math.inf}}}, "for image 'a' in budgets.linf in p, got inf"),
        ({"budgets": {"linf": "there.csv"}}, "expected numbers or fractions such as '8/255' for budgets.linf in p"),
    ):
        with pytest.raises(UserError, match=said):
            parse_protocol({"attacks": [attack], "budgets": {"linf": {"a": 0.1}}} | data, "p")
    (tmp_path / "inner").mkdir()
    (tmp_path / "budgets.csv").write_text("image_id,budget\na,1\n")
    path = tmp_path / "inner" / "p.toml"
    path.write_text('[budgets]\nlinf = "../budgets.csv"\n[[attacks]]\nmethod = "pgd"\nnorm = "linf"\n')
    with pytest.raises(UserError, match=r"the protocol's folder, got \.\./budgets\.csv, outside of it"):
        read_protocol(str(path))


def test_the_manifest_holds_what_a_protocol_reads() -> None:
    _, _, own, _ = case()
    protocol = parse_protocol({"attacks": ATTACKS, "budgets": {"linf": own}, "name": "own"}, "p.toml")
    assert parse_protocol(protocol.as_json(), "manifest.json") == protocol
    assert protocol.own_budgets == {Norm.LINF: own}
