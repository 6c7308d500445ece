"""Follow-ups: a question that needs the one before it to be understood, written out.

Three kinds are known, in English, German and Spanish:

    and her address?           a pronoun stands for the name the turn before was about
    what about Tuva Sorre?     the question before, about another name
    and the address?           another question about the same name

What is written out is a reading; a question may have several. Which is meant is decided by what is
stored (bank/answer/conversation.py). A question that has a name of its own is never given another.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from lorabank.retrieval.aspects import aspects
from lorabank.retrieval.terms import STOP_WORDS
from lorabank.retrieval.trigrams import fold

_POSSESSIVE = re.compile(
    r"\b(?:his|its|their|her|ihr(?:e[mnrs]?)?|seine?[mnrs]?|sus?)\b(?=\s+(?P<owned>\w+))", re.I
)
_GERMAN = frozenset(
    """
    ihr ihre ihren ihrem ihrer ihres sein seine seinen seinem seiner seines
    """.split()  # noqa: SIM905 - to be read as words
)
_BARE_POSSESSIVE = re.compile(r"\b(?:his|hers|its|theirs|her)\b\W*$", re.I)
_PERSON = re.compile(r"\b(?:she|he|they|him|her|them|it|there)\b", re.I)
_NO_ONE = re.compile(
    r"\b(?:there (?:is|are|was|were|will|be|any|been|a|an)|(?:is|are|was|were|be) there)\b"
    r"|\b(?:time|day|date|year|month|late|true|possible|raining|snowing|going)\b.*\bit\b"
    r"|\bit\b.*\b(?:time|true|possible|raining|snowing|going|rain|snow|mean)\b",
    re.I,
)
"""Questions whose `it` or `there` stands for nothing."""
_ABOUT = re.compile(
    r"^(?:and |und |y )?(?:(?:what|how) about|(?:the )?same (?:question )?for|"
    r"wie (?:ist|steht|sieht) es mit|was ist mit|qu[eé] hay de|qu[eé] tal)\s+",
    re.I,
)
_AND = re.compile(r"^(?:and|und|y|also|or|but)\b[\s,]+", re.I)
_AROUND = " \t\n¿¡"
_SMALL = r"(?:(?:for|of|in|at|with|by|the|a|an|f[uü]r|von|in|mit|de|del|para|en)\s+)*"
_SMALL_WORDS = re.compile(rf"^{_SMALL}", re.I)
_OF_SOMETHING = re.compile(
    r"\w\s+(?:of|for|at|with|from|f[uü]r|von|vom|bei|de|del)\s+(?:the\s+)?(\w+)", re.I
)
_ASKING = frozenset(
    """
    what who whom whose which when where why how is are was were do does did can could will would
    has have had should wer was wann wo wie warum welche welcher welches wem wen ist sind war hat
    quién qué cuándo dónde cómo cuál quien que cuando donde como cual es son tiene
    """.split()  # noqa: SIM905 - to be read as words
)
_OBJECT_AFTER = STOP_WORDS | {"today", "now", "tomorrow", "directly", "please"}
_FRAGMENT = 4  # most words of a question that is none without the one before
_ENGLISH = "What is {} of {}?"
_FORMS = {"und": "{} von {}?", "y": "{} de {}?"}


@dataclass(frozen=True, slots=True)
class Topic:
    """A question before, with the name it was about."""

    question: str
    """The question before, written out."""
    name: str
    """Name it was about."""
    answer_name: str = ""
    """The answer, if that is a name."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A question written out."""

    question: str
    name: str
    """Name that it is about now."""
    of_before: bool
    """Whether that name is from a turn before."""
    added: str = ""
    """Words of the question itself, where the rest is from the turn before."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The readings of a question that needs the one before it."""

    readings: tuple[Reading, ...]
    """The likeliest first."""
    stands_alone: bool
    """Whether it is a question as it stands, unless one of its readings is stored."""
    pronoun: str = ""
    """Word that may stand for several names."""


NameOf = Callable[[str], str]
"""Returns the name that a text is about; empty where it has none."""


def may_follow(question: str) -> bool:
    """Return whether a question may need the one before it."""
    text = question.strip(_AROUND)
    has_lead = bool(_ABOUT.match(text) or _AND.match(text))
    return has_pronoun(text) or has_lead or _is_fragment(text)


def has_pronoun(question: str) -> bool:
    """Return whether a word of a question stands for a name."""
    return bool(_pronoun(question)) or bool(_BARE_POSSESSIVE.search(question))


def says_little(text: str) -> bool:
    """Return whether a turn is thanks or a greeting and changes no topic."""
    little = STOP_WORDS | {"thanks", "thank", "ok", "okay", "hi", "hello", "great", "good", "danke"}
    return all(word in little for word in fold(text).split())


