"""The world of a chronicle, drawn year by year: who and what there is, and what is told of it.

A chapter brings two people, now and then a town, and one event; one thing is told of each at once.
What else there is to tell waits, and each chapter tells some of what has waited. So the facts of a
person lie scattered over many chapters, and some are never told. Names, rivers, keepsakes and
events are drawn once: no two people, towns or events share what identifies them.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product

from lorabank.errors import UsageError
from lorabank.tasks.synthetic import chronicle_lore as lore

FIRST_YEAR = 301

_FIRST_TOWNS = 4  # in chapter 1; after that one in every other chapter
_PEOPLE = 2  # new in each chapter
_TOLD_LATER = 8  # facts on those of earlier chapters, in each
_KEPT = 0.8  # share of its relations that a person, town or event has a fact of
_RECENT = 30  # people, of about 15 years: who is still there to teach, lead and rule


@dataclass(frozen=True, slots=True, order=True)
class Date:
    """A day, in months of 30 days."""

    year: int
    month: int
    day: int

    def __str__(self) -> str:
        return f"{self.day} {lore.MONTHS[self.month - 1]} {self.year}"


@dataclass(frozen=True, slots=True)
class ChronicleFact:
    """One sentence: of each subject a relation is told once, except who became reeve of a town."""

    subject: str
    relation: str
    value: str
    form: int
    """Which of the relation's statements tells it."""
    date: Date | None = None
    """Of an event's beginning and of a reeve's."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One year of the chronicle."""

    number: int  # from 1
    opening: int
    facts: tuple[ChronicleFact, ...]

    @property
    def year(self) -> int:
        return FIRST_YEAR - 1 + self.number


def draw_name(rng: random.Random) -> str:
    """A person's name: two words of two syllables."""
    return " ".join("".join(rng.sample(lore.SYLLABLES, k=2)).title() for _ in range(2))


@dataclass(slots=True)
class _World:
    """Who and what there is so far, and what has not been told of them."""

    rng: random.Random
    keepsakes: list[str]
    people: list[tuple[str, int]] = field(default_factory=list)  # name, year of birth
    places: list[str] = field(default_factory=list)
    reeves: dict[str, set[str]] = field(default_factory=dict)  # of a seat, all so far
    events: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    untold: list[ChronicleFact] = field(default_factory=list)


def chapters(rng: random.Random) -> Iterator[Chapter]:
    """Chapters without end, as far as there are keepsakes: for more than MAX_LENGTH words."""
    keepsakes = [" ".join(pair) for pair in product(lore.MADE_OF, lore.KEEPSAKES)]
    rng.shuffle(keepsakes)
    world, number = _World(rng, keepsakes), 0
    while True:
        if len(world.keepsakes) < _PEOPLE:
            raise UsageError(
                f"{number:,} chapters are all a chronicle has words for, and `count` finds less in "
                "them than the length asked for; ask for a shorter one"
            )
        number += 1
        year = FIRST_YEAR - 1 + number
        now: list[ChronicleFact] = []
        later: list[ChronicleFact] = []
        for _ in range(_FIRST_TOWNS if number == 1 else number % 2):
            _tell_first(world, _new_place(world), now, later)
        for _ in range(_PEOPLE):
            _tell_first(world, _new_person(world, year), now, later)
        event = _new_event(world, year)
        now.append(event[0])  # the date: an event is known by it before anything else
        later += _kept(rng, event[1:])
        now.append(_new_reeve(world, year))
        now += (_pop_any(world) for _ in range(min(_TOLD_LATER, len(world.untold))))
        world.untold += later  # only now: no chapter tells two things of whom it brings
        rng.shuffle(now)
        yield Chapter(number, rng.randrange(len(lore.OPENINGS)), tuple(now))


def _tell_first(
    world: _World, facts: list[ChronicleFact], now: list[ChronicleFact], later: list[ChronicleFact]
) -> None:
    first, *rest = _kept(world.rng, facts) or facts
    now.append(first)
    later += rest


def _kept(rng: random.Random, facts: list[ChronicleFact]) -> list[ChronicleFact]:
    kept = [fact for fact in facts if rng.random() < _KEPT]
    rng.shuffle(kept)
    return kept


def _new_place(world: _World) -> list[ChronicleFact]:
    rng = world.rng
    place = _new_name(
        world, lambda: "".join(rng.sample(lore.SYLLABLES, k=2)).title() + rng.choice(lore.SUFFIXES)
    )
    river = _new_name(world, lambda: "".join(rng.sample(lore.SYLLABLES, k=3)).title())
    if len(world.places) % 4 == 0:
        world.reeves[place] = set()
    world.places.append(place)
    facts = [_fact(rng, place, "river", river)]
    facts.append(_fact(rng, place, "product", rng.choice(lore.PRODUCTS)))
    if world.people:
        facts.append(_fact(rng, place, "founder", _living(world)[0]))
    return facts


def _new_person(world: _World, year: int) -> list[ChronicleFact]:
    rng = world.rng
    person, born = _new_name(world, lambda: draw_name(rng)), year - rng.randint(18, 50)
    facts = [
        _fact(rng, person, "birthplace", rng.choice(world.places)),
        _fact(rng, person, "birth_year", str(born)),
        _fact(rng, person, "trade", rng.choice(lore.TRADES)),
        _fact(rng, person, "keepsake", world.keepsakes.pop()),
        _fact(rng, person, "home", rng.choice(world.places)),
    ]
    if older := [name for name, then in world.people[-_RECENT:] if then < born]:
        facts.append(_fact(rng, person, "teacher", rng.choice(older)))
    world.people.append((person, born))
    return facts


def _new_event(world: _World, year: int) -> list[ChronicleFact]:
    rng = world.rng
    while (event := f"the {rng.choice(lore.EVENTS)} of {rng.choice(world.places)}") in world.events:
        pass
    world.events.add(event)
    date = _day(rng, year)
    return [
        replace(_fact(rng, event, "date", str(date)), date=date),
        _fact(rng, event, "leader", _living(world)[0]),
        _fact(rng, event, "length", f"{rng.randint(2, 90)} days"),
        _fact(rng, event, "cost", f"{rng.randint(100, 9999)} marks"),
    ]


def _new_reeve(world: _World, year: int) -> ChronicleFact:
    """Someone who has not ruled that town before: else who came next would have two answers."""
    rng = world.rng
    seat = rng.choice(list(world.reeves))
    had = world.reeves[seat]
    person = rng.choice([name for name, _ in world.people[-_RECENT:] if name not in had])
    had.add(person)
    return replace(_fact(rng, seat, lore.REEVE, person), date=_day(rng, year))


def _pop_any(world: _World) -> ChronicleFact:
    last, i = len(world.untold) - 1, world.rng.randrange(len(world.untold))
    world.untold[i], world.untold[last] = world.untold[last], world.untold[i]
    return world.untold.pop()


def _fact(rng: random.Random, subject: str, relation: str, value: str) -> ChronicleFact:
    return ChronicleFact(subject, relation, value, rng.randrange(3))


def _living(world: _World) -> tuple[str, int]:
    return world.rng.choice(world.people[-_RECENT:])


def _day(rng: random.Random, year: int) -> Date:
    return Date(year, rng.randint(1, len(lore.MONTHS)), rng.randint(1, lore.DAYS_A_MONTH))


def _new_name(world: _World, draw: Callable[[], str]) -> str:
    while (name := draw()) in world.names:
        pass
    world.names.add(name)
    return name
