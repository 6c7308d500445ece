"""Documents into parcels: cut, examples made of them, some questions held out, modules planned.

What is made of a passage, and how mixes of it compare, is questions 4 and 5 of arXiv:2603.01097.
A document is a source, known by the hash of its file; its passages are what the module is found
by. Replies are kept in BANK/derived, so that a write that was killed asks nothing twice; forgetting
drops them.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.write.drafts import DraftPassage, DraftSource, ModuleDraft
from lorabank.bank.write.held_out import PassageSpan, find_best_passage, hold_out, locate_passage
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.retrieval.chunks import Chunk, TokenCounter
from lorabank.retrieval.documents import Document
from lorabank.store.names import check_name
from lorabank.store.records import Source
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.example_synthesis import synthesise
from lorabank.synthesis.format_tasks import SamplingOptions
from lorabank.synthesis.formats import parse_formats
from lorabank.synthesis.generators import Generator
from lorabank.synthesis.inputs import DEFAULT_FORMATS, chunk_documents
from lorabank.synthesis.results import MadeExample, SynthesisOutcome
from lorabank.synthesis.sources import sources_from_chunks
from lorabank.synthesis.synthesis_run import OnReply
from lorabank.tasks.examples import Example, from_pair

CACHE = "synthesis.sqlite"
ONE_MODULE_EXAMPLES = 500
"""Examples that go into one module unless something else is asked for."""
_WORDS = 8  # a passage is named by
AUTO, PER_DOCUMENT = "auto", "per-document"


@dataclass(frozen=True, slots=True)
class DraftOptions:
    """How documents become parcels."""

    formats: str = DEFAULT_FORMATS
    """What to make of each passage (synthesis/formats.py)."""
    chunk_tokens: int = 256
    """Tokens of a passage at most, by the base's own tokenizer."""
    modules: str = AUTO
    """auto, per-document, or a number."""
    held_out: tuple[Example, ...] = ()
    """Questions to measure by; empty for a share of those that are made."""
    skip_failed: bool = False
    """Whether documents of which the generator gave nothing fit are only named."""
    with_text: bool = True
    """Whether the bank keeps the documents' text, and modules are found by their passages."""
    passes: int = 2
    """Most trainings of a module; it is trained again where passages did not stick."""
    seed: int = 0
    """Seed of the generator's draws and of the choice of held-out questions."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, naming the flag."""
        parse_formats(self.formats)
        if self.chunk_tokens < 1:
            raise UsageError(f"--chunk-tokens must be at least 1, got {self.chunk_tokens}")
        if self.modules not in (AUTO, PER_DOCUMENT) and not (
            self.modules.isascii() and self.modules.isdigit() and int(self.modules) >= 1
        ):
            raise UsageError(
                f"--modules must be {AUTO}, {PER_DOCUMENT} or a number, got {self.modules!r}"
            )


@dataclass(frozen=True, slots=True)
class DocumentDrafts:
    """Parcels ready to be written, and how they came about."""

    modules: list[ModuleDraft]
    synthesis: SynthesisOutcome
    """Of the synthesis: what was made, refused, contradicted."""


def draft_documents(
    reader: ModuleReader,
    name: str,
    documents: Sequence[Document],
    *,
    generator: Generator,
    options: DraftOptions,
    on_reply: OnReply | None = None,
) -> DocumentDrafts:
    """Documents into the parcels of one module or of several.

    Raises:
        UsageError: two documents of one name, more modules than documents, nothing fit to be taught
            of a document. UnavailableError: the generator cannot be reached any more; what it
            answered is kept.
    """
    check_documents(name, documents, options)
    chunks = chunk_documents(
        documents, size_tokens=options.chunk_tokens, count=token_counter(reader.base)
    )
    pieces = sources_from_chunks(chunks)
    folder = reader.store.path / "derived"
    folder.mkdir(exist_ok=True)
    with ReplyCache(folder / CACHE) as cache:
        outcome = synthesise(
            pieces,
            parse_formats(options.formats),
            generator,
            None if generator.is_file else cache,
            sampling=SamplingOptions(seed=options.seed),
            held_out=[example.question for example in options.held_out],
            skip_failed=options.skip_failed,
            on_reply=on_reply,
        )
    taught, asked = tuple(outcome.made), defaultdict[PassageSpan, list[Example]](list)
    if options.held_out:
        for example in options.held_out:
            asked[find_best_passage(example, pieces)].append(example)
    else:
        split = hold_out(outcome.made, seed=options.seed)
        taught = split.taught
        for one in split.held_out:
            asked[locate_passage(one)].append(from_pair(one.prompt, one.answer))
    counts = Counter(one.document for one in taught)
    known = [document for document in documents if counts[document.name]]
    if not known:
        raise UsageError(
            f"nothing was made of the documents by {generator.name} with --formats "
            f"{options.formats}; give another --generator, or add original"
        )
    parcels = [
        _parcel(title, [one for one in known if one.name in names], chunks, taught, asked, options)
        for title, names in plan_modules(name, counts, options.modules).items()
    ]
    return DocumentDrafts(parcels, outcome)


