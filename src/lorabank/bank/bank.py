"""The bank: write, ask, list, roll back, forget; the one object its users hold.

    bank = Bank.create("memory", base="smollm2-135m")
    bank.write("team", ["team.csv"])
    bank.ask("What is the phone number of Hagu Padi?").text

A bank is a folder tied to one base model by content hash (store/). What it derives from its
modules, the text index and the gate, is made on first use and again after each change.
"""

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.ask import N_CANDIDATES
from lorabank.bank.answer.evidence import calibrate_text_gate as calibrate_evidence
from lorabank.bank.answer.excerpts import Excerpts
from lorabank.bank.answer.gate import Gate
from lorabank.bank.answer.gate_calibration import calibrate_module_gate
from lorabank.bank.answer.modes import ADAPTER, check_mode
from lorabank.bank.answer.policy import AnswerContext, Costs, answer, measure_reading_speed
from lorabank.bank.module_reader import CACHE_BYTES, ModuleReader
from lorabank.bank.route.routers import Router, TextRouter
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.bank.write import document_drafts as documents
from lorabank.bank.write import forget as forgetting
from lorabank.bank.write import transfer as portable
from lorabank.bank.write import write as writing
from lorabank.bank.write.document_drafts import DocumentDrafts, DraftOptions
from lorabank.bank.write.drafts import ModuleDraft, draft_from_files
from lorabank.bank.write.forget import ForgetReport
from lorabank.bank.write.write import EXAMPLES, WriteReport
from lorabank.engine.backbone.base import Base, load_base
from lorabank.engine.models.registry import ModelInfo
from lorabank.engine.training.settings import SOUND, TrainSettings
from lorabank.engine.training.train import OnRound, OnStep
from lorabank.errors import UsageError
from lorabank.retrieval.documents import Document
from lorabank.store.check import Damage
from lorabank.store.records import BaseIdentity, Event, Version
from lorabank.store.store import Store
from lorabank.synthesis.generators import Generator
from lorabank.synthesis.inputs import read_sources
from lorabank.synthesis.local import LocalGenerator
from lorabank.synthesis.rounds import OnReply

_RETRIES = 5  # of a question whose module was pruned while it was being read


def identify_base(info: ModelInfo) -> BaseIdentity:
    """A base model as a bank remembers it: by a name that holds in any folder, and its hash."""
    is_local = Path(info.name).exists()
    return BaseIdentity(str(Path(info.name).absolute()) if is_local else info.name, info.sha256)


