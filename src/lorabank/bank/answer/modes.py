"""Ways of answering: with nothing, with modules, with text, with both.

    none          the bare model
    adapter       the module that convinces the gate (asking.py)
    rag           the passages that fit the question best, read by the bare model
    icl           the whole document the best of them is from, read by the bare model
    adapter+rag   the passages, answered by the module that fits the question best
    adapter+icl   the document, answered by it: activated adapters share one reading of it

The ways that arXiv:2603.01097 compares on long documents (its questions 12 and 13). There, text
that was not found was answered for without a word; here the answer says so.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.ask import check_questions, fleets
from lorabank.bank.answer.excerpts import N_EXCERPTS, Citation, Excerpt, Excerpts
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import Candidate, Router
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.document_prefix import Prompt, with_context
from lorabank.engine.inference.generate import OnToken, generate
from lorabank.errors import DataError, UsageError
from lorabank.store.records import Version
from lorabank.tasks.examples import Message

NONE, ADAPTER, RAG, ICL, AUTO = "none", "adapter", "rag", "icl", "auto"
ADAPTER_RAG, ADAPTER_ICL = "adapter+rag", "adapter+icl"
MODES = (NONE, ADAPTER, RAG, ICL, ADAPTER_RAG, ADAPTER_ICL)
NOTHING_FOUND = "retriever found nothing: answered closed book"
NO_MODULE = "no module fits: answered by the bare model"


@dataclass(frozen=True, slots=True)
class PreparedQuestion:
    """A question as it is put to the model."""

    prompt: Prompt
    used: str
    """One of WAYS."""
    candidate: Candidate | None = None
    """The module that answers; None for the bare model."""
    citations: tuple[Citation, ...] = ()
    note: str = ""


def check_mode(way: str) -> None:
    """Refuse an unknown one.

    Raises:
        UsageError: names those there are.
    """
    if way not in (*MODES, AUTO):
        raise UsageError(f"--with must be one of {', '.join((*MODES, AUTO))}, got {way!r}")


def answer_in_mode(
    mode: str,
    reader: ModuleReader,
    questions: Sequence[str],
    *,
    excerpts: Excerpts,
    router: Router,
    find: Callable[[str], Version],
    source_of: Callable[[Version, str], str | None],
    n_excerpts: int = N_EXCERPTS,
    max_new_tokens: int = 64,
) -> list[Answer]:
    """An answer to each question, by any way but `adapter` and `auto`.

    Args:
        router: names the module of the ways with an adapter; no gate is asked.
        n_excerpts: passages read together.

    Raises:
        UsageError: a bank without text, or a context that does not fit.
    """
    check_questions(questions)
    started = time.perf_counter()
    asked = prepare_questions(
        mode, reader.base, questions, excerpts, router, n_excerpts, max_new_tokens
    )
    first: dict[int, float] = {}

    def on_token(i: int, _: int) -> None:
        first.setdefault(i, time.perf_counter() - started)

    texts = _say(reader, asked, find, max_new_tokens, on_token)
    seconds = time.perf_counter() - started
    answers = []
    for i, (question, one) in enumerate(zip(questions, asked, strict=True)):
        version = find(one.candidate.module) if one.candidate else None
        answers.append(
            Answer(
                question=question,
                text=texts[i],
                kind="module" if version else "bare",
                module=version.module if version else None,
                version=version.number if version else None,
                source=source_of(version, question) if version else None,
                p=None,
                candidates=(),
                mode=mode,
                used=one.used,
                citations=one.citations,
                prompt_tokens=len(one.prompt.ids),
                first_token_s=first.get(i, seconds),
                seconds=seconds,
                note=one.note,
            )
        )
    return answers


def prepare_questions(
    way: str,
    base: Base,
    questions: Sequence[str],
    excerpts: Excerpts,
    router: Router,
    n_excerpts: int,
    room: int,
) -> list[PreparedQuestion]:
    """Each question with what its way puts before it, and the module that answers.

    Args: room: tokens left for the answer.
    """
    text_way = way.removeprefix(f"{ADAPTER}+")
    found: list[list[Excerpt]] = [[] for _ in questions]
    if text_way in (RAG, ICL):
        excerpts.require_text(way)
        found = excerpts.search(questions, k=n_excerpts)
    routed: list[list[Candidate]] = [[] for _ in questions]
    if text_way != way:
        routed = router.route(questions, 1)
    asked = []
    for question, some, few in zip(questions, found, routed, strict=True):
        prompt, citations = prepare_prompt(
            base, question, some if text_way != NONE else [], text_way, room
        )
        notes = [NOTHING_FOUND] if text_way != NONE and not some else []
        if text_way == RAG and len(citations) < len(some):
            notes.append(f"read {len(citations)} of {len(some)} passages: more do not fit")
        notes += [NO_MODULE] if text_way != way and not few else []
        parts = [ADAPTER] * bool(few) + [text_way] * bool(some)
        candidate = few[0] if few else None
        used = "+".join(parts) or NONE
        asked.append(PreparedQuestion(prompt, used, candidate, citations, "; ".join(notes)))
    return asked


def prepare_prompt(
    base: Base, question: str, found: Sequence[Excerpt], text_way: str, room: int
) -> tuple[Prompt, tuple[Citation, ...]]:
    """A question with the passages found, or with the document of the first; what is cited.

    Raises:
        UsageError: it does not fit, with the document. DataError: nor without.
    """
    if not found:
        ids = base.chat.prompt_ids([Message("user", question)])
        if len(ids) + room > base.max_tokens:
            raise DataError(
                f"a question of {len(ids):,} tokens does not fit: {base.info.name} takes "
                f"{base.max_tokens:,} with {room} for the answer; shorten it"
            )
        return Prompt(tuple(ids), 0), ()
    if text_way == RAG:
        return _put_passages(base, question, found, room)
    document = found[0].chunk.document
    prompt = with_context(base, document.text, question, room=room)
    return prompt, (Citation(document.name, "", 0, len(document.text)),)


def _put_passages(
    base: Base, question: str, found: Sequence[Excerpt], room: int
) -> tuple[Prompt, tuple[Citation, ...]]:
    """As many of the passages as fit, the best first."""
    for n in range(len(found), 0, -1):
        context = "\n\n".join(excerpt.text for excerpt in found[:n])
        try:
            prompt = with_context(base, context, question, room=room)
        except UsageError:
            if n == 1:
                raise
            continue
        return prompt, tuple(excerpt.citation for excerpt in found[:n])
    raise AssertionError("something was found")


def _say(
    reader: ModuleReader,
    asked: Sequence[PreparedQuestion],
    find: Callable[[str], Version],
    max_new_tokens: int,
    on_token: OnToken,
) -> list[str]:
    texts = [""] * len(asked)
    routed = [[one.candidate] if one.candidate else [] for one in asked]
    for some, versions in fleets(routed, find):
        prompts = [asked[i].prompt.ids for i in some]
        # Passages are another text for each question: there is nothing to keep of them.
        prefix = [asked[i].prompt.prefix if ICL in asked[i].used else 0 for i in some]

        def told(row: int, token: int, places: Sequence[int] = some) -> None:
            on_token(places[row], token)

        if not versions:
            said = generate(
                reader.base, prompts, max_new_tokens=max_new_tokens, on_token=told, prefix=prefix
            )
        else:
            slot_of = {name: slot for slot, name in enumerate(versions)}
            with reader.loaded_fleet(list(versions.values())) as fleet:
                said = generate(
                    reader.base,
                    prompts,
                    fleet=fleet,
                    slots=[slot_of[routed[i][0].module] if routed[i] else 0 for i in some],
                    adapter_scales=[float(bool(routed[i])) for i in some],
                    max_new_tokens=max_new_tokens,
                    on_token=told,
                    prefix=prefix,
                )
        for i, text in zip(some, said, strict=True):
            texts[i] = text
    return texts