def read_follow_up(
    question: str, topic: Topic, before: Topic | None, name_of: NameOf
) -> FollowUp | None:
    """Return the readings of a question after another; None where it stands by itself.

    Args:
        topic: what the last question was about.
        before: what the one before it was about.
    """
    text = question.strip(_AROUND)
    about = _ABOUT.match(text) or _AND.match(text)
    rest = text[about.end() :] if about else text
    if bare := _BARE_POSSESSIVE.fullmatch(rest):
        return _read_bare(bare[0].strip(" ?.!"), topic, before)
    if pronoun := _pronoun(rest):
        # German writes every noun in a capital letter, so there what is stored has to tell.
        has_name = bool(name_of(rest))
        if has_name and pronoun.lower() not in _GERMAN:
            return None
        names = [topic.name, topic.answer_name]
        if pronoun.lower() == "there":
            names.reverse()
        readings = tuple(
            Reading(_sentence(_put_in(rest, name)), name, of_before=True)
            for name in dict.fromkeys(filter(None, names))
        )
        return FollowUp(readings, stands_alone=has_name, pronoun=pronoun)
    if about or _is_fragment(rest):
        return _read_fragment(rest.strip(" ?.!"), about[0] if about else "", topic, name_of)
    return None


def _read_bare(pronoun: str, topic: Topic, before: Topic | None) -> FollowUp:
    """Read "and his?": the question before, about the answer or the name before that."""
    names = [topic.answer_name, before.name if before else ""]
    readings = tuple(
        Reading(topic.question.replace(topic.name, name), name, of_before=True)
        for name in dict.fromkeys(filter(None, names))
        if name != topic.name and topic.name in topic.question
    )
    return FollowUp(readings, stands_alone=False, pronoun=pronoun)


def _read_fragment(rest: str, lead: str, topic: Topic, name_of: NameOf) -> FollowUp | None:
    """Read "what about Tuva?" as the question before, or "and the address?" as the name's."""
    core = _SMALL_WORDS.sub("", rest).strip()
    name, words = name_of(rest), fold(core).split()
    if not words:
        return None
    another = Reading(
        topic.question.replace(topic.name, re.sub(r"['’]s$", "", core)),
        core,
        of_before=False,
        added=core,
    )
    asks = words[0] in _ASKING
    form = _FORMS.get(fold(lead).split()[0] if lead else "", _ENGLISH)
    if name and form != _FORMS["und"]:
        is_all = not set(words) - set(fold(name).split()) - STOP_WORDS - {"s"}
        takes = is_all and not asks and topic.name in topic.question
        return FollowUp((another,), stands_alone=not lead) if takes else None
    of = _OF_SOMETHING.search(rest)
    if of and not aspects([of[1].lower()]):
        return None  # "the address of bob" has a name of its own
    if asks:
        written = f"{rest} {topic.name}?"
    else:
        the = "" if form != _ENGLISH or rest != core else "the "
        written = form.format(f"{the}{rest}", topic.name)
    same = Reading(_sentence(written), topic.name, of_before=True, added=core)
    if asks or len(words) > _FRAGMENT:
        return FollowUp((same,), stands_alone=True)
    is_relation = bool(aspects(words)) or rest != core or not _ABOUT.match(f"{lead} ")
    readings = (same, another) if is_relation else (another, same)
    return FollowUp(readings if topic.name in topic.question else (same,), stands_alone=not lead)


def _pronoun(text: str) -> str:
    """Return the first word that stands for a name; empty where there is none."""
    word = _POSSESSIVE.search(text) or _PERSON.search(text)
    if word is None or word[0] in ("Ihr", "Ihre", "Ihren", "Ihrer", "Ihrem", "Ihres"):
        return ""
    return "" if _NO_ONE.search(text) else word[0]


def _put_in(text: str, name: str) -> str:
    """Return a question with a name in the place of its pronouns."""

    def possessive(match: "re.Match[str]") -> str:
        is_object = match[0].lower() == "her" and match["owned"].lower() in _OBJECT_AFTER
        return name if is_object else f"{name}'s"

    begins = re.match(r"(?:his|her|its|their)\b", text, re.I)
    is_short = begins and not set(fold(text).split()) & _ASKING
    text = f"What is {text.strip(' ?.!')}?" if is_short else text
    text = _POSSESSIVE.sub(possessive, text)
    return _PERSON.sub(lambda m: f"in {name}" if m[0].lower() == "there" else name, text)


def _is_fragment(text: str) -> bool:
    words = fold(text).split()
    return 0 < len(words) <= _FRAGMENT - 1 and not set(words) & _ASKING


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:]
