"""Choices that long documents decide: adapter, text or both; one chunk or several merged.

A gain in likelihood is partly the form of the answers, which another document's adapter has too;
so recall stands beside it, and each adapter beside another document's in its place. The same
setting may have been run for several studies; it counts once.
"""

from collections.abc import Iterator, Sequence

from lorabank.report.documents.answer_modes import (
    ScoredMode,
    control_of,
    counterpart,
    read_modes,
    text_alone,
)
from lorabank.report.estimates import Cluster
from lorabank.report.grouping import setting_key
from lorabank.report.guidance.comparing import Arm, Choice, Comparison, blocks
from lorabank.study.documents.axes import CHUNK, ICL, MERGED, NONE, RAG
from lorabank.study.documents.cells import AnswersCell

MERGE_CHUNKS = "One chunk or several merged"
ADAPTER_OR_TEXT = "Adapter or text"
CONTROL = "Is it the document that was learnt"
RECALL, GAIN = "recall", "gain, nats per token"


def compare(cells: Sequence[AnswersCell]) -> list[Comparison]:
    """Return adapters beside text, hybrids beside their parts, adapters beside their control."""
    comparisons: list[Comparison | None] = []
    for study in blocks(cells, lambda cell: cell.study):
        modes = [mode for mode in read_modes(study) if mode.is_main_rate]
        for mode in modes:
            if not mode.has_adapter or mode.is_control:
                continue
            if mode.axes.adapter == MERGED:
                comparisons += _beside_one_chunk(mode, modes) if mode.axes.text == NONE else ()
            else:
                comparisons += [*_beside_text(mode, modes), *_beside_control(mode, modes)]
    once: dict[tuple[str, ...], Comparison] = {}
    for comparison in comparisons:
        if comparison is not None:
            once.setdefault(_settings(comparison), comparison)
    return list(once.values())


def _settings(comparison: Comparison) -> tuple[str, ...]:
    arms = (comparison.first.cells[0], comparison.second.cells[0])
    keys = [setting_key(cell, without=("seed", "written", "new_tokens")) for cell in arms]
    return (comparison.topic, comparison.measure, *keys)


def _beside_one_chunk(mode: ScoredMode, modes: Sequence[ScoredMode]) -> Iterator[Comparison | None]:
    """Yield merged chunk adapters beside the one that is named first, by the same router."""
    for other in modes:
        axes = other.axes
        is_same = (axes.text, axes.router) == (mode.axes.text, mode.axes.router)
        if axes.adapter != CHUNK or other.is_control or not is_same:
            continue
        if other.documents == mode.documents:
            for measure in (RECALL, GAIN):
                yield _compare(MERGE_CHUNKS, measure, mode, other)


def _beside_text(mode: ScoredMode, modes: Sequence[ScoredMode]) -> Iterator[Comparison | None]:
    """Yield an adapter beside each text alone, or a hybrid beside both its parts."""
    if mode.axes.text == NONE:
        others = [m for m in modes if not m.has_adapter and m.axes.text in (ICL, RAG)]
        others = [m for m in others if m.documents == mode.documents]
    else:
        parts = [text_alone(mode, modes), counterpart(mode, modes, text=NONE)]
        others = [part for part in parts if part is not None]
    for other in others:
        for measure in (RECALL, GAIN):
            yield _compare(ADAPTER_OR_TEXT, measure, mode, other)


def _beside_control(mode: ScoredMode, modes: Sequence[ScoredMode]) -> Iterator[Comparison | None]:
    control = control_of(mode, modes)
    if control is not None and mode.axes.text == NONE:
        yield _compare(CONTROL, RECALL, mode, control)
        yield _compare(CONTROL, GAIN, mode, control)


def _compare(topic: str, measure: str, mode: ScoredMode, other: ScoredMode) -> Comparison | None:
    return Choice(topic, mode.documents, measure).compare(_arm(mode, measure), _arm(other, measure))


def _arm(mode: ScoredMode, measure: str) -> Arm:
    values: dict[Cluster, list[float]] = {}
    for cell in mode.setting.cells:
        questions = cell.per_question
        numbers = questions.gain if measure == GAIN else map(float, questions.recalled)
        for document, number in zip(questions.document, numbers, strict=True):
            values.setdefault((cell.axes.seed, document), []).append(number)
    return Arm(mode.name, mode.setting.cells, values)
