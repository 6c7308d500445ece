"""Documents into module drafts: passages, examples made of them, held-out questions, modules.

Which formats of examples are best, and in which mix, is questions 4 and 5 of arXiv:2603.01097. A
document is a source, known by the hash of its file; a module is found by its passages. The
generator's replies are cached in BANK/derived, so that a write that was killed asks for nothing
twice; forgetting clears them.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lorabank.bank.drafts import DraftPassage, DraftSource, ModuleDraft
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.write.held_out import PassageSpan, find_best_passage, hold_out, locate_passage
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.files import storage_errors
from lorabank.retrieval.chunks import Chunk, TokenCounter
from lorabank.retrieval.documents import Document
from lorabank.store.names import check_name
from lorabank.store.records import Source
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.example_synthesis import SynthesisOptions, synthesise
from lorabank.synthesis.formats import parse_formats
from lorabank.synthesis.generators import Generator, SamplingOptions
from lorabank.synthesis.inputs import chunk_documents, usual_formats
from lorabank.synthesis.local import LocalGenerator
from lorabank.synthesis.results import MadeExample, RefusedExample, SynthesisOutcome
from lorabank.synthesis.rule_questions import MOST_BY_RULE
from lorabank.synthesis.sources import SourceText, sources_from_chunks
from lorabank.synthesis.synthesis_run import OnReply
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.joined_facts import prompt_keys

CACHE = "synthesis.sqlite"
ONE_MODULE_EXAMPLES = 500
"""Most examples that go into one module unless another number of modules is asked for."""
_N_WORDS = 8  # first words by which a passage is shown
AUTO, PER_DOCUMENT = "auto", "per-document"


@dataclass(frozen=True, slots=True)
class DraftOptions:
    """The choices of how documents become module drafts, and how often these are trained.

    Raises:
        UsageError: a value that is not allowed; names the flag.
    """

    formats: str | None = None
    """Examples to make of each passage (synthesis/formats.py); None for what is usual with the
    generator, or without one."""
    own: tuple[DraftSource, ...] = ()
    """Files of the user's own questions, taught beside what is made of the documents."""
    most_by_rule: int = MOST_BY_RULE
    """Most examples that rules make of one document."""
    chunk_tokens: int = 256
    """Most tokens of a passage, by the base's own tokenizer."""
    modules: str = AUTO
    """Number of modules, or `auto` or `per-document`."""
    held_out: tuple[Example, ...] = ()
    """Questions to measure by; if empty, some of the made questions are held out."""
    skip_failed: bool = False
    """Whether documents of which no example could be made are skipped instead of refused."""
    with_text: bool = True
    """Whether the bank stores the documents' text, and modules are found by their passages."""
    passes: int = 2
    """Most trainings of a module; it is trained again where passages did not stick."""
    seed: int = 0
    """Seed of the generator's draws and of the choice of held-out questions."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.formats is not None:
            parse_formats(self.formats)
        if self.most_by_rule < 1:
            raise UsageError(f"--by-rule must be at least 1, got {self.most_by_rule}")
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
    """Drafts ready to be written, and how their examples were made."""

    modules: list[ModuleDraft]
    synthesis: SynthesisOutcome
    """Examples that were made, those that were refused, and those that contradicted others."""

    @property
    def fullest(self) -> ModuleDraft:
        """Return the module with the most examples, by which the rank is planned."""
        return max(self.modules, key=lambda module: len(module.examples))


@dataclass(frozen=True, slots=True)
class _PassageExamples:
    """Examples by passage: those to train on and those to measure by."""

    taught: Mapping[PassageSpan, Sequence[Example]]
    held_out: Mapping[PassageSpan, Sequence[Example]]


def draft_documents(
    reader: ModuleReader,
    name: str,
    documents: Sequence[Document],
    *,
    generator: Generator | None,
    options: DraftOptions,
    on_reply: OnReply | None = None,
) -> DocumentDrafts:
    """Turn documents into the drafts of one module or of several.

    Args:
        name: name of the module, or the beginning of the names of several.
        generator: None for examples made by rule alone; rules also make what the base model as
            generator does not.

    Raises:
        UsageError: two documents of one name, more modules than documents, or a document of which
            no example could be made.
        UnavailableError: the generator cannot be reached any more; its replies so far are cached.
    """
    check_documents(name, documents, options)
    chunks = chunk_documents(
        documents, size_tokens=options.chunk_tokens, count=token_counter(reader.base)
    )
    source_texts = sources_from_chunks(chunks)
    formats = options.formats or usual_formats(generator)
    folder = reader.store.path / "derived"
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    with ReplyCache(folder / CACHE) as cache:
        synthesis = synthesise(
            source_texts,
            parse_formats(formats),
            generator,
            None if generator is None or generator.is_file else cache,
            SynthesisOptions(
                SamplingOptions(seed=options.seed),
                held_out=[example.question for example in options.held_out],
                skip_failed=options.skip_failed,
                fills_by_rule=isinstance(generator, LocalGenerator),
                most_by_rule=options.most_by_rule,
            ),
            on_reply=on_reply,
        )
    _drop_own(synthesis, options.own)
    counts, examples = _split_examples(synthesis.made, source_texts, options)
    used = [document for document in documents if counts[document.name]]
    if not used:
        raise UsageError(
            f"{synthesis.generator} made no examples of the documents with --formats "
            f"{formats}; give another --generator, or add original"
        )
    modules = []
    for module, names in plan_modules(name, counts, options.modules).items():
        own = [document for document in used if document.name in names]
        modules.append(_draft_module(module, own, chunks, examples, with_text=options.with_text))
    return DocumentDrafts(_with_own(name, modules, options.own), synthesis)


def check_documents(
    name: str, documents: Sequence[Document], options: DraftOptions
) -> list[ModuleDraft]:
    """Check what can be checked before examples are made; return drafts without examples.

    Raises:
        UsageError: two documents of one name, more modules than documents, or a module name that
            is not allowed.
    """
    for title, n in Counter(document.name for document in documents).items():
        if n > 1:
            raise UsageError(
                f"{n} documents are called {title!r}; give the folder above them, so that their "
                "names tell them apart"
            )
    counts = dict.fromkeys((document.name for document in documents), 1)
    modules = options.modules if options.modules != AUTO else "1"
    planned = [
        ModuleDraft(
            check_name(title),
            tuple(
                DraftSource(Source(d.name, d.sha256, 0), ()) for d in documents if d.name in names
            ),
        )
        for title, names in plan_modules(name, counts, modules).items()
    ]
    return _with_own(name, planned, options.own)


def plan_modules(name: str, counts: Mapping[str, int], modules: str) -> dict[str, list[str]]:
    """Return the modules to be written, each with the names of its documents.

    `auto` is one module for up to 500 examples, and beyond that one for each document. One module
    is never missed by routing, and shares what documents have in common. But forgetting a document
    trains the rest of its module again, and changing one rewrites all of it, so documents of a
    large collection are better apart. A number distributes whole documents in order, each module
    about as many examples.

    Args:
        counts: number of examples of each document, in order.

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
    groups: list[list[str]] = [[]]
    n_left, n_in_group = sum(counts.values()), 0
    for i, (title, count) in enumerate(counts.items()):
        n_empty = n - len(groups)  # modules without a document yet
        is_full = n_in_group + count / 2 > n_left / (n_empty + 1)
        if groups[-1] and n_empty and (is_full or len(counts) - i == n_empty):
            n_left, n_in_group = n_left - n_in_group, 0
            groups.append([])
        groups[-1].append(title)
        n_in_group += count
    return {f"{name}-{i}": titles for i, titles in enumerate(groups, start=1)}


