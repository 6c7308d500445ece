"""Questions made of English sentences: what is it, how many, how much, when, by whom, which.

A sentence is read as subject, finite verb and what follows, as far as its main clause goes. A part
of what follows that can be asked for (an amount, a date, a name, a piece of code) becomes the
answer, and the remainder the question, with subject and auxiliary exchanged. What cannot be read
this way gives no question here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lorabank.retrieval.terms import words_of
from lorabank.retrieval.words import CAPITALS
from lorabank.synthesis.rules.english_verbs import Verb, is_order, read_verb
from lorabank.synthesis.rules.statements import Statement

_MOST_ANSWER_WORDS = 16
_MOST_SUBJECT_WORDS = 10
_MOST_QUESTION_WORDS = 32
_POINTING = frozenset(
    """
    it its this that these those they them their he she his her him there here i such both each
    one some which who what all
    """.split()  # noqa: SIM905 - to be read as words
)
_LOWERED = frozenset(
    """
    the a an you we all every each any most some our your employees users many several few
    """.split()  # noqa: SIM905 - to be read as words
)
_SUBORDINATE = frozenset(
    """
    which who whom whose that because although while when if unless where whether so and but or
    for to by with from in on at of as than
    """.split()  # noqa: SIM905 - to be read as words
)
_NEGATIVE = re.compile(r"\b(?:not|never|no|cannot|neither|nor|nothing|none)\b|n't\b", re.IGNORECASE)
_SHORT = (
    (re.compile(r"\b(you|we|they|it|I)'ll\b"), r"\1 will"),
    (re.compile(r"\b(you|we|they)'re\b", re.IGNORECASE), r"\1 are"),
    (re.compile(r"\b(you|we|they)'ve\b", re.IGNORECASE), r"\1 have"),
    (re.compile(r"\b(you|we|they|it)'ll\b", re.IGNORECASE), r"\1 will"),
)
_LEADING = re.compile(
    r"(?:in|on|at|for|from|during|within|after|before|by default|if|when|once|under|with|to|as of|"
    r"since|until|every)\b[^,;:.]{2,90},\s+",
    re.IGNORECASE,
)
_ADVERB = re.compile(
    r"(?:however|also|usually|normally|typically|generally|likely|then|additionally|finally|instead|"
    r"therefore|thus|moreover|please note that|note that|in addition|for example|as a result),?\s",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    r"[;:(\u2014]|\s[-\u2013]\s|,?\s(?:and|but|or)\s(?=(?:the|a|an|you|we|they|it|this|there|its)\b)"
    r"|,\s(?:so|which|where|but|because|unless|as|while|although|with|such|and|or|plus)\b"
    r"|,\s[^,]{1,40}\s(?:is|are|was|were|will|can|has|have)\b"
    r"|\s(?:so that|because|unless|although|whereas|so)\s"
)
_NUMBER_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|"
    "sixty|ninety|hundred"
)
_UP_TO = r"(?:(?:up to|at least|at most|about|around|over|under|more than|less than|every|only)\s)?"
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_MONEY = re.compile(
    r"(?:up to |at least |at most )?"
    r"(?:[$€£]\s?\d(?:[\d.,]*\d)?(?:/\w+)?|\b\d[\d.,]*\s(?:dollars|euros?)\b)(?:\sper\s\w+)?"
)
_SHARE = re.compile(rf"{_UP_TO}\b\d[\d.]*\s?(?:%|percent\b)")
_DATE = re.compile(
    rf"\b(?:(?:{_MONTHS})(?:\s\d{{1,2}}\b(?:,?\s\d{{4}})?|\s\d{{4}})?(?:\s(?:through|to|until)\s"
    rf"(?:{_MONTHS})(?:\s\d{{1,2}})?)?|\d{{1,2}}\s(?:{_MONTHS})(?:\s\d{{4}})?|(?:{_DAYS})s?"
    r"|(?:1[5-9]|20)\d\d|\d{1,2}:\d\d(?:\s?[ap]\.?m\.?)?|\d{1,2}\s?[ap]\.?m\.?)(?!\w)"
)
_COUNT = re.compile(
    rf"{_UP_TO}\b(\d[\d,]*(?:\.\d+)?|{_NUMBER_WORDS})\s((?:calendar |work |bonus |paid |local |"
    r"full |whole |different |additional )?[A-Za-zµΩ°][A-Za-z/]*)"
)
_PARTICIPLE = re.compile(r"(?:ed|en|been|had|made|built|set|put|sent|kept|left|lost|paid|got)$")
_THERE = re.compile(
    rf"[Tt]here are (?P<answer>{_UP_TO}(?:\d[\d,]*|{_NUMBER_WORDS})) (?P<unit>[a-z][\w-]*)"
    r"(?P<behind>[^,;:]*)"
)
_NAME = re.compile(
    rf"(?<=\s)(?:[{CAPITALS}][\w'’.&-]*\w)(?:\s(?:of\s|and\s)?[{CAPITALS}\d][\w'’.&-]*)*"
)
_ENDS_NAME = re.compile(
    r"$|[,)]|\s(?:in|on|at|for|from|to|by|with|as|when|if|and|or|within|during|before|after|until)\b"
)
_MOST_BEFORE_BY = 3  # words of a predicate up to "by"; more, and another verb has it
_PERSONAL = frozenset(("you", "we", "your", "our", "i", "my"))
_REASON = re.compile(r"(?P<main>.+?),? (?:because|since) (?P<reason>(?!then\b|\d).+)$")
_NO_UNITS = frozenset(("of", "to", "and", "or", "in", "is", "was", "has", "as", "at", "on", "by"))
_BEFORE_COUNT = re.compile(r"\s(for|within|after|than|by|with|from|to|in|at|on|under)$")
_BEFORE_DATE = re.compile(r"\s(?:in|on|at|from|since|by|until|beginning|starting|usually|around)$")
_STRANDED = re.compile(r"\s(?:by|through|with|from|to|in|at|on|for|called|named|via|using|under)$")
_THING = (
    "flag|command|option|setting|file|feature|parameter|variable|field|button|tab|directory|folder|"
    "key|value|port|pin|function|method|menu|page|script|tool|mode|channel|type|format"
)
_KIND_BEHIND = re.compile(rf"\s((?:environment\s)?(?:{_THING}))\b")
_KIND_BEFORE = re.compile(rf"\s(?:(?:the|a)\s)?((?:environment\s)?(?:{_THING}))\s$")
_ARTICLE = re.compile(r"\s(?:the|a|an)$")
_BEFORE_NUMBER = re.compile(r"\s(?:a|an|the)(?:\s(?:additional|extra|total of|maximum of))?$")
_ABOUT = re.compile(r"\s(?:a|an|the|one of|any|either|simply|just)\b", re.IGNORECASE)
_PERSON = re.compile(r"\b\w*(?:er|or|ian|ist|chief|head|president|queen|king|mayor)s?\b")
_NOT_PERSONS = frozenset(
    """
    number order other letter paper computer server power river water harbour timer buzzer layer
    color colour container factor sensor register buffer folder user parameter filter header error
    vector monitor connector processor controller receiver transmitter meter door floor tower corner
    mirror anchor flower printer router trailer cooler heater dinner supper summer winter motor
    tractor reactor elevator generator refrigerator
    """.split()  # noqa: SIM905 - to be read as words
)


@dataclass(frozen=True, slots=True)
class AskedPart:
    """A question made of a sentence, and the part of the sentence that answers it."""

    question: str
    answer: str
    rule: str
    """Rule that made it: definition, number, date, name or code."""


@dataclass(frozen=True, slots=True)
class _Clause:
    """The main clause of a sentence."""

    subject: str
    verb: Verb
    predicate: str
    """The part behind the finite verb, with a blank before it."""
    condition: str
    """A phrase that stood before the subject, to be put at the end of a question."""


def questions_of(statement: Statement) -> Iterator[AskedPart]:
    """Yield the questions that a sentence in English answers, definitions first."""
    text = statement.text.replace("’", "'")
    if _NEGATIVE.search(text) or text.endswith("?"):
        return
    for pattern, words in _SHORT:
        text = pattern.sub(words, text)
    text = text.rstrip(".!")
    yield from _reasons(text)
    yield from _there_are(text)
    clause = _read_clause(text)
    if clause is None:
        return
    yield from _definition(clause)
    taken: set[str] = set()
    for part in (*_amounts(clause), *_dates(clause), *_codes(clause, statement), *_names(clause)):
        if part.answer not in taken and len(words_of(part.question)) <= _MOST_QUESTION_WORDS:
            taken.add(part.answer)
            yield part


def _read_clause(text: str) -> _Clause | None:
    """Return the main clause; None where a sentence is not built in the plain way."""
    condition, text = "", _ADVERB.sub("", text, count=1) if _ADVERB.match(text) else text
    if match := _LEADING.match(text):
        condition, text = match[0].strip(" ,"), text[match.end() :]
        condition = condition[0].lower() + condition[1:]
    words = text.split(" ")
    for i, word in enumerate(words[: _MOST_SUBJECT_WORDS + 1]):
        subject = " ".join(words[:i])
        verb = read_verb(word, subject) if i else None
        if verb is not None:
            following = words[i + 1] if i + 1 < len(words) else ""
            if word in ("has", "have", "had") and not _PARTICIPLE.search(following):
                verb = Verb({"has": "does", "have": "do", "had": "did"}[word], "have")
            if verb.auxiliary == "did" and following == "by":
                return None  # "the libraries used by …": no finite verb
            own = words_of(subject)
            is_plain = "," not in subject and own and own[0] not in _POINTING | _SUBORDINATE
            is_plain = is_plain and not (i > 1 and is_order(words[0]))
            # What follows a relative pronoun is not the main clause's verb.
            is_main = not set(own) & {"which", "who", "that", "whose", "if", "when", "where"}
            if not (is_plain and is_main):
                return None
            predicate = " " + " ".join(words[i + 1 :])
            if (end := _CLAUSE_END.search(predicate)) is not None:
                predicate = predicate[: end.start()]
            if set(words_of(predicate + " " + condition)) & {"it", "its", "this", "these", "they"}:
                return None
            return _Clause(_lower_start(subject), verb, predicate.rstrip(" ,"), condition)
    return None


def _definition(clause: _Clause) -> Iterator[AskedPart]:
    """Yield "What is X?" for "X is a …", and for "the A of B is C"."""
    if clause.verb.base or clause.verb.auxiliary not in ("is", "are", "was", "were"):
        return
    answer, is_attribute = clause.predicate.strip(), " of " in f"{clause.subject} "
    if not answer or len(words_of(clause.subject)) > 8:
        return
    if words_of(clause.subject)[0] in _PERSONAL:
        return
    is_about = bool(_ABOUT.match(f" {answer}"))
    is_name = answer[0].isupper() or (is_attribute and len(answer.split()) <= 4)
    is_name = is_name and "," not in answer
    if not (is_about or is_name) or not 0 < len(words_of(answer)) <= _MOST_ANSWER_WORDS:
        return
    head = clause.subject.split(" of ")[0]
    is_person = is_name and _names_person(head, answer)
    opening = "Who" if is_person else "What"
    question = f"{opening} {clause.verb.auxiliary} {clause.subject}{_behind(clause)}?"
    yield AskedPart(question, answer, "definition")


def _names_person(head: str, answer: str) -> bool:
    """Return whether the last word of "the door code" or "the head gardener" is a person's role."""
    *_, last = words_of(head)
    has_digit = any(letter.isdigit() for letter in answer)
    return bool(_PERSON.fullmatch(last)) and last not in _NOT_PERSONS and not has_digit


