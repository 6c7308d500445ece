"""Question shapes: other ways to put an English question, by the form it has.

A shape is recognised where its parts are certain: what is asked for, and of whom. Its wordings move
these parts about and leave the parts whole. A question of no known shape gets only words around it,
and one that is not English, or long, is at most typed without capitals and question mark.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MOST_CHARACTERS = 240  # of a question that is reworded
_PARTICLES = _words(
    "of the and & de del della di da do dos du des der den die das van von zu la le les el al "
    "bin ibn af av och og i y e no in on at for to a an st mr mrs ms dr jr sr"
)
_FUNCTION_WORDS = _words(
    "is was are were be been am do does did has have had can could will would shall should "
    "may might must that which who whom whose what where when why how there this these those "
    "it its he she they you your we i my with by from as than not"
)
_AUXILIARIES = "is|was|are|were|has|have|had|can|could|will|would|should|do|does|did"
_BLANK_ENDS = _words("is was are were by in at of to from as on with for the a an called named has")
_WH = r"what|who|whom|whose|which|where|when|why|how"
_QUESTION = re.compile(rf"(?:(?:in|on|at|to|from|by|for|with|under|of) )?(?:{_WH})\b", re.I)
_ASKED = r"(?P<wh>(?i:what|who|which))(?: (?P<be>is|was|are|were)|['’]s)"
_OF = re.compile(rf"{_ASKED} the (?P<rest>.+)")
_OF_DEMANDED = re.compile(r"(?i:please )?(?i:(?:tell|give) me|name|state|say) the (?P<rest>.+)")
_OF_BLANK = re.compile(r"[Tt]he (?P<rest>.+?) (?P<be>is|was|are|were)")
_POSSESSIVE = re.compile(rf"{_ASKED} (?P<whose>.+?(?:['’]s|s['’])) (?P<what>[^A-Z]+)")
_LOCATED = re.compile(
    r"(?:(?P<into>[Ii]n (?:which|what))|[Ww]hich|[Ww]hat) (?P<kind>[^A-Z\"“]+?) "
    r"(?P<be>is|was|are|were) (?P<who>.+?) (?:located|situated|found)(?P<in> in)?"
)
_TAILS = _words("born buried found made written known built held set part named in on at")
_INVERTED = re.compile(rf"(?P<asked>.+?) (?P<aux>{_AUXILIARIES}) (?P<rest>.+)", re.I)


@dataclass(frozen=True, slots=True)
class Wordings:
    """Other wordings of one question, and its name that must stay whole in each."""

    taught: tuple[str, ...]
    """Wordings to train on, each in another style."""
    held_out: tuple[str, ...]
    """Wordings in styles that are never trained on."""
    name: str = ""
    """Whom or what the question is about; empty where this is not certain."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A question that asks for `what` of `whom`, such as the phone number of someone."""

    wh: str
    be: str
    what: str
    whom: str


def find_wordings(question: str) -> Wordings:
    """Return other wordings of a question or of a statement whose end is asked for."""
    text = " ".join(question.split())
    if len(text) > _MOST_CHARACTERS or re.search(r"[.?!:] ", _without_initials(text)):
        return Wordings((), ())
    core = text.rstrip("?.").rstrip()
    if relation := find_relation(text):
        return _relation_wordings(relation, core)
    if not text.endswith("?") and not _QUESTION.match(core):
        return _unasked_wordings(core)
    if not _QUESTION.match(core):
        return Wordings((_typed(core),), ())
    for shape in (_located_wordings, _inverted_wordings, _subject_wordings):
        if wordings := shape(core):
            return wordings
    return _surrounded(core)


def find_relation(question: str) -> Relation | None:
    """Return what a question asks for of whom: "What is the R of X?", "X's R is" and the like."""
    text = " ".join(question.split())
    core = text.rstrip("?.").rstrip()
    if match := _POSSESSIVE.fullmatch(core):
        whom = re.sub(r"['’]s?$", "", match["whose"])
        if is_name(whom) and _is_noun(match["what"]):
            return Relation(match["wh"], match["be"] or "is", match["what"], whom)
    match = _OF.fullmatch(core) or _OF_DEMANDED.fullmatch(core)
    if match is None and not text.endswith(("?", ".")):
        match = _OF_BLANK.fullmatch(core)
    parts = _split_of(match["rest"]) if match else None
    if match is None or parts is None:
        return None
    groups = match.groupdict()
    return Relation(groups.get("wh") or "what", groups.get("be") or "is", *parts)


def is_name(text: str) -> bool:
    """Return whether a text is surely one name or a short noun, without a clause after it."""
    words = text.split()
    if not words or words[-1].casefold() in _PARTICLES or len(words) > 10:
        return False
    if len(words) <= 2 and words[0][0].islower():
        return not any(word in _FUNCTION_WORDS for word in words)
    return all(not word[0].islower() or word in _PARTICLES for word in words)


def _is_noun(text: str) -> bool:
    words = text.split()
    return 0 < len(words) <= 6 and not any(word in _FUNCTION_WORDS for word in words)


def _split_of(text: str) -> tuple[str, str] | None:
    """Split "date of birth of Ada Byron" before the name; None where the place is not certain."""
    places = [match.span() for match in re.finditer(" of | for ", text)]
    named = [(a, b) for a, b in places if not re.sub(r"^(the|a|an) ", "", text[b:])[:1].islower()]
    of = named[0] if named else places[0] if len(places) == 1 else None
    if of is None or not _is_noun(text[: of[0]]):
        return None
    return text[: of[0]], text[of[1] :]


