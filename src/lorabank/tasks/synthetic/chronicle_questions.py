"""Questions about a chronicle, each with its exact answer and the chapters that prove it.

Four kinds. `single`: one sentence has the answer. `multi`: two or three facts in a chain, from two
chapters at least ("the trade of the teacher of the leader of …"). `temporal`: which of two events
came first, the years between them, who ruled a town in a year, and after whom. `unanswerable`: what
is never told of someone or something the chronicle knows, alone or at the end of a chain, and
questions about people and events that are not in it.
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

_STRANGERS = 0.25  # for each person named


@dataclass(frozen=True, slots=True)
class ChronicleQuestion:
    """One thing to ask, and what is known about it."""

    kind: str
    text: str
    answer: str | None
    """None if the chronicle does not say."""
    chapters: tuple[int, ...] = ()
    """Which chapters the evidence is in, in the order of `evidence`; one may stand twice."""
    evidence: tuple[str, ...] = ()
    """The sentences the answer follows from."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What a chronicle says, to look up."""

    chapter: dict[ChronicleFact, int]
    of: dict[str, dict[str, ChronicleFact]]
    """Subject -> relation -> fact."""
    reeves: dict[str, list[ChronicleFact]]
    """Seat -> who became its reeve, the first first."""
    named: dict[str, str]
    """Everyone and everything -> PERSON, PLACE or EVENT."""
    years: range

    def question(
        self, kind: str, text: str, answer: str, facts: Sequence[ChronicleFact]
    ) -> ChronicleQuestion:
        chapters = tuple(self.chapter[fact] for fact in facts)
        return ChronicleQuestion(kind, text, answer, chapters, tuple(map(render_sentence, facts)))


def draw_questions(
    chronicle: Chronicle, kind: str, n_questions: int | None = None, *, seed: int
) -> list[ChronicleQuestion]:
    """Questions of one kind, none twice; all there are if no number is given.

    Fewer are the first of more with the same seed.

    Raises:
        UsageError: no such kind, or the chronicle has not that many questions of it.
    """
    if kind not in KINDS:
        raise UsageError(f"kind of question must be {', '.join(KINDS)}, got {kind!r}")
    rng = random.Random(f"{kind}/{seed}")
    told = _look_up(chronicle)
    if kind == UNANSWERABLE:
        found = _unanswerable(told, rng)  # has its own order, a mix
    else:
        found = list({SINGLE: _single, MULTI: _multi, TEMPORAL: _temporal}[kind](told, rng))
        rng.shuffle(found)
    if n_questions is not None and not 0 <= n_questions <= len(found):
        raise UsageError(
            f"number of {kind} questions about this chronicle must be 0..{len(found):,}, got "
            f"{n_questions:,}; a longer one has more"
        )
    return found[:n_questions]


def to_examples(questions: Sequence[ChronicleQuestion]) -> list[Example]:
    """To train on or probe with; what is not said is answered so."""
    return [
        from_pair(one.text, NOT_STATED if one.answer is None else one.answer) for one in questions
    ]


def _look_up(chronicle: Chronicle) -> _Told:
    first, last = chronicle.chapters[0], chronicle.chapters[-1]
    told = _Told({}, {}, {}, {}, range(first.year, last.year + 1))
    for chapter in chronicle.chapters:
        for fact in chapter.facts:
            told.chapter[fact] = chapter.number
            if fact.relation == REEVE:
                told.reeves.setdefault(fact.subject, []).append(fact)
                told.named.update({fact.subject: lore.PLACE, fact.value: lore.PERSON})
                continue
            relation = RELATIONS[fact.relation]
            told.of.setdefault(fact.subject, {})[fact.relation] = fact
            told.named[fact.subject] = relation.subject
            if relation.value:
                told.named[fact.value] = relation.value
    return told


def _single(told: _Told, rng: random.Random) -> Iterator[ChronicleQuestion]:
    for fact in _facts(told):
        relation = RELATIONS[fact.relation]
        yield told.question(SINGLE, _wording(relation, fact.subject, rng), fact.value, [fact])
        if relation.reverse:
            yield told.question(SINGLE, relation.reverse.format(v=fact.value), fact.subject, [fact])


def _multi(told: _Told, rng: random.Random) -> Iterator[ChronicleQuestion]:
    for facts in _chains(told):
        for last in told.of.get(facts[-1].value, {}).values():
            text = _wording(RELATIONS[last.relation], _described(facts), rng)
            path = [*facts, last]
            if last.value not in text and len({told.chapter[fact] for fact in path}) > 1:
                yield told.question(MULTI, text, last.value, path)


