"""Studies about modules on a random model: what a cell says follows from what was read."""

from pathlib import Path

import pytest

from lorabank.errors import UsageError
from lorabank.report.page import make_report
from lorabank.report.study_results import StudyResults
from lorabank.study.folder import StudyFolder
from lorabank.study.modules.cells import ModulesCell
from lorabank.study.run import run_study
from lorabank.study.spec import load_study

LEARNT = ["documents=3", "facts=4", "r=4", "lr=1e-2", "budget=60"]


def run(name: str, folder: Path, *changes: str) -> list[ModulesCell]:
    spec = load_study(name, preset="smoke", changes=[*LEARNT, *changes])
    run_study(spec, StudyFolder(folder))
    return StudyFolder(folder).cells()


def only(cells: list[ModulesCell], **axes: object) -> ModulesCell:
    """The one cell with these axes."""
    (cell,) = [c for c in cells if axes.items() <= c.axes.model_dump().items()]
    return cell


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> list[ModulesCell]:
    return run("routing", tmp_path_factory.mktemp("routing"), "router=oracle,bm25,arrow")


def test_routing_reports_accuracy_and_what_a_wrong_module_costs(routed):
    oracle, bm25, arrow = (only(routed, router=name) for name in ("oracle", "bm25", "arrow"))
    assert oracle.score == oracle.oracle == 1.0
    assert oracle.control == 0.0  # another module knows none of these numbers
    assert oracle.routing.top1 == bm25.routing.top1 == 1.0
    assert arrow.routing.top1 < 1
    for cell in (oracle, bm25, arrow):
        right = cell.routing.top1
        assert cell.score + sum(cell.errors.model_dump().values()) == pytest.approx(1.0)
        assert cell.errors.routing == pytest.approx(1 - right)
        assert cell.routing.regret == pytest.approx(cell.oracle - cell.score)
        assert len(cell.per_question.score) == cell.n_questions == 12
        assert cell.gain > cell.control_gain


def test_the_gate_answers_abstains_or_leaves_it_to_the_bare_model(tmp_path: Path):
    (cell,) = run("routing", tmp_path, "router=bm25", "gated=true")
    routing = cell.routing
    assert routing.bare + routing.abstained + routing.answered_by_own <= 1 + 1e-9
    assert cell.score + sum(cell.errors.model_dump().values()) == pytest.approx(1.0)


def test_merging_one_module_is_the_same_as_reading_it(tmp_path: Path):
    cells = run("modules-merged", tmp_path, "merged=1,2,4", "subset=0,1", "documents=4")
    for subset in (0, 1):
        alone, two, all_four = (only(cells, merged=n, subset=subset) for n in (1, 2, 4))
        assert alone.score == alone.oracle == 1.0
        assert alone.norm_ratio == pytest.approx(1.0)
        assert two.norm_ratio < 1  # a mean of two that point elsewhere
        assert alone.gain > two.gain > all_four.gain
        assert alone.control == 0.0
        assert all_four.control is None  # no module is left out
    assert only(cells, merged=2, subset=0).gain != only(cells, merged=2, subset=1).gain


def test_a_matched_norm_is_matched(tmp_path: Path):
    cells = run("merging", tmp_path, "rule=mean,cat,ties", "merged=2", "norm=published,matched")
    for rule in ("mean", "cat", "ties"):
        assert only(cells, rule=rule, norm="matched").norm_ratio == pytest.approx(1.0)
    mean, cat = (only(cells, rule=rule, norm="published") for rule in ("mean", "cat"))
    assert cat.norm_ratio == pytest.approx(2 * mean.norm_ratio)
    gains = [only(cells, rule=rule, norm="matched").gain for rule in ("mean", "cat")]
    assert gains[0] == pytest.approx(gains[1], rel=1e-3)  # the same sum, and now the same length


def test_a_linear_merge_is_shorter_where_modules_start_apart(tmp_path: Path):
    cells = run(
        "merging", tmp_path, "rule=linear", "norm=published", "merged=2", "one_seed=true,false"
    )
    together, apart = (only(cells, one_seed=one_seed) for one_seed in (True, False))
    assert apart.norm_ratio < together.norm_ratio
    assert apart.name.startswith("phonebook-m3-r4-e60-linear-of2-published-d0-own-seeds-s0")


