"""What the gate is fitted on: taught questions, held-out wordings, and drafts that are wrong."""

import json
import sys
from dataclasses import replace

import pytest

from lorabank.bank.answer import gate_calibration
from lorabank.bank.answer.gate import RATES
from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.cli.main import main
from lorabank.tasks.examples import Example

from .conftest import TINY


@pytest.fixture
def reworded(bank: Bank, book: list[Example]) -> Bank:
    """Return the bank with a module whose facts have wordings that were never taught."""
    settings = replace(TINY, wordings=4)
    bank.write_all([draft_from_examples("west", book[12:], source="w.csv")], settings=settings)
    return bank


def test_half_of_the_questions_are_wordings_that_were_held_out(reworded: Bank):
    examples = reworded.reader.read_draft(reworded.store.current("west")).examples
    held_out = {text for example in examples for text in example.held_out}
    assert held_out
    sampled = gate_calibration._sample(reworded.reader)
    of_west = [each for each in sampled if each.module == "west"]
    assert {each.question for each in of_west} & held_out
    assert {each.question for each in of_west} - held_out
    answers = {text: e.answer for e in examples for text in (*e.questions, *e.held_out)}
    assert all(each.answer == answers[each.question] for each in of_west)


def test_a_module_that_drafts_another_answer_does_not_know_it(reworded: Bank):
    gate = reworded.gate()
    assert gate is not None
    sampled = gate_calibration._sample(reworded.reader)
    renamed = [replace(each, answer="another answer") for each in sampled]
    reworded_router = gate_calibration.TextRouter(reworded.texts)
    cases = gate_calibration._collect_cases(reworded.reader, reworded_router, renamed)
    assert all(case.own is None for case in cases)
    assert 0 < len(gate.known) <= len(sampled)
    assert len(gate.unknown) >= len(sampled) - len(gate.known)


def test_verify_prints_the_curve_of_the_gate(
    reworded: Bank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = reworded.store.path
    monkeypatch.setattr(
        sys, "argv", ["lorabank", "verify", "--gate", "--json", "--bank", str(path)]
    )
    with pytest.raises(SystemExit) as ending:
        main()
    assert not ending.value.code
    gate = json.loads(capsys.readouterr().out)["gate"]
    assert [point["false_activation"] for point in gate["curve"]] == list(RATES)
    assert gate["questions"] > 12


def test_a_rate_that_is_none_is_refused_before_a_model_is_loaded(
    bank: Bank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = str(bank.store.path)
    for rate in ("0", "1", "-1", "nan"):
        argv = ["lorabank", "ask", "Who?", "--false-activation", rate, "--bank", path]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ending:
            main()
        assert ending.value.code == 2
        assert "--false-activation must be above 0 and below 1" in capsys.readouterr().err


def test_a_gate_that_lets_all_pass_answers_more_than_one_that_lets_none(
    bank: Bank, book: list[Example]
):
    bank.looks_up = False
    questions = [e.question.replace("number", "colour") for e in book[:12]]
    answered = {}
    for rate in (0.01, 0.99):
        bank.false_activation = rate
        answered[rate] = sum(a.kind == "module" for a in bank.ask_all(questions))
    assert answered[0.99] > answered[0.01]
