"""Studies about training texts on a random model: budgets and controls are what they say."""

import json
import os
from pathlib import Path
from statistics import fmean

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.report.page import make_report, write_report
from lorabank.report.study_results import StudyResults
from lorabank.report.texts.chosen import read_settings
from lorabank.study.folder import StudyFolder
from lorabank.study.run import run_study
from lorabank.study.spec import list_studies, load_study
from lorabank.study.texts.axes import TextsAxes
from lorabank.study.texts.cells import TextsCell
from lorabank.study.texts.data import make_examples, read_texts

STUDIES = ("formats", "mixtures", "base-scale", "generators", "objectives", "protection")


def run(name: str, folder: Path, *changes: str) -> list[TextsCell]:
    run_study(load_study(name, preset="smoke", changes=changes), StudyFolder(folder))
    return StudyFolder(folder).cells()


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TextsCell]]:
    folder = tmp_path_factory.mktemp("formats")
    return folder, run("formats", folder, "lr=5e-3,1e-2")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_an_arm_for_each_budget(name):
    """Exposures and tokens beside the paper's fixed steps, with the rate a choice, at full size."""
    assert set(list_studies()[name]["presets"]) == {"smoke", "cpu", "gpu"}
    for preset in ("cpu", "gpu"):
        cells = load_study(name, preset=preset).cells
        assert {cell.axes.budget for cell in cells} == {"exposures", "tokens", "steps"}
    assert len({cell.axes.lr for cell in load_study(name, preset="gpu").cells}) >= 3


def test_a_budget_is_the_same_for_all_formats(formats):
    by = {}
    for cell in formats[1]:
        by.setdefault(cell.axes.budget, []).append(cell)
    assert {cell.exposures for cell in by["exposures"]} == {4}
    assert {cell.steps for cell in by["steps"]} == {8}
    for cell in by["tokens"]:
        assert cell.tokens_trained == pytest.approx(2000, rel=0.1)
    assert len({cell.tokens_trained for cell in by["exposures"]}) > 1  # the text decides there


def test_a_cell_keeps_what_its_means_are_of(formats):
    for cell in formats[1]:
        rows = cell.per_question
        assert cell.gain == pytest.approx(fmean(rows.gain), abs=1e-4)
        assert cell.control_gain == pytest.approx(fmean(rows.control_gain), abs=1e-4)
        assert sorted(set(rows.document)) == [0, 1, 2]
        assert len(rows.gain) == cell.n_questions
        written = cell.per_written
        assert len(written.place) == 2 * 3  # two of each document
        assert set(cell.texts) == set(written.scores)
        assert {name: len(texts) for name, texts in written.replies.items()} == {
            "own": 6,
            "control": 6,
        }
    gains = [cell.per_question.gain for cell in formats[1]]
    assert all(gain != other for i, gain in enumerate(gains) for other in gains[:i])


def test_half_of_a_document_chooses_the_rate_and_the_other_half_is_reported(formats):
    settings = read_settings(formats[1])
    assert len(settings) == 6
    for chosen in settings:
        axes = chosen.axes.model_dump(exclude={"lr"})
        rivals = [c for c in formats[1] if axes == c.axes.model_dump(exclude={"lr"})]
        assert len(rivals) == chosen.n_rates == 2

        def half(cell: TextsCell, odd: int) -> float:
            seen, values = {}, []
            rows = cell.per_question
            for document, gain in zip(rows.document, rows.gain, strict=True):
                n = seen[document] = seen.get(document, -1) + 1
                values += [gain] if n % 2 == odd else []
            return fmean(values)

        best = max(rivals, key=lambda cell: half(cell, 1))
        assert chosen.setting.names == [best.name]
        assert chosen.gain().mean == pytest.approx(half(best, 0))


def test_a_killed_study_resumes_to_the_same_numbers(tmp_path, formats):
    whole = {cell.name: cell for cell in formats[1]}
    folder = StudyFolder(tmp_path)
    spec = load_study("formats", preset="smoke", changes=["lr=5e-3,1e-2"])
    folder.claim(spec)
    for cell in StudyFolder(formats[0]).cells()[::3]:
        folder.write(cell)
    run_study(spec, folder)
    for cell in folder.cells():
        assert cell.per_question == whole[cell.name].per_question
        assert cell.per_written == whole[cell.name].per_written