def _temporal(told: _Told, rng: random.Random) -> Iterator[ChronicleQuestion]:
    for one, other in _pairs(told, rng):
        text = f"Which came first, {one.subject} or {other.subject}?"
        first = min((one, other), key=_date)
        yield told.question(TEMPORAL, text, first.subject, [one, other])
    for one, other in _pairs(told, rng):
        first, last = sorted((one, other), key=_date)
        text = f"How many years after {first.subject} came {last.subject}?"
        yield told.question(
            TEMPORAL, text, str(_date(last).year - _date(first).year), [first, last]
        )
    for seat, reeves in told.reeves.items():
        for one, other in pairwise(reeves):
            text = f"Who became reeve of {seat} next after {one.value}?"
            yield told.question(TEMPORAL, text, other.value, [one, other])
            if years := range(_date(one).year + 1, _date(other).year):
                text = f"Who was reeve of {seat} in the year {rng.choice(years)}?"
                yield told.question(TEMPORAL, text, one.value, [one, other])


def _unanswerable(told: _Told, rng: random.Random) -> list[ChronicleQuestion]:
    """A mix, one of each sort in turn while there are any."""
    sorts = [
        list(sort(told, rng)) for sort in (_untold, _broken, _no_event, _no_stranger, _no_reeve)
    ]
    for texts in sorts:
        rng.shuffle(texts)
    mixed = chain.from_iterable(zip_longest(*sorts))
    return [ChronicleQuestion(UNANSWERABLE, text, None) for text in mixed if text is not None]


def _untold(told: _Told, rng: random.Random) -> Iterator[str]:
    for name in told.named:
        for relation in _missing(told, name):
            yield _wording(relation, name, rng)


def _broken(told: _Told, rng: random.Random) -> Iterator[str]:
    """Chains whose last fact is missing."""
    for facts in _chains(told):
        for relation in _missing(told, facts[-1].value):
            yield _wording(relation, _described(facts), rng)


def _no_event(told: _Told, rng: random.Random) -> Iterator[str]:
    known = _named(told, lore.EVENT)
    for place in _named(told, lore.PLACE):
        events = [f"the {noun} of {place}" for noun in lore.EVENTS]
        if others := [event for event in events if event not in told.named]:
            event = rng.choice(others)
            yield _wording(rng.choice(_relations_of(lore.EVENT)), event, rng)
            if known:
                yield f"How many years after {rng.choice(known)} came {event}?"


def _no_stranger(told: _Told, rng: random.Random) -> Iterator[str]:
    n_strangers = 1 + int(len(_named(told, lore.PERSON)) * _STRANGERS)
    strangers = dict.fromkeys(draw_name(rng) for _ in range(n_strangers))
    for name in strangers:
        if name not in told.named:
            yield _wording(rng.choice(_relations_of(lore.PERSON)), name, rng)


def _no_reeve(told: _Told, rng: random.Random) -> Iterator[str]:
    for place in _named(told, lore.PLACE):
        if place not in told.reeves:
            yield f"Who was reeve of {place} in the year {rng.choice(told.years)}?"


def _facts(told: _Told) -> Iterator[ChronicleFact]:
    return (fact for facts in told.of.values() for fact in facts.values())


def _chains(told: _Told) -> Iterator[list[ChronicleFact]]:
    """One fact or more, each on the value of the one before, the last value a person or place."""
    for fact in _facts(told):
        if RELATIONS[fact.relation].value:
            yield [fact]
            for then in told.of.get(fact.value, {}).values():
                if RELATIONS[then.relation].value:
                    yield [fact, then]  # and the last fact: three at most


def _described(facts: Sequence[ChronicleFact]) -> str:
    """The value at the end of a chain, by the subject at its beginning."""
    name = facts[0].subject
    for fact in facts:
        name = RELATIONS[fact.relation].phrase.format(s=name)
    return name


def _pairs(told: _Told, rng: random.Random) -> Iterator[tuple[ChronicleFact, ChronicleFact]]:
    """Beginnings of events, each with another of another year; no two twice."""
    dates = [fact for fact in _facts(told) if fact.relation == "date"]
    rng.shuffle(dates)
    return pairwise(dates)


def _date(fact: ChronicleFact) -> Date:
    assert fact.date is not None  # events and reeves have one
    return fact.date


def _named(told: _Told, kind: str) -> list[str]:
    return [name for name, its_kind in told.named.items() if its_kind == kind]


def _relations_of(kind: str) -> list[ChronicleRelation]:
    return [relation for relation in RELATIONS.values() if relation.subject == kind]


def _missing(told: _Told, name: str) -> list[ChronicleRelation]:
    known = told.of.get(name, {})
    return [one for one in _relations_of(told.named[name]) if one.id not in known]


def _wording(relation: ChronicleRelation, subject: str, rng: random.Random) -> str:
    return rng.choice(relation.questions).format(s=subject)
