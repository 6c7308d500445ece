"""Mode `auto`: what each mode is worth, which one is chosen, and when nothing is answered."""

from dataclasses import replace

import pytest

from lorabank.bank.answer import evidence
from lorabank.bank.answer.evidence import Evidence, weigh_evidence
from lorabank.bank.answer.modes import AskSettings, Costs
from lorabank.bank.answer.policy import _GateRouter, _Worth
from lorabank.bank.bank import Bank
from lorabank.bank.route.routers import TextRouter
from lorabank.errors import UsageError
from lorabank.store.derived import read_derived
from lorabank.tasks.examples import Example, from_pair

N = 8
TOLD = "What did Siv Kolbe carry on every road?"
EVIDENCE = Evidence(unexplained=-5.0, support=1.0, similarity=0.5, coverage=0.8, n_tokens=100)


@pytest.fixture
def library(library: Bank) -> Bank:
    """A bank that weighs modules against text; its stored examples hold all answers.

    Its base reads text itself, though it is small.
    """
    library.looks_up = False
    library.quotes = False
    return library


@pytest.fixture
def bank(bank: Bank) -> Bank:
    """A bank whose modules answer by their weights alone."""
    bank.looks_up = False
    return bank


def test_an_option_is_worth_its_probability_less_its_price():
    costs = Costs(per_1000_tokens=0.1, per_second=0.2, per_load=0.01)
    option = costs.option("rag", 0.9, tokens=500, ms=250, loads=2)
    assert option.cost == pytest.approx(0.05 + 0.05 + 0.02)
    assert option.value == pytest.approx(0.78)


@pytest.mark.parametrize(
    "wrong", [{"per_load": -1.0}, {"least_worth": 1.5}, {"enough_worth": -0.1}]
)
def test_prices_that_cannot_be_are_refused(wrong: dict[str, float]):
    with pytest.raises(
        UsageError, match=r"prices must be 0 or more, least_worth and enough_worth 0\.\.1"
    ):
        Costs(**wrong)


def test_what_a_module_knows_is_left_to_it_and_costs_no_text(library: Bank, book: list[Example]):
    answers = library.ask_all([example.question for example in book[:4]], mode="auto")
    assert [a.text for a in answers] == [example.answer for example in book[:4]]
    for answer in answers:
        assert (answer.mode, answer.used, answer.module) == ("auto", "adapter", "north")
        assert answer.choice is not None
        assert [option.mode for option in answer.choice.options] == ["adapter"]
        assert answer.prompt_tokens == library.ask(answer.question).prompt_tokens


def test_a_stored_question_that_is_not_sure_enough_is_on_the_banks_topic(
    library: Bank, book: list[Example]
):
    library.looks_up, library.costs = True, Costs(least_worth=1.0)
    answer = library.ask(book[0].question, mode="auto", max_new_tokens=N)
    assert (answer.kind, answer.text, answer.is_confirmed) == ("abstained", "", False)
    assert answer.choice is not None
    assert answer.choice.reason == "nothing is worth 1: the bank does not know"


def test_what_is_only_told_in_text_is_read(library: Bank):
    library.costs = Costs(least_worth=0.0)
    answer = library.ask(TOLD, mode="auto", max_new_tokens=N)
    assert answer.choice is not None
    modes = [option.mode for option in answer.choice.options]
    assert set(modes) == {"rag", "icl"}
    assert answer.used == modes[0]
    assert answer.text == library.ask(TOLD, mode=modes[0], max_new_tokens=N).text
    assert answer.citations
    assert "worth" in answer.choice.reason
    read = library.ask(TOLD, mode=modes[0], max_new_tokens=N).prompt_tokens
    assert answer.prompt_tokens > read  # the sentences that were weighed count too


def test_a_document_shorter_than_the_passages_is_read_whole(library: Bank):
    library.costs = Costs(least_worth=0.0)
    answer = library.ask(TOLD, mode="auto", max_new_tokens=N)
    assert answer.choice is not None
    tokens = {option.mode: option.tokens for option in answer.choice.options}
    assert answer.used == min(tokens, key=lambda mode: tokens[mode])


def test_both_is_weighed_where_a_module_convinces_but_has_not_learnt_all(library: Bank):
    ask_settings = AskSettings(TextRouter(library.texts), max_new_tokens=N)
    worth = _Worth(library.state, ask_settings, None, 1.0)
    (excerpts,) = library.excerpts.search([TOLD])
    half = ask_settings.costs.option("adapter", 0.5, tokens=30, ms=30, loads=0)
    options = worth.weigh_all(library.ask(TOLD), half, excerpts, EVIDENCE)
    p = {option.mode: option.p for option in options}
    assert p == {"adapter": 0.5, "rag": 0.8, "icl": 0.8, "adapter+rag": pytest.approx(0.9)}
    assert options[0].mode == "adapter+rag"
    sure = ask_settings.costs.option("adapter", 0.999, tokens=30, ms=30, loads=0)
    assert worth.weigh_all(library.ask(TOLD), sure, excerpts, EVIDENCE)[0] == sure


