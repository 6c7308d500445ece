"""The fleets of a study about training texts: cells with the same questions, and their cost."""

from collections.abc import Sequence

from lorabank.planning.cost import Shape
from lorabank.study.plan import CellSpec, group_by
from lorabank.study.texts.axes import EXPOSURES, STEPS, TOKENS, TextsAxes
from lorabank.synthesis.formats import FORMAT_SIZES, parse_formats

# About, of a document:
_DOCUMENT_TOKENS, _QUESTIONS, _ANSWER_TOKENS = 500, 20, 40
TextsSpec = CellSpec[TextsAxes]


def group_cells(cells: Sequence[TextsSpec], width: int) -> list[tuple[TextsSpec, ...]]:
    """Return the cells that are asked the same questions together."""
    return group_by(cells, lambda cell: cell.axes.questions_key)


def flops(cells: Sequence[TextsSpec], shape: Shape) -> float:
    """Return the operations of training on all texts, and reading all questions twice."""
    return sum(_cell_flops(cell.axes, shape) for cell in cells)


def _cell_flops(axes: TextsAxes, shape: Shape) -> float:
    n_made = sum(
        item.count * FORMAT_SIZES[item.kind].item_tokens(_DOCUMENT_TOKENS)
        for item in parse_formats(axes.formats)
    )
    n_tokens = {
        TOKENS: axes.amount,
        STEPS: axes.amount * axes.batch_size * _ANSWER_TOKENS,
        EXPOSURES: axes.amount * (n_made or _DOCUMENT_TOKENS),
    }[axes.budget]
    n_layers = shape.layers - shape.lowest_layer(axes.layers)
    training = 4 * n_tokens * (n_layers * shape.per_layer + shape.head)
    reading = 4 * _QUESTIONS * _ANSWER_TOKENS * shape.per_token
    return float(axes.documents * (training + reading))
