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
from lorabank.report.documents.answering import beside, ways
from lorabank.report.documents.timings import break_even
from lorabank.report.page import make_report, write_report
from lorabank.retrieval.documents import document_from_text
from lorabank.study.documents.axes import resolve
from lorabank.study.documents.cells import seats_of
from lorabank.study.documents.exam import Exam
from lorabank.study.documents.library import open_library
from lorabank.study.folder import StudyFolder
from lorabank.study.run import run_study
from lorabank.study.spec import list_studies, load_study

STUDIES = ("closed-book", "hybrids", "continuity", "latency")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORABANK_CACHE", str(tmp_path_factory.getbasetemp() / "study-cache"))


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORABANK_CACHE", str(tmp_path_factory.getbasetemp() / "study-cache"))
        found = {}
        for name in STUDIES:
            folder = StudyFolder(tmp_path_factory.mktemp(name))
            run_study(load_study(name, preset="smoke"), folder)
            found[name] = folder.cells()
        return found


@pytest.fixture(scope="module")
def exam(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Exam:
    tiny = load_base(str(tiny_folder), dtype="float32", device="cpu")
    values = load_study("closed-book", preset="smoke").cells[0].values
    where, kinds = tmp_path_factory.mktemp("library"), ("document", "chunk")
    library = open_library(tiny, values, where, kinds=kinds, every_s=60, say=lambda _: None)
    return Exam(tiny, library, activated=True)


def cell_of(exam: Exam, **more: object) -> dict:
    given = load_study("closed-book", preset="smoke").cells[0].values
    known = {key: value for key, value in given.items() if value is not None}
    return resolve({**known, "router": "bm25", **more})


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_its_controls_at_full_size(name):
    assert set(list_studies()[name]["presets"]) == {"smoke", "cpu", "gpu"}
    for preset in ("cpu", "gpu"):
        cells = [cell.values for cell in load_study(name, preset=preset).cells]
        if name == "latency":
            assert {one["activated"] for one in cells} == {True, False}
            assert {one["kept"] for one in cells if one["text"] == "icl"} >= {True, False}
            continue
        with_adapter = {one["adapter"] for one in cells if not one["random"]} - {"none"}
        assert {one["adapter"] for one in cells if one["random"]} == with_adapter


def test_chunk_adapters_together_are_as_large_as_the_documents(exam):
    whole = exam.library.whole()
    for document, chunks in enumerate(exam.library.chunks):
        some = exam.library.of_chunks(document)
        assert whole[document].r == len(chunks) * next(iter(some.values())).r
        taught = exam.library.taught["chunk"].parts
        there = {e.question for part in taught if part.document == document for e in part.examples}
        own = exam.library.taught["document"].parts[document]
        assert there <= {example.question for example in own.examples}


def test_a_random_adapter_is_never_of_the_documents_own(exam):
    for adapter in ("document", "chunk"):
        seats = seats_of(exam, cell_of(exam, adapter=adapter, random=True))
        for i, place in enumerate(seats.places):
            library, own = exam.library, exam.own[i]
            mine = library.of_chunks(own).values() if adapter == "chunk" else [library.whole()[own]]
            assert all(seats.adapters[place] is not one for one in mine)


def test_the_oracle_names_a_chunk_with_the_evidence_where_one_has_it(exam):
    for i, asked in enumerate(exam.asked):
        chunks = exam.library.chunks[exam.own[i]]
        best = exam.rank(i, "oracle", range(len(chunks)))[0]
        is_there = any(exam.is_right(i, c) for c in range(len(chunks)))
        assert exam.is_right(i, best) == is_there, asked.example.question


def test_reading_with_the_document_kept_changes_nothing(exam):
    puts = [exam.put(i, "icl", []) for i in range(len(exam.asked))]
    assert all(one.prefix > 100 for one in puts)
    with loaded_fleet(exam.base, exam.library.whole()) as fleet:
        kept = exam.read(puts, fleet, exam.own)
        anew = exam.read([type(one)(one.probe, 0) for one in puts], fleet, exam.own)
    assert [one.bits for one in kept] == pytest.approx([one.bits for one in anew], rel=1e-4)


def test_a_merge_at_matched_norm_is_as_long_as_a_module(studies):
    merges = [c for c in studies["continuity"] if c["spec"]["norm"]]
    matched = [c["norm_ratio"] for c in merges if c["spec"]["norm"] == "matched"]
    published = [c["norm_ratio"] for c in merges if c["spec"]["norm"] == "published"]
    assert matched == pytest.approx([1.0] * len(matched), rel=1e-3)
    assert all(ratio != pytest.approx(1.0, rel=1e-3) for ratio in published)


def test_a_cell_keeps_what_its_means_are_of(studies):
    for cell in (*studies["closed-book"], *studies["hybrids"]):
        rows = cell["per_question"]
        assert cell["gain"] == pytest.approx(fmean(rows["gain"]), abs=1e-4)
        assert len(rows["gain"]) == cell["n_questions"]
        if cell["way"] == "bare":
            assert set(rows["gain"]) == {0.0}


def test_a_study_that_was_stopped_reads_on_with_the_same_adapters(studies, tmp_path):
    whole = {cell["name"]: cell for cell in studies["hybrids"]}
    folder, spec = StudyFolder(tmp_path), load_study("hybrids", preset="smoke")
    folder.claim(spec)
    for cell in studies["hybrids"][::3]:
        folder.write(cell)
    run_study(spec, folder)
    for cell in folder.cells():
        assert cell["per_question"] == whole[cell["name"]]["per_question"]


def test_times_are_of_what_each_way_does(studies):
    for cell in studies["latency"]:
        spec, parts, once = cell["spec"], set(cell["parts_s"]), set(cell["once_s"])
        assert ("training" in once) == (spec["adapter"] != "none")
        assert ("looking up" in parts) == (spec["router"] is not None)
        assert ("merging" in parts) == (spec["adapter"] == "merged")
        assert ("loading" in parts) == (spec["preloaded"] is False)
        assert ("reading" in once) == (spec["kept"] is True)
        assert cell["first_token_s"] <= cell["answer_s"]
        assert {"tokenising", "to first token", "token"} <= parts
        if spec["text"] == "icl":
            assert cell["prompt_tokens"] > cell["document_tokens"]


def test_differences_are_taken_question_by_question(studies):
    found = ways(studies["hybrids"])
    one = next(w for w in found if w.name == "document + ICL")
    alone = beside(one, found, adapter="none", random=False)
    chance = beside(one, found, random=True)
    assert alone is not None
    assert chance is not None
    assert (alone.name, chance.name) == ("ICL", "random document + ICL")
    over = one.over(alone)
    assert over is not None
    assert over.mean == pytest.approx(one.first["gain"] - alone.first["gain"], abs=1e-4)


def test_a_way_pays_once_what_it_saves_is_what_it_cost(studies):
    found = ways(studies["latency"])
    by = {one.name: one for one in found}
    module, icl = by["document"].first, by["ICL, read each time"].first
    cells = [
        {**module, "once_s": {"training": 90.0, "loading": 2.0}, "answer_s": 0.5},
        {**icl, "once_s": {}, "answer_s": 5.1},
    ]
    first, second = ways(cells)
    module_way, icl_way = sorted((first, second), key=lambda way: way.spec["adapter"] == "none")
    assert break_even(module_way, icl_way) == (pytest.approx(20.0), math.inf)
    assert break_even(icl_way, module_way) == (0.0, pytest.approx(20.0))


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_for_each(studies, tmp_path: Path, name):
    write_report(studies[name], tmp_path, title=name, base="random-tiny")
    report = json.loads((tmp_path / "report.json").read_text())
    drawn = {figure["name"] for figure in report["figures"]}
    assert drawn >= ({"answer", "total"} if name == "latency" else {"gain"})
    assert len(report["table"]["rows"]) == len(studies[name])
    told = [cell for row in report["table"]["rows"] for cell in row[-1].split(", ")]
    assert sorted(told) == sorted(cell["name"] for cell in studies[name])


def test_documents_whose_questions_are_of_one_kind_stand_beside_others(studies, tmp_path):
    def as_book(cell: dict) -> dict:
        rows = cell["per_question"] | {"kind": ["summary"] * cell["n_questions"]}
        spec = cell["spec"] | {"task": "books"}
        more = {"by_kind": {"summary": cell["gain"]}, "per_question": rows, "spec": spec}
        return {**cell, **more, "name": f"book-{cell['name']}"}

    def of_kinds(cell: dict) -> dict:
        n = cell["n_questions"]
        rows = cell["per_question"] | {
            "kind": ["single", "multi"] * (n // 2) + ["single"] * (n % 2)
        }
        return {**cell, "by_kind": {"single": 1.0, "multi": 2.0}, "per_question": rows}

    cells = [*map(of_kinds, studies["closed-book"]), *map(as_book, studies["closed-book"])]
    report = make_report(cells, title="Mixed", base="random-tiny")
    by_name = {figure["name"]: figure for figure in report["figures"]}
    assert [panel["title"] for panel in by_name["kinds"]["panels"]] == ["chronicles of 400 tokens"]
    assert len(by_name["gain"]["panels"]) == 2
    heads = report["table"]["heads"]
    book = next(row for row in report["table"]["rows"] if row[0].startswith("books"))
    assert book[heads.index("multi")] == ""


def test_two_cells_of_one_draw_are_refused(studies):
    cell = studies["hybrids"][0]
    with pytest.raises(UsageError, match="are one; drop one"):
        make_report([cell, {**cell, "name": "again"}], title="Hybrids", base="random-tiny")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"random": True}, "random puts another document"),
        ({"task": "books", "router": "oracle"}, "nobody knows where books has its answers"),
        ({"adapter": "chunks"}, "adapter takes none, document, chunk, merged, got 'chunks'"),
        ({"length": 100}, "length takes 350 to 1,000,000 tokens"),
    ],
)
def test_bad_axes(given, message):
    with pytest.raises(UsageError, match=message):
        resolve(given)


def test_a_document_that_does_not_fit_says_by_how_much(exam):
    library = exam.library
    long = library.longs[0]
    longer = replace(long, document=document_from_text("long", long.document.text * 3))
    grown = replace(library, longs=(longer, *library.longs[1:]))
    with pytest.raises(UsageError, match=r"[\d,]+ more than .* takes \(512\); .*--with rag"):
        Exam(exam.base, grown, activated=True).put(0, "icl", [])
