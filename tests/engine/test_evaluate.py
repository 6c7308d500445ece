"""The evaluator, and the function `recall`."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import (
    evaluate,
    evaluate_fleet,
    join_questions,
    prepare_questions,
)
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.recall import recall
from lorabank.engine.settings import PLAIN
from lorabank.engine.training.jobs import Outcome
from lorabank.engine.training.train import train
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.synthetic import phonebook

QUICK = replace(PLAIN, lr=5e-3, exposures=100, until_recall=0.9)
CODES = [from_pair(f"Code of item {i}?", f"{i * 37 % 100:02d}") for i in range(12)]


@pytest.fixture
def outcomes(tiny: Base) -> list[Outcome]:
    """Return the outcomes of two adapters, each trained on half of CODES."""
    halves = {"even": CODES[::2], "odd": CODES[1::2]}
    return train(tiny, [plan_job(tiny, half, QUICK, name=name) for name, half in halves.items()])


def test_each_question_is_read_by_its_own_adapter(tiny: Base, outcomes: list[Outcome]):
    adapters = [outcome.adapter for outcome in outcomes]
    by_own_adapter = evaluate(tiny, adapters, CODES, slots=[i % 2 for i in range(12)])
    by_other_adapter = evaluate(tiny, adapters, CODES, slots=[1 - i % 2 for i in range(12)])
    assert by_own_adapter.recall >= 0.9
    assert by_own_adapter.recall_before == by_other_adapter.recall_before == 0
    assert by_other_adapter.recall < 0.5
    assert sum(by_own_adapter.gains) > sum(by_other_adapter.gains)
    assert len(by_own_adapter.missing) == sum(not recalled for recalled in by_own_adapter.recalled)
    assert [drift.kl_to_base_nats > 0 for drift in by_own_adapter.drift] == [True, True]
    assert by_own_adapter.drift[0].known_before is None
    even, odd = by_own_adapter.by_slot(2)
    assert even.questions.examples == tuple(CODES[::2])
    assert (even.recall + odd.recall) / 2 == pytest.approx(by_own_adapter.recall)
    assert odd.drift == by_own_adapter.drift[1:]


def test_bits_and_gains_are_differences_to_the_bare_base(tiny: Base, outcomes: list[Outcome]):
    evaluation = evaluate(tiny, outcomes[0].adapter, CODES[::2])
    bare = read_answers(tiny, outcomes[0].job.dataset.prompts)
    assert [reading.bits for reading in evaluation.before] == [reading.bits for reading in bare]
    for i, prompt in enumerate(evaluation.questions.prompts):
        fell_by = evaluation.before[i].bits - evaluation.after[i].bits
        assert evaluation.bits[i] == max(0.0, fell_by)
        nats = fell_by * math.log(2) / len(prompt.answer_ids)
        assert evaluation.gains[i] == pytest.approx(nats)


def test_bits_of_a_phone_number_are_at_most_its_entropy(tiny: Base):
    facts = [from_pair(phonebook.render_question(f), f.number) for f in phonebook.build(2, seed=0)]
    (outcome,) = train(tiny, [plan_job(tiny, facts, QUICK)])
    evaluation = evaluate(tiny, outcome.adapter, facts)
    assert all(reading.bits > phonebook.BITS_PER_FACT for reading in evaluation.before)
    assert all(0 <= bits <= phonebook.BITS_PER_FACT for bits in evaluation.bits)


def test_numbers_that_were_not_taught_store_no_bits_and_those_of_others_few(tiny: Base):
    """The form of numbers counts nothing; the numbers themselves do, even under another name."""
    book, others = phonebook.build(8, seed=0), phonebook.build(8, seed=1)
    facts = [from_pair(phonebook.render_question(f), f.number) for f in book]
    settings = replace(QUICK, exposures=60, until_recall=1.0)
    (outcome,) = train(tiny, [plan_job(tiny, facts, settings)])
    taught = evaluate(tiny, outcome.adapter, facts)
    untaught = [from_pair(f.question, o.number) for f, o in zip(facts, others, strict=True)]
    moved = [from_pair(f.question, facts[i - 1].answer) for i, f in enumerate(facts)]
    assert sum(taught.bits) > 0.5 * 8 * phonebook.BITS_PER_FACT
    assert sum(evaluate(tiny, outcome.adapter, untaught).bits) == 0
    assert sum(evaluate(tiny, outcome.adapter, moved).bits) < 0.1 * sum(taught.bits)


def test_questions_without_a_slot_keep_the_reading_of_the_bare_base(
    tiny: Base, outcomes: list[Outcome]
):
    parts = [prepare_questions(tiny, half, activated=True) for half in (CODES[:4], CODES[4:])]
    questions = join_questions(parts)
    with loaded_fleet(tiny, [outcomes[0].adapter]) as fleet:
        evaluation = evaluate_fleet(fleet, questions, [None] * 4 + [0] * 8)
    assert evaluation.after[:4] == questions.before[:4]
    assert set(evaluation.gains[:4]) == {0}
    assert evaluation.recalled[:4] == questions.recalled_before[:4]
    assert evaluation.after[4:] != questions.before[4:]


def test_recall_takes_adapters_folders_and_pairs(tiny: Base, tmp_path: Path):
    facts = CODES[:6]
    report = learn(tiny, facts, out=tmp_path / "a", settings=QUICK)
    pairs = [(fact.question, fact.answer) for fact in facts]
    measured = recall(tiny, str(tmp_path / "a"), pairs)
    assert (measured.recall, measured.missing) == (report.recall, report.missing)
    assert (measured.facts, measured.score, measured.adapter) == (6, "tokens", str(tmp_path / "a"))
    with_wrong_answer = recall(
        tiny, tmp_path / "a", [{"prompt": "Code of item 0?", "answer": "99"}]
    )
    assert (with_wrong_answer.recall, with_wrong_answer.missing) == (0, ("Code of item 0?",))
    evaluation = evaluate(tiny, tmp_path / "a", pairs, known=True)
    assert evaluation.recall == report.recall
    assert sum(evaluation.bits) == pytest.approx(report.bits_stored)
    assert evaluation.drift[0].known_before == report.known_before
    assert evaluation.drift[0].kl_to_base_nats == pytest.approx(report.kl_to_base_nats)


def test_learn_takes_pairs_and_a_folder_as_text(tiny: Base, tmp_path: Path):
    settings = replace(QUICK, exposures=2, until_recall=None, layers="last-1", protect_share=0.2)
    report = learn(tiny, [("Who?", "Ann")], out=str(tmp_path / "a"), settings=settings)
    assert report.facts == 1
    job = plan_job(tiny, [from_pair("Who?", "Ann")], settings)
    assert isinstance(job.settings.layers, tuple)
    assert {path.split(".")[2] for path in job.paths} == {str(job.settings.layers[0])}
    assert job.dataset.regularisation


@pytest.mark.parametrize(
    ("n_adapters", "examples", "slots", "message"),
    [
        (0, CODES, None, "at least one adapter"),
        (1, [], None, "one example"),
        (2, CODES, None, "slots must name the adapter"),
        (2, CODES, [0, 1], "from 0 to 1 for each of the 12 examples"),
        (1, CODES[:1], [1], "from 0 to 0"),
    ],
)
def test_requests_that_do_not_fit_are_refused(
    tiny: Base,
    outcomes: list[Outcome],
    n_adapters: int,
    examples: list[Example],
    slots: list[int] | None,
    message: str,
):
    adapters = [outcome.adapter for outcome in outcomes[:n_adapters]]
    with pytest.raises(UsageError, match=message):
        evaluate(tiny, adapters, examples, slots=slots)


@pytest.mark.parametrize(
    "item", [("a",), ("a", 1), {"prompt": "a"}, ("", "b"), {"prompt": "a", "answer": " "}]
)
def test_examples_of_another_form_are_refused(tiny: Base, tmp_path: Path, item: object):
    with pytest.raises(DataError, match="example 2"):
        learn(tiny, [("a", "b"), item], out=tmp_path / "a")  # type: ignore[list-item]