class Bank:
    """A folder of modules and the base model that reads them. One thread asks at a time."""

    def __init__(
        self, store: Store, base: Base, *, cache_bytes: int = CACHE_BYTES, embeds: bool = True
    ):
        """Args: kept_bytes: of adapters in memory; embeds: False routes by words alone."""
        self.store, self.base = store, base
        self.reader = ModuleReader(store, base, max_bytes=cache_bytes)
        self.texts = ModuleTexts(store, embeds=embeds)
        self.excerpts = Excerpts(self.texts, base)
        self._gate: tuple[int, Gate | None] | None = None
        self._busy = threading.RLock()  # the base is one model with one set of seats

    @classmethod
    def create(cls, path: str | Path, *, base: Base | str = "smollm2-135m") -> "Bank":
        """A new bank in a new or empty folder.

        Raises:
            UsageError: the folder holds something. ModelError: no such base model.
        """
        loaded = load_base(base) if isinstance(base, str) else base
        return cls(Store.create(Path(path), base=identify_base(loaded.info)), loaded)

    @classmethod
    def open(cls, path: str | Path, *, base: Base | str | None = None) -> "Bank":
        """A bank that exists; its base model is loaded unless one is given.

        Raises:
            UsageError: no bank, one of a newer version, or of another base model.
        """
        if base is None:
            with Store.open(Path(path)) as found:
                base = found.base.name
        loaded = load_base(base) if isinstance(base, str) else base
        return cls(Store.open(Path(path), base_sha256=loaded.info.sha256), loaded)

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> "Bank":
        """The bank itself, closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(
        self,
        name: str,
        files: Sequence[str | Path],
        *,
        settings: TrainSettings = SOUND,
        replace: bool = False,
        texts: Sequence[str] = (),
        on_step: OnStep | None = None,
    ) -> WriteReport:
        """Examples out of files into one module.

        Args:
            replace: write a new version of a module that exists; the old one stays until pruned.
            texts: passages the module is to be found by, besides its questions.

        Raises:
            UsageError: a name that is taken or cannot be, a source held elsewhere.
            DataError: a file that cannot be read.
        """
        parcel = draft_from_files(name, [Path(file) for file in files], texts=texts)
        return self.write_all([parcel], settings=settings, replace=replace, on_step=on_step)[0]

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
        """Many modules in one fleet, committed together or not at all.

        Args:
            passes: trainings at most; a further one where passages of documents did not stick.
        """
        with self._busy:
            return writing.write_all(
                self.store,
                self.base,
                drafts,
                settings=settings,
                replace=replace,
                passes=passes,
                on_step=on_step,
                on_round=on_round,
            )

    def write_documents(
        self,
        name: str,
        files: Sequence[str | Path],
        *,
        generator: Generator | None = None,
        options: DraftOptions | None = None,
        settings: TrainSettings = SOUND,
        replace: bool = False,
        passes: int = 2,
    ) -> list[WriteReport]:
        """Documents into a module, or into several: examples are made of them and written.

        Args:
            files: Markdown, text, HTML, PDF, or folders of them.
            generator: writes the examples; None for the base model itself.

        Raises:
            DataError: a file that cannot be read.
            UsageError: a name or a source that is held, or nothing fit to be taught of a document.
            UnavailableError: the generator has stopped answering; what it wrote is kept.
        """
        found = read_sources([Path(file) for file in files])
        options = options or DraftOptions()
        if not replace:
            planned = documents.check_documents(name, found, options)
            writing.check_free(self.store, planned, replace=False)
        material = self.make_drafts(name, found, generator=generator, options=options)
        return self.write_all(material.modules, settings=settings, replace=replace, passes=passes)

    def make_drafts(
        self,
        name: str,
        sources: Sequence[Document],
        *,
        generator: Generator | None = None,
        options: DraftOptions | None = None,
        on_reply: OnReply | None = None,
    ) -> DocumentDrafts:
        """What `write_documents` would write, made and kept but not trained."""
        with self._busy:
            return documents.draft_documents(
                self.store,
                self.base,
                name,
                sources,
                generator=generator or LocalGenerator(self.base),
                options=options or DraftOptions(),
                on_reply=on_reply,
            )

    def ask(
        self,
        question: str,
        *,
        mode: str = ADAPTER,
        n_candidates: int = N_CANDIDATES,
        max_new_tokens: int = 64,
    ) -> Answer:
        """The answer, which module or text gave it and how sure the bank is of that.

        Args: way: one of ways.WAYS, or `auto` for the one that is worth most (policy.py).
        """
        return self.ask_all(
            [question], mode=mode, n_candidates=n_candidates, max_new_tokens=max_new_tokens
        )[0]

    def ask_all(
        self,
        questions: Sequence[str],
        *,
        mode: str = ADAPTER,
        router: Router | None = None,
        gated: bool = True,
        costs: Costs | None = None,
        n_candidates: int = N_CANDIDATES,
        max_new_tokens: int = 64,
    ) -> list[Answer]:
        """Answers to many questions, read in shared batches.

        Args:
            way: one of ways.WAYS, or `auto`.
            router: None for text, dense and lexical together.
            gated: of `adapter`: whether candidates have to convince the gate; else the first one
                answers.
            costs: of `auto`.

        Raises:
            UsageError: text asked of a bank without, a document that does not fit, an unknown way.
        """
        check_mode(mode)
        for attempt in range(_RETRIES):
            generation = self.store.generation
            try:
                with self._busy:
                    return answer(
                        mode,
                        self._given(router or TextRouter(self.texts), costs or Costs()),
                        questions,
                        gated=gated,
                        k=n_candidates,
                        max_new_tokens=max_new_tokens,
                    )
            except UsageError:
                # Perhaps of a module pruned or forgotten since it was found: the bank has changed.
                if attempt + 1 == _RETRIES or self.store.generation == generation:
                    raise
        raise AssertionError("the loop returns or raises")

    def gate(self) -> Gate | None:
        """The gate as the modules are now; None for a bank without examples to fit it on."""
        generation = self.store.generation
        if self._gate is None or self._gate[0] != generation:
            self._gate = (
                generation,
                calibrate_module_gate(self.reader, TextRouter(self.texts), self.texts),
            )
        return self._gate[1]

    def text_gate(self) -> Gate | None:
        """The judge of text as the modules are now; None without examples to fit it on."""
        with self._busy:
            return calibrate_evidence(self.reader, self.excerpts)

    def modules(self) -> list[Version]:
        """The current version of every module."""
        return self.store.currents()

    def show(self, name: str) -> list[Version]:
        """All versions of a module, oldest first."""
        return self.store.versions(name)

    def history(self, name: str | None = None) -> list[Event]:
        return self.store.history(name)

    def verify(self) -> list[Damage]:
        """Every kind of damage to the bank's files; none if it is whole."""
        return self.store.verify()

    def recall(self, name: str) -> float | None:
        """A module's recall measured again; None if it came without examples."""
        with self._busy:
            return forgetting.measure_recall(self.reader, self.store.current(name))

    def rollback(self, name: str, number: int | None = None) -> Version:
        """Make an earlier version current; None for the one before."""
        with self.store.writing(what=f"rollback {name}") as tx:
            return tx.rollback(name, number)

    def prune(self, *, keep: int = 1, name: str | None = None) -> list[tuple[str, int]]:
        """Drop versions older than the newest `keep`, never the current one."""
        with self.store.writing(what="prune") as tx:
            return tx.prune(keep=keep, name=name)

    def forget(self, what: str) -> ForgetReport:
        """Forget a module by its name, or a source by its name or hash, with proof.

        Raises:
            UsageError: neither a module nor a source is called that, or another process writes.
        """
        with self._busy:
            return forgetting.forget(
                self.reader,
                what,
                settings=self._settings_of,
                find=self._likely,
                clear=self.texts.clear,
            )

    def export(self, name: str, folder: str | Path, *, number: int | None = None) -> None:
        """Write a module as a PEFT folder."""
        version = self.store.version(name, number) if number else self.store.current(name)
        portable.export_module(self.store, version, Path(folder))

    def import_(
        self,
        folder: str | Path,
        name: str | None = None,
        *,
        replace: bool = False,
        texts: Sequence[str] = (),
    ) -> Version:
        """Take in a PEFT folder as a module.

        Raises:
            AdapterError: not LoRA, not of this base, a pickle in it.
            UsageError: the name is taken, or a source is held elsewhere.
        """
        return portable.import_module(
            self.store, self.base, Path(folder), name, replace=replace, texts=texts
        )

    @cached_property
    def _ms_per_token(self) -> float:
        return measure_reading_speed(self.base)

    def _given(self, router: Router, costs: Costs) -> AnswerContext:
        return AnswerContext(
            reader=self.reader,
            excerpts=self.excerpts,
            router=router,
            gate=self.gate,
            evidence=self.text_gate,
            find=self.store.current,
            source_of=self._source_of,
            ms_per_token=lambda: self._ms_per_token,
            costs=costs,
        )

    def _likely(self, questions: Sequence[str]) -> list[list[Version]]:
        """The modules text routing names for each question."""
        routed = TextRouter(self.texts).route(questions, N_CANDIDATES)
        return [[self.store.current(c.module) for c in few] for few in routed]

    def _source_of(self, version: Version, question: str) -> str | None:
        if len(version.sources) < 2:
            return version.sources[0].name if version.sources else None
        if EXAMPLES not in version.files:
            return None
        parcel = forgetting.read_draft(self.reader, version)
        best = max(
            parcel.parts,
            key=lambda part: self.texts.text_coverage(
                question, [e.question for e in part.examples]
            ),
        )
        return best.source.name

    def _settings_of(self, version: Version) -> TrainSettings:
        """What a version was trained with."""
        record = self.reader.read_record(version)
        given = dict(record.get("settings", {}))
        for name in ("target_modules", "layers"):
            given[name] = tuple(given[name]) if given.get(name) is not None else None
        return TrainSettings(**given) if record else SOUND