def token_counter(base: Base) -> TokenCounter:
    """Return a function that counts tokens as the base does, without special tokens."""
    tokenizer = base.chat.tokenizer

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    return count


def _split_examples(
    made: Sequence[MadeExample], source_texts: Sequence[SourceText], options: DraftOptions
) -> tuple[Counter[str], _PassageExamples]:
    """Return the number of taught examples by document, and all examples by passage."""
    taught, held_out = tuple(made), defaultdict[PassageSpan, list[Example]](list)
    if options.held_out:
        for example in options.held_out:
            held_out[find_best_passage(example, source_texts)].append(example)
    else:
        split = hold_out(made, seed=options.seed)
        taught = split.taught
        for question in split.held_out:
            pair = from_pair(question.prompt, question.answer)
            held_out[locate_passage(question)].append(pair)
    by_passage = defaultdict[PassageSpan, list[Example]](list)
    for made_example in taught:
        pair = from_pair(made_example.prompt, made_example.answer)
        if made_example.rule:
            pair = replace(pair, made_by=f"rule:{made_example.rule}")
        by_passage[locate_passage(made_example)].append(pair)
    counts = Counter(example.document for example in taught)
    return counts, _PassageExamples(by_passage, held_out)


def _drop_own(synthesis: SynthesisOutcome, own: Sequence[DraftSource]) -> None:
    """Drop the examples made that ask what the user's own questions ask."""
    own_keys = {key for part in own for example in part.examples for key in prompt_keys(example)}
    for made in list(synthesis.made) if own_keys else ():
        if own_keys & set(prompt_keys(from_pair(made.prompt, made.answer))):
            synthesis.made.remove(made)
            reason, text = "among your own questions", f"{made.prompt} {made.answer}"
            synthesis.refused.append(
                RefusedExample(reason, made.format, made.document, made.section, text)
            )


def _with_own(
    name: str, modules: list[ModuleDraft], own: tuple[DraftSource, ...]
) -> list[ModuleDraft]:
    """Return the modules with the user's own questions, which go into the only one or their own."""
    if not own:
        return modules
    if len(modules) == 1:
        return [replace(modules[0], parts=(*modules[0].parts, *own))]
    return [*modules, ModuleDraft(check_name(f"{name}-questions"), own)]


def _draft_module(
    name: str,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    examples: _PassageExamples,
    *,
    with_text: bool,
) -> ModuleDraft:
    sources, passages, texts, n = [], [], [], 0
    for document in documents:
        document_examples: list[Example] = []
        for chunk in (chunk for chunk in chunks if chunk.document is document):
            span = (document.name, chunk.start, chunk.end)
            taught = examples.taught.get(span, ())
            indices = tuple(range(n, n + len(taught)))
            n += len(taught)
            document_examples += taught
            texts.append(chunk.text)
            words = " ".join(chunk.text.split()[:_N_WORDS])
            held_out = tuple(examples.held_out.get(span, ()))
            passages.append(DraftPassage(document.name, chunk.heading, words, indices, held_out))
        source = Source(document.name, document.sha256, len(document_examples))
        sources.append(DraftSource(source, tuple(document_examples)))
    return ModuleDraft(
        check_name(name),
        tuple(sources),
        tuple(texts) if with_text else (),
        tuple(documents) if with_text else (),
        tuple(passages),
    )