def _reasons(text: str) -> Iterator[AskedPart]:
    """Yield "Why is X …?" for "X is … because …"."""
    match = _REASON.match(text)
    clause = _read_clause(match["main"]) if match else None
    if match and clause and 2 < len(words_of(match["reason"])) <= _MOST_ANSWER_WORDS:
        question = _ask_for(clause, (len(clause.predicate),) * 2, "Why", "reason").question
        yield AskedPart(question, match["reason"], "reason")


def _there_are(text: str) -> Iterator[AskedPart]:
    """Yield "How many X are there …?" for "There are five X …"."""
    if match := _THERE.match(text):
        behind = match["behind"]
        if (end := _CLAUSE_END.search(behind)) is not None:
            behind = behind[: end.start()]
        question = f"How many {match['unit']}{behind} are there?"
        yield AskedPart(question, match["answer"], "number")


def _amounts(clause: _Clause) -> Iterator[AskedPart]:
    for pattern, opening in ((_MONEY, "How much"), (_SHARE, "How much")):
        for match in pattern.finditer(clause.predicate):
            yield _ask_for(clause, match.span(), opening, "number")
    for match in _COUNT.finditer(clause.predicate):
        before, unit = clause.predicate[: match.start()].rstrip(), match[2]
        behind = clause.predicate[match.end() :]
        is_unit = unit.endswith("s") or unit[-1:].isupper() or len(unit) <= 3
        is_unit = is_unit and not re.fullmatch(_MONTHS, unit)
        if not is_unit or behind.startswith("-") or unit in _NO_UNITS:
            continue
        opening, start = f"How many {unit}", match.start()
        if (preposition := _BEFORE_COUNT.search(before)) is not None:
            start = preposition.start()
            word = preposition[1]
            opening = f"{word.capitalize()} how many {unit}"
        part = _ask_for(clause, (start, match.end()), opening, "number")
        yield AskedPart(part.question, match[0].strip(), part.rule)


