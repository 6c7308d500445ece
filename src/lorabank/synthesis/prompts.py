"""Prompts for the generator, and the training questions that made texts answer.

The passage comes first and the instruction last, so that all requests about a passage share a
prefix, which a server with a prefix cache reads once. A reply is JSON, or, from generators too
small for JSON, labelled lines (questions) or bare text (everything else).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.synthesis.formats import FORMAT_SIZES, FormatKind
from lorabank.synthesis.generators import Request, SamplingOptions, estimate_tokens
from lorabank.synthesis.sources import SourceText
from lorabank.tasks.examples import Message

_ROOM = 2  # limit of a reply, as a multiple of its expected length
_FORM_TOKENS = 64  # for keys, brackets and quotes, and the variation of short replies
_MAX_AVOIDED = 40  # latest earlier questions shown

_WISHES = {
    FormatKind.QA: (
        "Write exactly {n} questions that this text answers, each with its answer.\n"
        "- Ask only about what the text says. Take over its names, numbers and terms unchanged.\n"
        "- Somebody who has not seen the text must know what each question is about: name the "
        "subject, and say {work} where the work itself is meant. Never write “this paper”, "
        "“the passage” or “the author”, and no “it”, “he” or “they” without its noun.\n"
        "- Keep answers short and complete. No two questions may ask for the same thing."
    ),
    FormatKind.SUMMARY: (
        "Write exactly {n} different summaries of this text. Each must stand alone, name what it "
        "is about, and give all main statements in order with their names and numbers, in about "
        "a third of the length. Add nothing that is not in the text."
    ),
    FormatKind.REWRITE: (
        "Tell this text anew exactly {n} times, each time in other words and other sentence "
        "forms. Keep every name, number and detail and about the same length; add nothing."
    ),
    FormatKind.IMPLICATIONS: (
        "Write exactly {n} different lists of what follows from this text, directly or by a short "
        "step of thought. One statement a line, each a full sentence that names its subject."
    ),
    FormatKind.PARAPHRASE: (
        "Ask this question in exactly {n} other ways, so that the answer stays the same. Keep "
        "every name and number. Do not give the answer away."
    ),
    FormatKind.REVERSE: (
        "Turn this fact around. Write exactly {n} question that states the answer above and asks "
        "for what the question above is about, so that its own answer is a name or term that "
        "stands in the question above."
    ),
}
_PLAIN_WISHES = {
    FormatKind.QA: "Write {n} questions about the text above, each with a short answer from it. "
    "Name the subject in every question.",
    FormatKind.SUMMARY: "Summarise the text above in a few sentences. Write only the summary.",
    FormatKind.REWRITE: "Tell the text above anew in other words, with every name and number. "
    "Write only the new text.",
    FormatKind.IMPLICATIONS: "List what follows from the text above, one full sentence a line.",
    FormatKind.PARAPHRASE: "Write {n} other ways to ask the question above, with the same names.",
    FormatKind.REVERSE: "Write a question that contains the answer above and asks for the name in "
    "the question above.",
}
KEYS: dict[FormatKind, tuple[str, ...]] = {
    FormatKind.QA: ("question", "answer"),
    FormatKind.SUMMARY: ("summary",),
    FormatKind.REWRITE: ("rewrite",),
    FormatKind.IMPLICATIONS: ("implications",),
    FormatKind.PARAPHRASE: ("question",),
    FormatKind.REVERSE: ("question", "answer"),
}
"""Keys of an item in a JSON reply, and labels of its lines in a plain reply."""
LABELLED = (FormatKind.QA, FormatKind.PARAPHRASE, FormatKind.REVERSE)
"""Kinds whose plain replies are labelled lines; for others the whole reply is the item."""


@dataclass(frozen=True, slots=True)
class QuestionFocus:
    """Sentences to ask about and questions to avoid in a request for questions."""

    sentences: Sequence[str] = ()
    """Sentences of the passage to ask about first; none for the whole passage."""
    avoid: Sequence[str] = ()
    """Questions that have been asked already."""


def request_for(
    source: SourceText,
    kind: FormatKind,
    n: int,
    *,
    as_json: bool,
    sampling: SamplingOptions,
    focus: QuestionFocus | None = None,
) -> Request:
    """Return a request for `n` items of a kind."""
    focus = focus or QuestionFocus()
    wish = (_WISHES if as_json else _PLAIN_WISHES)[kind].format(n=n, work=source.document_label)
    parts = [_shown(source), wish]
    if focus.sentences:
        lines = [f"- {sentence}" for sentence in focus.sentences]
        parts.append("\n".join(["Ask about these sentences:", *lines]))
    if focus.avoid:
        lines = [f"- {question}" for question in focus.avoid[-_MAX_AVOIDED:]]
        parts.append("\n".join(["These are asked already; ask for something else:", *lines]))
    parts.append(_form(kind, as_json=as_json))
    tokens = FORMAT_SIZES[kind].item_tokens(estimate_tokens(source.text))
    return Request(
        (Message("user", "\n\n".join(part for part in parts if part)),),
        max_tokens=_rounded(_ROOM * n * tokens + _FORM_TOKENS),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        as_json=as_json,
        kind=kind,
        passage=source.text,
    )


def training_question(source: SourceText, kind: FormatKind, number: int) -> str:
    """Return the training question for a made text.

    Args:
        number: position among the texts of this source and kind, from 1.
    """
    version = f" (version {number})" if number > 1 else ""
    return {
        FormatKind.SUMMARY: f"Summarise {source.label}{version}.",
        FormatKind.REWRITE: f"Tell in other words what {source.label} says{version}.",
        FormatKind.IMPLICATIONS: f"What follows from {source.label}{version}?",
        FormatKind.ORIGINAL: f"What does {source.label} say, word for word?",
    }[kind]


def _rounded(tokens: int) -> int:
    """Round up to a power of two, so that more requests share a limit and thus a batch."""
    return 1 << (tokens - 1).bit_length()


def _shown(source: SourceText) -> str:
    if source.fact:
        return source.text
    section = f"\nSection: {source.section}" if source.section else ""
    return f"Title: {source.title}{section}\n\nText:\n{source.text}"


def _form(kind: FormatKind, *, as_json: bool) -> str:
    if as_json:
        item = ", ".join(f'"{key}": "…"' for key in KEYS[kind])
        return f'Reply with JSON alone, of this form: {{"items": [{{{item}}}]}}'
    if kind in LABELLED:
        lines = "\n".join(f"{key.capitalize()}: …" for key in KEYS[kind])
        return f"Use this form and write nothing else:\n{lines}"
    return ""