def test_budgets_of_a_partition(tmp_path: Path):
    changes = ["budget=each,total", "steps=8", "batch_size=2", "documents=2", "lr=1e-3"]
    spec = load_study("partition", preset="smoke", changes=[*LEARNT, *changes, "modules=1,2"])
    run_study(spec, StudyFolder(tmp_path))
    cells = StudyFolder(tmp_path).cells()
    trained = {
        (budget, modules): only(cells, budget=budget, modules=modules).examples_trained
        for budget in ("each", "total")
        for modules in (1, 2)
    }
    # 8 facts in batches of 2: an epoch is 4 steps of one module or 2 steps of each of two
    assert trained["each", 2] == 2 * trained["total", 2]
    assert trained["total", 1] == trained["each", 1]
    assert only(cells, budget="total", modules=1).control is None


def test_a_study_killed_while_reading_resumes_without_training(tmp_path: Path):
    spec = load_study("routing", preset="smoke", changes=[*LEARNT, "router=oracle,bm25"])
    study = StudyFolder(tmp_path)

    def stop(line: str) -> None:
        if "router" in line or "oracle" in line:
            raise KeyboardInterrupt

    run_study(spec, StudyFolder(tmp_path / "whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lorabank.study.run._EVERY_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            run_study(spec, study, on_line=stop)
    assert (study.checkpoint(1) / "bank").exists()
    report = run_study(study.study(), study)
    assert report.trained == 2
    assert not study.checkpoint(1).exists()
    for cell in study.cells():
        uninterrupted = StudyFolder(tmp_path / "whole").read(cell.name)
        assert uninterrupted is not None
        expected = uninterrupted.model_dump_json(exclude={"cost"})
        assert cell.model_dump_json(exclude={"cost"}) == expected


@pytest.mark.parametrize(
    ("study", "changes", "message"),
    [
        ("partition", ["modules=3", "documents=4"], "4 documents cannot be shared out evenly to 3"),
        ("partition", ["budget=each"], "budget each takes steps"),
        ("partition", ["rule=mean"], "rule is for measure=merging, this cell's is partition"),
        ("routing", ["router=bm52"], "did you mean bm25"),
        ("routing", ["rooter=bm25"], "no axis 'rooter'; did you mean router"),
        ("merging", ["merged=5"], "merged is at most modules, got 5"),
        ("merging", ["prefix=true"], "prefix is for the task paperqa"),
        ("modules-merged", ["rule=tie"], "did you mean ties"),
    ],
)
def test_axes_that_do_not_go_together_are_refused_before_anything_runs(study, changes, message):
    with pytest.raises(UsageError, match=message):
        load_study(study, preset="smoke", changes=changes)


def test_a_missing_data_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LORABANK_DATA", raising=False)
    spec = load_study("partition", preset="smoke", changes=["task=paperqa", "budget=1"])
    with pytest.raises(UsageError, match="set LORABANK_DATA"):
        run_study(spec, StudyFolder(tmp_path))


def section_of(cells: list[ModulesCell]) -> dict:
    studies = [StudyResults("study", "Title", {"name": "random-tiny"}, cells)]
    (section,) = make_report(studies)["sections"]
    return section


def test_the_page_draws_what_the_cells_say(routed):
    section = section_of(routed)
    accuracy, score = section["figures"]
    assert accuracy["name"] == "router-accuracy"
    (panel,) = score["panels"]
    ticks = [tick["label"] for tick in panel["x"]["ticks"]]
    assert set(ticks) == {"oracle", "bm25", "arrow"}
    own, control = panel["series"]
    for point in own["points"]:
        cell = only(routed, router=ticks[int(point["x"])])
        assert point["y"] == pytest.approx(cell.score)
        assert point["cells"] == [cell.name]
        assert point["low"] <= point["y"] <= point["high"]  # three documents
    assert [p["y"] for p in own["points"]] == sorted((p["y"] for p in own["points"]), reverse=True)
    assert (control["name"], control["control_of"]) == ("another module in its place", "routed")
    assert len(section["table"]["rows"]) == 3
    assert (
        "names the right one" in section["in_short"][0]
        or "name the right one" in (section["in_short"][0])
    )


def test_a_line_has_one_colour_in_all_panels(tmp_path: Path):
    cells = run("modules-merged", tmp_path, "merged=1,2", "rule=mean,cat", "subset=0")
    other = [
        cell.model_copy(
            update={
                "name": f"other-{cell.name}",
                "axes": cell.axes.model_copy(update={"task": "squad"}),
            }
        )
        for cell in cells
        if cell.axes.rule == "mean"
    ]
    section = section_of([*other, *cells])
    (figure,) = [f for f in section["figures"] if f["name"] == "by-number"]
    styles: dict[str, set[int]] = {}
    for panel in figure["panels"]:
        for series in panel["series"]:
            styles.setdefault(series["name"], set()).add(series["style"])
    assert len(styles) == 2
    assert all(len(numbers) == 1 for numbers in styles.values())
    assert len(set.union(*styles.values())) == 2
