"""Forms of frequent English verbs, by which a statement is turned into a question.

"The plan covers six weeks" becomes "How many weeks does the plan cover?": that takes the verb's
base form and the auxiliary. A word that is not in this list is not taken for a verb, so
sentences with other verbs are left to cloze.
"""

from dataclasses import dataclass

AUXILIARIES = frozenset(
    """
    is are was were can could may might will would must should has have had
    """.split()  # noqa: SIM905 - to be read as words
)
_BASES = """
accept accrue achieve act add adjust administer affect aim allow amount appear apply ask assume
attach begin belong block break build buy calculate call carry cause celebrate change charge check
choose close collect combine come compare compute configure connect consist consume contain
control convert copy cost count cover create cut deal decide decrease define delete deliver depend
describe design detect determine develop differ disable display divide draw drive earn enable
encode end ensure exceed exist expect expense expire explain export extend fall feed fetch file
fill find fit fix flow follow force forfeit form function gain generate get give go grant grow
handle happen help hold host identify ignore implement import include increase indicate inherit
install introduce invite issue join keep know launch lead leave let lie limit list live load look
lose lower maintain make manage map mark match mean measure meet modify monitor move multiply need
occupy occur offer open operate order own pass pay perform place play point power prevent print
process produce promote prompt protect provide publish pull purchase push put raise range reach
read receive recommend record reduce refer regulate reject release rely remain remove rename
render repeat replace report represent request require reserve reset reside resolve respond
restrict result resume return rise roll run save scan schedule search select sell send separate
serve set share show sit skip sleep specify spend split stand start state stay stop store submit
suggest supply support switch take teach tell terminate test throw toggle track transfer transmit
treat trigger turn update upgrade upload use vary verify wait walk want warn wear weigh win work
wrap write yield
""".split()  # noqa: SIM905 - to be read as words
_PAST = {
    "began": "begin", "broke": "break", "built": "build", "bought": "buy", "came": "come",
    "chose": "choose", "drew": "draw", "drove": "drive", "fell": "fall", "found": "find",
    "gave": "give", "got": "get", "grew": "grow", "held": "hold", "kept": "keep", "knew": "know",
    "lay": "lie", "led": "lead", "left": "leave", "lost": "lose", "made": "make", "meant": "mean",
    "met": "meet", "paid": "pay", "ran": "run", "rose": "rise", "sent": "send", "sold": "sell",
    "spent": "spend", "stood": "stand", "taught": "teach", "threw": "throw", "told": "tell",
    "took": "take", "went": "go", "won": "win", "wore": "wear", "wrote": "write",
}  # fmt: skip
_PLURAL_SUBJECTS = frozenset(
    """
    you we employees people staff users
    """.split()  # noqa: SIM905 - to be read as words
)


@dataclass(frozen=True, slots=True)
class Verb:
    """A finite verb of a statement as its question has it."""

    auxiliary: str
    base: str
    """Base form; empty where the finite verb is an auxiliary itself."""


def read_verb(word: str, subject: str) -> Verb | None:
    """Return the finite verb that a word is behind its subject; None where it is none."""
    if word in AUXILIARIES:
        return Verb(word, "")
    if word in _FORMS:
        return _FORMS[word]
    last = subject.split()[-1].lower() if subject else ""
    is_plural = last in _PLURAL_SUBJECTS or (last.endswith("s") and not last.endswith("ss"))
    return Verb("do", word) if word in _BASES_SET and is_plural else None


def is_order(word: str) -> bool:
    """Return whether a word that begins a sentence makes it an instruction ("Enable …")."""
    return word.lower() in _BASES_SET or word.lower() in ("be", "click", "do", "note", "see", "try")


def _third_person(base: str) -> str:
    if base.endswith(("s", "x", "z", "ch", "sh")) or base == "go":
        return f"{base}es"
    if base.endswith("y") and base[-2] not in "aeiou":
        return f"{base[:-1]}ies"
    return f"{base}s"


def _regular_past(base: str) -> str:
    if base.endswith("e"):
        return f"{base}d"
    return f"{base[:-1]}ied" if base.endswith("y") and base[-2] not in "aeiou" else f"{base}ed"


_BASES_SET = frozenset(_BASES)
_FORMS = {
    **{_regular_past(base): Verb("did", base) for base in _BASES if base not in _PAST.values()},
    **{past: Verb("did", base) for past, base in _PAST.items()},
    **{_third_person(base): Verb("does", base) for base in _BASES},
}
