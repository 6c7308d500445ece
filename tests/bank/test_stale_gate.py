"""A gate fitted in the background: the last one judges meanwhile, and questions come between."""

from lorabank.bank.answer.gate import Gate
from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.store.plain_files import DERIVED
from lorabank.tasks.examples import Example

from .conftest import TINY


def teach_west(bank: Bank, book: list[Example]) -> None:
    draft = draft_from_examples("west", book[12:16], source="west.csv")
    bank.write_all([draft], settings=TINY)


def test_the_last_gate_judges_until_another_is_fitted(bank: Bank, book: list[Example]):
    bank.looks_up = False  # a stored question that is plainly asked needs no gate
    state, asked_for = bank.state, list[str]()
    state.on_stale_gate = lambda: asked_for.append(bank.store.modules_state)
    assert bank.ask(book[0].question).text == book[0].answer  # none was fitted: this one does it
    first = state.fitted_module_gate()
    assert (first is not None, state.is_gate_current(), asked_for) == (True, True, [])
    teach_west(bank, book)
    assert bank.ask(book[13].question).text == book[13].answer  # of a module it has never seen
    assert state.fitted_module_gate() is first
    assert not state.is_gate_current()
    assert asked_for == [bank.store.modules_state]
    second = state.fit_module_gate()
    assert second is not first
    assert state.is_gate_current()
    assert state.module_gate() is second
    assert len(asked_for) == 1


def test_a_question_fits_the_gate_where_nobody_else_does(bank: Bank, book: list[Example]):
    first = bank.gate()
    teach_west(bank, book)
    assert bank.state.fitted_module_gate() is None
    assert bank.gate() is not first


def test_questions_and_changes_in_the_middle_of_a_fit_do_not_disturb_it(
    bank: Bank, book: list[Example]
):
    alone = bank.state.fit_module_gate()
    assert alone is not None
    bank.texts.clear()
    bank.state._module_gate = None
    bank.looks_up = False
    answers: list[str] = []

    def ask() -> None:
        bank.base.on_pass = None
        with bank.base.bare():
            answers.append(bank.ask(book[5].question).text)
        if len(answers) < 3:
            bank.base.on_pass = ask

    bank.base.on_pass = ask
    try:
        beside = bank.state.fit_module_gate()
    finally:
        bank.base.on_pass = None
    assert answers == [book[5].answer] * 3
    assert isinstance(beside, Gate)
    assert (beside.known, beside.unknown) == (alone.known, alone.unknown)


def test_a_gate_of_a_bank_that_changed_meanwhile_is_not_stored(bank: Bank, book: list[Example]):
    bank.gate()
    bank.texts.clear()
    bank.state._module_gate = None
    before = bank.store.modules_state

    def change() -> None:
        bank.base.on_pass = None
        with bank.base.bare():
            bank.forget("east")
            bank.ask(book[0].question)

    bank.base.on_pass = change
    try:
        bank.state.fit_module_gate()
    finally:
        bank.base.on_pass = None
    assert not bank.state.is_gate_current()
    assert not (bank.store.path / DERIVED / before).exists()
