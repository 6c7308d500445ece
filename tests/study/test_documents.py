"""Studies about long documents on a random model: controls, merges and times are what they say."""

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import load_base
from lorabank.errors import UsageError
from lorabank.report.documents.answer_modes import control_of, read_modes, text_alone
from lorabank.report.documents.timings import questions_to_pay
from lorabank.report.page import make_report, write_report
from lorabank.report.study_results import StudyResults
from lorabank.retrieval.documents import document_from_text
from lorabank.study.documents.axes import DocumentsAxes
from lorabank.study.documents.cells import AnswersCell, DocumentsCell
from lorabank.study.documents.library import open_library
from lorabank.study.documents.measure import choose_adapters
from lorabank.study.documents.reader import DocumentReader
from lorabank.study.folder import StudyFolder
from lorabank.study.plan import FleetPlan, FleetRun
from lorabank.study.run import run_study
from lorabank.study.spec import list_studies, load_study

STUDIES = ("closed-book", "hybrids", "continuity", "latency")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[DocumentsCell]]:
    cells = {}
    for name in STUDIES:
        folder = StudyFolder(tmp_path_factory.mktemp(name))
        run_study(load_study(name, preset="smoke"), folder)
        cells[name] = folder.cells()
    return cells


@pytest.fixture(scope="module")
def reader(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> DocumentReader:
    tiny = load_base(str(tiny_folder), dtype="float32", device="cpu")
    spec = load_study("closed-book", preset="smoke")
    cells = {cell.axes.adapter: cell for cell in spec.cells}
    run = FleetRun(
        base=tiny,
        study=spec.name,
        width=spec.width,
        plan=FleetPlan(1, (cells["document"], cells["chunk"])),
        missing=frozenset(),
        folder=tmp_path_factory.mktemp("library"),
        checkpoint_every_s=60,
        report_progress=lambda _: None,
    )
    return DocumentReader(tiny, open_library(run), activated=True)


def axes_with(**changes: object) -> DocumentsAxes:
    """Axes of the smoke study, with some changed."""
    axes = load_study("closed-book", preset="smoke").cells[0].axes
    known = {name: value for name, value in axes.model_dump().items() if value is not None}
    return DocumentsAxes.resolve({**known, "router": "bm25", **changes})


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_its_controls_at_full_size(name):
    assert set(list_studies()[name]["presets"]) == {"smoke", "cpu", "gpu"}
    for preset in ("cpu", "gpu"):
        cells = [cell.axes for cell in load_study(name, preset=preset).cells]
        if name == "latency":
            assert {axes.activated for axes in cells} == {True, False}
            assert {axes.document_cached for axes in cells if axes.text == "icl"} >= {True, False}
            continue
        with_adapter = {axes.adapter for axes in cells if not axes.random} - {"none"}
        assert {axes.adapter for axes in cells if axes.random} == with_adapter


def test_chunk_adapters_together_are_as_large_as_the_documents(reader):
    library = reader.library
    for document, chunks in enumerate(library.chunks):
        adapters = library.chunk_adapters(document)
        r = next(iter(adapters.values())).r
        assert library.document_adapters()[document].r == len(chunks) * r
        parts = [part for part in library.taught["chunk"].parts if part.document == document]
        by_chunks = {example.question for part in parts for example in part.examples}
        whole = library.taught["document"].parts[document]
        assert by_chunks <= {example.question for example in whole.examples}


def test_a_random_adapter_is_never_of_the_documents_own(reader):
    library = reader.library
    for adapter in ("document", "chunk"):
        answering = choose_adapters(reader, axes_with(adapter=adapter, random=True))
        for document, chosen in zip(reader.document_of, answering.adapter_of, strict=True):
            own = [library.document_adapters()[document]]
            if adapter == "chunk":
                own = list(library.chunk_adapters(document).values())
            assert all(answering.adapters[chosen] is not other for other in own)


def test_the_oracle_names_a_chunk_with_the_evidence_where_one_has_it(reader):
    search = reader.search
    for i, question in enumerate(reader.questions):
        chunks = range(len(reader.library.chunks[reader.document_of[i]]))
        best = search.rank(i, "oracle", chunks)[0]
        is_in_a_chunk = any(search.is_right(i, chunk) for chunk in chunks)
        assert search.is_right(i, best) == is_in_a_chunk, question.example.question


def test_a_cached_document_changes_no_reading(reader):
    prompts = [reader.prompt(i, "icl", []) for i in range(len(reader.questions))]
    assert all(prompt.n_prefix > 100 for prompt in prompts)
    with loaded_fleet(reader.base, reader.library.document_adapters()) as fleet:
        cached = reader.read(prompts, fleet, reader.document_of)
        uncached = [type(prompt)(prompt.prompt, 0) for prompt in prompts]
        read_whole = reader.read(uncached, fleet, reader.document_of)
    bits = [reading.bits for reading in read_whole]
    assert [reading.bits for reading in cached] == pytest.approx(bits, rel=1e-4)


def test_a_merge_at_matched_norm_is_as_long_as_a_module(studies):
    merges = [cell for cell in studies["continuity"] if cell.axes.norm]
    matched = [cell.norm_ratio for cell in merges if cell.axes.norm == "matched"]
    published = [cell.norm_ratio for cell in merges if cell.axes.norm == "published"]
    assert matched == pytest.approx([1.0] * len(matched), rel=1e-3)
    assert all(ratio != pytest.approx(1.0, rel=1e-3) for ratio in published)


def test_a_cell_keeps_what_its_means_are_of(studies):
    for cell in (*studies["closed-book"], *studies["hybrids"]):
        gains = cell.per_question.gain
        assert cell.gain == pytest.approx(fmean(gains), abs=1e-4)
        assert len(gains) == cell.n_questions
        replies = cell.per_written.replies.get("own", [])
        assert len(replies) == len(cell.per_written.place)
        if cell.mode == "bare":
            assert set(gains) == {0.0}


def test_a_study_that_was_stopped_reads_on_with_the_same_adapters(studies, tmp_path):
    whole = {cell.name: cell for cell in studies["hybrids"]}
    folder, spec = StudyFolder(tmp_path), load_study("hybrids", preset="smoke")
    folder.claim(spec)
    for cell in studies["hybrids"][::3]:
        folder.write(cell)
    run_study(spec, folder)
    for cell in folder.cells():
        assert cell.per_question == whole[cell.name].per_question


def test_times_are_of_what_each_mode_does(studies):
    for cell in studies["latency"]:
        axes, parts, once = cell.axes, set(cell.parts_s), set(cell.once_s)
        assert ("training" in once) == (axes.adapter != "none")
        assert ("looking up" in parts) == (axes.router is not None)
        assert ("merging" in parts) == (axes.adapter == "merged")
        assert ("loading" in parts) == (axes.preloaded is False)
        assert ("reading" in once) == (axes.document_cached is True)
        assert cell.first_token_s <= cell.answer_s
        assert {"tokenising", "to first token", "token"} <= parts
        if axes.text == "icl":
            assert cell.prompt_tokens > cell.document_tokens


def results(cells: list[DocumentsCell], title: str = "Title") -> StudyResults:
    return StudyResults("study", title, {"name": "random-tiny"}, cells)


def test_differences_are_taken_question_by_question(studies):
    modes = read_modes(studies["hybrids"])
    mode = next(m for m in modes if m.name == "document adapter + ICL")
    alone, control = text_alone(mode, modes), control_of(mode, modes)
    assert alone is not None
    assert control is not None
    assert alone.name == "ICL"
    assert control.name == "another document's document adapter + ICL"
    over = mode.gain_over(alone)
    assert over is not None
    expected = mode.setting.first.gain - alone.setting.first.gain
    assert over.mean == pytest.approx(expected, abs=1e-4)


def test_training_pays_after_as_many_questions_as_make_up_for_it(studies):
    by_name = {mode.name: mode for mode in read_modes(studies["latency"])}
    adapter = by_name["document adapter"].setting.first
    icl = by_name["ICL, read each time"].setting.first
    cells = [
        adapter.model_copy(update={"once_s": {"training": 90.0, "loading": 2.0}, "answer_s": 0.5}),
        icl.model_copy(update={"once_s": {}, "answer_s": 5.1}),
    ]
    without, trained = sorted(read_modes(cells), key=lambda mode: mode.has_adapter)
    assert questions_to_pay(trained, without) == (pytest.approx(20.0), math.inf)
    assert questions_to_pay(without, trained) == (0.0, pytest.approx(20.0))


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_for_each(studies, tmp_path: Path, name):
    write_report([results(studies[name])], tmp_path)
    (section,) = json.loads((tmp_path / "report.json").read_text())["sections"]
    drawn = {figure["name"] for figure in section["figures"]}
    assert drawn >= ({"answer", "total"} if name == "latency" else {"gain"})
    assert len(section["table"]["rows"]) == len(studies[name])
    shown = [cell for row in section["table"]["rows"] for cell in row[-1].split(", ")]
    assert sorted(shown) == sorted(cell.name for cell in studies[name])
    assert 3 <= len(section["in_short"]) <= 6


def test_documents_whose_questions_are_of_one_kind_stand_beside_others(studies, tmp_path):
    def as_book(cell: AnswersCell) -> AnswersCell:
        rows = cell.per_question.model_copy(update={"kind": ["summary"] * cell.n_questions})
        changes = {
            "name": f"book-{cell.name}",
            "axes": cell.axes.model_copy(update={"task": "books"}),
            "by_kind": {"summary": cell.gain},
            "per_question": rows,
        }
        return cell.model_copy(update=changes)

    def of_two_kinds(cell: AnswersCell) -> AnswersCell:
        kinds = [("single", "multi")[i % 2] for i in range(cell.n_questions)]
        rows = cell.per_question.model_copy(update={"kind": kinds})
        by_kind = {"single": 1.0, "multi": 2.0}
        return cell.model_copy(update={"by_kind": by_kind, "per_question": rows})

    closed_book = studies["closed-book"]
    cells = [*map(of_two_kinds, closed_book), *map(as_book, closed_book)]
    (section,) = make_report([results(cells)])["sections"]
    by_name = {figure["name"]: figure for figure in section["figures"]}
    assert [panel["title"] for panel in by_name["kinds"]["panels"]] == ["chronicles of 400 tokens"]
    assert len(by_name["gain"]["panels"]) == 2
    heads, rows = section["table"]["heads"], section["table"]["rows"]
    book = next(row for row in rows if row[heads.index("documents")].startswith("books"))
    assert book[heads.index("multi")] == ""


def test_two_cells_of_one_draw_are_refused(studies):
    cell = studies["hybrids"][0]
    with pytest.raises(UsageError, match="have the same setting and seed 0"):
        make_report([results([cell, cell.model_copy(update={"name": "again"})])])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"random": True}, "random puts another document"),
        ({"task": "books", "router": "oracle"}, "not known where books has its answers"),
        ({"adapter": "chunks"}, "adapter takes none, document, chunk, merged, got 'chunks'"),
        ({"length": 100}, "length takes 350 to 1,000,000 tokens"),
    ],
)
def test_bad_axes(axes, message):
    with pytest.raises(UsageError, match=message):
        DocumentsAxes.resolve(axes)


def test_a_document_that_does_not_fit_says_by_how_much(reader):
    library = reader.library
    first = library.documents[0]
    text = document_from_text("long", first.document.text * 3)
    longer = (replace(first, document=text), *library.documents[1:])
    with pytest.raises(UsageError, match=r"[\d,]+ more than .* takes \(512\); .*--with rag"):
        DocumentReader(reader.base, replace(library, documents=longer), activated=True).prompt(
            0, "icl", []
        )
