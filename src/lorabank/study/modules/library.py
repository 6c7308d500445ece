"""A library: the documents of a task written into the modules of a bank, and what is asked of them.

Phone books are drawn by the cell's seed and asked what was taught. PaperQA teaches a paper's forty
training questions and asks its thirty others; SQuAD passages teach and ask their own questions.
The data of the last two are files (LORABANK_DATA), never part of this project.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.bank.bank import Bank
from lorabank.bank.write.drafts import ModuleDraft, draft_from_examples
from lorabank.engine.backbone.base import Base
from lorabank.engine.training.settings import TrainSettings, settings_for
from lorabank.engine.training.train import OnRound
from lorabank.errors import UsageError
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.study.modules.axes import exposures
from lorabank.tasks.datasets import paperqa, squad
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import sectors

DATA = "LORABANK_DATA"
_LEARNT = 0.98  # of a module's facts


@dataclass(frozen=True, slots=True)
class Document:
    """What one text teaches and is asked about."""

    teaches: tuple[Example, ...]
    asks: tuple[Example, ...]
    texts: tuple[str, ...] = ()
    """Passages it is found by."""


@dataclass(frozen=True, slots=True)
class Question:
    """One of those the library is asked."""

    example: Example
    document: int
    module: str
    """The one that was taught its document."""


@dataclass(frozen=True, slots=True)
class Library:
    """A bank that is written, and its questions."""

    bank: Bank
    names: tuple[str, ...]
    questions: tuple[Question, ...]
    settings: TrainSettings


def documents(values: Mapping[str, Any]) -> list[Document]:
    """The documents of a cell, drawn or read.

    Raises:
        UsageError: more are asked for than there are, or no data folder. DataError: bad files.
    """
    n, facts = int(values["documents"]), int(values["facts"])
    if values["task"] == "phonebook":
        parts = sectors.build(n * facts, n, seed=int(values["seed"]))
        return [Document(part, part) for part in parts]
    if values["task"] == "paperqa":
        papers = paperqa.read_papers(data_folder("paperqa"), with_prefix=bool(values["prefix"]))
        found = [
            Document(paper.train[:facts], paper.test, (paper.title, paper.introduction))
            for paper in papers
        ]
    else:
        passages = squad.read_passages(data_folder("squad") / "passages.jsonl")
        found = [
            Document(p.questions[:facts], p.questions[:facts], (p.text,))
            for p in passages
            if len(p.questions) >= facts
        ]
    if len(found) < n:
        raise UsageError(
            f"{values['task']} has {len(found)} documents with {facts} examples, got {n}; "
            "ask for fewer documents or facts"
        )
    return found[:n]


def settings_of(base: Base, values: Mapping[str, Any]) -> TrainSettings:
    """A cell's values as the engine's settings."""
    layers = values["layers"]
    chosen = None if layers == "all" else tuple(parse_layers(layers, n_layers(base.linears)))
    shared: dict[str, Any] = {
        name: values[name] for name in ("r", "lr", "batch_size", "activated", "seed")
    }
    spent = exposures(values)
    if spent is None:
        shared |= {"until_recall": _LEARNT}
    else:
        shared |= {"exposures": spent, "schedule": "cosine"}
    return settings_for(
        "sound",
        target_modules=tuple(values["target_modules"].split(",")),
        layers=chosen,
        **shared,
    )


def open_library(
    base: Base, values: Mapping[str, Any], folder: Path, *, on_round: OnRound | None = None
) -> Library:
    """The library of a cell, trained into `folder` unless it stands there already."""
    texts, k = documents(values), int(values["modules"])
    share = len(texts) // k
    names = tuple(f"module-{i:02d}" for i in range(k))
    parcels = [_parcel(name, texts[i * share : (i + 1) * share]) for i, name in enumerate(names)]
    settings = settings_of(base, values)
    if (folder / "bank").exists():
        bank = Bank.open(folder / "bank", base=base)
    else:
        bank = Bank.create(folder / "bank", base=base)
    if not bank.modules():  # a write lands whole or not at all
        bank.write_all(parcels, settings=settings, on_round=on_round)
    asked = [
        Question(example, document, names[document // share])
        for document, text in enumerate(texts)
        for example in text.asks
    ]
    return Library(bank, names, tuple(asked), settings)


def _parcel(name: str, texts: Sequence[Document]) -> ModuleDraft:
    examples = [example for text in texts for example in text.teaches]
    passages = [passage for text in texts for passage in text.texts]
    return draft_from_examples(name, examples, source=name, texts=passages)


def data_folder(task: str) -> Path:
    """Where a task's published files are.

    Raises:
        UsageError: LORABANK_DATA is not set.
    """
    folder = os.environ.get(DATA)
    if not folder:
        raise UsageError(
            f"the task {task} reads published files: set {DATA} to the folder that has {task}/ "
            "in it, or take task=phonebook, which is drawn"
        )
    return Path(folder) / task
