"""CounterFact: its relations, edits, files and scores."""

import csv
import json
import math
import os
from collections import Counter
from pathlib import Path

import pytest

from lorabank.errors import DataError, UsageError
from lorabank.tasks.datasets import counterfact
from lorabank.tasks.datasets.counterfact import Edit
from lorabank.tasks.examples import from_pair
from lorabank.tasks.synthetic.relations import RELATIONS

EDIT = Edit(
    "Ada {B}",
    "The mother tongue of Ada {B} is",
    "New Norse",
    "French",
    ("Ada {B} grew up speaking",),
    ("The mother tongue of Cy is", "The mother tongue of Di is"),
    "P103",
)


def record() -> dict[str, object]:
    return {
        "case_id": 7,
        "requested_rewrite": {
            "prompt": "The mother tongue of {} is",
            "subject": "Ada {B}",
            "target_new": {"str": "New Norse"},
            "target_true": {"str": "French"},
            "relation_id": "P103",
        },
        "paraphrase_prompts": list(EDIT.paraphrases),
        "neighborhood_prompts": list(EDIT.neighbourhood),
    }


def write_slice(folder: Path, rows: list[str], subjects: object) -> Path:
    path = folder / "edits.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([row] for row in rows)])
    (folder / "edits_meta.json").write_text(json.dumps({"subjects": subjects}), encoding="utf-8")
    return path


# The tables


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.id)
def test_a_relation_has_enough_distinct_subjects_and_sound_templates(relation):
    subjects = [s for value in relation.facts for s in relation.subjects(value)]
    assert len(set(subjects)) == len(subjects)
    assert len(subjects) - counterfact.NEIGHBOURS * len(relation.facts) >= 40
    for value in relation.facts:
        assert " " not in value
        assert len(relation.subjects(value)) > counterfact.NEIGHBOURS
        for subject in relation.subjects(value):
            assert subject == subject.strip() != ""
            assert value.casefold() not in subject.casefold()
    for template in (relation.statement, *relation.paraphrases):
        assert template.count("{}") == 1
        assert template == template.strip()


# Building


def test_the_same_seed_gives_the_same_edits():
    assert counterfact.build(50, seed=7) == counterfact.build(50, seed=7)
    assert counterfact.build(50, seed=7) != counterfact.build(50, seed=8)


def test_a_short_list_of_edits_is_the_beginning_of_a_long_one():
    assert counterfact.build(counterfact.MAX_SIZE, seed=0)[:20] == counterfact.build(20, seed=0)


def test_every_edit_contradicts_its_own_fact_and_leaves_its_neighbours():
    edits = counterfact.build(counterfact.MAX_SIZE, seed=0)
    facts = {
        (relation.id, subject): value
        for relation in RELATIONS
        for value in relation.facts
        for subject in relation.subjects(value)
    }
    values = {relation.id: set(relation.facts) for relation in RELATIONS}
    true_values = {
        relation.statement.format(subject): value
        for relation in RELATIONS
        for value in relation.facts
        for subject in relation.subjects(value)
    }
    prompts = {edit.prompt for edit in edits}
    assert len({(edit.subject, edit.relation_id) for edit in edits}) == len(prompts) == len(edits)
    for edit in edits:
        assert edit.relation_id is not None
        assert edit.target_true == facts[edit.relation_id, edit.subject]
        assert edit.target_new in values[edit.relation_id] - {edit.target_true}
        assert len(set(edit.paraphrases) - {edit.prompt}) == 2
        assert all(edit.subject in prompt for prompt in edit.paraphrases)
        assert len(set(edit.neighbourhood)) == 2
        assert not prompts & set(edit.neighbourhood)
        assert {true_values[prompt] for prompt in edit.neighbourhood} == {edit.target_true}


def test_a_built_edit_has_the_entropy_of_its_draw():
    edits = counterfact.build(200, seed=0)
    values = {relation.id: len(relation.facts) for relation in RELATIONS}
    for edit in edits:
        assert counterfact.drawn_bits(edit) == math.log2(values[edit.relation_id] - 1)
    assert len({edit.relation_id for edit in edits}) > 1
    with pytest.raises(UsageError, match="read from a file"):
        counterfact.drawn_bits(Edit("Rome", "Rome is in", "Spain"))


