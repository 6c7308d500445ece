"""Chronicles: long invented histories of any length, of which each sentence is a known fact.

A chapter is a year and tells a little about many people, towns and events. `build` draws a
chronicle of a given length, `render_text` writes it out, and `chronicle_questions` asks about it.
Texts and questions are rendered from the same facts, never parsed back. Chronicles compare memories
of long documents (questions 12 to 14 of arXiv:2603.01097) without any download, on texts that no
base model has seen.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from lorabank.errors import UsageError
from lorabank.tasks.synthetic import chronicle_lore as lore
from lorabank.tasks.synthetic.chronicle_world import Chapter, ChronicleFact, draw_chapters

MIN_LENGTH, MAX_LENGTH = 500, 250_000  # in words or tokens; at least a few chapters

_SENTENCES_PER_PARAGRAPH = 5


@dataclass(frozen=True, slots=True)
class Chronicle:
    """A chronicle: the facts that it tells, without those that were drawn but never told."""

    seed: int
    chapters: tuple[Chapter, ...]


def count_words(text: str) -> int:
    return len(text.split())


def build(length: int, *, seed: int, count: Callable[[str], int] = count_words) -> Chronicle:
    """Draw the chronicle that fills `length` up to a sentence or two.

    With the same seed a shorter chronicle is the beginning of a longer one. Each chapter is counted
    separately, so `count` must not add anything, such as a token for the beginning of a text.

    Args:
        length: in the units of `count`: words, or tokens with a tokenizer's count.

    Raises:
        UsageError: `length` is not in MIN_LENGTH..MAX_LENGTH, or `count` returns so much that no
            sentence fits, or so little that the vocabulary runs out first.
    """
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise UsageError(
            f"length of a chronicle must be {MIN_LENGTH:,}..{MAX_LENGTH:,}, got {length:,}"
        )
    fitting: list[Chapter] = []
    remaining = length
    for whole in draw_chapters(random.Random(f"chronicle/{seed}")):
        chapter, size = _shorten(whole, remaining, count)
        if chapter.facts:
            fitting.append(chapter)
        if chapter != whole:
            break
        remaining -= size
    if not fitting:
        raise UsageError(
            f"no sentence fits in a length of {length:,} as `count` counts; ask for more"
        )
    return Chronicle(seed, tuple(fitting))


def render_sentence(fact: ChronicleFact) -> str:
    """Return the sentence by which a chapter tells a fact."""
    if fact.relation == lore.REEVE:
        form = lore.REEVE_STATEMENTS[fact.form]
    else:
        form = lore.RELATIONS[fact.relation].statements[fact.form]
    sentence = form.format(s=fact.subject, v=fact.value, d=fact.date)
    return sentence[0].upper() + sentence[1:]


def render_chapter(chapter: Chapter) -> str:
    sentences = [lore.OPENINGS[chapter.opening], *map(render_sentence, chapter.facts)]
    paragraphs = [
        " ".join(sentences[i : i + _SENTENCES_PER_PARAGRAPH])
        for i in range(0, len(sentences), _SENTENCES_PER_PARAGRAPH)
    ]
    return "\n\n".join([f"Chapter {chapter.number}. The year {chapter.year}.", *paragraphs])


def render_text(chronicle: Chronicle) -> str:
    return "\n\n".join(render_chapters(chronicle))


def render_chapters(chronicle: Chronicle) -> list[str]:
    """Return the text of each chapter, in order."""
    return [render_chapter(chapter) for chapter in chronicle.chapters]


def _shorten(chapter: Chapter, max_size: int, count: Callable[[str], int]) -> tuple[Chapter, int]:
    """Return the chapter without the last facts that exceed `max_size`, and its size."""
    while True:
        size = count(f"\n\n{render_chapter(chapter)}")  # as in the whole text
        if size <= max_size or not chapter.facts:
            return chapter, size
        chapter = replace(chapter, facts=chapter.facts[:-1])
