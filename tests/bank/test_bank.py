"""The bank from end to end on the tiny model: write, ask, rewrite, roll back, forget, move."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.engine.backbone.base import Base
from lorabank.errors import AdapterError, DataError, UsageError
from lorabank.tasks.examples import Example, Message

from .conftest import NAMES, TINY


def write_csv(path: Path, examples: list[Example]) -> Path:
    lines = ["prompt,answer", *(f"{e.question},{e.answer}" for e in examples)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_question_is_answered_by_the_module_that_was_taught_it(
    bank: Bank, book: list[Example]
):
    bank.looks_up = False
    answers = bank.ask_all([example.question for example in book[:12]])
    assert [a.text for a in answers] == [example.answer for example in book[:12]]
    assert [a.module for a in answers] == [name for name in NAMES for _ in range(4)]
    assert answers[0].source == "north.csv"
    assert all(a.p is not None and a.p > 0.5 for a in answers)


def test_unknown_names_are_not_guessed_and_other_questions_go_to_the_bare_model(
    bank: Bank, book: list[Example]
):
    unknown = bank.ask_all([example.question for example in book[12:]])
    assert [a.kind for a in unknown] == ["abstained"] * 4
    assert [a.text for a in unknown] == [""] * 4
    assert bank.ask("Why do leaves fall in October?").kind == "bare"


def test_an_empty_bank_answers_with_the_bare_model(tiny: Base, tmp_path: Path):
    with Bank.create(tmp_path / "empty", base=tiny) as bank:
        answer = bank.ask("Who is there?")
        assert (answer.kind, answer.candidates) == ("bare", ())


def test_a_rewritten_module_answers_anew_and_can_be_rolled_back(bank: Bank, book: list[Example]):
    question, old = book[0].question, book[0].answer
    changed = [Example(book[0].prompt, "999-999-9999"), *book[1:4]]
    report = bank.write_all(
        [draft_from_examples("north", changed, source="new.csv")], settings=TINY, replace=True
    )[0]
    assert (report.version, report.recall) == (2, 1.0)
    assert bank.ask(question).text == "999-999-9999"
    assert bank.rollback("north").number == 1
    answer = bank.ask(question)
    assert (answer.text, answer.version) == (old, 1)
    bank.rollback("north", 2)
    assert bank.prune() == [("north", 1)]
    with pytest.raises(UsageError, match="no version before 2"):
        bank.rollback("north")
    assert bank.verify() == []


def test_forgetting_a_module_proves_it(bank: Bank, book: list[Example]):
    bank.ask(book[0].question)  # so that there is something derived
    proof = bank.forget("north")
    assert (proof.recall_before, proof.recall_after) == (1.0, 0.0)
    assert proof.facts == 4
    assert proof.remaining == ()
    name = book[0].question.removeprefix("What is the phone number of ").rstrip("?")
    left = b"".join(p.read_bytes() for p in bank.store.path.rglob("*") if p.is_file())
    assert name.encode() not in left
    assert bank.ask(book[0].question).kind == "abstained"
    assert bank.ask(book[4].question).module == "south"


def test_forgetting_one_source_writes_the_rest_anew(
    bank: Bank, book: list[Example], tmp_path: Path
):
    first = write_csv(tmp_path / "one.csv", book[12:14])
    second = write_csv(tmp_path / "two.csv", book[14:16])
    bank.write("west", [first, second], settings=TINY)
    assert bank.ask(book[15].question).source == "two.csv"
    proof = bank.forget("one.csv")
    assert (proof.rewritten, proof.kept_recall) == (("west",), 1.0)
    assert (proof.recall_before, proof.recall_after, proof.remaining) == (1.0, 0.0, ())
    assert bank.ask(book[14].question).text == book[14].answer
    assert [s.name for s in bank.store.current("west").sources] == ["two.csv"]
    with pytest.raises(UsageError, match=r"nothing called 'one.csv'"):
        bank.forget("one.csv")


def test_a_protected_module_leaves_the_base_more_as_it_was(bank: Bank, book: list[Example]):
    settings = replace(TINY, exposures=60, until_recall=None)
    plain, with_protection = (
        draft_from_examples(name, part, source=f"{name}.csv")
        for name, part in (("plain", book[12:14]), ("guarded", book[14:16]))
    )
    (bare,) = bank.write_all([plain], settings=settings)
    (protected,) = bank.write_all([with_protection], settings=replace(settings, protect_share=0.5))
    assert protected.kl_to_base_nats < bare.kl_to_base_nats
    record = bank.reader.read_record(bank.store.current("guarded"))
    assert record["settings"]["protect_share"] == 0.5


def test_what_is_held_is_not_written_twice(bank: Bank, book: list[Example], tmp_path: Path):
    with pytest.raises(UsageError, match="'north' exists"):
        bank.write_all([draft_from_examples("north", book[12:], source="x")], settings=TINY)
    with pytest.raises(UsageError, match=r"already held by module 'north'"):
        bank.write_all([draft_from_examples("fresh", book[:4], source="other name")], settings=TINY)
    path = write_csv(tmp_path / "a.csv", book[12:14])
    copy = write_csv(tmp_path / "b.csv", book[12:14])
    with pytest.raises(DataError, match="hold the same bytes"):
        bank.write("fresh", [path, copy], settings=TINY)
    overlap = write_csv(tmp_path / "c.csv", book[13:15])
    with pytest.raises(DataError, match="both ask"):
        bank.write("fresh", [path, overlap], settings=TINY)
    assert bank.store.names() == sorted(NAMES)


def test_a_module_moves_to_another_bank_and_keeps_its_ways(
    bank: Bank, tiny: Base, book: list[Example], tmp_path: Path
):
    bank.export("north", tmp_path / "north")
    with Bank.create(tmp_path / "other", base=tiny) as other:
        other.texts = bank.texts.__class__(other.store, embeds=False)
        assert other.import_(tmp_path / "north").number == 1
        assert other.recall("north") == 1.0
        answer = other.ask(book[0].question)
        assert (answer.text, answer.source) == (book[0].answer, "north.csv")
        with pytest.raises(UsageError, match="already held by module 'north'"):
            other.import_(tmp_path / "north", "again")


def test_imports_that_are_refused(bank: Bank, tmp_path: Path):
    bank.export("north", tmp_path / "north")
    (tmp_path / "north" / "weights.bin").write_bytes(b"x")
    with pytest.raises(AdapterError, match=r"weights.bin, a pickle"):
        bank.import_(tmp_path / "north", "fresh")
    with pytest.raises(AdapterError, match="is not a folder"):
        bank.import_(tmp_path / "nowhere", "fresh")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AdapterError, match=r"no adapter_config.json"):
        bank.import_(empty, "fresh")
    assert "fresh" not in bank.store.names()


def test_questions_that_cannot_be_asked(bank: Bank):
    with pytest.raises(UsageError, match="the question is empty"):
        bank.ask("  ")
    with pytest.raises(DataError, match="does not fit"):
        bank.ask("word " * 3000)


def test_an_answer_ends_where_the_context_does(bank: Bank, monkeypatch: pytest.MonkeyPatch):
    # The hook sees what goes through transformers' modules only.
    monkeypatch.setattr("lorabank.engine.inference.running_batch.token_step", lambda _: None)
    seen: list[int] = []
    hook = bank.base.model.get_decoder().register_forward_hook(
        lambda _, __, output: seen.append(output.past_key_values.get_seq_length())
    )
    room = bank.base.max_tokens - 20

    def n_tokens(question: str) -> int:
        return len(bank.base.chat.prompt_ids([Message("user", question)]))

    question = "b"
    while n_tokens(f"{question} b") <= room:
        question += " b"
    answers = [bank.ask(question, max_new_tokens=200)]
    answers += bank.ask_all([question], gated=False, max_new_tokens=200)
    hook.remove()
    assert any(answer.text for answer in answers)
    assert room < max(seen) <= bank.base.max_tokens


def test_a_damaged_adapter_is_an_error_that_names_it(bank: Bank, book: list[Example]):
    version = bank.store.current("north")
    bank.store.path_of(version, "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(AdapterError, match=r"adapter_model.safetensors of module 'north'"):
        bank.ask(book[0].question)
    assert [d.kind for d in bank.verify()] == ["altered"]


def test_a_failed_write_leaves_the_bank_as_it_was(bank: Bank, book: list[Example]):
    before = bank.store.generation
    with pytest.raises(UsageError, match="two modules would be called 'twice'"):
        bank.write_all(
            [draft_from_examples("twice", book[12:14]), draft_from_examples("twice", book[14:])],
            settings=TINY,
        )
    assert bank.store.generation == before
    assert bank.verify() == []


def test_a_bank_is_opened_on_a_device_by_the_base_it_names(written: Path, book: list[Example]):
    with Bank.open(written, device="cpu") as bank:
        assert bank.base.device.type == "cpu"
        assert bank.recall("north") == 1.0
