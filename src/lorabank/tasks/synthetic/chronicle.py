"""Chronicles: long invented histories of any length, whose every sentence is a known fact.

A chapter is a year, which tells a little of many people, towns and events. `build` draws a
chronicle of a given length, `text` renders it, `chronicle_questions` asks; texts and questions are
rendered from the same facts, never parsed back. For comparing memories of long documents (questions
12 to 14 of arXiv:2603.01097) without any download, on texts that no base model has seen.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from lorabank.errors import UsageError
from lorabank.tasks.synthetic import chronicle_lore as lore
from lorabank.tasks.synthetic.chronicle_world import Chapter, ChronicleFact, chapters

MIN_LENGTH, MAX_LENGTH = 500, 250_000  # of whatever is counted; at least a few chapters of it

_SENTENCES = 5  # in a paragraph


@dataclass(frozen=True, slots=True)
class Chronicle:
    """All that is told. What was drawn but not told by its end is not in it."""

    seed: int
    chapters: tuple[Chapter, ...]


def count_words(text: str) -> int:
    return len(text.split())


def build(length: int, *, seed: int, count: Callable[[str], int] = count_words) -> Chronicle:
    """The chronicle that fills `length` up to a sentence or two.

    With the same seed a shorter one is the beginning of a longer one. Each chapter is counted by
    itself, so `count` must add nothing of its own, such as a token for the beginning of a text.

    Args:
        length: in what `count` counts: words, or tokens with a tokenizer's count.

    Raises:
        UsageError: `length` is not in MIN_LENGTH..MAX_LENGTH, or `count` finds so much in a
            sentence that none fits, or so little that the words run out first.
    """
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise UsageError(
            f"length of a chronicle must be {MIN_LENGTH:,}..{MAX_LENGTH:,}, got {length:,}"
        )
    told: list[Chapter] = []
    left = length
    for whole in chapters(random.Random(f"chronicle/{seed}")):
        chapter, size = _cut_to(whole, left, count)
        if chapter.facts:
            told.append(chapter)
        if chapter != whole:
            break
        left -= size
    if not told:
        raise UsageError(f"no sentence fits in a length of {length:,} as `count` counts; ask more")
    return Chronicle(seed, tuple(told))


def render_sentence(fact: ChronicleFact) -> str:
    """The fact as its chapter tells it."""
    if fact.relation == lore.REEVE:
        form = lore.REEVE_STATEMENTS[fact.form]
    else:
        form = lore.RELATIONS[fact.relation].statements[fact.form]
    told = form.format(s=fact.subject, v=fact.value, d=fact.date)
    return told[0].upper() + told[1:]


def render_chapter(chapter: Chapter) -> str:
    told = [lore.OPENINGS[chapter.opening], *map(render_sentence, chapter.facts)]
    paragraphs = [" ".join(told[i : i + _SENTENCES]) for i in range(0, len(told), _SENTENCES)]
    return "\n\n".join([f"Chapter {chapter.number}. The year {chapter.year}.", *paragraphs])


def render_text(chronicle: Chronicle) -> str:
    return "\n\n".join(render_chapters(chronicle))


def render_chapters(chronicle: Chronicle) -> list[str]:
    """The text of each chapter, of chapter 1 first."""
    return [render_chapter(chapter) for chapter in chronicle.chapters]


def _cut_to(chapter: Chapter, left: int, count: Callable[[str], int]) -> tuple[Chapter, int]:
    """The chapter without the last facts that do not fit in `left`, and its size."""
    while True:
        size = count(f"\n\n{render_chapter(chapter)}")  # as it stands in the whole
        if size <= left or not chapter.facts:
            return chapter, size
        chapter = replace(chapter, facts=chapter.facts[:-1])
