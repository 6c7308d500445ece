"""Questions about a chronicle, each with its exact answer and the chapters that prove it.

There are four kinds. `single`: one sentence has the answer. `multi`: a chain of two or three facts
from two chapters at least ("the trade of the teacher of the leader of …"). `temporal`: which of two
events came first, the years between them, who ruled a town in a year, and after whom.
`unanswerable`: facts that the chronicle never tells about someone or something in it, alone or at
the end of a chain, and questions about people and events that are not in it.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, zip_longest

from lorabank.errors import UsageError
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.synthetic import chronicle_lore as lore
from lorabank.tasks.synthetic.chronicle import Chronicle, render_sentence
from lorabank.tasks.synthetic.chronicle_lore import REEVE, RELATIONS, ChronicleRelation
from lorabank.tasks.synthetic.chronicle_world import ChronicleFact, Date, draw_name

SINGLE, MULTI, TEMPORAL, UNANSWERABLE = "single", "multi", "temporal", "unanswerable"
KINDS = (SINGLE, MULTI, TEMPORAL, UNANSWERABLE)
NOT_STATED = "The chronicle does not say."

_STRANGERS = 0.25  # invented people to ask about, for each person in the chronicle


@dataclass(frozen=True, slots=True)
class ChronicleQuestion:
    """A question about a chronicle, with its answer and the proof."""

    kind: str
    text: str
    answer: str | None
    """Answer, or None if the chronicle does not state it."""
    chapters: tuple[int, ...] = ()
    """Numbers of the chapters with the sentences of `evidence`, in that order, repeats included."""
    evidence: tuple[str, ...] = ()
    """Sentences that the answer follows from."""


@dataclass(frozen=True, slots=True)
class _Index:
    """An index of the facts that a chronicle tells."""

    chapter: dict[ChronicleFact, int]
    facts: dict[str, dict[str, ChronicleFact]]
    """Fact by subject and relation."""
    reeves: dict[str, list[ChronicleFact]]
    """Facts of who became reeve, by town, in the order of their dates."""
    kinds: dict[str, str]
    """Kind of each name that occurs: PERSON, PLACE or EVENT."""
    years: range

    def make_question(
        self, kind: str, text: str, answer: str, facts: Sequence[ChronicleFact]
    ) -> ChronicleQuestion:
        chapters = tuple(self.chapter[fact] for fact in facts)
        return ChronicleQuestion(kind, text, answer, chapters, tuple(map(render_sentence, facts)))


def draw_questions(
    chronicle: Chronicle, kind: str, n_questions: int | None = None, *, seed: int
) -> list[ChronicleQuestion]:
    """Draw questions of one kind without repeats; all there are if no number is given.

    A smaller number of questions is the beginning of a larger one with the same seed.

    Raises:
        UsageError: there is no such kind, or the chronicle has fewer questions of it.
    """
    if kind not in KINDS:
        raise UsageError(f"kind of question must be {', '.join(KINDS)}, got {kind!r}")
    rng = random.Random(f"{kind}/{seed}")
    index = _build_index(chronicle)
    if kind == UNANSWERABLE:
        questions = _draw_unanswerable(index, rng)  # in an order of its own, a mix
    else:
        draw = {SINGLE: _draw_single, MULTI: _draw_multi, TEMPORAL: _draw_temporal}[kind]
        questions = list(draw(index, rng))
        rng.shuffle(questions)
    if n_questions is not None and not 0 <= n_questions <= len(questions):
        raise UsageError(
            f"number of {kind} questions about this chronicle must be 0..{len(questions):,}, "
            f"got {n_questions:,}; a longer one has more"
        )
    return questions[:n_questions]


def to_examples(questions: Sequence[ChronicleQuestion]) -> list[Example]:
    """Return examples to train on or to ask; an unanswerable question has the answer NOT_STATED."""
    return [
        from_pair(question.text, NOT_STATED if question.answer is None else question.answer)
        for question in questions
    ]


def _build_index(chronicle: Chronicle) -> _Index:
    first, last = chronicle.chapters[0], chronicle.chapters[-1]
    index = _Index({}, {}, {}, {}, range(first.year, last.year + 1))
    for chapter in chronicle.chapters:
        for fact in chapter.facts:
            index.chapter[fact] = chapter.number
            if fact.relation == REEVE:
                index.reeves.setdefault(fact.subject, []).append(fact)
                index.kinds.update({fact.subject: lore.PLACE, fact.value: lore.PERSON})
                continue
            relation = RELATIONS[fact.relation]
            index.facts.setdefault(fact.subject, {})[fact.relation] = fact
            index.kinds[fact.subject] = relation.subject
            if relation.value:
                index.kinds[fact.value] = relation.value
    return index


def _draw_single(index: _Index, rng: random.Random) -> Iterator[ChronicleQuestion]:
    for fact in _facts(index):
        relation = RELATIONS[fact.relation]
        yield index.make_question(
            SINGLE, _draw_wording(relation, fact.subject, rng), fact.value, [fact]
        )
        if relation.reverse:
            yield index.make_question(
                SINGLE, relation.reverse.format(v=fact.value), fact.subject, [fact]
            )


def _draw_multi(index: _Index, rng: random.Random) -> Iterator[ChronicleQuestion]:
    for facts in _chains(index):
        for last in index.facts.get(facts[-1].value, {}).values():
            text = _draw_wording(RELATIONS[last.relation], _describe(facts), rng)
            path = [*facts, last]
            if last.value not in text and len({index.chapter[fact] for fact in path}) > 1:
                yield index.make_question(MULTI, text, last.value, path)


def _draw_temporal(index: _Index, rng: random.Random) -> Iterator[ChronicleQuestion]:
    for pair in _draw_event_pairs(index, rng):
        text = f"Which came first, {pair[0].subject} or {pair[1].subject}?"
        first = min(pair, key=_date)
        yield index.make_question(TEMPORAL, text, first.subject, pair)
    for pair in _draw_event_pairs(index, rng):
        first, last = sorted(pair, key=_date)
        text = f"How many years after {first.subject} came {last.subject}?"
        yield index.make_question(
            TEMPORAL, text, str(_date(last).year - _date(first).year), [first, last]
        )
    for town, reeves in index.reeves.items():
        for reeve, successor in pairwise(reeves):
            text = f"Who became reeve of {town} next after {reeve.value}?"
            yield index.make_question(TEMPORAL, text, successor.value, [reeve, successor])
            if years := range(_date(reeve).year + 1, _date(successor).year):
                text = f"Who was reeve of {town} in the year {rng.choice(years)}?"
                yield index.make_question(TEMPORAL, text, reeve.value, [reeve, successor])


def _draw_unanswerable(index: _Index, rng: random.Random) -> list[ChronicleQuestion]:
    """Draw questions of five sorts in turn, as long as there are any."""
    sorts = (_ask_untold, _ask_broken_chains, _ask_no_events, _ask_strangers, _ask_no_reeves)
    texts_of_sorts = [list(ask(index, rng)) for ask in sorts]
    for texts in texts_of_sorts:
        rng.shuffle(texts)
    mixed = chain.from_iterable(zip_longest(*texts_of_sorts))
    return [ChronicleQuestion(UNANSWERABLE, text, None) for text in mixed if text is not None]


def _ask_untold(index: _Index, rng: random.Random) -> Iterator[str]:
    for name in index.kinds:
        for relation in _missing_relations(index, name):
            yield _draw_wording(relation, name, rng)


def _ask_broken_chains(index: _Index, rng: random.Random) -> Iterator[str]:
    """Yield chains whose last fact is missing."""
    for facts in _chains(index):
        for relation in _missing_relations(index, facts[-1].value):
            yield _draw_wording(relation, _describe(facts), rng)


def _ask_no_events(index: _Index, rng: random.Random) -> Iterator[str]:
    known = _names_of(index, lore.EVENT)
    for place in _names_of(index, lore.PLACE):
        events = [f"the {noun} of {place}" for noun in lore.EVENTS]
        if others := [event for event in events if event not in index.kinds]:
            event = rng.choice(others)
            yield _draw_wording(rng.choice(_relations_of(lore.EVENT)), event, rng)
            if known:
                yield f"How many years after {rng.choice(known)} came {event}?"


def _ask_strangers(index: _Index, rng: random.Random) -> Iterator[str]:
    n_strangers = 1 + int(len(_names_of(index, lore.PERSON)) * _STRANGERS)
    strangers = dict.fromkeys(draw_name(rng) for _ in range(n_strangers))
    for name in strangers:
        if name not in index.kinds:
            yield _draw_wording(rng.choice(_relations_of(lore.PERSON)), name, rng)


def _ask_no_reeves(index: _Index, rng: random.Random) -> Iterator[str]:
    for place in _names_of(index, lore.PLACE):
        if place not in index.reeves:
            yield f"Who was reeve of {place} in the year {rng.choice(index.years)}?"


def _facts(index: _Index) -> Iterator[ChronicleFact]:
    return (fact for facts in index.facts.values() for fact in facts.values())


def _chains(index: _Index) -> Iterator[list[ChronicleFact]]:
    """Yield chains of facts, each about the previous one's value; values are people or places."""
    for fact in _facts(index):
        if RELATIONS[fact.relation].value:
            yield [fact]
            for second in index.facts.get(fact.value, {}).values():
                if RELATIONS[second.relation].value:
                    yield [fact, second]  # a question adds a last fact: three at most


