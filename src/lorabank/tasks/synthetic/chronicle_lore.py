"""Lore: the words a chronicle is made of: its names, statements and questions.

A relation of a person, a place or an event has a few statements that tell it and a few questions
that ask for it. Its value may be a person or a place again; then `phrase` names the value by the
subject ("the teacher of …"), and questions can be chained. The data were written for this project.
Tests check that a reader who knows only these forms and the text finds each answer, and finds none
where there is none.
"""

# ruff: noqa: SIM905 (words in a string take a fifth of the lines a list of strings takes)

from dataclasses import dataclass

PERSON, PLACE, EVENT = "person", "place", "event"


@dataclass(frozen=True, slots=True)
class ChronicleRelation:
    """A fact that a subject can have once: {s} stands for the subject, {v} for the value."""

    id: str
    subject: str
    """Kind of the subject: PERSON, PLACE or EVENT."""
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    value: str = ""
    """Kind of the value: PERSON, PLACE, or empty for anything else."""
    phrase: str = ""
    """Name of the value by its subject, where it is a person or a place."""
    reverse: str = ""
    """Question that asks for the subject, where no two subjects share a value."""


_RELATIONS = (
    ChronicleRelation(
        "birthplace",
        PERSON,
        (
            "{s} was born in the town of {v}.",
            "It was in {v} that {s} first saw the light.",
            "The birthplace of {s} is {v}, as the old women there will tell.",
        ),
        ("In which town was {s} born?", "What was the birthplace of {s}?"),
        PLACE,
        "the town where {s} was born",
    ),
    ChronicleRelation(
        "birth_year",
        PERSON,
        (
            "{s} was born in the year {v}.",
            "The roll puts the birth of {s} in the year {v}.",
            "In the year {v} a child was born and given the name {s}.",
        ),
        ("In which year was {s} born?", "What was the year of birth of {s}?"),
    ),
    ChronicleRelation(
        "trade",
        PERSON,
        (
            "By trade {s} was a {v}.",
            "For a living {s} worked as a {v}.",
            "{s} earned bread and salt as a {v}.",
        ),
        ("What was the trade of {s}?", "By what trade did {s} live?"),
    ),
    ChronicleRelation(
        "teacher",
        PERSON,
        (
            "{s} learnt reading and reckoning from {v}.",
            "The teacher of {s} was {v}.",
            "{v} took {s} in as a pupil.",
        ),
        ("Who taught {s}?", "Who was the teacher of {s}?"),
        PERSON,
        "the teacher of {s}",
    ),
    ChronicleRelation(
        "keepsake",
        PERSON,
        (
            "{s} went nowhere without a {v}.",
            "Wherever {s} was seen, a {v} was seen too.",
            "On every road {s} carried a {v}.",
        ),
        ("What did {s} carry everywhere?", "What was the keepsake of {s}?"),
        reverse="Who carried a {v} everywhere?",
    ),
    ChronicleRelation(
        "home",
        PERSON,
        (
            "{s} settled in {v} and stayed.",
            "A house in {v} became the home of {s}.",
            "After much wandering {s} made a home in {v}.",
        ),
        ("In which town did {s} settle?", "In which town was the home of {s}?"),
        PLACE,
        "the town where {s} settled",
    ),
    ChronicleRelation(
        "river",
        PLACE,
        (
            "{s} stands on the river {v}.",
            "Past the walls of {s} runs the river {v}.",
            "The river {v} turns the mills of {s}.",
        ),
        ("On which river does {s} stand?", "Which river runs past {s}?"),
        reverse="Which town stands on the river {v}?",
    ),
    ChronicleRelation(
        "product",
        PLACE,
        (
            "{s} was known far and wide for its {v}.",
            "Traders came to {s} for the {v}.",
            "No market sold better {v} than that of {s}.",
        ),
        ("For which goods was {s} known?", "What did traders buy in {s}?"),
    ),
    ChronicleRelation(
        "founder",
        PLACE,
        (
            "{s} was founded by {v}.",
            "The first stone of {s} was laid by {v}.",
            "{v} is honoured as the founder of {s}.",
        ),
        ("Who founded {s}?", "Who laid the first stone of {s}?"),
        PERSON,
        "the founder of {s}",
    ),
    ChronicleRelation(
        "date",
        EVENT,
        (
            "{s} began on {v}.",
            "On {v} began {s}.",
            "{v} was the first day of {s}.",
        ),
        ("On what date did {s} begin?", "What was the first day of {s}?"),
    ),
    ChronicleRelation(
        "leader",
        EVENT,
        (
            "{v} led {s}.",
            "The leader of {s} was {v}.",
            "It fell to {v} to lead {s}.",
        ),
        ("Who led {s}?", "Who was the leader of {s}?"),
        PERSON,
        "the leader of {s}",
    ),
    ChronicleRelation(
        "length",
        EVENT,
        (
            "{s} lasted {v}.",
            "It took {v} until {s} was over.",
            "From first to last {s} went on for {v}.",
        ),
        ("How long did {s} last?", "How many days did {s} take?"),
    ),
    ChronicleRelation(
        "cost",
        EVENT,
        (
            "{s} cost the treasury {v}.",
            "The clerks reckoned {s} at {v}.",
            "When all was counted, {v} had been spent on {s}.",
        ),
        ("What did {s} cost?", "How many marks were spent on {s}?"),
    ),
)
RELATIONS = {relation.id: relation for relation in _RELATIONS}

