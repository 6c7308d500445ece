"""Aspects: what a question asks for where an everyday word says it, as a phone number or an age.

Two questions about one person share nearly all their words when one asks for a phone number and the
other for a fax number; "ring" and "phone" share none. Each line of the table is one aspect with the
words that ask for it. Words of other aspects or of none say nothing.
"""

from collections.abc import Iterable
from functools import lru_cache

from lorabank.retrieval.terms import stem

_ASPECTS = """
    phone telephone mobile call dial ring tel reach cellphone landline handset telefon
       telefonnummer rufnummer handynummer telefono movil
    fax telefax
    email mail mailbox inbox correo
    address street live lives living reside resides residence home postcode postal addr adresse
       anschrift wohnt wohnort strasse direccion domicilio vive
    website site url webpage homepage
    age old edad
    born birth birthday birthdate birthplace geboren geburtstag geburtsdatum geburtsort nacio
       nacimiento
    died die death dead deceased
    buried burial grave
    boss manager supervisor superior report reports chefin vorgesetzter vorgesetzte jefe jefa
    mayor burgermeister alcalde
    president prasident presidente
    chancellor premier
    king queen monarch
    owner owns own owned proprietor
    founder founded founding
    salary wage wages earn earns paid income
    price cost costs expensive fee
    wife husband spouse married marry marriage
    father dad
    mother mum mom
    child children son sons daughter daughters kids
    brother sister sibling siblings
    capital hauptstadt
    population inhabitants residents people einwohner habitantes poblacion
    currency money wahrung moneda
    religion faith denomination
    airport iata flight fly airfield
    weather temperature climate
    altitude elevation
    height tall
    width wide
    depth deep
    weight weigh weighs
    colour color
    password passcode passphrase
    username login
    iban
    deadline due
    wrote author writer written autor escribio
    composer composed
    nationality citizenship citizen
    gender sex
    room office desk
    dialling prefix
    hobby hobbies
    favourite favorite
    colleague colleagues
"""


_GERMAN = frozenset(
    {"wie", "lautet", "von", "der", "das", "ist", "und", "wer", "welche", "wo", "hat"}
)


@lru_cache(maxsize=1)
def _aspects_of() -> dict[str, frozenset[int]]:
    table: dict[str, frozenset[int]] = {}
    for number, line in enumerate(_ASPECTS.replace("\n      ", "").strip().splitlines()):
        for word in line.split():
            table[stem(word)] = table.get(stem(word), frozenset()) | {number}
    return table


def aspects(words: Iterable[str]) -> frozenset[int]:
    """Return the aspects that words in lower case, without accents, ask for."""
    table = _aspects_of()
    words = frozenset(words) - {"found"}  # mostly "can be found", which asks for no founder
    if words & _GERMAN:
        words -= {"die"}  # an article there
    return frozenset().union(*(table.get(stem(word), frozenset()) for word in words))