def _describe(facts: Sequence[ChronicleFact]) -> str:
    """Return the name of a chain's last value by its first subject."""
    name = facts[0].subject
    for fact in facts:
        name = RELATIONS[fact.relation].phrase.format(s=name)
    return name


def _draw_event_pairs(
    index: _Index, rng: random.Random
) -> Iterator[tuple[ChronicleFact, ChronicleFact]]:
    """Return pairs of events' first days; they lie in different years, and no pair repeats."""
    dates = [fact for fact in _facts(index) if fact.relation == "date"]
    rng.shuffle(dates)
    return pairwise(dates)


def _date(fact: ChronicleFact) -> Date:
    assert fact.date is not None  # events and reeves have one
    return fact.date


def _names_of(index: _Index, kind: str) -> list[str]:
    return [name for name, kind_of_name in index.kinds.items() if kind_of_name == kind]


def _relations_of(kind: str) -> list[ChronicleRelation]:
    return [relation for relation in RELATIONS.values() if relation.subject == kind]


def _missing_relations(index: _Index, name: str) -> list[ChronicleRelation]:
    known = index.facts.get(name, {})
    relations = _relations_of(index.kinds[name])
    return [relation for relation in relations if relation.id not in known]


def _draw_wording(relation: ChronicleRelation, subject: str, rng: random.Random) -> str:
    return rng.choice(relation.questions).format(s=subject)