def test_the_module_that_convinced_the_gate_reads_the_text(library: Bank, book: list[Example]):
    answer = library.ask(book[0].question)
    assert {scored.candidate.module for scored in answer.candidates} == {"north", "rolls"}
    (candidates,) = _GateRouter({answer.question: answer}).route([answer.question], 1)
    assert [candidate.module for candidate in candidates] == ["north"]


def test_too_dear_or_unlikely_is_not_answered(library: Bank, book: list[Example]):
    library.costs = Costs(per_1000_tokens=100.0)
    answer = library.ask(TOLD, mode="auto")
    assert (answer.kind, answer.text, answer.citations) == ("abstained", "", ())
    assert answer.choice is not None
    assert answer.choice.reason == "nothing is worth 0.4: the bank does not know"
    library.costs = Costs()
    unknown = library.ask(book[12].question, mode="auto")
    assert (unknown.kind, unknown.used) == ("abstained", "none")


def test_what_is_not_like_the_bank_goes_to_the_bare_model(library: Bank):
    question = "Why do leaves fall in October?"
    answer = library.ask(question, mode="auto", max_new_tokens=16)
    assert answer.kind == "bare"
    assert answer.text == library.ask(question, mode="none", max_new_tokens=16).text


def test_a_bank_without_text_is_asked_as_ever(bank: Bank, book: list[Example]):
    assert bank.text_gate() is None
    answer = bank.ask(book[0].question, mode="auto")
    assert (answer.text, answer.used) == (book[0].answer, "adapter")
    assert bank.ask(book[12].question, mode="auto").kind == "abstained"


def test_evidence_is_judged_by_the_banks_own_examples_and_kept(library: Bank):
    gate = library.text_gate()
    assert gate is not None
    assert gate.questions == 12
    assert gate.weights[0] > 0
    generation = library.store.modules_state
    stored = read_derived(library.store.path, generation, "evidence-by-words")
    assert stored
    assert library.text_gate() == gate
    assert read_derived(library.store.path, generation, "evidence-by-words") == stored


def test_too_few_examples_judge_nothing(library: Bank, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evidence, "FEWEST_CASES", 13)
    assert library.text_gate() is None
    (covered,) = library.ask_all(
        ["On every road Siv Kolbe carried a lantern."], mode="auto", max_new_tokens=N
    )
    assert covered.used in ("rag", "icl")
    (barely,) = library.ask_all(["Was Siv Kolbe ever rich or famous abroad?"], mode="auto")
    assert barely.kind == "abstained"


def test_a_sentence_that_says_it_supports_more_than_one_on_another_matter(library: Bank):
    stated = "In which town was Siv Kolbe born?"
    not_stated = "Which river runs past Siv Kolbe?"
    excerpts = library.excerpts.search([stated, not_stated])
    with_answer, without_answer = weigh_evidence(
        library.reader, library.excerpts, [stated, not_stated], excerpts
    )
    assert isinstance(with_answer, Evidence)
    assert isinstance(without_answer, Evidence)
    assert with_answer.coverage > without_answer.coverage
    assert with_answer.n_tokens > 3 * library.excerpts.count_tokens(stated)


def test_only_a_sentence_with_the_answer_and_the_matter_tells(library: Bank):
    (excerpts,) = library.excerpts.search(["What was the trade of Siv Kolbe?"])
    trades = next(e for e in excerpts if e.chunk.document.name == "trades.md")
    tells = evidence._contains_answer
    assert tells(trades, from_pair("What was the trade of Siv Kolbe?", "tanner"))
    assert not tells(trades, from_pair("What was the trade of Siv Kolbe?", "tan"))
    assert not tells(trades, from_pair("What was the wage of Nobody?", "tanner"))


def test_choices_are_explained_in_json(library: Bank):
    answer = library.ask(TOLD, mode="auto", max_new_tokens=N)
    choice = answer.as_json(explain=True)["choice"]
    assert set(choice["options"][0]) == {"mode", "p", "tokens", "ms", "loads", "cost", "value"}
    assert "choice" not in answer.as_json()
    assert replace(answer, choice=None).as_json(explain=True)["choice"] is None
