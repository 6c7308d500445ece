"""Measures how well a cell of a study about long documents answers: gains, answers, drift."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.evaluation.drift import measure_drift
from lorabank.engine.evaluation.evaluate import gains
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.engine.learn import hash_examples, software_versions
from lorabank.study.cells import CellClock, CellHashes, WrittenScores
from lorabank.study.code_hash import code_hash
from lorabank.study.documents.axes import DOCUMENT, MERGED, NONE, DocumentsAxes
from lorabank.study.documents.cells import AnswersCell, DocumentsQuestions
from lorabank.study.documents.reader import ContextPrompt, DocumentReader
from lorabank.study.merges import adapter_norm, merge_parts
from lorabank.study.plan import CellSpec
from lorabank.tasks.control import draw_irrelevant_modules
from lorabank.tasks.scoring.text_metrics import rouge_l, token_f1

_METRICS = {"token_f1": token_f1, "rouge_l": rouge_l}
_FLEET_WIDTH = 16
_MAX_DRIFTS = 8  # adapters whose drift is measured, drawn from all that answer
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class AnsweringAdapters:
    """The adapters that answer, and which of them answers each question."""

    adapters: tuple[Adapter, ...]
    adapter_of: tuple[int, ...]
    """Index of each question's adapter; empty for the bare model."""
    norm_ratio: float | None = None
    """Norm of merges over the mean norm of their parts; None where nothing is merged."""
    first_chunks: tuple[int, ...] = ()
    """Chunk that the router names first for each question; empty where it is not asked."""


@dataclass(slots=True)
class DocumentAnswers:
    """Readings and replies by question, and drifts of adapters."""

    readings: dict[int, AnswerReading] = field(default_factory=dict)
    replies: dict[int, str] = field(default_factory=dict)
    drifts: list[float] = field(default_factory=list)


def measure_answers(
    reader: DocumentReader, cell: CellSpec[DocumentsAxes], study: str, clock: CellClock
) -> AnswersCell:
    """Return the result of one cell."""
    axes, kinds = cell.axes, [question.kind for question in reader.questions]
    prompts = reader.prompts(axes)
    answering = choose_adapters(reader, axes)
    written = _choose_written(reader, axes.written or 0)
    answers = _answer(reader, prompts, answering, written, axes.new_tokens or 0)
    readings = [answers.readings[i] for i in range(len(prompts))]
    gained = gains(reader.bare(), readings)
    replies = [(answers.replies[i], reader.questions[i].example.answer) for i in written]
    scores = {
        name: [metric(reply, gold) for reply, gold in replies]
        for name, metric in _METRICS.items()
        if written
    }
    verdicts = [reader.search.is_right(i, c) for i, c in enumerate(answering.first_chunks)]
    return AnswersCell(
        study=study,
        name=cell.name,
        base=reader.base.info.name,
        axes=axes,
        mode=axes.mode,
        gain=fmean(gained),
        recall=fmean(reading.recalled for reading in readings),
        by_kind={
            kind: fmean(gain for gain, other in zip(gained, kinds, strict=True) if other == kind)
            for kind in dict.fromkeys(kinds)
        },
        n_questions=len(kinds),
        texts={name: fmean(values) for name, values in scores.items()},
        prompt_tokens=fmean(len(prompt.prompt.prompt_ids) for prompt in prompts),
        norm_ratio=answering.norm_ratio,
        routed_right=None if not verdicts or None in verdicts else fmean(map(bool, verdicts)),
        kl_to_base_nats=fmean(answers.drifts) if answers.drifts else None,
        library=reader.library.facts(axes),
        per_question=DocumentsQuestions(
            document=reader.document_of,
            kind=kinds,
            gain=[round(gain, _DIGITS) for gain in gained],
            recalled=[reading.recalled for reading in readings],
        ),
        per_written=WrittenScores(
            place=written,
            scores={name: [round(x, _DIGITS) for x in xs] for name, xs in scores.items()},
            replies={"own": [reply for reply, _ in replies]} if written else {},
        ),
        hashes=hashes_of(reader),
        versions=software_versions(reader.base),
        cost=clock.cost(),
    )


def hashes_of(reader: DocumentReader) -> CellHashes:
    """Return what a cell's numbers depend on."""
    examples = [question.example for question in reader.questions]
    return CellHashes(model=reader.base.info.sha256, data=hash_examples(examples), code=code_hash())


def choose_adapters(reader: DocumentReader, axes: DocumentsAxes) -> AnsweringAdapters:
    """Return the adapter that answers each question; none for the bare model."""
    if axes.adapter == NONE:
        return AnsweringAdapters((), ())
    documents = reader.document_of
    if axes.random:
        questions = [question.example.question for question in reader.questions]
        pairs = list(zip(questions, documents, strict=True))
        documents = draw_irrelevant_modules(
            range(len(reader.library.documents)), pairs, seed=axes.seed
        )
    if axes.adapter == DOCUMENT:
        return AnsweringAdapters(reader.library.document_adapters(), tuple(documents))
    return _choose_chunk_adapters(reader, axes, documents)


