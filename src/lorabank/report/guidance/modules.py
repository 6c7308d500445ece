"""Choices that cells about modules decide: one module or many, which router, merge or route.

Of merges the rule that scored best on these very questions stands for merging, which flatters it.
"""

from collections.abc import Iterable, Iterator, Sequence

from lorabank.report.estimates import Cluster
from lorabank.report.grouping import setting_key
from lorabank.report.guidance.comparing import Arm, Choice, Comparison, blocks, gather
from lorabank.report.modules.measures import budget_name, read_settings, task_name
from lorabank.report.wording import count
from lorabank.study.modules.cells import ModulesCell

ONE_OR_MANY, ROUTE, MERGE = "One module or many", "Router", "Merge or route"
_READING = ("measure", "router", "gated", "rule", "norm", "merged", "subset", "new_tokens")
"""Axes of how a library is read; the rest says what was trained."""
_REFERENCE_ROUTER = "hybrid"
_NO_ROUTER = "oracle"


def compare(cells: Sequence[ModulesCell]) -> list[Comparison]:
    """Return all choices between ways of making and reading modules."""
    comparisons = [*_one_or_many(cells), *_routers(cells), *_merges(cells)]
    return [comparison for comparison in comparisons if comparison is not None]


def _one_or_many(cells: Sequence[ModulesCell]) -> Iterator[Comparison | None]:
    """Yield modules of one size beside modules of another, with as many parameters together."""
    parted = [cell for cell in cells if cell.axes.measure == "partition"]
    without = ("seed", "modules", "r", "lr")

    def key(cell: ModulesCell) -> str:
        return f"{setting_key(cell, without=without)} {cell.trainable_parameters}"

    for block in blocks(parted, key):
        numbers = sorted({cell.axes.modules for cell in block})
        arms = [
            _arm(f"{count(n, 'module')} of r={same[0].axes.r}", same)
            for n in numbers
            if (same := [cell for cell in block if cell.axes.modules == n])
        ]
        for other in arms[1:]:
            yield _choice(ONE_OR_MANY, block[0]).compare(arms[0], other)


def _routers(cells: Sequence[ModulesCell]) -> Iterator[Comparison | None]:
    routed = [c for c in cells if c.axes.measure == "routing" and not c.axes.gated]
    without = ("seed", "router", "new_tokens")
    for block in blocks(routed, lambda cell: setting_key(cell, without=without)):
        names = list(dict.fromkeys(str(cell.axes.router) for cell in block))
        arms = {n: _arm(n, [c for c in block if str(c.axes.router) == n]) for n in names}
        first = arms.pop(_REFERENCE_ROUTER, None)
        if first is not None:
            for other in arms.values():
                yield _choice(ROUTE, block[0]).compare(first, other)


def _merges(cells: Sequence[ModulesCell]) -> Iterator[Comparison | None]:
    """Yield the best merges beside the own module, and beside what a router names."""
    without = ("seed", *_READING)
    for library in blocks(cells, lambda cell: setting_key(cell, without=without)):
        merged = [cell for cell in library if cell.axes.measure == "merging"]
        alone = [c for c in merged if c.axes.merged == 1 and c.axes.rule == "mean"]
        oracle = [c for c in library if c.axes.router == _NO_ROUTER and c not in merged]
        routed = [c for c in library if c.axes.router == _REFERENCE_ROUTER and not c.axes.gated]
        for n in sorted({cell.axes.merged for cell in merged} - {1}):
            for study in blocks(
                [cell for cell in merged if cell.axes.merged == n], lambda cell: cell.study
            ):
                best = _best(study)
                if oracle or alone:
                    own = _arm("own module alone", oracle or alone)
                    yield _choice(MERGE, study[0]).compare(own, best)
                if routed:
                    first = _arm(f"route ({_REFERENCE_ROUTER})", routed)
                    yield _choice(MERGE, study[0]).compare(first, best)


def _best(merged: Sequence[ModulesCell]) -> Arm:
    """Return the rule and norm with the highest score."""
    settings = read_settings(merged)
    best = max(settings, key=lambda s: (s.average(lambda c: c.score), s.average(lambda c: c.gain)))
    axes = best.first.axes
    return _arm(f"merge {axes.merged} ({axes.rule}, {axes.norm} norm)", best.cells)


def _choice(topic: str, cell: ModulesCell) -> Choice:
    (setting,) = read_settings([cell])
    measure = "recall" if cell.metric == "recall" else "gain, nats per token"
    prefix = f"{task_name(setting)}, {cell.axes.documents} documents, {budget_name(setting)}"
    return Choice(topic, prefix, measure)


def _arm(name: str, cells: Sequence[ModulesCell]) -> Arm:
    return Arm(name, tuple(cells), gather(cells, _scores))


def _scores(cell: ModulesCell) -> Iterable[tuple[Cluster, float]]:
    questions = cell.per_question
    return (
        ((cell.axes.seed, document), score)
        for document, score in zip(questions.document, questions.score, strict=True)
    )
