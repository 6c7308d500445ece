"""The fleets of a study about long documents: cells with the same adapters, and their cost."""

from collections.abc import Sequence

from lorabank.planning.cost import Shape
from lorabank.study.documents.axes import CHRONICLE, DOCUMENT, RAG, DocumentsAxes
from lorabank.study.plan import CellSpec, group_by

# About, with the header where it is an answer:
_TOKENS_PER_FACT, _FACT_ANSWER_TOKENS, _ANSWER_TOKENS = 25, 17, 40
DocumentsSpec = CellSpec[DocumentsAxes]


def group_cells(cells: Sequence[DocumentsSpec], width: int) -> list[tuple[DocumentsSpec, ...]]:
    """Return the cells of each library together."""
    return group_by(cells, lambda cell: cell.axes.library_key)


def flops(cells: Sequence[DocumentsSpec], shape: Shape) -> float:
    """Return the operations of training all adapters and reading all texts and questions.

    A text is read once for all questions, but for each question where its chunks are looked up.
    """
    axes = cells[0].axes
    has_facts = axes.task == CHRONICLE  # other texts are taught word for word
    n_taught = axes.length / _TOKENS_PER_FACT * _FACT_ANSWER_TOKENS if has_facts else axes.length
    n_questions = axes.questions * (3 if has_facts else 1)
    n_kinds = len({cell.axes.adapter == DOCUMENT for cell in cells})
    texts = {cell.axes.text for cell in cells}
    training = 4 * axes.documents * n_taught * axes.exposures * n_kinds
    reading = 2 * axes.documents * axes.length * (len(texts) + n_questions * (RAG in texts))
    answering = 2 * axes.documents * n_questions * _ANSWER_TOKENS * len(cells)
    return shape.per_token * (training + reading + answering)