def check_documents(
    name: str, documents: Sequence[Document], options: DraftOptions
) -> list[ModuleDraft]:
    """What can be refused before anything is asked; the parcels to be, without examples.

    Raises:
        UsageError: as `make`, or a name that cannot be.
    """
    for title, n in Counter(one.name for one in documents).items():
        if n > 1:
            raise UsageError(
                f"{n} documents are called {title!r}; give the folder above them, so that their "
                "names tell them apart"
            )
    counts = dict.fromkeys((one.name for one in documents), 1)
    modules = options.modules if options.modules != AUTO else "1"
    return [
        ModuleDraft(
            check_name(title),
            tuple(
                DraftSource(Source(d.name, d.sha256, 0), ()) for d in documents if d.name in names
            ),
        )
        for title, names in plan_modules(name, counts, modules).items()
    ]


def plan_modules(name: str, counts: Mapping[str, int], modules: str) -> dict[str, list[str]]:
    """The modules to be, each with the names of its documents.

    `auto` is one module for up to 500 examples, and beyond that one for each document. One is never
    missed by routing, and shares what documents have in common; but whoever forgets a document has
    the rest of its module trained anew, and whoever changes one rewrites all, so a large collection
    is better off apart. A number deals whole documents out in order, each module about as many
    examples.

    Args:
        counts: examples of each document, in order.

    Raises:
        UsageError: more modules than documents.
    """
    if modules == AUTO:
        modules = "1" if sum(counts.values()) <= ONE_MODULE_EXAMPLES else PER_DOCUMENT
    n = len(counts) if modules == PER_DOCUMENT else int(modules)
    if n > len(counts):
        raise UsageError(
            f"--modules {n}: a document goes into one module, and there are {len(counts)}; "
            f"give 1..{len(counts)}"
        )
    if n == 1:
        return {name: list(counts)}
    if modules == PER_DOCUMENT:
        return {f"{name}-{title.replace('/', '-')}": [title] for title in counts}
    dealt: list[list[str]] = [[]]
    left, here = sum(counts.values()), 0
    for i, (title, count) in enumerate(counts.items()):
        still = n - len(dealt)  # modules that have nothing yet
        is_full = here + count / 2 > left / (still + 1)
        if dealt[-1] and still and (is_full or len(counts) - i == still):
            left, here = left - here, 0
            dealt.append([])
        dealt[-1].append(title)
        here += count
    return {f"{name}-{i}": names for i, names in enumerate(dealt, start=1)}


def token_counter(base: Base) -> TokenCounter:
    """Counts tokens as the base does, special ones left out."""
    tokenizer = base.chat.tokenizer

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    return count


def _parcel(
    name: str,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    taught: Sequence[MadeExample],
    asked: Mapping[PassageSpan, Sequence[Example]],
    making: DraftOptions,
) -> ModuleDraft:
    by_place: defaultdict[PassageSpan, list[Example]] = defaultdict(list)
    for one in taught:
        by_place[locate_passage(one)].append(from_pair(one.prompt, one.answer))
    parts, passages, texts, n = [], [], [], 0
    for document in documents:
        examples: list[Example] = []
        for chunk in (chunk for chunk in chunks if chunk.document is document):
            place = (document.name, chunk.start, chunk.end)
            its = by_place[place]
            places = tuple(range(n, n + len(its)))
            n += len(its)
            examples += its
            texts.append(chunk.text)
            words = " ".join(chunk.text.split()[:_WORDS])
            held = tuple(asked.get(place, ()))
            passages.append(DraftPassage(document.name, chunk.heading, words, places, held))
        source = Source(document.name, document.sha256, len(examples))
        parts.append(DraftSource(source, tuple(examples)))
    return ModuleDraft(
        check_name(name),
        tuple(parts),
        tuple(texts) if making.with_text else (),
        tuple(documents) if making.with_text else (),
        tuple(passages),
    )
