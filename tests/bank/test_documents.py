"""Documents into modules: what is made, held out, measured, kept, and forgotten again."""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import DraftPassage, ModuleDraft, draft_from_examples
from lorabank.bank.opening import identify_base
from lorabank.bank.stored_text import (
    DOCUMENTS,
    decode_documents,
    encode_documents,
    load_documents,
)
from lorabank.bank.write.document_drafts import (
    CACHE,
    ONE_MODULE_EXAMPLES,
    DraftOptions,
    plan_modules,
)
from lorabank.bank.write.held_out import hold_out
from lorabank.bank.write.passages import (
    MOST_WRITTEN,
    judge_passages,
    read_held_out,
    score_written_answers,
)
from lorabank.bank.write.write import WriteReport
from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.errors import AdapterError, UnavailableError, UsageError
from lorabank.planning.planner import RankPlan
from lorabank.retrieval.documents import document_from_text, read_documents
from lorabank.store.store import Store
from lorabank.synthesis.endpoint import Endpoint, RetryPolicy
from lorabank.synthesis.item_checks import HeldOutQuestions
from lorabank.synthesis.results import MadeExample
from lorabank.tasks.examples import Example, from_pair
from tests.synthesis.chat_server import Fault, Server, serving
from tests.synthesis.fact_documents import THINGS, country, word

from .conftest import TINY

