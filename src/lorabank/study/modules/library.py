"""A library: the documents of a task written into the modules of a bank, and their questions.

Phone books are drawn by the cell's seed, and the questions are the facts that were taught. PaperQA
teaches a paper's forty training questions and asks its thirty others; SQuAD passages teach and ask
their own questions. The data of the last two are files (LORABANK_DATA).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import ModuleDraft, draft_from_examples
from lorabank.bank.write.training import WriteSettings
from lorabank.bank.write.write import write_all
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings, settings_for
from lorabank.engine.training.train import OnRound
from lorabank.errors import UsageError
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.study.axes import ONE_RENDERING
from lorabank.study.data_folder import data_folder
from lorabank.study.modules.axes import ModulesAxes
from lorabank.tasks.datasets import paperqa, squad
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import sectors

_ENOUGH_RECALL = 0.98  # of a module's facts, where training ends with recall


@dataclass(frozen=True, slots=True)
class TaughtDocument:
    """A document, as the examples taught of it and the questions asked about it."""

    teaches: tuple[Example, ...]
    asks: tuple[Example, ...]
    passages: tuple[str, ...] = ()
    """Texts by which a router finds the document; empty where it goes by the examples."""


@dataclass(frozen=True, slots=True)
class LibraryQuestion:
    """A question that every cell of a library asks."""

    example: Example
    document: int
    module: str
    """Name of the module that was taught its document."""


@dataclass(frozen=True, slots=True)
class ModuleLibrary:
    """A bank whose modules are trained, and its questions."""

    bank: Bank
    module_names: tuple[str, ...]
    questions: tuple[LibraryQuestion, ...]
    settings: TrainSettings


def read_documents(axes: ModulesAxes) -> list[TaughtDocument]:
    """Return the documents of a cell, drawn or read from files.

    Raises:
        UsageError: the cell has more documents than there are, or there is no data folder.
        DataError: files that are missing or damaged.
    """
    n_documents, n_facts = axes.documents, axes.facts
    if axes.task == "phonebook":
        books = sectors.build(n_documents * n_facts, n_documents, seed=axes.seed)
        return [TaughtDocument(book, book) for book in books]
    if axes.task == "paperqa":
        papers = paperqa.read_papers(data_folder("paperqa"), with_prefix=axes.prefix)
        documents = [
            TaughtDocument(paper.train[:n_facts], paper.test, (paper.title, paper.introduction))
            for paper in papers
        ]
    else:
        passages = squad.read_passages(data_folder("squad") / "passages.jsonl")
        documents = [
            TaughtDocument(p.questions[:n_facts], p.questions[:n_facts], (p.text,))
            for p in passages
            if len(p.questions) >= n_facts
        ]
    if len(documents) < n_documents:
        raise UsageError(
            f"{axes.task} has {len(documents)} documents with {n_facts} examples, got documents="
            f"{n_documents}; ask for fewer documents or facts"
        )
    return documents[:n_documents]


def settings_of(base: Base, axes: ModulesAxes) -> TrainSettings:
    """Return a cell's axes as settings of the engine."""
    layers: tuple[int, ...] | str = "all"
    if axes.layers != "all":
        layers = tuple(parse_layers(axes.layers, n_layers(base.linears)))
    budget: dict[str, Any] = {"exposures": axes.n_exposures, "schedule": "cosine"}
    if axes.n_exposures is None:
        budget = {"until_recall": _ENOUGH_RECALL}
    return settings_for(
        "sound",
        target_modules=tuple(axes.target_modules.split(",")),
        layers=layers,
        r=axes.r,
        lr=axes.lr,
        batch_size=axes.batch_size,
        activated=axes.activated,
        seed=axes.seed,
        **ONE_RENDERING,
        **budget,
    )


def open_library(
    base: Base, axes: ModulesAxes, folder: Path, *, on_round: OnRound | None = None
) -> ModuleLibrary:
    """Return the library of a cell, trained into `folder` unless it is there already."""
    documents, n_modules = read_documents(axes), axes.modules
    share = len(documents) // n_modules
    names = tuple(f"module-{i:02d}" for i in range(n_modules))
    drafts = [_draft(name, documents[i * share : (i + 1) * share]) for i, name in enumerate(names)]
    settings = settings_of(base, axes)
    if (folder / "bank").exists():
        bank = Bank.open(folder / "bank", base=base)
    else:
        bank = Bank.create(folder / "bank", base=base)
    bank.looks_up = False  # what is studied are weights
    if not bank.modules():  # writing is atomic: all modules or none
        options = WriteSettings(settings, one_seed=axes.one_seed, on_round=on_round)
        write_all(bank.store, base, drafts, options)
    questions = [
        LibraryQuestion(example, number, names[number // share])
        for number, document in enumerate(documents)
        for example in document.asks
    ]
    return ModuleLibrary(bank, names, tuple(questions), settings)


def _draft(name: str, documents: Sequence[TaughtDocument]) -> ModuleDraft:
    examples = [example for document in documents for example in document.teaches]
    passages = [passage for document in documents for passage in document.passages]
    return draft_from_examples(name, examples, source=name, texts=passages)
