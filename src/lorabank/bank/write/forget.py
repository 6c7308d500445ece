"""Forgetting with proof: recall before and after, and a search of every file for the weights.

A module that holds only the forgotten source is dropped with all its versions. A module that holds
other sources too is trained again from those, and its old versions are dropped, since each of them
was trained on the source. What the bank derives from its modules (text index, gates) is cleared and
derived again.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.fact_book import FactBook
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import TextRouter
from lorabank.bank.route.spectral_keys import SPECTRA
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.bank.write.losses import Loss, lose_fact, lose_module, lose_source
from lorabank.bank.write.remember import example_of
from lorabank.bank.write.training import WriteSettings
from lorabank.bank.write.write import plan_jobs, train_and_commit
from lorabank.engine.adapters.adapter import TENSORS
from lorabank.engine.inference.recall_check import (
    encode_forms,
    held_out_form,
    read_forms,
    recall_by_rendering,
    recalled_in_any_form,
)
from lorabank.store.blobs import is_stored
from lorabank.store.names import normalise_name
from lorabank.store.plain_files import hash_file, walk_files
from lorabank.store.records import Version
from lorabank.store.store import Store
from lorabank.store.transaction import Transaction
from lorabank.tasks.examples import Example

N_CANDIDATES = 3
"""Modules asked for each forgotten fact afterwards, as many as the bank asks for a question."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """A report of what was forgotten, with the proof."""

    what: str
    modules: tuple[str, ...]
    """Modules that were dropped or trained again."""
    rewritten: tuple[str, ...]
    """Modules that were trained again without the source."""
    facts: int
    recall_before: float
    """Recall of the forgotten facts by the modules that held them, under any rendering of the
    prompts: with the template's system turn, with none and with another."""
    recall_after: float
    """Recall of the forgotten facts by the bare model or any module the bank would ask now, under
    any rendering of the prompts."""
    kept_recall: float | None
    """Recall of the facts that stay, in the modules trained again; None if there are none."""
    removed: tuple[str, ...]
    """Hashes of the files that were removed."""
    remaining: tuple[str, ...]
    """Files of the bank that still hold forgotten weights or spectra; empty if all is well."""
    unchecked: tuple[str, ...] = ()
    """Files of the bank that cannot be read, and modules that cannot be asked, to make sure."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def forget(
    reader: ModuleReader, texts: ModuleTexts, what: str, *, is_fact: bool = False
) -> ForgetReport:
    """Remove a module by its name, or a source by its name or hash from every module that has it.

    The writer's lock is held from before the first look, so that what is dropped is what was
    measured. What cannot be read or measured is removed all the same, and named in the report.

    Args:
        is_fact: `what` is the question of a fact, which goes with all values it has had.

    Raises:
        UsageError: nothing has that name, two sources have it, or another process is writing.
        AdapterError: a module that holds other sources too, and whose examples cannot be read, so
            that the sources cannot be told apart; the module can still be forgotten as a whole.
    """
    store = reader.store
    with store.writing(what=f"forget {what}"[:80], frees=True) as tx:
        if is_fact:
            title, losses = f"fact {what}", lose_fact(reader, what)
        elif normalise_name(what) in store.names():
            title, losses = f"module {what}", [lose_module(reader, normalise_name(what))]
        else:
            title, losses = f"source {what}", lose_source(reader, what)
        unchecked = [f"facts of module {loss.module}" for loss in losses if loss.problem]
        before: list[bool] = []
        for loss in losses:
            hits = _measure(partial(_read_recalled_before, reader, loss))
            before += hits or [False] * len(loss.examples)
        texts.clear()
        remembered = forget_values(reader, tx, what) if is_fact else []
        before += [True] * len(remembered)  # the store answers them
        kept_recalls = [recall for loss in losses for recall in _drop(reader, tx, loss)]
    texts.clear()  # somebody may have derived something in between
    groups = [(loss.examples, f"facts of module {loss.module}") for loss in losses]
    after, unasked = look_for_answers(reader, texts, [*groups, (remembered, "remembered facts")])
    dropped = [version for loss in losses for version in loss.dropped]
    removed, remaining, unread = search_files(store, dropped)
    return ForgetReport(
        what=title,
        modules=tuple(loss.module for loss in losses),
        rewritten=tuple(loss.module for loss in losses if loss.left),
        facts=sum(len(loss.examples) for loss in losses) + len(remembered),
        recall_before=sum(before) / len(before) if before else 0.0,
        recall_after=sum(after) / len(after) if after else 0.0,
        kept_recall=sum(kept_recalls) / len(kept_recalls) if kept_recalls else None,
        removed=removed,
        remaining=remaining,
        unchecked=tuple(dict.fromkeys([*unread, *unchecked, *unasked])),
    )


def _measure(measure: Callable[[], _T]) -> _T | None:
    """Return what was measured; None, with a warning, where what is forgotten does not allow it."""
    try:
        return measure()
    except Exception as error:  # an import or an older version may have left anything
        _log.warning("forgotten without measuring it: %s", error)
        return None


def measure_recall(reader: ModuleReader, version: Version) -> float | None:
    """Measure a version's recall again; None if its examples are not known."""
    if EXAMPLES not in version.files or version.is_untrained:
        return None
    return measure_recall_by_rendering(reader, version)["template"]


