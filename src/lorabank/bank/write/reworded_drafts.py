"""Wordings of a draft's facts, made before the draft is trained, and kept with it.

What is made of documents has formats of its own for that, and is measured by passage; it stays as
it is, while the user's own questions beside it get wordings. A draft that is read back from the
bank has its wordings already.
"""

from collections.abc import Sequence
from dataclasses import replace

from lorabank.bank.drafts import DraftSource, ModuleDraft
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.write.document_drafts import CACHE
from lorabank.engine.settings import TrainSettings
from lorabank.errors import UsageError
from lorabank.files import storage_errors
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.fact_wordings import write_wordings
from lorabank.synthesis.generators import Generator
from lorabank.synthesis.synthesis_run import OnReply
from lorabank.tasks.examples import Example
from lorabank.tasks.made_wordings import reverse, reword


def reword_draft(
    draft: ModuleDraft, settings: TrainSettings, *, written: Sequence[Sequence[str]] = ()
) -> ModuleDraft:
    """Return a draft of facts with the wordings and reversed questions that its settings ask for.

    Args:
        written: wordings that a generator wrote of each example; empty for those of rules alone.

    Raises:
        UsageError: reversed questions of documents.
    """
    made_of = {passage.document for passage in draft.passages}
    if (made_of or draft.documents) and settings.reverse:
        raise UsageError("--reverse is for facts; for documents add reverse to --formats")
    if draft.documents and not made_of:
        return draft  # as it is read back from the bank
    examples = reword(draft.examples, settings.wordings, written=written)
    nothing: list[Example | None] = [None] * len(examples)
    turned = reverse(examples, settings.wordings) if settings.reverse else nothing
    made = iter(list(zip(examples, turned, strict=True)))
    parts = []
    for part in draft.parts:
        pairs = [next(made) for _ in part.examples]
        if part.source.name in made_of:
            parts.append(part)
            continue
        own = [*(example for example, _ in pairs), *(turn for _, turn in pairs if turn)]
        source = replace(part.source, n_examples=len(own))
        parts.append(DraftSource(source, tuple(own)))
    return replace(draft, parts=tuple(parts))


def reword_by_generator(
    reader: ModuleReader,
    drafts: Sequence[ModuleDraft],
    generator: Generator,
    settings: TrainSettings,
    *,
    on_reply: OnReply | None = None,
) -> list[ModuleDraft]:
    """Return drafts of facts with wordings that a generator wrote, and what rules make beside them.

    Its replies are cached in the bank, so that a write that was killed asks for nothing twice.

    Raises:
        UsageError: the settings ask for no wordings.
        UnavailableError: the generator cannot be reached any more.
    """
    n = settings.wordings
    if n < 2:
        raise UsageError(
            f"--generator writes wordings of facts: give --wordings 2 or more, got {n}"
        )
    folder = reader.store.path / "derived"
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    reworded = []
    with ReplyCache(folder / CACHE) as cache:
        for draft in drafts:
            wordings = write_wordings(
                draft.examples, n, generator, cache, seed=settings.seed, on_reply=on_reply
            )
            reworded.append(reword_draft(draft, settings, written=wordings.by_fact))
    return reworded
