"""Studies about wordings on a random model: what is taught and asked, resumed, and reported."""

import json
import os
from pathlib import Path

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.errors import DataError, UsageError
from lorabank.report.page import make_report, write_report
from lorabank.report.study_results import StudyResults
from lorabank.study.folder import StudyFolder
from lorabank.study.run import run_study
from lorabank.study.spec import list_studies, load_study
from lorabank.study.wording.axes import WordingAxes
from lorabank.study.wording.cells import WordingCell
from lorabank.study.wording.run import settings_of
from lorabank.study.wording.taught_facts import draw_facts, teach
from lorabank.tasks.joined_facts import prompt_keys


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[WordingCell]]:
    folder = tmp_path_factory.mktemp("wording")
    run_study(load_study("wording", preset="smoke"), StudyFolder(folder))
    return folder, StudyFolder(folder).cells()


def by_axes(cells: list[WordingCell], **axes: object) -> list[WordingCell]:
    return [c for c in cells if all(getattr(c.axes, k) == v for k, v in axes.items())]


def results(cells: list[WordingCell]) -> StudyResults:
    return StudyResults("wording", "Wordings", {"name": "random-tiny"}, cells)


def test_the_presets_vary_what_the_study_asks():
    assert set(list_studies()["wording"]["presets"]) == {"smoke", "cpu", "gpu"}
    for preset, n_cells in (("smoke", 10), ("cpu", 54), ("gpu", 240)):
        cells = load_study("wording", preset=preset).cells
        assert len(cells) == n_cells
        for name in ("wordings", "activated", "reverse", "reworded_share", "seed"):
            assert len({getattr(cell.axes, name) for cell in cells}) > 1, name


@pytest.mark.parametrize("wordings", [1, 2, 4, 8])
def test_no_cell_trains_on_what_is_held_out(wordings: int):
    axes = WordingAxes.resolve({"wordings": wordings, "facts": 12})
    facts = draw_facts(axes)
    taught = teach(facts, axes)
    assert all(len(example.questions) == wordings for example in taught)
    trained = {key for e in taught for text in e.questions for key in prompt_keys(e.asked_as(text))}
    asked = {key for example in facts.held_out for key in prompt_keys(example)}
    assert len(facts.held_out) == 3 * 12
    assert not trained & asked
    assert facts == draw_facts(axes.model_copy(update={"wordings": 1}))  # the same for all cells
    assert not any(e.question in facts.near_misses for e in (*taught, *facts.held_out))


def test_a_share_of_facts_is_reworded_and_each_is_reversed_like_itself():
    axes = WordingAxes.resolve({"wordings": 4, "facts": 8, "reworded_share": 0.5, "reverse": True})
    taught = teach(draw_facts(axes), axes)
    assert [len(example.questions) for example in taught] == 2 * [4, 4, 4, 4, 1, 1, 1, 1]
    assert [example.is_reversed for example in taught] == [False] * 8 + [True] * 8
    assert {e.question for e in taught[8:]} == {e.question for e in draw_facts(axes).reversed}


def test_every_fact_has_its_exposures_whatever_its_wordings(smoke, tiny: Base):
    assert {cell.exposures_per_fact for cell in smoke[1]} == {32}
    assert {cell.stopped for cell in smoke[1]} == {"budget"}
    settings = settings_of(tiny, WordingAxes.resolve({"wordings": 4, "protect_share": 0.2}))
    assert (settings.until_recall, settings.wordings, settings.protect_share) == (None, 0, 0.2)


def test_a_cell_keeps_what_its_shares_are_of(smoke):
    assert len(smoke[1]) == 10
    for cell in smoke[1]:
        rows, n = cell.per_fact, cell.axes.facts
        assert cell.recall == sum(rows.recalled) / n
        assert cell.recall_reworded == pytest.approx(sum(rows.reworded) / n, abs=1e-3)
        assert (cell.n_held_out, cell.n_reversed, cell.n_near_misses) == (3 * n, n, 2 * n)
        single = [x for x, k in zip(rows.reworded, rows.wordings, strict=True) if k == 1]
        assert (cell.recall_reworded_single is None) == (not single)
        assert cell.kl_to_base_nats > 0
        assert cell.known_after <= cell.known_before
        assert cell.recall < 1 or cell.bits_stored > 0.6 * 33.2 * n
    one = by_axes(smoke[1], wordings=1, activated=True)
    assert all(cell.recall_before == 0 and cell.recall >= 0.5 for cell in one)
    assert len(one) == 3
    (turned,) = by_axes(smoke[1], reverse=True)
    (plain,) = by_axes(
        smoke[1], reverse=False, wordings=4, seed=0, activated=True, reworded_share=1
    )
    assert turned.recall_reversed > plain.recall_reversed
    assert turned.steps == 2 * plain.steps
    assert turned.hashes.data == plain.hashes.data  # asked the same questions
    assert turned.hashes.taught != plain.hashes.taught


