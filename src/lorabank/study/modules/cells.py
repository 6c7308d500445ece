"""The result of a cell of a study about modules."""

from typing import Literal

from lorabank.study.cells import Cell, Stored
from lorabank.study.modules.axes import ModulesAxes


class RoutingShares(Stored):
    """Results of a router and the gate, as shares of the questions."""

    top1: float
    """Share whose own module is named first."""
    top5: float
    answered_by_own: float
    regret: float
    """Score with the own modules less score with the routed ones."""
    bare: float | None = None
    """Share answered by the bare model; None without a gate."""
    abstained: float | None = None
    """Share that was not answered; None without a gate."""


class ErrorShares(Stored):
    """Shares of all questions that went wrong, by the stage that went wrong."""

    routing: float
    gate: float
    reading: float
    """Share that the own module answered, but not right."""


class ModulesQuestions(Stored):
    """Results by question; empty lists where a cell has no such result."""

    document: list[int]
    """Index of each question's document."""
    score: list[float]
    control: list[float]
    gain: list[float]


class ModulesCell(Cell):
    """A library, and how well its questions are answered in one way.

    The control is the same question with another module, one that was not taught it (partition,
    routing), or with the same merge without the question's own module (merging).
    """

    kind: Literal["modules"] = "modules"
    axes: ModulesAxes
    metric: Literal["recall", "gain"]
    """Unit of scores: recall, or nats per token that the gold answer gained on the bare model."""
    score: float
    control: float | None
    """None where every module was taught all questions."""
    oracle: float
    """Score with each question's own module."""
    bare: float
    """Score of the bare model."""
    gain: float
    """Nats per token by which the gold answers are likelier than to the bare model."""
    control_gain: float | None
    oracle_gain: float
    norm_ratio: float | None = None
    """Norm of merges over the mean norm of their parts; None where nothing is merged."""
    routing: RoutingShares | None = None
    errors: ErrorShares | None = None
    texts: dict[str, float] | None = None
    """Mean text scores of answers written out, by metric; None where none were."""
    n_questions: int
    n_taught: int
    """Number of examples taught to all modules together."""
    taught_recall: float
    exposures_per_fact: float
    examples_trained: float
    """Number of examples taught times exposures."""
    trainable_parameters: int
    kl_to_base_nats: float
    """Mean drift of the modules from the base on ordinary text."""
    per_question: ModulesQuestions
