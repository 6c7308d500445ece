"""The result of a cell of a study about training texts.

A small model that does not produce an answer may still find it likelier than before. The gain, nats
per token of the gold answer over the bare model, is therefore the sensitive measure. Token F1 and
ROUGE-L are of answers written out greedily. Each stands beside the same with another document's
adapter. Numbers are kept by question with its document, so that intervals can respect that the
questions of a document are not independent, and a learning rate can be chosen on half of them.
"""

from typing import Literal

from lorabank.study.cells import Cell, Stored, WrittenScores
from lorabank.study.texts.axes import TextsAxes


class TextsQuestions(Stored):
    """Results by question."""

    document: list[int]
    """Index of each question's document."""
    gain: list[float]
    control_gain: list[float]
    """Gain with another document's adapter."""


class TextsCell(Cell):
    """Adapters of documents, trained on texts made of them, and how they answer questions."""

    kind: Literal["texts"] = "texts"
    axes: TextsAxes
    gain: float
    """Nats per token by which the gold answers are likelier than to the bare model."""
    control_gain: float
    recall: float
    n_questions: int
    texts: dict[str, float]
    """Mean text scores of answers written out, by metric; `control_` in front for the control."""
    examples: float
    """Mean number of examples that a document was turned into."""
    tokens: float
    """Mean number of answer tokens of these."""
    tokens_trained: float
    exposures: float
    steps: float
    taught_loss: float | None
    """Mean loss of the last epochs; None where training diverged or ended before an epoch."""
    stopped: dict[str, int]
    """Number of adapters by what ended their training."""
    trainable_parameters: int
    """Number of trainable parameters of all adapters together."""
    kl_to_base_nats: float
    """Mean drift of the adapters from the base on ordinary text."""
    per_question: TextsQuestions
    per_written: WrittenScores