def test_protection_leaves_ordinary_text_alone(tmp_path):
    cells = run("protection", tmp_path, "protect_share=0,0.5", "amount=12")
    bare, guarded = sorted(cells, key=lambda cell: cell.axes.protect_share)
    assert guarded.kl_to_base_nats < bare.kl_to_base_nats


def test_distillation_changes_the_training_and_not_what_is_taught(tmp_path):
    cells = run("objectives", tmp_path, "objective=ce,distil")
    ce, distil = sorted(cells, key=lambda cell: cell.axes.objective)
    assert ce.hashes.taught == distil.hashes.taught
    assert ce.per_question.gain != distil.per_question.gain


def results(cells: list[TextsCell]) -> StudyResults:
    return StudyResults("formats", "Formats", {"name": "random-tiny"}, cells)


def test_a_page_says_what_was_taught_and_what_the_paper_has(formats, tmp_path):
    page = write_report([results(formats[1])], tmp_path)
    (section,) = json.loads((tmp_path / "report.json").read_text())["sections"]
    drawn = {figure["name"] for figure in section["figures"]}
    assert drawn == {"learnt", "gain", "answers", "harm"}
    heads = section["table"]["heads"]
    rows = [dict(zip(heads, row, strict=True)) for row in section["table"]["rows"]]
    assert {row["taught"] for row in rows} == {"the text itself", "10 questions"}
    assert {row["in the paper"] for row in rows} == {""}  # PaperQA alone has them
    assert "Llama-3.1-8B" in page.read_text()
    assert section["left_out"] == []
    rates = section["folded_table"]["rows"]
    assert len(rates) == 2 * len(rows)  # two rates were tried for each
    assert sum(row[3].endswith(", chosen") for row in rates) == len(rows)


def test_the_papers_numbers_stand_beside_paperqa(formats):
    cells = [
        cell.model_copy(update={"axes": cell.axes.model_copy(update={"task": "paperqa"})})
        for cell in formats[1]
    ]
    (section,) = make_report([results(cells)])["sections"]
    heads, rows = section["table"]["heads"], section["table"]["rows"]
    in_paper = {row[0]: row[heads.index("in the paper")] for row in rows}
    assert in_paper == {"the text itself": "3.19 / 4.59", "10 questions": ""}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"formats": "qa"}, "qa needs a count"),
        ({"budget": "epochs"}, "budget takes exposures, tokens, steps, got 'epochs'"),
        ({"documents": 1}, "documents takes 2 to 10,000, got 1"),
        ({"protect_share": 1.0}, "protect_share takes 0 to 0.9"),
        ({"format": "original"}, "no axis 'format'; did you mean formats"),
    ],
)
def test_bad_axes(given, message):
    with pytest.raises(UsageError, match=message):
        TextsAxes.resolve(given)


def test_an_unknown_generator_is_refused(tiny: Base):
    values = TextsAxes.resolve({"task": "chronicle", "formats": "qa:4", "generator": "gpt"})
    with pytest.raises(UsageError, match="generator must be given, local, openai:MODEL or file"):
        make_examples(read_texts(values), values, tiny)


def test_a_format_that_does_not_come_with_the_task_is_refused(tiny: Base):
    values = TextsAxes.resolve({"task": "chronicle", "formats": "summary:2"})
    with pytest.raises(UsageError, match="has no summary of it"):
        make_examples(read_texts(values), values, tiny)


@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set")
def test_published_texts_teach_nothing_that_is_asked(tiny: Base):
    for task, formats in (("paperqa", "original,qa:40"), ("squad", "implications:1,qa:10")):
        values = TextsAxes.resolve({"task": task, "formats": formats, "documents": 3})
        texts = read_texts(values)
        asked = {example.question for text in texts for example in text.asks}
        lessons = make_examples(texts, values, tiny)
        assert len(lessons) == 3
        assert all(len(some) > 2 for some in lessons)
        assert not asked & {example.question for some in lessons for example in some}