def test_a_pinned_edit():
    # Pinned: a change of the tables or of `random` must show up here, not as a shifted curve.
    assert counterfact.MAX_SIZE == 667
    assert counterfact.build(1, seed=0) == (
        Edit(
            "Vietnam",
            "Vietnam belongs to the continent of",
            "Europe",
            "Asia",
            (
                "On a map of the world, Vietnam is found in",
                "The continent that Vietnam is a part of is",
            ),
            ("Iraq belongs to the continent of", "Cambodia belongs to the continent of"),
            "P30",
        ),
    )


@pytest.mark.parametrize("size", [0, counterfact.MAX_SIZE + 1])
def test_a_size_out_of_range_raises(size: int):
    with pytest.raises(UsageError, match=rf"must be 1\.\.{counterfact.MAX_SIZE}, got"):
        counterfact.build(size, seed=0)


# Reading the master file


def test_master_records_become_edits(tmp_path: Path):
    without_relation = record()
    del without_relation["requested_rewrite"]["relation_id"]  # type: ignore[attr-defined]
    path = tmp_path / "counterfact.json"
    path.write_text(json.dumps([record(), without_relation]), encoding="utf-8")
    first, second = counterfact.read_master(path)
    assert first == EDIT
    assert second.relation_id is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{]", "line 1: not JSON"),
        ("{}", "must be a JSON list of records"),
        ("[]", "must be a JSON list of records"),
        ("[1]", "record 1: must be a JSON object, got 1"),
        (b"\xff", "must be UTF-8"),
    ],
)
def test_a_malformed_master_file_raises(tmp_path: Path, content: str | bytes, message: str):
    path = tmp_path / "counterfact.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        counterfact.read_master(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_new": {}}, "requested_rewrite.target_new.str is missing"),
        ({"target_new": {"str": " "}}, "target_new.str must be text that is not empty"),
        ({"target_true": {"str": 3}}, "target_true.str must be text that is not empty, got 3"),
        ({"target_true": {"str": "New Norse"}}, "are both 'New Norse'"),
        ({"subject": ""}, "subject must be text that is not empty"),
        ({"prompt": "Ada speaks"}, r"needs \{\} where the subject goes, got 'Ada speaks'"),
    ],
)
def test_a_malformed_rewrite_is_named(tmp_path: Path, change: dict[str, object], message: str):
    broken = record()
    broken["requested_rewrite"] |= change  # type: ignore[operator]
    path = tmp_path / "counterfact.json"
    path.write_text(json.dumps([record(), broken]), encoding="utf-8")
    with pytest.raises(DataError, match=rf"record 2 \(case_id 7\): .*{message}"):
        counterfact.read_master(path)


@pytest.mark.parametrize("key", ["paraphrase_prompts", "neighborhood_prompts"])
@pytest.mark.parametrize(
    ("value", "message"), [(["a", ""], "must be a list of texts"), (None, "is")]
)
def test_malformed_prompts_are_named(tmp_path: Path, key: str, value: object, message: str):
    broken = record()
    if value is None:
        del broken[key]
    else:
        broken[key] = value
    path = tmp_path / "counterfact.json"
    path.write_text(json.dumps([broken]), encoding="utf-8")
    with pytest.raises(DataError, match=rf"record 1 \(case_id 7\): {key} {message}"):
        counterfact.read_master(path)


