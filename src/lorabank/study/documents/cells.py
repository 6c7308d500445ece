"""The results of cells of studies about long documents: of answers, and of times.

A small base writes few answers in full, so the gain is the sensitive measure: nats per token by
which the gold answer is likelier than to the bare model without text. The control is a cell of its
own, `random`: in each question's place another document's adapter, or as many of its chunks'.
"""

from typing import Literal

from lorabank.study.cells import Cell, Stored, WrittenScores
from lorabank.study.documents.axes import DocumentsAxes


class LibraryFacts(Stored):
    """The adapters that a cell reads: how many, how large, how well taught, at what cost.

    All but `chunks` are None where a cell reads no adapter.
    """

    chunks: float
    """Mean number of chunks of a document."""
    adapters: int | None = None
    r: int | None = None
    """Largest rank of an adapter."""
    examples: float | None = None
    """Mean number of examples of an adapter."""
    exposures: float | None = None
    steps: float | None = None
    """Mean number of steps; None in cells from before it was counted, too."""
    tokens_trained: int | None = None
    taught_loss: float | None = None
    taught_recall: float | None = None
    """Share of what was taught that was recalled at the end of training."""
    trainable_parameters: int | None = None
    taught_sha256: str | None = None
    train_seconds: float | None = None
    """None where training was interrupted, too."""


class DocumentsQuestions(Stored):
    """Results by question."""

    document: list[int]
    """Index of each question's document."""
    kind: list[str]
    gain: list[float]
    recalled: list[bool]


class DocumentsCell(Cell):
    """A result of a study about long documents, of either measure."""

    kind: Literal["documents"] = "documents"
    axes: DocumentsAxes
    mode: str
    """Way of answering in a few words, such as `top-1 + rag`."""
    n_questions: int
    prompt_tokens: float
    library: LibraryFacts


class AnswersCell(DocumentsCell):
    """The quality of one way of answering."""

    gain: float
    recall: float
    by_kind: dict[str, float]
    """Mean gain by kind of question."""
    texts: dict[str, float]
    """Mean text scores of answers written out, by metric."""
    norm_ratio: float | None
    """Norm of merges over the mean norm of their parts; None where nothing is merged."""
    routed_right: float | None
    """Share of questions whose first chunk has evidence; None where nothing is known of it."""
    kl_to_base_nats: float | None
    """Mean drift of the adapters from the base on ordinary text; None without adapters."""
    per_question: DocumentsQuestions
    per_written: WrittenScores


class LatencyCell(DocumentsCell):
    """The times of one way of answering, part by part; medians over questions."""

    once_s: dict[str, float]
    """Seconds before the first question, by part."""
    parts_s: dict[str, float]
    """Seconds of a question, by part; `token` is of one further token."""
    first_token_s: float
    answer_s: float
    """Seconds of an answer of `new_tokens` tokens."""
    document_tokens: int
    per_question: dict[str, list[float]]
    """Seconds by part and question."""
