"""What a cell of a study about training texts teaches and asks: documents, texts made of them.

    paperqa    introductions; QA40 by GPT-4.1 is given; asked are the papers' thirty questions
    squad      passages; given are implications by GPT-4.1, rewrites and questions by Qwen2.5-7B;
               asked are the passages' own questions
    chronicle  drawn, with their questions given; asked are others; for rehearsals without any files

Made texts go through synthesis as a user's documents do, its quality control included, and none is
taught that asks what is measured. The files are data (LORABANK_DATA), never part of this project.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.study.modules.library import data_folder
from lorabank.synthesis.endpoint import Endpoint
from lorabank.synthesis.example_synthesis import synthesise
from lorabank.synthesis.format_tasks import SamplingOptions
from lorabank.synthesis.formats import Format, FormatKind, parse_formats
from lorabank.synthesis.generators import Generator
from lorabank.synthesis.local import LocalGenerator
from lorabank.synthesis.prewritten import PrewrittenGenerator, PrewrittenPassage, chunks_of_passages
from lorabank.synthesis.sources import sources_from_chunks
from lorabank.tasks.datasets import paperqa, squad
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.synthetic import chronicle, chronicle_questions

_FEWEST = 3  # questions of a passage, to be asked of
_CHRONICLE_ASKED = 3
GIVEN = "given"
_SQUAD_ANY = "implications_gpt-4.1.jsonl"
_SQUAD_GIVEN = {
    FormatKind.IMPLICATIONS: _SQUAD_ANY,
    FormatKind.REWRITE: "rewrite_qwen2.5-7b.jsonl",
    FormatKind.QA: "qa_qwen2.5-7b.jsonl",
}


@dataclass(frozen=True, slots=True)
class Text:
    """One document: what it says and what is asked of it."""

    name: str
    title: str
    body: str
    asks: tuple[Example, ...]
    given: tuple[Example, ...] = ()
    """Questions with answers that come with it, to train on."""


def read_texts(values: Mapping[str, Any]) -> list[Text]:
    """The documents of a cell.

    Raises:
        UsageError: more are asked for than there are, or no data folder. DataError: bad files.
    """
    n = int(values["documents"])
    found = _READERS[str(values["task"])](n)
    if len(found) < n:
        raise UsageError(
            f"{values['task']} has {len(found)} documents, documents={n}; ask for fewer"
        )
    return found[:n]


def make_lessons(
    texts: Sequence[Text], values: Mapping[str, Any], base: Base
) -> list[list[Example]]:
    """The examples of each document, in the formats asked for.

    Raises:
        UsageError: a document that nothing was made of, a format that is not given with the task.
    """
    pieces = sources_from_chunks(
        chunks_of_passages([PrewrittenPassage(one.name, one.title, one.body) for one in texts])
    )
    asked = [example.question for one in texts for example in one.asks]
    way = SamplingOptions(seed=int(values["seed"]))
    made: dict[str, dict[str, Example]] = {one.name: {} for one in texts}
    for formats, generator in _generators(texts, values, base):
        outcome = synthesise(pieces, formats, generator, None, sampling=way, held_out=asked)
        for one in outcome.made:
            made[one.document].setdefault(one.prompt, from_pair(one.prompt, one.answer))
    return [list(made[one.name].values()) for one in texts]


def _generators(
    texts: Sequence[Text], values: Mapping[str, Any], base: Base
) -> list[tuple[tuple[Format, ...], Generator]]:
    """Who makes which formats."""
    formats, name = parse_formats(str(values["formats"])), str(values["generator"])
    if name == "local":
        return [(formats, LocalGenerator(base))]
    if name.startswith("openai:"):
        return [(formats, Endpoint(name.removeprefix("openai:")))]
    if name.startswith("file:"):
        return [(formats, PrewrittenGenerator.of(_file(name.removeprefix("file:"))))]
    if name != GIVEN:
        raise UsageError(f"generator must be {GIVEN}, local, openai:MODEL or file:PATH, got {name}")
    if values["task"] != "squad":
        return [(formats, _given(texts, str(values["task"])))]
    squad_file = {one: _SQUAD_GIVEN.get(one.kind, _SQUAD_ANY) for one in formats}
    return [
        ((one,), PrewrittenGenerator.of(_file(f"squad/synthetic/{file}")))
        for one, file in squad_file.items()
    ]


def _given(texts: Sequence[Text], task: str) -> PrewrittenGenerator:
    passages = [PrewrittenPassage(one.name, one.title, one.body, one.given) for one in texts]
    return PrewrittenGenerator(passages, name=f"{task}, as given")


def _file(name: str) -> Path:
    """A path, or one within the data folder."""
    path = Path(name)
    return path if path.exists() else data_folder("") / name


def _paperqa(n: int) -> list[Text]:
    return [
        Text(f"paper-{one.id}", one.title, one.introduction, one.test, one.train)
        for one in paperqa.read_papers(data_folder("paperqa"))[:n]
    ]


def _squad(n: int) -> list[Text]:
    """Of the passages that texts were made of, the first that are asked enough."""
    found = squad.read_passages(data_folder("squad") / "synthetic" / _SQUAD_ANY)
    return [
        Text(f"{one.title}/{one.id}", one.title.replace("_", " "), one.text, asks)
        for one in found
        if len(asks := _once(one.questions)) >= _FEWEST
    ][:n]


def _once(questions: Sequence[Example]) -> tuple[Example, ...]:
    """Each question with the first answer given to it."""
    return tuple({one.question: one for one in reversed(questions)}.values())[::-1]


def _chronicle(n: int) -> list[Text]:
    texts = []
    for seed in range(n):
        told = chronicle.build(chronicle.MIN_LENGTH, seed=seed, count=_size)
        drawn = chronicle_questions.draw_questions(told, chronicle_questions.SINGLE, seed=seed)
        pairs = chronicle_questions.to_examples(drawn)
        asks, given = tuple(pairs[:_CHRONICLE_ASKED]), tuple(pairs[_CHRONICLE_ASKED:])
        name = f"Chronicle {seed + 1}"
        texts.append(Text(name, name, chronicle.render_text(told), asks, given))
    return texts


def _size(text: str) -> int:
    """So that the shortest chronicle there is, and a question, fit a rehearsal's base."""
    return len(text) * 5 // 4


_READERS = {"paperqa": _paperqa, "squad": _squad, "chronicle": _chronicle}