def measure_recall_by_rendering(reader: ModuleReader, version: Version) -> dict[str, float]:
    """Measure a version's recall under each rendering, and of wordings that were held out.

    Empty if its examples are not known.
    """
    if EXAMPLES not in version.files or version.is_untrained:
        return {}
    adapter = reader.load_adapters([version])[0]
    examples = reader.read_draft(version).examples
    forms = encode_forms(reader.base, examples, "sound", activated=adapter.activated)
    held_out = held_out_form(reader.base, examples, "sound", activated=adapter.activated)
    if held_out.prompts:
        forms = (*forms, held_out)
    with reader.loaded_fleet([version]) as fleet:
        return recall_by_rendering(read_forms(reader.base, forms, fleet=fleet))


def read_recalled(
    reader: ModuleReader, version: Version, examples: Sequence[Example]
) -> list[bool]:
    """Return for each example whether the version's adapter gives its answer in any rendering."""
    if not examples:
        return []
    adapter = reader.load_adapters([version])[0]
    with reader.loaded_fleet([version]) as fleet:
        return recalled_in_any_form(reader.base, examples, fleet=fleet, activated=adapter.activated)


def forget_values(reader: ModuleReader, tx: Transaction, question: str) -> list[Example]:
    """Remove all values of a remembered fact; return those that no module was taught."""
    book = FactBook(reader.store.facts())
    key = book.key_of(question)
    if key is None:
        return []
    tx.forget_fact(key)
    return [example_of(fact) for fact in book.chain(key) if fact.module is None]


def _drop(reader: ModuleReader, tx: Transaction, loss: Loss) -> list[float]:
    """Drop what a module loses and train it again from what is left; return its new recall."""
    if not loss.is_whole:
        for version in loss.dropped:
            tx.drop(version)
        return []
    left = loss.left.sources if loss.left else ()
    tx.forget(loss.module, kept_sources=[source.sha256 for source in left])
    if not loss.left or not loss.version:
        return []
    settings = reader.read_settings(loss.version)
    options = WriteSettings(settings, one_seed=True)  # the seed is the module's own already
    jobs = plan_jobs(reader.base, [loss.left], options)
    reports = train_and_commit(reader.store, tx, reader.base, [loss.left], jobs, options)
    return [reports[0].recall]


def _read_recalled_before(reader: ModuleReader, loss: Loss) -> list[bool]:
    """Return which facts the version recalls."""
    return read_recalled(reader, loss.version, loss.examples) if loss.version else []


def _read_recalled_by_any(
    reader: ModuleReader, texts: ModuleTexts, examples: Sequence[Example]
) -> tuple[list[bool], list[str]]:
    """Return which answers the bare model or a module the bank would ask now recalls.

    Modules that are damaged are returned too: the facts are forgotten however others are.
    """
    if not examples:
        return [], []
    base = reader.base
    hits = recalled_in_any_form(base, examples)
    indices_of: dict[str, list[int]] = {}
    questions = [example.question for example in examples]
    for i, candidates in enumerate(TextRouter(texts).route(questions, N_CANDIDATES)):
        for candidate in candidates:
            indices_of.setdefault(candidate.module, []).append(i)
    unasked = []
    for module, indices in indices_of.items():
        try:
            version = reader.store.current(module)
            recalled = read_recalled(reader, version, [examples[i] for i in indices])
        except Exception as error:  # of a module that is damaged or was imported so
            _log.warning("not asked for what was forgotten: %s", error)
            unasked.append(f"module {module}")
            continue
        for i, hit in zip(indices, recalled, strict=True):
            hits[i] = hits[i] or hit
    return hits, unasked


def look_for_answers(
    reader: ModuleReader, texts: ModuleTexts, groups: Sequence[tuple[Sequence[Example], str]]
) -> tuple[list[bool], list[str]]:
    """Return which forgotten answers are still recalled by anybody, and what was not asked.

    Args:
        groups: forgotten examples, each with a name for them.
    """
    recalled: list[bool] = []
    unasked: list[str] = []
    for examples, title in groups:
        readings = _measure(partial(_read_recalled_by_any, reader, texts, examples))
        recalled += readings[0] if readings else []
        unasked += readings[1] if readings else [title]
    return recalled, unasked


def search_files(
    store: Store, dropped: Sequence[Version], between: Callable[[], None] = lambda: None
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return what is gone of dropped versions, which files still hold weights, which are unread.

    Args:
        between: called after each file of the bank that was read.
    """
    secrets = {v.files[name] for v in dropped for name in (TENSORS, SPECTRA) if name in v.files}
    hashes = {digest for version in dropped for digest in version.files.values()}
    removed = sorted(digest for digest in hashes if not is_stored(store.path, digest))
    remaining, unread = _find_files(store.path, secrets, between)
    return tuple(removed), tuple(remaining), tuple(unread)


def _find_files(
    folder: Path, hashes: set[str], between: Callable[[], None]
) -> tuple[list[str], list[str]]:
    """Return the files of a bank whose content has one of these hashes, and those not readable."""
    matches, unread = [], []
    for names in walk_files(folder) if hashes else ():
        between()
        try:
            if hash_file(folder, *names) in hashes:
                matches.append("/".join(names))
        except OSError:
            unread.append("/".join(names))
    return matches, unread