QUICK = dataclasses.replace(TINY, exposures=2, until_recall=None)
QA = DraftOptions(formats="qa:6")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def generator(server: Server, **patience: float) -> Endpoint:
    policy = RetryPolicy(retries=0, first_wait_s=0.01, **patience)  # type: ignore[arg-type]
    return Endpoint("small", base_url=server.url, key="k", workers=1, retry_policy=policy)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for i in range(3):
        (folder / f"{word(i)}.md").write_text(f"# On {word(i)}\n\n## Facts\n\n{country(i)}\n")
    return folder


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank with two documents in one module; copy it before changing it."""
    from lorabank.engine.backbone.base import load_info
    from lorabank.engine.models.registry import find_model

    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    top = tmp_path_factory.mktemp("documents")
    (top / "docs").mkdir()
    for i in range(2):
        (top / "docs" / f"{word(i)}.md").write_text(f"# On {word(i)}\n\n{country(i)}\n")
    with serving() as server, Bank.create(top / "bank", base=base) as bank:
        bank.write_documents(
            "lands", [top / "docs"], generator=generator(server), options=QA, settings=TINY
        )
    return top / "bank"


@pytest.fixture
def bank(made: Path, tiny: Base, tmp_path: Path) -> Bank:
    shutil.copytree(made, tmp_path / "bank")
    return Bank(Store.open(tmp_path / "bank"), tiny, embeds=False)


@pytest.fixture
def empty(tiny: Base, tmp_path: Path) -> Bank:
    store = Store.create(tmp_path / "empty", base=identify_base(tiny.info))
    return Bank(store, tiny, embeds=False)


def test_documents_become_a_module_that_is_measured_on_what_it_was_not_taught(bank: Bank):
    version = bank.store.current("lands")
    assert [source.name for source in version.sources] == [f"{word(i)}.md" for i in (0, 1)]
    record = version.record
    assert (record["recall"], record["facts"], record["passages"]) == (1.0, 8, 2)
    assert (record["held_out"]["questions"], record["held_out"]["written"]) == (4, 4)
    assert {"gain_nats", "token_f1", "token_f1_bare"} <= set(record["held_out"])
    assert [one["kept"] for one in record["passes"]] == [True]
    taught = {example.question for example in bank.reader.read_draft(version).examples}
    held_out = {
        f"What is the {thing} of {word(i)}?" for thing in THINGS[:6] for i in (0, 1)
    } - taught
    assert (len(taught), len(held_out)) == (8, 4)
    question = sorted(taught)[0]
    answer = bank.ask(question)
    assert (answer.module, answer.source) == ("lands", f"{question.split()[-1][:-1]}.md")


def test_text_is_kept_with_the_module_unless_it_is_not_to_be(
    bank: Bank, empty: Bank, server: Server, docs: Path
):
    stored = load_documents(bank.store, bank.store.current("lands"))
    for i, document in enumerate(stored):
        assert document.text.strip().endswith(country(i))
    assert len(stored) == 2
    assert {key.kind for key in bank.store.keys(bank.store.current("lands"))} == {
        "text",
        "question",
    }
    options = dataclasses.replace(QA, with_text=False, passes=1)
    empty.write_documents(
        "bare", [docs], generator=generator(server), options=options, settings=QUICK
    )
    version = empty.store.current("bare")
    assert DOCUMENTS not in version.files
    assert load_documents(empty.store, version) == []
    assert {key.kind for key in empty.store.keys(version)} == {"question"}


def test_kept_documents_come_back_as_they_were(docs: Path):
    documents = read_documents([docs])
    documents.append(
        document_from_text("odd.txt", "A line\u2028with another end.\n\nAnd \u201cquotes\u201d.")
    )
    assert decode_documents(encode_documents(documents)) == documents


def test_forgetting_a_document_takes_its_text_and_what_was_made_of_it(bank: Bank):
    gone, stays = f"{word(0)}.md", f"{word(1)}.md"
    cache = bank.store.path / "derived" / CACHE
    assert word(100).encode() in cache.read_bytes()
    proof = bank.forget(gone)
    assert not cache.exists()
    assert (proof.rewritten, proof.remaining) == (("lands",), ())
    version = bank.store.current("lands")
    assert [source.name for source in version.sources] == [stays]
    assert [document.name for document in load_documents(bank.store, version)] == [stays]
    texts = [key.text for key in bank.store.keys(version) if key.kind == "text"]
    assert len(texts) == 1
    assert word(1) in texts[0]
    left = b"".join(p.read_bytes() for p in bank.store.path.rglob("*") if p.is_file())
    for secret in (word(0), word(100)):  # the country, and the answer to its first question
        assert secret.encode() not in left
    assert word(1).encode() in left
    assert bank.verify() == []


def test_documents_go_with_a_module_that_is_exported_rolled_back_or_pruned(
    bank: Bank, server: Server, docs: Path, tmp_path: Path
):
    bank.export("lands", tmp_path / "out")
    before = load_documents(bank.store, bank.store.current("lands"))
    assert bank.import_(tmp_path / "out", replace=True, name="lands").number == 2
    assert load_documents(bank.store, bank.store.current("lands")) == before
    assert bank.store.current("lands").record["held_out"]["questions"] == 4
    assert load_documents(bank.store, bank.rollback("lands")) == before
    bank.prune()
    assert bank.verify() == []
    (tmp_path / "out" / DOCUMENTS).write_text('{"name": "half"}\n')
    with pytest.raises(AdapterError, match="do not describe a module"):
        bank.import_(tmp_path / "out", "other")


def test_a_write_that_was_broken_off_asks_nothing_twice(empty: Bank, docs: Path):
    with serving() as server:
        server.faults.extend([Fault(), *[Fault(status=500)] * 3])
        with pytest.raises(UnavailableError, match=r"does not answer.*what was finished is kept"):
            empty.write_documents("lands", [docs], generator=generator(server), options=QA)
        n_dead = len(server.requests)
        assert empty.store.names() == []
        server.faults.clear()
        drafts = empty.make_drafts("lands", read_documents([docs]), generator=generator(server),
                              options=QA)  # fmt: skip
        assert (drafts.synthesis.cached_replies, drafts.synthesis.calls) == (1, 2)
        assert len(server.requests) == n_dead + 2


def test_what_is_held_out_is_neither_taught_nor_nearly_taught():
    def make(i: int, format: str = "qa", prompt: str = "") -> MadeExample:
        question = prompt or f"What is the {THINGS[i % 8]} of {word(i)} in the old chronicle?"
        return MadeExample(question, f"answer {i}", format, f"doc {i % 3}", "", 0, 9)

    near = [
        make(i, prompt=f"What is the {THINGS[i % 8]} of {word(i)} in the old chronicle, please?")
        for i in range(8)
    ]
    variants = [make(i, "paraphrase", f"Which {word(i)} {i}?") for i in range(24)]
    made = [make(0, "original"), *map(make, range(24)), *near, *variants]
    split = hold_out(made, seed=0)
    assert len(split.held_out) == 5  # one in six of 32
    held = HeldOutQuestions([question.prompt for question in split.held_out])
    assert not [t for t in split.taught if t.format == "qa" and held.find_match(t.prompt)]
    answers = {question.answer for question in split.held_out}
    assert not [t for t in split.taught if t.format == "paraphrase" and t.answer in answers]
    assert len(split.taught) == len(made) - 2 * 5
    assert hold_out(made, seed=0) == split
    assert hold_out(made, seed=1) != split


@pytest.mark.parametrize(("n", "held"), [(1, 0), (2, 1), (7, 3), (8, 4), (24, 4), (60, 10)])
def test_a_share_is_held_out(n: int, held: int):
    made = [MadeExample(f"What is {word(i)}?", word(i), "qa", "d", "", i, i + 1) for i in range(n)]
    assert len(hold_out(made, seed=0).held_out) == held


def test_modules_are_planned_by_the_number_of_examples():
    small, large = {"a": 10, "b/c": 20}, {"a": ONE_MODULE_EXAMPLES, "b/c": 1}
    assert plan_modules("m", small, "auto") == {"m": ["a", "b/c"]}
    assert plan_modules("m", large, "auto") == {"m-a": ["a"], "m-b-c": ["b/c"]}
    counts = {"a": 60, "b": 10, "c": 10, "d": 10, "e": 30}
    assert list(plan_modules("m", counts, "2").values()) == [["a"], ["b", "c", "d", "e"]]
    assert list(plan_modules("m", counts, "5").values()) == [[name] for name in counts]
    assert list(plan_modules("m", counts, "3").values()) == [["a"], ["b", "c", "d"], ["e"]]
    with pytest.raises(UsageError, match=r"--modules 3: .* there are 2; give 1\.\.2"):
        plan_modules("m", small, "3")


def test_the_rank_is_planned_for_the_fullest_module_unless_settings_are_given(
    empty: Bank, server: Server, docs: Path, monkeypatch: pytest.MonkeyPatch
):
    planned_for: list[int] = []

    def plan_rank(_: Base, examples: Sequence[Example], settings: TrainSettings) -> RankPlan:
        planned_for.append(len(examples))
        assert settings == SOUND
        return RankPlan(dataclasses.replace(QUICK, r=2), None)

    monkeypatch.setattr("lorabank.bank.bank.plan_rank", plan_rank)
    options = dataclasses.replace(QA, passes=1)
    (report,) = empty.write_documents("lands", [docs], generator=generator(server), options=options)
    assert planned_for == [report.facts]
    assert empty.store.current("lands").record["r"] == 2
    empty.write_documents(
        "lands", [docs], generator=generator(server), options=options, settings=QUICK, replace=True
    )
    assert empty.store.current("lands").record["r"] == QUICK.r
    assert len(planned_for) == 1


def test_one_module_for_each_document(empty: Bank, server: Server, docs: Path):
    options = dataclasses.replace(QA, modules="per-document", passes=1)
    reports = empty.write_documents(
        "m", [docs], generator=generator(server), options=options, settings=QUICK
    )
    assert [r.module for r in reports] == [f"m-{p.name}" for p in sorted(docs.iterdir())]
    assert sum(r.held_out["questions"] for r in reports if r.held_out) == 4
    with pytest.raises(UsageError, match="is already held by module"):
        empty.write_documents("other", [docs], generator=generator(server), options=QA)


def test_a_users_own_questions_are_asked_of_the_passage_that_has_the_answer(
    empty: Bank, server: Server, docs: Path
):
    own_questions = [
        from_pair(f"What is the river of {word(1)}?", word(111)),
        from_pair(f"What is the lake of {word(2)}?", "unknown"),
    ]
    options = dataclasses.replace(QA, held_out=tuple(own_questions), modules="per-document")
    drafts = empty.make_drafts(
        "m", read_documents([docs]), generator=generator(server), options=options
    )
    held = {
        passage.document: passage.held_out for draft in drafts.modules for passage in draft.passages
    }
    assert held == {
        f"{word(0)}.md": (),
        f"{word(1)}.md": (own_questions[0],),
        f"{word(2)}.md": (own_questions[1],),
    }
    taught = [e.question for draft in drafts.modules for e in draft.examples]
    assert own_questions[0].question not in taught
    assert Counter(refusal.reason for refusal in drafts.synthesis.refused)[
        "a question kept for measuring"
    ]


def test_documents_that_contradict_each_other_are_both_named(empty: Bank, tmp_path: Path):
    for name, lake in (("one", "Baba"), ("two", "Cece")):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\nThe lake of Didi is {lake}.\n")
    with serving() as server:
        drafts = empty.make_drafts(
            "m",
            read_documents([tmp_path / "one.md", tmp_path / "two.md"]),
            generator=generator(server),
            options=DraftOptions(formats="qa:1"),
        )
    (contradiction,) = drafts.synthesis.contradictions
    assert (contradiction.answers, contradiction.sources) == (("Baba", "Cece"), ("“one”", "“two”"))


def test_two_documents_of_one_name_are_refused(empty: Bank, docs: Path, tmp_path: Path):
    other = tmp_path / "more" / f"{word(0)}.md"
    other.parent.mkdir()
    other.write_text("Something else.")
    with pytest.raises(UsageError, match=r"2 documents are called '.*'; give the folder above"):
        empty.write_documents("m", [docs, other])


def reading(recalled: bool) -> AnswerReading:
    return AnswerReading(recalled, 1.0, 0.5, 0.0, None if recalled else 0)


@pytest.mark.parametrize(
    ("hits", "gains", "stuck"),
    [
        ([1, 0], [], True),
        ([1, 0, 0], [], False),
        ([1, 1], [0.2, -0.1], True),
        ([1, 1], [0.0], False),
        ([], [1.0], False),
    ],
)
def test_a_passage_sticks_by_recall_and_by_what_was_held_out(
    hits: Sequence[int], gains: Sequence[float], stuck: bool
):
    held_out = tuple(from_pair(f"q{i}", "a") for i in range(len(gains)))
    passage = DraftPassage("d", "h", "w", tuple(range(len(hits))), held_out)
    (verdict,) = judge_passages(
        ModuleDraft("p", (), passages=(passage,)), [reading(bool(h)) for h in hits], gains
    )
    assert verdict.has_stuck is stuck


def test_no_more_answers_are_written_out_than_stated(tiny: Base):
    def draft_of(name: str, n: int) -> ModuleDraft:
        held_out = tuple(from_pair(f"{name} {i}?", "a") for i in range(n))
        return ModuleDraft(name, (), passages=(DraftPassage("d", "", "w", (), held_out),))

    held_out = read_held_out(
        tiny, [draft_of("a", 96), draft_of("b", 32), draft_of("c", 0)], activated=True
    )
    with Fleet(tiny, paths=list(tiny.linears), r=2, width=3) as fleet:
        scores = score_written_answers(tiny, fleet, held_out)
    assert [len(own) for _, own in scores] == [MOST_WRITTEN * 3 // 4, MOST_WRITTEN // 4, 0]
    assert all(bare == own for bare, own in scores)  # an adapter of zeros says what the base does


def test_examples_have_no_passages_and_say_so(empty: Bank):
    draft = draft_from_examples("x", [from_pair("q?", "a")])
    (report,) = empty.write_all([draft], settings=QUICK)
    assert isinstance(report, WriteReport)
    assert (report.passages, report.not_stuck, report.held_out, report.passes) == (0, (), None, ())
