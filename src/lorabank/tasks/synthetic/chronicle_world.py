"""The world of a chronicle, drawn year by year: its people, towns and events, and their facts.

A chapter introduces two people, one event and, in every other chapter, a town, each with one fact.
Their other facts wait, and each later chapter tells some of those that wait. So the facts about a
person are scattered over many chapters, and some are never told. Names, rivers, keepsakes and
events are drawn once: no two people, towns or events share what identifies them.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product

from lorabank.errors import UsageError
from lorabank.tasks.synthetic import chronicle_lore as lore

FIRST_YEAR = 301

_FIRST_TOWNS = 4  # in chapter 1; later chapters introduce one town in two
_PEOPLE = 2  # introduced in each chapter
_TOLD_LATER = 8  # facts of each chapter about people and things from earlier ones
_FACT_SHARE = 0.8  # share of its relations that a person, town or event has a fact of
_RECENT = 30  # people of about 15 years, who are alive to teach, lead and rule


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
    """A fact, told in one sentence. Only a town's reeve is told more than once of a subject."""

    subject: str
    relation: str
    value: str
    form: int
    """Index of the relation's statement that tells it."""
    date: Date | None = None
    """Date when an event or a reeve's rule began; None for other facts."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter of a chronicle, which is one year."""

    number: int  # from 1
    opening: int
    facts: tuple[ChronicleFact, ...]

    @property
    def year(self) -> int:
        """Return the year that the chapter tells of."""
        return FIRST_YEAR - 1 + self.number


def draw_name(rng: random.Random) -> str:
    """Draw a person's name: two words of two syllables."""
    return " ".join("".join(rng.sample(lore.SYLLABLES, k=2)).title() for _ in range(2))


@dataclass(slots=True)
class _World:
    """The people, places and events so far, and the facts that wait to be told."""

    rng: random.Random
    keepsakes: list[str]
    people: list[tuple[str, int]] = field(default_factory=list)  # (name, year of birth)
    places: list[str] = field(default_factory=list)
    reeves: dict[str, set[str]] = field(default_factory=dict)  # all reeves so far, by town
    events: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    untold: list[ChronicleFact] = field(default_factory=list)


def draw_chapters(rng: random.Random) -> Iterator[Chapter]:
    """Yield chapters as long as there are keepsakes, which is for more than MAX_LENGTH words."""
    keepsakes = [" ".join(pair) for pair in product(lore.MADE_OF, lore.KEEPSAKES)]
    rng.shuffle(keepsakes)
    world, number = _World(rng, keepsakes), 0
    while True:
        if len(world.keepsakes) < _PEOPLE:
            raise UsageError(
                f"a chronicle has words for {number:,} chapters, and `count` returns less for "
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
        later += _draw_facts(rng, event[1:])
        now.append(_new_reeve(world, year))
        now += (_pop_any(world) for _ in range(min(_TOLD_LATER, len(world.untold))))
        world.untold += later  # not earlier: a chapter tells one fact about each newcomer
        rng.shuffle(now)
        yield Chapter(number, rng.randrange(len(lore.OPENINGS)), tuple(now))


def _tell_first(
    world: _World, facts: list[ChronicleFact], now: list[ChronicleFact], later: list[ChronicleFact]
) -> None:
    first, *others = _draw_facts(world.rng, facts) or facts
    now.append(first)
    later += others


def _draw_facts(rng: random.Random, facts: list[ChronicleFact]) -> list[ChronicleFact]:
    """Return some of a newcomer's facts, in random order."""
    drawn = [fact for fact in facts if rng.random() < _FACT_SHARE]
    rng.shuffle(drawn)
    return drawn


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
    if older := [name for name, year_born in world.people[-_RECENT:] if year_born < born]:
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
    """Draw a new reeve who has not ruled that town before.

    With a reeve who ruled twice, the question who came next would have two answers.
    """
    rng = world.rng
    town = rng.choice(list(world.reeves))
    former = world.reeves[town]
    person = rng.choice([name for name, _ in world.people[-_RECENT:] if name not in former])
    former.add(person)
    return replace(_fact(rng, town, lore.REEVE, person), date=_day(rng, year))


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
