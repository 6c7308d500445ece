"""The bank: write, ask, list, roll back, forget; the one object its users hold.

    bank = Bank.create("memory", base="smollm2-135m")
    bank.write("team", [("Who leads the team?", "Hagu Padi")])
    bank.ask("Who leads the team?").text

A bank is a folder tied to one base model by content hash (store/). The text index and the gates are
derived from its modules on first use and again after each change.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.asking import answer_questions
from lorabank.bank.answer.conversation import Question
from lorabank.bank.answer.gate import FALSE_ACTIVATIONS, Gate
from lorabank.bank.answer.modes import (
    MAX_NEW_TOKENS,
    N_CANDIDATES,
    READS_FROM,
    AskSettings,
    Costs,
)
from lorabank.bank.answer.state import BankState
from lorabank.bank.drafts import Facts, ModuleDraft, draft_from_facts
from lorabank.bank.fact_book import parse_date
from lorabank.bank.module_reader import CACHE_BYTES
from lorabank.bank.opening import identify_base, load_base_of, load_if_named
from lorabank.bank.route.routers import Router, TextRouter
from lorabank.bank.write import document_drafts as documents
from lorabank.bank.write import forget as forgetting
from lorabank.bank.write import transfer
from lorabank.bank.write import write as writing
from lorabank.bank.write.consolidate import ConsolidateOptions, consolidate
from lorabank.bank.write.document_drafts import DocumentDrafts, DraftOptions
from lorabank.bank.write.forget import ForgetReport
from lorabank.bank.write.given_facts import given_facts, read_given_facts
from lorabank.bank.write.remember import RememberReport, remember
from lorabank.bank.write.shrunk_module import ShrinkReport, shrink_module
from lorabank.bank.write.training import WriteSettings
from lorabank.bank.write.write import WriteReport
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.engine.shrink import ShrinkSettings
from lorabank.engine.training.train import OnRound, OnStep
from lorabank.planning.planner import plan_rank
from lorabank.retrieval.documents import Document
from lorabank.store.check import Damage
from lorabank.store.records import Event, Version
from lorabank.store.store import Store
from lorabank.synthesis.generators import Generator
from lorabank.synthesis.inputs import read_source_documents
from lorabank.synthesis.synthesis_run import OnReply
from lorabank.tasks.examples import ExampleLike


class Bank:
    """A folder of modules and the base model that reads them. One thread asks at a time."""

    def __init__(
        self, store: Store, base: Base, *, cache_bytes: int = CACHE_BYTES, embeds: bool = True
    ):
        """Put a bank together; without `embeds` it is searched by words alone."""
        state = self.state = BankState(store, base, cache_bytes=cache_bytes, embeds=embeds)
        self.store, self.base = store, base
        self.reader, self.texts, self.excerpts = state.reader, state.texts, state.excerpts
        self.costs = Costs()
        """Prices that the mode `auto` weighs; set your own."""
        self.false_activation = FALSE_ACTIVATIONS
        """Share of questions that no module knows which may pass the gate; above 0, below 1."""
        self.looks_up = True
        """Whether `adapter` and `auto` consult the stored examples, beside the modules' weights."""
        self.quotes = base.info.parameters < READS_FROM  # `auto` quotes documents, reads none
        self._busy = threading.RLock()  # the base is one model with one set of adapter slots
        self.reader.check_base()

    @classmethod
    def create(
        cls, path: str | Path, *, base: Base | str = "smollm2-135m", device: str | None = None
    ) -> "Bank":
        """Create a bank in a new or empty folder.

        Args:
            base: a loaded base model, or the name, folder or GGUF file of one.
            device: `cpu` or `cuda`; by default cuda if there is one.

        Raises:
            UsageError: the folder is not empty.
            ModelError: no such base model.
        """
        loaded = load_if_named(base, device)
        return cls(Store.create(Path(path), base=identify_base(loaded.info)), loaded)

    @classmethod
    def open(
        cls, path: str | Path, *, base: Base | str | None = None, device: str | None = None
    ) -> "Bank":
        """Open an existing bank.

        Args:
            base: by default the model that the bank names, if it is on this machine or in our
                catalog; no other is fetched.
            device: `cpu` or `cuda`; by default cuda if there is one.

        Raises:
            UsageError: no bank, one of a newer version, or of another base model.
        """
        base = load_base_of(Path(path), device) if base is None else base
        loaded = load_if_named(base, device)
        return cls(Store.open(Path(path), base_sha256=loaded.info.sha256), loaded)

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> "Bank":
        """Return the bank itself, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(
        self,
        name: str,
        facts: Facts,
        *,
        settings: TrainSettings = SOUND,
        replace: bool = False,
        texts: Sequence[str] = (),
        on_step: OnStep | None = None,
    ) -> WriteReport:
        """Write facts into one module.

        Args:
            facts: files, or `Example`s, (prompt, answer) pairs or dicts of a JSONL line's keys,
                which become one source, named `<name> (in memory)`.
            replace: write a new version of a module that exists; the old one stays until pruned.
            texts: passages by which the module can be found, besides its questions.

        Raises:
            UsageError: a name that is taken or not allowed, a source another module holds.
            DataError: a file or an example that cannot be taught.
        """
        draft = draft_from_facts(name, facts, texts=texts)
        return self.write_all([draft], settings=settings, replace=replace, on_step=on_step)[0]

    def write_all(
        self,
        drafts: Sequence[ModuleDraft],
        *,
        settings: TrainSettings = SOUND,
        replace: bool = False,
        passes: int = 1,
        on_step: OnStep | None = None,
        on_round: OnRound | None = None,
    ) -> list[WriteReport]:
        """Write many modules, trained in one fleet and committed together or not at all."""
        options = WriteSettings(
            settings, replace=replace, passes=passes, on_step=on_step, on_round=on_round
        )
        with self._busy:
            return writing.write_all(self.store, self.base, drafts, options)

    def remember(
        self,
        facts: str | Path | Iterable[str | ExampleLike],
        *,
        key: str = "",
        valid_at: str = "",
    ) -> RememberReport:
        """Store facts, to be answered at once and taught to a module later; no model is asked.

        A fact that is known with another value supersedes that value, by its key.

        Args:
            facts: a sentence, a file as a `Path`, or sentences, pairs, dicts or examples.
            key: what the one fact that is given is known by; by default its question.
            valid_at: date from which the facts hold that name none; by default now.

        Raises:
            DataError: a sentence that no rule reads, or a key that names two facts.
            UsageError: a date that is none or in the future.
        """
        collected = read_given_facts(facts) if isinstance(facts, Path) else given_facts(facts)
        return remember(self.store, collected, key=key, valid_at=valid_at)

    def consolidate(self, options: ConsolidateOptions | None = None) -> list[WriteReport]:
        """Teach pending facts to modules, merge small ones, and remove what holds no longer.

        Raises:
            UsageError: another one is running, or the bank has changed under a step.
        """
        with self._busy:
            return consolidate(self.reader, self.texts, options or ConsolidateOptions())

    def write_documents(
        self,
        name: str,
        files: Sequence[str | Path],
        *,
        generator: Generator | None = None,
        options: DraftOptions | None = None,
        settings: TrainSettings | None = None,
        replace: bool = False,
    ) -> list[WriteReport]:
        """Write documents into a module or several: examples are made of them and trained on.

        Args:
            files: Markdown, text, HTML, PDF, or folders of them.
            generator: writes the examples; None for those that rules make of the text.
            settings: None for our recipe at the rank that is predicted to recall 98 %.

        Raises:
            DataError: a file that cannot be read.
            UsageError: a name or a source that is taken, or a document that gives no example.
            UnavailableError: the generator has stopped answering; its replies so far are kept.
        """
        sources = read_source_documents([Path(file) for file in files])
        options = options or DraftOptions()
        if not replace:
            planned = documents.check_documents(name, sources, options)
            writing.check_free(self.store, planned, replace=False)
        drafts = self.make_drafts(name, sources, generator=generator, options=options)
        if settings is None:
            with self._busy:
                settings = plan_rank(self.base, drafts.fullest.examples, SOUND).settings
        return self.write_all(
            drafts.modules, settings=settings, replace=replace, passes=options.passes
        )

    def make_drafts(
        self,
        name: str,
        sources: Sequence[Document],
        *,
        generator: Generator | None = None,
        options: DraftOptions | None = None,
        on_reply: OnReply | None = None,
    ) -> DocumentDrafts:
        """Make examples of documents as `write_documents` does, without training."""
        with self._busy:
            return documents.draft_documents(
                self.reader,
                name,
                sources,
                generator=generator,
                options=options or DraftOptions(),
                on_reply=on_reply,
            )

    def ask(
        self,
        question: Question,
        *,
        mode: str | None = None,
        n_candidates: int = N_CANDIDATES,
        max_new_tokens: int = MAX_NEW_TOKENS,
        as_of: str | None = None,
        explain: bool = False,
    ) -> Answer:
        """Answer a question, with where the answer comes from and how sure the bank is.

        Args:
            question: a text, or the turns of a conversation as dicts with `role` and `content`.
            mode: one of `modes.MODES`, or `auto`; by default `auto` with documents.
            as_of: a date, to be answered what held then, by the store.
            explain: let all candidates draft, also where one reading of a stored answer would do.
        """
        settings = self._settings(mode, n_candidates=n_candidates, max_new_tokens=max_new_tokens)
        if as_of is not None:
            as_of = parse_date(as_of, option="--as-of", is_end=True)
        return self._ask([question], replace(settings, as_of=as_of, explains=explain))[0]

    def ask_all(
        self,
        questions: Sequence[Question],
        *,
        mode: str | None = None,
        router: Router | None = None,
        gated: bool = True,
        n_candidates: int = N_CANDIDATES,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> list[Answer]:
        """Answer many questions, or conversations, in shared batches.

        Args:
            mode: one of `modes.MODES`, or `auto`; by default `auto` with documents.
            router: names the candidates; None searches the modules' texts by words and meaning.
            gated: whether a candidate has to convince the gate; if not, the first answers.

        Raises:
            UsageError: an unknown mode, or one that needs text of a bank that keeps none.
        """
        settings = self._settings(mode, n_candidates=n_candidates, max_new_tokens=max_new_tokens)
        if router is not None:
            settings = replace(settings, router=router)
        return self._ask(questions, replace(settings, gated=gated))

    def _settings(self, mode: str | None, *, n_candidates: int, max_new_tokens: int) -> AskSettings:
        return AskSettings(
            TextRouter(self.texts),
            mode=mode or self.state.default_mode(),
            looks_up=self.looks_up,
            false_activation=self.false_activation,
            quotes=self.quotes and self.state.keeps_text(),
            n_candidates=n_candidates,
            max_new_tokens=max_new_tokens,
            costs=self.costs,
        )

    def _ask(self, questions: Sequence[Question], settings: AskSettings) -> list[Answer]:
        with self._busy:
            return answer_questions(self.state, questions, settings)

    def gate(self) -> Gate | None:
        """Return the judge of modules; None for a bank without questions to fit it on."""
        with self._busy:
            return self.state.module_gate()

    def text_gate(self) -> Gate | None:
        """Return the judge of text; None for a bank without examples to fit it on."""
        with self._busy:
            return self.state.text_gate()

    def modules(self) -> list[Version]:
        """Return the current version of every module."""
        return self.store.current_versions()

    def show(self, name: str) -> list[Version]:
        """Return all versions of a module, oldest first."""
        return self.store.versions(name)

    def history(self, name: str | None = None) -> list[Event]:
        """Return what was done to the bank or to one module, oldest first."""
        return self.store.history(name)

    def verify(self) -> list[Damage]:
        """Return every kind of damage to the bank's files; none if the bank is whole."""
        return self.store.verify()

    def recall(self, name: str) -> float | None:
        """Measure a module's recall again; None if it was imported without examples."""
        with self._busy:
            return forgetting.measure_recall(self.reader, self.store.current(name))

    def recall_by_rendering(self, name: str) -> dict[str, float]:
        """Measure a module's recall in each form of a question, the chat template's own first."""
        with self._busy:
            return forgetting.measure_recall_by_rendering(self.reader, self.store.current(name))

    def shrink(self, name: str, settings: ShrinkSettings | None = None) -> ShrinkReport:
        """Write a version of a module in the smallest form that is proved to keep its recall.

        Raises:
            UsageError: no such module, or no smaller form that keeps it; nothing was changed.
        """
        with self._busy:
            return shrink_module(self.reader, name, settings or ShrinkSettings())

    def rollback(self, name: str, number: int | None = None) -> Version:
        """Make an earlier version of a module current; None for the one before."""
        with self._busy, self.store.writing(what=f"rollback {name}"[:80]) as tx:
            return tx.rollback(name, number)

    def prune(self, *, keep: int = 1, name: str | None = None) -> list[tuple[str, int]]:
        """Drop versions older than the newest `keep`, never the current one; empty the trash."""
        with self._busy, self.store.writing(what="prune", frees=True) as tx:
            return tx.prune(keep=keep, name=name)

    def forget(self, what: str, *, is_fact: bool = False) -> ForgetReport:
        """Forget a module by name, a source by name or hash, or a fact by question, with proof.

        Raises:
            UsageError: nothing has that name.
        """
        with self._busy:
            return forgetting.forget(self.reader, self.texts, what, is_fact=is_fact)

    def export(self, name: str, folder: str | Path, *, number: int | None = None) -> None:
        """Write a module as a PEFT folder."""
        version = self.store.version(name, number) if number else self.store.current(name)
        transfer.export_module(self.store, version, Path(folder))

    def import_(
        self,
        folder: str | Path,
        name: str | None = None,
        *,
        replace: bool = False,
        texts: Sequence[str] = (),
    ) -> Version:
        """Import a PEFT folder of LoRA for this base model as a module."""
        with self._busy:
            return transfer.import_module(
                self.store, self.base, Path(folder), name, replace=replace, texts=texts
            )