def test_a_missing_file_raises(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        counterfact.read_master(tmp_path / "none.json")


# Reading slices


def test_a_slice_with_its_master_gives_complete_edits(tmp_path: Path):
    path = write_slice(tmp_path, [counterfact.render_statement(EDIT)], [EDIT.subject])
    assert counterfact.read_slice(path, [EDIT]) == (EDIT,)


def test_a_slice_without_its_master_is_split_at_the_last_word(tmp_path: Path):
    rows = ["Bank of Oslo's headquarters are in Oslo", "In Macau, they understand French"]
    path = write_slice(tmp_path, rows, ["Bank of Oslo", "Macau"])
    assert counterfact.read_slice(path) == (
        Edit("Bank of Oslo", "Bank of Oslo's headquarters are in", "Oslo"),
        Edit("Macau", "In Macau, they understand", "French"),
    )


@pytest.mark.parametrize(
    "row", ["Ada lives in New York", "Ada", "In Oslo lives Ada", "Bo is French"]
)
def test_rows_that_cannot_be_split_are_counted(tmp_path: Path, row: str):
    path = write_slice(tmp_path, ["Ada speaks French", row], ["Ada", "Ada"])
    with pytest.raises(DataError, match=f"1 of 2 rows cannot be split .*; first: '{row}'"):
        counterfact.read_slice(path)


def test_rows_outside_the_master_are_counted(tmp_path: Path):
    rows = [counterfact.render_statement(EDIT), "Bo is Dutch", "Bo is French"]
    path = write_slice(tmp_path, rows, [EDIT.subject, "Bo", "Bo"])
    with pytest.raises(DataError, match=r"2 of 3 rows not in the master .*; first: 'Bo is Dutch'"):
        counterfact.read_slice(path, [EDIT])


@pytest.mark.parametrize(
    ("rows", "subjects", "message"),
    [
        (["Ada speaks French"], ["Ada", "Bo"], "edits_meta.json: .* got 2 for 1 rows"),
        (["Ada speaks French"], [""], "edits_meta.json: subjects must be a list of texts"),
        ([""], ["Ada"], "needs the column text"),
        ([], [], "needs the column text"),
    ],
)
def test_a_malformed_slice_raises(tmp_path: Path, rows: list[str], subjects: object, message: str):
    with pytest.raises(DataError, match=message):
        counterfact.read_slice(write_slice(tmp_path, rows, subjects))


def test_a_slice_without_its_column_raises(tmp_path: Path):
    path = write_slice(tmp_path, [], ["Ada"])
    path.write_text("prompt,answer\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="needs the column text"):
        counterfact.read_slice(path)
    path.write_text('text\n"a\n', encoding="utf-8")
    with pytest.raises(DataError, match="not a CSV row"):
        counterfact.read_slice(path)


@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set")
@pytest.mark.parametrize(
    ("load", "n_rows"),
    [("1K", 106), ("2K", 215), ("4K", 434), ("6K", 651), ("8K", 869), ("10K", 1_080)],
)
def test_published_slices_are_split_and_rendered_again(load: str, n_rows: int):
    path = Path(os.environ["LORABANK_DATA"]) / "counterfact" / f"counterfact_edit_{load}.csv"
    edits = counterfact.read_slice(path)
    with path.open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert len(texts) == n_rows
    assert [counterfact.render_statement(edit) for edit in edits] == texts
    assert edits[1] == Edit("Macau", "In Macau, an official language is", "French")
    # Rendering cannot show that a split is in the wrong place. A wrong split would leave an ending
    # that no other row has; the endings that occur once have been checked by reading them.
    if load == "10K":
        endings = Counter(edit.prompt.replace(edit.subject, "{}") for edit in edits)
        assert len(endings) == 164
        assert sum(times == 1 for times in endings.values()) == 26
        assert len(counterfact.as_examples(edits)) == n_rows


# Scoring


def test_continuations_begin_with_a_space_unless_as_published():
    assert counterfact.continuations(EDIT, published=False) == (" New Norse", " French")
    assert counterfact.continuations(EDIT, published=True) == ("New Norse", "French")


def test_continuations_need_a_true_target():
    with pytest.raises(UsageError, match="has no true target"):
        counterfact.continuations(Edit("Ada", "Ada speaks", "French"), published=True)


def test_scores_count_strict_wins():
    new, true_values = [1.0, 2.0, 3.0, math.nan], [2.0, 2.0, 1.0, 1.0]
    assert counterfact.efficacy(new, true_values) == 0.25
    assert counterfact.neighbourhood_score(new, true_values) == 0.25


@pytest.mark.parametrize(("new", "true_values"), [([], []), ([1.0], []), ([1.0], [1.0, 2.0])])
@pytest.mark.parametrize("score", [counterfact.efficacy, counterfact.neighbourhood_score])
def test_scores_need_pairs(score, new: list[float], true_values: list[float]):
    with pytest.raises(UsageError, match=f"got {len(new)} against {len(true_values)}"):
        score(new, true_values)


def test_examples_ask_with_the_prompt():
    assert counterfact.as_examples([EDIT]) == [from_pair(EDIT.prompt, "New Norse")]


def test_two_edits_of_the_same_prompt_are_refused():
    with pytest.raises(DataError, match="is edited twice"):
        counterfact.as_examples([EDIT, EDIT])
