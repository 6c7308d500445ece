"""A fact forgotten at once, and the modules that were taught it trained again afterwards.

`remove_fact` asks no model. A module that was taught the fact loses its weights and its versions in
the same commit; what it was taught besides stays as stored examples, which the lookup answers until
they are trained anew (`untrained.py`). So nothing knows the fact from the commit on, and the slow
part may wait for others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.bank.write.forget import (
    ForgetReport,
    forget_values,
    look_for_answers,
    search_files,
)
from lorabank.bank.write.losses import Loss, lose_fact
from lorabank.bank.write.untrained import without_weights
from lorabank.bank.write.write import WriteReport
from lorabank.store.records import Version
from lorabank.store.transaction import Transaction
from lorabank.tasks.examples import Example

_PATIENCE_S = 5.0  # for somebody who remembers a fact


@dataclass(frozen=True, slots=True)
class FactRemoval:
    """A record of what was removed with a fact; its texts are kept nowhere else."""

    examples: tuple[Example, ...]
    """The fact in all its values, to ask whether anybody still knows it."""
    n_recalled: int
    """Number of these that a module recalled when it was written, or that the store answered."""
    modules: tuple[str, ...]
    """Modules that were taught it."""
    untrained: tuple[str, ...]
    """Modules among them that are to be trained again from what is left."""
    dropped: tuple[Version, ...]
    problems: tuple[str, ...] = ()


def remove_fact(reader: ModuleReader, texts: ModuleTexts, question: str) -> FactRemoval:
    """Remove a fact with all its values from the store and from every module, without training.

    Raises:
        UsageError: nothing has this question, or the fact was made of a document.
        BusyError: somebody else has been writing for too long.
    """
    with reader.store.writing(what="forget fact", frees=True, patience_s=_PATIENCE_S) as tx:
        losses = lose_fact(reader, question)
        texts.clear()
        remembered = forget_values(reader, tx, question)
        for loss in losses:
            _strip(reader, tx, loss)
    texts.clear()  # somebody may have derived something in between
    examples = [example for loss in losses for example in loss.examples]
    recalled = [e for loss in losses for e in loss.examples if _was_recalled(loss.version, e)]
    return FactRemoval(
        (*examples, *remembered),
        len(recalled) + len(remembered),
        tuple(loss.module for loss in losses),
        tuple(loss.module for loss in losses if loss.left),
        tuple(version for loss in losses for version in loss.dropped),
        tuple(f"facts of module {loss.module}" for loss in losses if loss.problem),
    )


def prove_removal(
    reader: ModuleReader,
    texts: ModuleTexts,
    removal: FactRemoval,
    *,
    title: str,
    reports: Sequence[WriteReport] = (),
    between_files: Callable[[], None] = lambda: None,
) -> ForgetReport:
    """Ask every module that the bank would ask whether it knows the fact, and search the files.

    Args:
        title: what the report calls the fact.
        reports: of the modules that were trained again.
        between_files: called after each file that was searched.
    """
    n = len(removal.examples)
    after, unchecked = look_for_answers(reader, texts, [(removal.examples, "the fact")])
    removed, remaining, unread = search_files(reader.store, removal.dropped, between_files)
    return ForgetReport(
        what=title,
        modules=removal.modules,
        rewritten=tuple(report.module for report in reports),
        facts=n,
        recall_before=removal.n_recalled / n if n else 0.0,
        recall_after=sum(after) / n if n else 0.0,
        kept_recall=sum(r.recall for r in reports) / len(reports) if reports else None,
        removed=removed,
        remaining=remaining,
        unchecked=tuple(dict.fromkeys([*unread, *removal.problems, *unchecked])),
    )


def _strip(reader: ModuleReader, tx: Transaction, loss: Loss) -> None:
    """Drop the versions that a module loses; what is left becomes a version without weights."""
    if loss.is_whole and not loss.left:
        tx.forget(loss.module)
        return
    if loss.left and loss.version:
        settings = reader.read_settings(loss.version)
        stored = without_weights(reader.base, loss.left, settings)
        tx.put(loss.module, stored, replace=True, what="forget fact")
    for version in loss.dropped:
        tx.drop(version)


def _was_recalled(version: Version | None, example: Example) -> bool:
    """Return whether a module recalled an example when it was written."""
    return version is not None and example.question not in version.record.get("missing", ())
