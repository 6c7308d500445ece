"""Contrasts: everyday words that exclude each other, as big and small or monthly and annual.

"Who has the key of the small cutter?" shares all but one word with a question about the big one,
and by letters, rarity and meaning the two words are as near as two that say the same. Each line of
the table is one contrast, its sides parted by a bar; a side is one word or several that say the
same.
"""

from collections.abc import Sequence
from functools import lru_cache

from lorabank.retrieval.terms import stem

_CONTRASTS = """
    big bigger biggest large larger largest huge | small smaller smallest little tiny | medium
    long longer longest | short shorter shortest
    high higher highest | low lower lowest
    wide wider widest broad | narrow narrower narrowest
    thick thicker | thin thinner
    heavy heavier heaviest | lightweight
    hot hotter hottest warm | cold colder coldest cool
    fast faster fastest quick | slow slower slowest
    early earlier earliest | late later latest
    hard | soft
    full | empty
    wet | dry
    clean | dirty
    cheap cheaper cheapest | expensive
    strong stronger strongest | weak weaker weakest
    new newer newest | old older oldest
    young younger youngest | old older oldest
    current present | previous former past | next upcoming future
    first 1st | second 2nd | third 3rd | fourth 4th | fifth 5th | sixth 6th | seventh 7th
       | eighth 8th | ninth 9th | tenth 10th | last final
    two | three | four | five | six | seven | eight | nine | ten
    single | double | triple
    hourly | daily | weekly | fortnightly | monthly | quarterly | annual annually yearly
    morning | afternoon | evening | night | noon midday
    summer | autumn | winter
    monday | tuesday | wednesday | thursday | friday | saturday | sunday
    january | february | april | june | july | august | september | october | november | december
    left | right
    upper top topmost | lower bottom | middle
    front | back rear
    inner | outer
    inside indoor indoors | outside outdoor outdoors
    internal | external
    incoming inbound | outgoing outbound
    public | private
    local | regional | national | international
    domestic | foreign
    north northern | south southern | east eastern | west western
    minimum min least smallest lowest | maximum max most largest highest
    before | after
    open opens opened opening | close closes closed closing
    start starts started begin begins began | end ends ended finish finishes finished stop stops
    arrive arrives arrived arrival | depart departs departed departure leave leaves
    buy buys bought buyer | sell sells sold seller
    import imports imported | export exports exported
    upload uploads uploaded | download downloads downloaded
    input | output
    send sends sent sender | receive receives received receiver recipient
    lend lends lent | borrow borrows borrowed
    deposit deposited | withdraw withdrawn withdrawal
    debit | credit
    gross | net
    profit | loss
    win wins won winner | lose loses lost loser
    login | logout
    primary main | secondary backup
    man men male | woman women female
    boy boys | girl girls
    employer | employee employees
    landlord landlady | tenant tenants
    teacher teachers | pupil pupils student students
    doctor doctors | nurse nurses | patient patients
    guest guests visitor visitors | staff
    dog dogs | cat cats | horse horses | cow cows | bird birds | rabbit rabbits
    breakfast | lunch | dinner supper
    coffee | tea
    gold | silver | bronze
    red | blue | green | yellow | black | white | brown | grey gray | orange | purple violet | pink
"""


@lru_cache(maxsize=1)
def _sides_of() -> dict[str, frozenset[tuple[int, int]]]:
    """Return, for each stem, the contrasts it is in and its sides there."""
    table: dict[str, frozenset[tuple[int, int]]] = {}
    lines = _CONTRASTS.replace("\n       |", " |").strip().splitlines()
    for contrast, line in enumerate(lines):
        for side, words in enumerate(line.split("|")):
            for word in words.split():
                table[stem(word)] = table.get(stem(word), frozenset()) | {(contrast, side)}
    return table


def contradict(question: Sequence[str], stored: Sequence[str]) -> bool:
    """Return whether each text has a word that excludes one of the other's.

    A text with both sides excludes nothing, and neither does the word after "how", which asks for
    a measure whatever it is.

    Args:
        question: words in lower case, in their order.
        stored: those of the other text.
    """
    own, known = _sides(question), _sides(stored)
    return any(sides.isdisjoint(known.get(contrast, sides)) for contrast, sides in own.items())


def _sides(words: Sequence[str]) -> dict[int, set[int]]:
    """Return the sides that words take, by the contrast."""
    table = _sides_of()
    sides: dict[int, set[int]] = {}
    for before, word in zip(("", *words), words, strict=False):
        if before != "how":
            for contrast, side in table.get(stem(word), ()):
                sides.setdefault(contrast, set()).add(side)
    return sides
