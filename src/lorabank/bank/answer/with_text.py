"""Modes `none`, `rag`, `icl`, `adapter+rag` and `adapter+icl`: the prompt decides, not the gate.

Search, route, build prompts, generate. In arXiv:2603.01097 a question for which the retriever
found no text was answered without a word about that; here the answer carries a note.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.candidate_drafts import group_by_fleet
from lorabank.bank.answer.excerpts import Citation, Excerpt
from lorabank.bank.answer.modes import ADAPTER, ICL, NONE, RAG, AskSettings, check_questions
from lorabank.bank.answer.state import BankState
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import Candidate
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.document_prefix import DocumentPrompt, prompt_with_document
from lorabank.engine.inference.generate import GenerationOptions, OnToken, generate
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import Message

NOTHING_FOUND = "retriever found nothing: answered closed book"
NO_MODULE = "no module fits: answered by the bare model"


@dataclass(frozen=True, slots=True)
class _PreparedQuestion:
    """A question as it is given to the model."""

    prompt: DocumentPrompt
    used: str
    """Mode it is answered in, one of MODES."""
    candidate: Candidate | None = None
    """Module that answers; None for the bare model."""
    citations: tuple[Citation, ...] = ()
    note: str = ""


def answer_with_text(
    state: BankState, questions: Sequence[str], settings: AskSettings
) -> list[Answer]:
    """Answer each question in any mode but `adapter` and `auto`.

    The router names the module for the modes with an adapter; the gate is not consulted.

    Raises:
        UsageError: a bank without text, or a document that does not fit into the context.
        DataError: a question longer than the model's context.
    """
    check_questions(questions)
    started = time.perf_counter()
    prepared = _prepare(state, questions, settings)
    first_token_s: dict[int, float] = {}

    def on_token(i: int, _: int) -> None:
        first_token_s.setdefault(i, time.perf_counter() - started)

    texts = _generate(state.reader, prepared, settings.max_new_tokens, on_token)
    seconds = time.perf_counter() - started
    answers = []
    for i, (question, ready) in enumerate(zip(questions, prepared, strict=True)):
        version = state.store.current(ready.candidate.module) if ready.candidate else None
        answers.append(
            Answer(
                question=question,
                text=texts[i],
                kind="module" if version else "bare",
                module=version.module if version else None,
                version=version.number if version else None,
                source=state.closest_source(version, question) if version else None,
                p=None,
                candidates=(),
                mode=settings.mode,
                used=ready.used,
                citations=ready.citations,
                prompt_tokens=len(ready.prompt.ids),
                first_token_s=first_token_s.get(i, seconds),
                seconds=seconds,
                note=ready.note,
            )
        )
    return answers


def _prepare(
    state: BankState, questions: Sequence[str], settings: AskSettings
) -> list[_PreparedQuestion]:
    """Find the text and the module for each question and build its prompt."""
    text_mode = settings.mode.removeprefix(f"{ADAPTER}+")
    with_module = text_mode != settings.mode
    excerpts: list[list[Excerpt]] = [[] for _ in questions]
    if text_mode in (RAG, ICL):
        state.excerpts.require_text(settings.mode)
        excerpts = state.excerpts.search(questions)
    routed: list[list[Candidate]] = [[] for _ in questions]
    if with_module:
        routed = settings.router.route(questions, 1)
    prepared = []
    for question, own_excerpts, candidates in zip(questions, excerpts, routed, strict=True):
        prompt, citations = build_prompt(
            state.base, question, own_excerpts, text_mode, settings.max_new_tokens
        )
        notes = [NOTHING_FOUND] if text_mode != NONE and not own_excerpts else []
        if text_mode == RAG and len(citations) < len(own_excerpts):
            notes.append(f"read {len(citations)} of {len(own_excerpts)} passages: more do not fit")
        notes += [NO_MODULE] if with_module and not candidates else []
        used = "+".join([ADAPTER] * bool(candidates) + [text_mode] * bool(own_excerpts)) or NONE
        candidate = candidates[0] if candidates else None
        prepared.append(_PreparedQuestion(prompt, used, candidate, citations, "; ".join(notes)))
    return prepared


def build_prompt(
    base: Base, question: str, excerpts: Sequence[Excerpt], text_mode: str, max_new_tokens: int
) -> tuple[DocumentPrompt, tuple[Citation, ...]]:
    """Build the prompt of a question and cite the text in it.

    Args:
        excerpts: passages that fit the question; without any the question stands alone.
        text_mode: `rag` puts the passages before the question, `icl` the first one's document.
        max_new_tokens: room left for the answer.

    Raises:
        UsageError: the prompt with its text does not fit into the context.
        DataError: the question alone does not fit.
    """
    if not excerpts:
        ids = base.chat.direct_prompt_ids([Message("user", question)])
        if len(ids) + max_new_tokens > base.max_tokens:
            raise DataError(
                f"a question of {len(ids):,} tokens does not fit: {base.info.name} takes "
                f"{base.max_tokens:,} with {max_new_tokens} for the answer; shorten it"
            )
        return DocumentPrompt(tuple(ids), 0), ()
    if text_mode == RAG:
        return _build_passages_prompt(base, question, excerpts, max_new_tokens)
    document = excerpts[0].chunk.document
    prompt = prompt_with_document(base, document.text, question, room=max_new_tokens)
    return prompt, (Citation(document.name, "", 0, len(document.text)),)


def _build_passages_prompt(
    base: Base, question: str, excerpts: Sequence[Excerpt], max_new_tokens: int
) -> tuple[DocumentPrompt, tuple[Citation, ...]]:
    """Put as many of the passages as fit before the question, the best first."""
    for n in range(len(excerpts), 0, -1):
        context = "\n\n".join(excerpt.text for excerpt in excerpts[:n])
        try:
            prompt = prompt_with_document(base, context, question, room=max_new_tokens)
        except UsageError:
            if n == 1:
                raise
            continue
        return prompt, tuple(excerpt.citation for excerpt in excerpts[:n])
    raise AssertionError("there is at least one excerpt")


def _generate(
    reader: ModuleReader,
    prepared: Sequence[_PreparedQuestion],
    max_new_tokens: int,
    on_token: OnToken,
) -> list[str]:
    """Generate all answers, the questions of each group of modules in one batch."""
    texts = [""] * len(prepared)
    routed = [[ready.candidate] if ready.candidate else [] for ready in prepared]
    for group in group_by_fleet(reader, routed):
        indices, versions = group.question_indices, group.versions
        prompts = [prepared[i].prompt.ids for i in indices]
        # Passages differ from question to question, so only a document is worth a cached prefill.
        prefix = [prepared[i].prompt.prefix if ICL in prepared[i].used else 0 for i in indices]

        def on_row_token(row: int, token: int, indices: Sequence[int] = indices) -> None:
            on_token(indices[row], token)

        if not versions:
            replies = generate(
                reader.base,
                prompts,
                max_new_tokens=max_new_tokens,
                options=GenerationOptions(prefix=prefix, on_token=on_row_token),
            )
        else:
            slot_of = {name: slot for slot, name in enumerate(versions)}
            with reader.loaded_fleet(list(versions.values())) as fleet:
                replies = generate(
                    reader.base,
                    prompts,
                    fleet=fleet,
                    slots=[slot_of[routed[i][0].module] if routed[i] else 0 for i in indices],
                    max_new_tokens=max_new_tokens,
                    options=GenerationOptions(
                        adapter_scales=[float(bool(routed[i])) for i in indices],
                        prefix=prefix,
                        on_token=on_row_token,
                    ),
                )
        for i, text in zip(indices, replies, strict=True):
            texts[i] = text
    return texts