# Told again and again of one place, so not a relation; {d} is the date.
REEVE = "reeve"
REEVE_STATEMENTS = (
    "On {d}, {v} became reeve of {s}.",
    "The keys of {s} went to {v}, its new reeve, on {d}.",
    "{v} was sworn in as reeve of {s} on {d}.",
)

OPENINGS = (
    "The winter was mild, and the scribe had ink enough.",
    "Little snow fell, and the roads were open early.",
    "It rained from seedtime to harvest.",
    "The harvest was good, and people talked more than they worked.",
    "Of this year the old rolls have much to tell.",
    "Mice got at the parchment, but most of it can be read.",
    "The wells ran low, and tempers with them.",
    "Nobody remembered such a summer.",
    "What follows was taken down as the elders told it.",
    "The bells rang in the year, and the gates were opened.",
)

SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu".split()
SUFFIXES = "ford holm gate wick mere stead bury haven field crag brook well".split()
MONTHS = (
    *("Icemonth", "Mudmonth", "Windmonth", "Budmonth", "Lambmonth", "Rosemonth"),
    *("Haymonth", "Cornmonth", "Applemonth", "Leafmonth", "Fogmonth", "Snowmonth"),
)
DAYS_A_MONTH = 30
EVENTS = ("siege", "council", "march", "rising", "hunt", "pilgrimage", "parley", "muster")
# After "a": none of these may begin with a vowel.
TRADES = (
    "cooper baker tanner weaver fuller potter chandler farrier glazier mason thatcher tinker "
    "cobbler miller brewer fletcher saddler shepherd fisher ferryman beekeeper scribe surgeon "
    "bellfounder clockmaker ropemaker papermaker dyer hatter cutler"
).split()
MADE_OF = (
    "copper brass silver pewter tin lead bronze glass jade pearl coral marble slate flint chalk "
    "clay cork willow birch beech cedar walnut hazel bone horn leather linen silk velvet woollen "
    "paper wax straw reed feather shell sandstone granite golden gilded painted carved cracked "
    "dented knotted twisted braided blackened whitened scarlet crimson purple yellow striped "
    "spotted dotted mended chipped burnt polished rusted porcelain"
).split()
KEEPSAKES = (
    "whistle comb ring button thimble key bell spoon cup dice flute mirror needle box ladle lamp "
    "mask medal fan brooch buckle chain chalice crown dagger drum figurine fishhook goblet harp "
    "hourglass inkwell kettle locket marble pendant pipe plate purse quill rattle razor sickle "
    "snuffbox spindle stamp tankard token top whip hammer chisel trowel bucket lantern bracelet "
    "necklace scabbard trumpet pillbox tray vase"
).split()
PRODUCTS = (
    "smoked eels, blue glass, barrel hoops, goat cheese, black bread, pear brandy, salt, rope, "
    "church bells, millstones, wolf pelts, beeswax, honey cakes, felt hats, oak casks, roof tiles, "
    "sea charts, dried plums, red dye, fiddle strings, snowshoes, fishing nets, clay pipes, soap, "
    "ink, parchment, saffron, lamp oil, horseshoes, mustard"
).split(", ")