def test_a_killed_study_resumes_to_the_same_numbers(tmp_path: Path, smoke):
    whole = {cell.name: cell for cell in smoke[1]}
    folder, spec = StudyFolder(tmp_path), load_study("wording", preset="smoke")
    folder.claim(spec)
    lost = by_axes(smoke[1], wordings=1, activated=False)[0].name
    for name, cell in whole.items():
        if name != lost:
            folder.write(cell)
    assert run_study(spec, folder).trained == 1
    (cell,) = [cell for cell in folder.cells() if cell.name == lost]
    assert cell.model_copy(update={"cost": whole[lost].cost}) == whole[lost]


def test_the_page_has_a_table_for_each_axis_and_one_figure(smoke, tmp_path: Path):
    page = write_report([results(smoke[1])], tmp_path).read_text()
    (section,) = json.loads((tmp_path / "report.json").read_text())["sections"]
    (figure,) = section["figures"]
    assert [panel["title"] for panel in figure["panels"]] == [
        "the adapter on answers only",
        "the adapter on every token",
    ]
    assert {series["name"] for series in figure["panels"][0]["series"]} == {
        *("as taught", "reworded", "reversed", "near misses")
    }
    heads = {table["heads"][0]: table for table in section["axis_tables"]}
    assert list(heads) == [
        "wordings of a fact",
        "share of facts taught in several wordings",
        "also taught reversed",
        "the adapter",
    ]
    assert len(section["in_short"]) == len(heads)
    for table in heads.values():
        assert table["title"] in page
    assert "held-out wordings" in section["in_short"][0]
    assert len(section["table"]["rows"]) == 6
    assert len(set(section["table"]["heads"])) == len(section["table"]["heads"])


def test_an_axis_is_compared_over_cells_that_differ_in_it_alone(smoke):
    """Three seeds have an interval, over seeds; what has no twin is left out."""
    (section,) = make_report([results(smoke[1])])["sections"]
    wordings, share, _, activated = section["axis_tables"]
    n_cells = wordings["heads"].index("cells of each")
    assert [row[n_cells] for row in wordings["rows"]] == ["4", "4"]
    assert [row[n_cells] for row in share["rows"]] == ["1", "1"]
    assert [row[n_cells] for row in activated["rows"]] == ["2", "2"]
    three = by_axes(smoke[1], activated=True)
    (section,) = make_report([results(three)])["sections"]
    kl = section["axis_tables"][0]["heads"].index("KL to base")
    assert all("–" in row[kl] for row in section["axis_tables"][0]["rows"])
    assert all("–" not in row[kl] for row in section["axis_tables"][1]["rows"])
    one = by_axes(smoke[1], wordings=1, activated=True)
    (section,) = make_report([results(one)])["sections"]
    assert (section["figures"], section["in_short"]) == ([], [])
    assert "number of wordings alone" in section["left_out"][0]["reason"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"wordings": 0}, "wordings takes 1 to 16: taught of each fact, got 0"),
        ({"reworded_share": 0.0}, "reworded_share takes above 0, at most 1"),
        ({"task": "zsre"}, "task takes phonebook or wikibigedit, got 'zsre'"),
        ({"facts": 1}, "facts takes 2 to 1,000, got 1"),
        ({"protect_share": 1.0}, "protect_share takes 0 to 0.9"),
    ],
)
def test_bad_axes(given, message):
    with pytest.raises(UsageError, match=message):
        WordingAxes.resolve(given)


def test_a_share_has_no_effect_on_one_wording():
    one = WordingAxes.resolve({"wordings": 1, "reworded_share": 0.5})
    assert one == WordingAxes.resolve({"wordings": 1})


def test_edits_come_with_a_wording_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    edits = [
        {
            "prompt": f"In which town was {name} Lunt born?",
            "target_new": f"Town {i}",
            "subject": f"{name} Lunt",
            "rephrase_prompt": f"What is the birth town of {name} Lunt?",
            "locality_prompt": f"In which town was {name} Qvist born?",
            "locality_ground_truth": "Town 0" if i == 1 else "Elsewhere",
        }
        for i, name in enumerate(("Tora", "Ebbe", "Siv", "Aksel"))
    ]
    edits[3]["rephrase_prompt"] = "Reformulated question: none"
    (tmp_path / "edits").mkdir()
    (tmp_path / "edits" / "wikibigedit_2k.json").write_text(json.dumps(edits))
    monkeypatch.setenv("LORABANK_DATA", str(tmp_path))
    facts = draw_facts(WordingAxes.resolve({"task": "wikibigedit", "facts": 3}))
    assert {example.answer for example in facts.examples} == {"Town 0", "Town 1", "Town 2"}
    assert len(facts.held_out) == 3
    assert len(facts.near_misses) == 2  # one of them has a taught answer
    with pytest.raises(DataError, match="3 of its first 1,000 entries have another wording"):
        draw_facts(WordingAxes.resolve({"task": "wikibigedit", "facts": 4}))


@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set")
def test_published_edits_are_taught_without_their_held_out_wording():
    axes = WordingAxes.resolve({"task": "wikibigedit", "facts": 96, "wordings": 4})
    facts = draw_facts(axes)
    trained = {text for example in teach(facts, axes) for text in example.questions}
    assert len(facts.held_out) == 96
    assert not trained & {example.question for example in facts.held_out}
    assert len(facts.near_misses) > 80
