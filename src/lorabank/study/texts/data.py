"""Documents of studies about training texts: what is made of them, taught and asked.

    paperqa    introductions, with QA40 by GPT-4.1 to teach; asked are the papers' thirty questions
    squad      passages, with implications by GPT-4.1, rewrites and questions by Qwen2.5-7B to
               teach; asked are the passages' own questions
    chronicle  drawn, some of their questions are taught and others asked; needs no files

Made texts go through synthesis as a user's documents do, its quality control included, and no
example is taught that asks what is measured. The files are data (LORABANK_DATA).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.study.data_folder import data_folder
from lorabank.study.texts.axes import TextsAxes
from lorabank.synthesis.endpoint import Endpoint
from lorabank.synthesis.example_synthesis import SynthesisOptions, synthesise
from lorabank.synthesis.formats import Format, FormatKind, parse_formats
from lorabank.synthesis.generators import Generator, SamplingOptions
from lorabank.synthesis.local import LocalGenerator
from lorabank.synthesis.prewritten import PrewrittenGenerator, PrewrittenPassage, chunks_of_passages
from lorabank.synthesis.sources import sources_from_chunks
from lorabank.tasks.datasets import paperqa, squad
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.synthetic import chronicle, chronicle_questions

_MIN_QUESTIONS = 3  # of a passage that is used
_CHRONICLE_QUESTIONS = 3  # that are asked; the others are taught
GIVEN = "given"
_SQUAD_ANY = "implications_gpt-4.1.jsonl"
_SQUAD_FILES = {
    FormatKind.IMPLICATIONS: _SQUAD_ANY,
    FormatKind.REWRITE: "rewrite_qwen2.5-7b.jsonl",
    FormatKind.QA: "qa_qwen2.5-7b.jsonl",
}


@dataclass(frozen=True, slots=True)
class TextDocument:
    """One document: its text and the questions asked about it."""

    name: str
    title: str
    body: str
    asks: tuple[Example, ...]
    published: tuple[Example, ...] = ()
    """Questions with answers that were published with it, to train on."""


def read_texts(axes: TextsAxes) -> list[TextDocument]:
    """Return the documents of a cell.

    Raises:
        UsageError: the cell has more documents than there are, or there is no data folder.
        DataError: files that are missing or damaged.
    """
    texts = _READERS[axes.task](axes.documents)
    if len(texts) < axes.documents:
        raise UsageError(
            f"{axes.task} has {len(texts)} documents, got documents={axes.documents}; ask for fewer"
        )
    return texts[: axes.documents]


def make_examples(
    texts: Sequence[TextDocument], axes: TextsAxes, base: Base
) -> list[list[Example]]:
    """Return the examples made of each document, in the formats of a cell.

    Raises:
        UsageError: nothing was made of a document, or a format does not come with the task.
    """
    passages = [PrewrittenPassage(t.name, t.title, t.body) for t in texts]
    sources = sources_from_chunks(chunks_of_passages(passages))
    held_out = [example.question for text in texts for example in text.asks]
    options = SynthesisOptions(SamplingOptions(seed=axes.seed), held_out=held_out)
    made: dict[str, dict[str, Example]] = {text.name: {} for text in texts}
    for formats, generator in _generators(texts, axes, base):
        outcome = synthesise(sources, formats, generator, None, options)
        for item in outcome.made:
            made[item.document].setdefault(item.prompt, from_pair(item.prompt, item.answer))
    return [list(made[text.name].values()) for text in texts]


def _generators(
    texts: Sequence[TextDocument], axes: TextsAxes, base: Base
) -> list[tuple[tuple[Format, ...], Generator]]:
    """Return which generator makes which formats."""
    formats, name = parse_formats(axes.formats), axes.generator
    if name == "local":
        return [(formats, LocalGenerator(base))]
    if name.startswith("openai:"):
        return [(formats, Endpoint(name.removeprefix("openai:")))]
    if name.startswith("file:"):
        return [(formats, PrewrittenGenerator.of(_file(name.removeprefix("file:"))))]
    if name != GIVEN:
        raise UsageError(f"generator must be {GIVEN}, local, openai:MODEL or file:PATH, got {name}")
    if axes.task != "squad":
        passages = [PrewrittenPassage(t.name, t.title, t.body, t.published) for t in texts]
        return [(formats, PrewrittenGenerator(passages, name=f"{axes.task}, as given"))]
    return [
        (
            (item,),
            PrewrittenGenerator.of(
                _file(f"squad/synthetic/{_SQUAD_FILES.get(item.kind, _SQUAD_ANY)}")
            ),
        )
        for item in formats
    ]


def _file(name: str) -> Path:
    """Return a path, or one within the data folder."""
    path = Path(name)
    return path if path.exists() else data_folder("") / name


def _read_paperqa(n_texts: int) -> list[TextDocument]:
    return [
        TextDocument(f"paper-{paper.id}", paper.title, paper.introduction, paper.test, paper.train)
        for paper in paperqa.read_papers(data_folder("paperqa"))[:n_texts]
    ]


def _read_squad(n_texts: int) -> list[TextDocument]:
    """Return the first passages that texts were made of and that have enough questions."""
    passages = squad.read_passages(data_folder("squad") / "synthetic" / _SQUAD_ANY)
    return [
        TextDocument(f"{p.title}/{p.id}", p.title.replace("_", " "), p.text, asks)
        for p in passages
        if len(asks := _first_answers(p.questions)) >= _MIN_QUESTIONS
    ][:n_texts]


def _first_answers(questions: Sequence[Example]) -> tuple[Example, ...]:
    """Return each question once, with the first answer given to it."""
    return tuple({q.question: q for q in reversed(questions)}.values())[::-1]


def _draw_chronicles(n_texts: int) -> list[TextDocument]:
    texts = []
    for seed in range(n_texts):
        story = chronicle.build(chronicle.MIN_LENGTH, seed=seed, count=_count_tokens)
        drawn = chronicle_questions.draw_questions(story, chronicle_questions.SINGLE, seed=seed)
        examples = chronicle_questions.to_examples(drawn)
        asks = tuple(examples[:_CHRONICLE_QUESTIONS])
        published = tuple(examples[_CHRONICLE_QUESTIONS:])
        name = f"Chronicle {seed + 1}"
        texts.append(TextDocument(name, name, chronicle.render_text(story), asks, published))
    return texts


def _count_tokens(text: str) -> int:
    """Return a number at which the shortest chronicle, and a question, fit a test's base."""
    return len(text) * 5 // 4


_READERS: Mapping[str, Callable[[int], list[TextDocument]]] = {
    "paperqa": _read_paperqa,
    "squad": _read_squad,
    "chronicle": _draw_chronicles,
}