def _relation_wordings(relation: Relation, core: str) -> Wordings:
    """Return wordings of "What is the phone number of Kimu Gugu?"."""
    wh, be, what, whom = relation.wh.lower(), relation.be.lower(), relation.what, relation.whom
    taught = [
        f"Tell me the {what} of {whom}.",
        f"The {what} of {whom} {be}",
        f"Could you please tell me {wh} the {what} of {whom} {be}?",
        _typed(core),
    ]
    held_out = [f"I need the {what} of {whom}."]
    if is_name(whom):
        own = f"{whom}'" if whom.endswith("s") else f"{whom}'s"
        bare = re.sub(r"^the ", "", whom, flags=re.I)
        taught = [
            f"{_capital(wh)} {be} {own} {what}?",
            taught[0],
            _typed(f"{bare} {what}"),
            taught[2],
            f"{own} {what} {be}",
            f"{what} {bare}?",
            *taught[1::2],
            f"{_capital(wh)} {be} the {what} of {whom}?",
        ]
        held_out = [f"Do you know {own} {what}?", f"{_capital(what)} for {whom}, please."]
    return Wordings(tuple(taught), tuple(held_out), whom)


def _unasked_wordings(core: str) -> Wordings:
    """Return wordings of a statement to be completed; of anything else it is typed badly."""
    words = core.split()
    if len(words) < 3 or not core[-1].isalpha() or words[-1] not in _BLANK_ENDS:
        return Wordings((_typed(core),), ())
    return Wordings(
        (f"Complete the sentence: {core}", f"{core} …", _typed(core), f"{core} what?"),
        (f"Fill in the blank: {core} ___", f"Please finish: {core}"),
    )


def _located_wordings(core: str) -> Wordings | None:
    """Return wordings of "In which county is East Lodge located?"."""
    match = _LOCATED.fullmatch(core)
    if match is None or bool(match["into"]) == bool(match["in"]) or not is_name(match["who"]):
        return None
    kind, be, who = match["kind"], match["be"].lower(), match["who"]
    return Wordings(
        (
            f"Which {kind} {be} {who} located in?",
            f"In which {kind} {be} {who} located?",
            f"Tell me in which {kind} {who} {be} located.",
            _typed(f"{kind} {who} {be} located in"),
            f"{who} {be} located in the {kind} of",
            f"Could you please tell me which {kind} {who} {be} situated in?",
            _typed(core),
        ),
        (f"In what {kind} can {who} be found?", f"Do you know the {kind} {who} {be} in?"),
        who,
    )


def _inverted_wordings(core: str) -> Wordings | None:
    """Return wordings of "Where was Ada Byron born?": the clause in its straight order."""
    match = _INVERTED.fullmatch(core)
    if match is None or any(w[0].isupper() for w in match["asked"].split()[1:]):
        return None
    opening, aux, words = _small(match["asked"]), match["aux"].lower(), match["rest"].split()
    if aux in ("do", "does", "did"):
        return None
    ends = [n for n in range(len(words), 0, -1) if _is_subject(words[:n], words[n:])]
    if not ends:
        return None
    subject, tail = " ".join(words[: ends[0]]), " ".join(words[ends[0] :])
    return _clause_wordings(f"{opening} {subject} {aux} {tail}".rstrip(), core, subject)


def _is_subject(words: Sequence[str], tail: Sequence[str]) -> bool:
    """Return whether a name ends here: before a word that is surely no part of it."""
    name = " ".join(words)
    if not is_name(name) or name.endswith(("'s", "’s")) or name.count('"') % 2:
        return False
    if not any(word[0].isupper() or word[0].isdigit() for word in words):
        return False
    return not tail or tail[0] in _TAILS or (tail[0][0].islower() and tail[0].endswith("ed"))


def _subject_wordings(core: str) -> Wordings | None:
    """Return wordings of "Who keeps the mill?", whose clause has its straight order already."""
    has_auxiliary = re.search(rf"\b(?:{_AUXILIARIES})\b", core, re.I)
    if has_auxiliary or not re.match("who|what|which", core, re.I):
        return None
    return _clause_wordings(_small(core), core, "")


def _clause_wordings(clause: str, core: str, name: str) -> Wordings:
    return Wordings(
        (
            f"Tell me {clause}.",
            _typed(core),
            f"Could you please tell me {clause}?",
            f"I would like to know {clause}.",
            f"Please answer: {core}?",
        ),
        (f"Do you know {clause}?", f"Say {clause}, please."),
        name,
    )


def _surrounded(core: str) -> Wordings:
    """Return a question with words around it that ask nothing else."""
    return Wordings(
        (f"Please tell me: {core}?", _typed(core), f"I would like to know: {core}?"),
        (f"Hello, {_small(core)}?", f"Can you help me? {core}?"),
    )


def _typed(text: str) -> str:
    """Return a text as it is typed in a hurry: no capitals, no question mark."""
    return text.lower()


def _small(text: str) -> str:
    """Return a question with a small first letter, which is never that of a name."""
    return text[:1].lower() + text[1:]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _without_initials(text: str) -> str:
    """Return a text without the full stops of initials and titles: "John D. Terry", "St. Ives"."""
    return re.sub(r"\b(?:\w|St|Mr|Mrs|Ms|Dr|Jr|Sr|No|Prof|vs)\.", "x", text)