def _dates(clause: _Clause) -> Iterator[AskedPart]:
    for match in _DATE.finditer(clause.predicate):
        before = clause.predicate[: match.start()].rstrip()
        if (preposition := _BEFORE_DATE.search(before)) is not None:
            span = (preposition.start(), match.end())
            part = _ask_for(clause, span, "When", "date")
            yield AskedPart(part.question, match[0], "date")


def _codes(clause: _Clause, statement: Statement) -> Iterator[AskedPart]:
    for code in statement.codes:
        start = clause.predicate.find(code)
        if start < 0 or not words_of(code):
            continue
        start, end = start, start + len(code)
        opening, before = "What", clause.predicate[:start]
        if (kind := _KIND_BEHIND.match(clause.predicate[end:])) is not None:
            opening, end = f"Which {kind[1]}", end + kind.end()
        elif (kind := _KIND_BEFORE.search(before)) is not None:
            opening, start = f"Which {kind[1]}", kind.start()
            before = clause.predicate[:start]
        elif before.strip() and not _STRANDED.search(before.rstrip()):
            continue
        if (article := _ARTICLE.search(before)) is not None:
            start -= len(article[0])
        part = _ask_for(clause, (start, end), opening, "code")
        yield AskedPart(part.question, code, "code")


def _names(clause: _Clause) -> Iterator[AskedPart]:
    for match in _NAME.finditer(clause.predicate):
        before = clause.predicate[: match.start()].rstrip()
        preposition = _STRANDED.search(before)
        if preposition is None or _DATE.fullmatch(match[0]):
            continue
        word = preposition[0].strip()
        behind = clause.predicate[match.end() :]
        is_far = word == "by" and len(before.split()) > _MOST_BEFORE_BY
        if is_far or not _ENDS_NAME.match(behind):
            continue
        opening = "Who" if word == "by" else "Where" if word in ("in", "at") else "What"
        span = match.span()
        if opening == "Where":
            span = (preposition.start(), match.end())
        part = _ask_for(clause, span, opening, "name")
        yield AskedPart(part.question, match[0], "name")


def _ask_for(clause: _Clause, span: tuple[int, int], opening: str, rule: str) -> AskedPart:
    """Return the question for a part of the predicate."""
    start, end = span
    before, behind = clause.predicate[:start].rstrip(), clause.predicate[end:]
    if rule == "number":
        before = _BEFORE_NUMBER.sub("", before)
    base = f" {clause.verb.base}" if clause.verb.base else ""
    middle = " ".join(f"{clause.subject}{base}{before}{behind}".split())
    question = f"{opening} {clause.verb.auxiliary} {middle}{_behind(clause)}?"
    return AskedPart(question, clause.predicate[start:end].strip(), rule)


def _behind(clause: _Clause) -> str:
    return f" {clause.condition}" if clause.condition else ""


def _lower_start(subject: str) -> str:
    """Return a subject as it stands within a sentence: articles and you in lower case."""
    first, blank, remainder = subject.partition(" ")
    return f"{first.lower()}{blank}{remainder}" if first.lower() in _LOWERED else subject