def _choose_chunk_adapters(
    reader: DocumentReader, axes: DocumentsAxes, documents: Sequence[int]
) -> AnsweringAdapters:
    """Return the first chunk's adapter or a merge of the first few, each made once.

    Args:
        documents: for each question the document whose chunks answer it.
    """
    k = int(axes.k or 0) if axes.adapter == MERGED else 1
    n_documents = len(reader.library.documents)
    chunk_adapters = [reader.library.chunk_adapters(d) for d in range(n_documents)]
    index_of: dict[tuple[int, ...], int] = {}
    adapters: list[Adapter] = []
    ratios: list[float] = []
    adapter_of, first_chunks = [], []
    for i, document in enumerate(documents):
        own = chunk_adapters[document]
        if axes.random:
            question = reader.questions[i].example.question
            rng = random.Random(f"chunks/{axes.seed}/{question}")
            chunks = rng.sample(sorted(own), min(k, len(own)))
        else:
            chunks = reader.search.rank(i, str(axes.router), sorted(own))[:k]
            first_chunks.append(chunks[0])
        key = (document, *chunks)
        if key not in index_of:
            index_of[key] = len(adapters)
            parts = [own[chunk] for chunk in chunks]
            adapters.append(merge_parts(parts, axes) if axes.adapter == MERGED else parts[0])
            ratios.append(adapter_norm(adapters[-1]) / fmean(map(adapter_norm, parts)))
        adapter_of.append(index_of[key])
    return AnsweringAdapters(
        tuple(adapters),
        tuple(adapter_of),
        norm_ratio=fmean(ratios) if axes.adapter == MERGED else None,
        first_chunks=tuple(first_chunks),
    )


def _answer(
    reader: DocumentReader,
    prompts: Sequence[ContextPrompt],
    answering: AnsweringAdapters,
    written: Sequence[int],
    new_tokens: int,
) -> DocumentAnswers:
    """Read all questions, write out replies to some, and measure the drift of some adapters."""
    answers = DocumentAnswers()
    if not answering.adapters:
        answers.readings = dict(enumerate(reader.read(prompts)))
        replies = _generate(reader, [prompts[i] for i in written], new_tokens)
        answers.replies = dict(zip(written, replies, strict=True))
        return answers
    n_adapters = len(answering.adapters)
    rng = random.Random(f"harm/{n_adapters}")  # spelled as in committed results
    measured = set(rng.sample(range(n_adapters), min(n_adapters, _MAX_DRIFTS)))
    for start in range(0, n_adapters, _FLEET_WIDTH):
        adapters = answering.adapters[start : start + _FLEET_WIDTH]
        slot_of = {
            i: adapter - start
            for i, adapter in enumerate(answering.adapter_of)
            if 0 <= adapter - start < len(adapters)
        }
        to_write = [i for i in written if i in slot_of]
        with loaded_fleet(reader.base, adapters) as fleet:
            readings = reader.read([prompts[i] for i in slot_of], fleet, list(slot_of.values()))
            answers.readings |= dict(zip(slot_of, readings, strict=True))
            replies = _generate(
                reader,
                [prompts[i] for i in to_write],
                new_tokens,
                fleet,
                [slot_of[i] for i in to_write],
            )
            answers.replies |= dict(zip(to_write, replies, strict=True))
            slots = sorted(a - start for a in measured if 0 <= a - start < len(adapters))
            if slots:
                drifts = measure_drift(fleet, slots)
                answers.drifts += [drift.kl_to_base_nats for drift in drifts]
    return answers


def _generate(
    reader: DocumentReader,
    prompts: Sequence[ContextPrompt],
    new_tokens: int,
    fleet: Fleet | None = None,
    slots: Sequence[int] | None = None,
) -> list[str]:
    if not prompts:
        return []
    return generate(
        reader.base,
        [prompt.prompt.prompt_ids for prompt in prompts],
        fleet=fleet,
        slots=slots,
        options=GenerationOptions(prefix=[prompt.n_prefix for prompt in prompts]),
        max_new_tokens=new_tokens,
    )


def _choose_written(reader: DocumentReader, n_written: int) -> list[int]:
    """Return so many questions of each document, of all kinds in turn."""
    counts: dict[tuple[int, str], int] = {}
    ranked = []
    for i, (question, document) in enumerate(
        zip(reader.questions, reader.document_of, strict=True)
    ):
        key = (document, question.kind)
        ranked.append((document, counts.setdefault(key, 0), i))
        counts[key] += 1
    chosen = []
    for document in range(len(reader.library.documents)):
        chosen += [i for d, _, i in sorted(ranked) if d == document][:n_written]
    return sorted(chosen)
