"""Stored facts and the questions they are asked in, to fit and measure what tells a rewording.

Published edits (WikiBigEdit, zsRE) have another wording of each fact and a question about another
thing. Phone books and city codes have wordings written here; those of `FITTED` are for the fit and
those of `MEASURED` for the bench. Every fact is also asked as people type: in lower case, without a
question mark, with "please", with a slip in the name, and in a few words.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorabank.retrieval.terms import STOP_WORDS, stem, stop_word_stems, words_of
from lorabank.tasks.datasets.reworded_edits import read_reworded_edits
from lorabank.tasks.drift_questions import KNOWN, REPLIES
from lorabank.tasks.synthetic import phonebook

TYPED = ("lower", "no_mark", "please", "typo", "short")
UNKNOWN = ("near_miss", "relation", "ordinary", "left_out")
"""Kinds of questions that no stored fact answers."""


@dataclass(frozen=True, slots=True)
class StoredFact:
    """A stored question with its answer."""

    question: str
    answer: str
    subject: str
    reworded: tuple[str, ...] = ()
    near_miss: tuple[str, ...] = ()
    """Questions about something else that read nearly the same."""
    relation: tuple[str, ...] = ()
    """Questions about the same subject that the fact does not answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is asked of the stored facts."""

    kind: str
    """`taught`, `reworded`, one of TYPED, or one of UNKNOWN."""
    fact: int | None
    """Fact that answers it; None for the kinds in UNKNOWN."""
    question: str
    without: int | None = None
    """Fact that is taken out before the question is asked, in the kind `left_out`."""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of fact about many subjects."""

    taught: str
    reworded: tuple[str, ...]
    relation: tuple[str, ...]


FITTED = (
    Family(
        "What is the phone number of {}?",
        (
            "How can I reach {} by phone?",
            "Which number do I dial for {}?",
            "{}'s telephone number?",
            "What number should I call to speak with {}?",
            "phone {}",
        ),
        ("What is the address of {}?", "How old is {}?", "When was {} born?", "{} fax"),
    ),
    Family(
        "Who is the boss of {}?",
        ("Who does {} report to?", "Who is {}'s manager?", "{} boss", "Name the superior of {}."),
        ("Who is the wife of {}?", "Who founded {}?", "What does {} earn?", "Where is {} from?"),
    ),
    Family(
        "In which room does {} work?",
        ("Which office is {} in?", "{} room", "Where do I find {}'s desk?", "{}'s room number?"),
        ("For which firm does {} work?", "With whom does {} work?", "When does {} work?"),
    ),
    Family(
        "What is the e-mail address of {}?",
        ("Where can I mail {}?", "{} email", "What is {}'s email?", "How do I write {} an e-mail?"),
        ("What is the home address of {}?", "In which street does {} live?", "{} phone"),
    ),
)
PHONE = Family(
    "What is the phone number of {}?",
    (
        "Could you give me {}'s phone number?",
        "I want to ring {}. What is the number?",
        "What digits do I dial to get hold of {}?",
        "{} phone number",
    ),
    (
        "What is the email of {}?",
        "Where does {} work?",
        "What is the fax number of {}?",
        "Who is the boss of {}?",
        "What is {}'s favourite colour?",
    ),
)
CODE = Family(
    "What is the airport code of {}?",
    (
        "Airport code for {}?",
        "Which three letters stand for {} airport?",
        "What code does the airport in {} have?",
        "{} airport code?",
        "IATA code {}",
        "When I book a flight to {}, which code do I enter?",
    ),
    (
        "How many inhabitants does {} have?",
        "Who is the mayor of {}?",
        "What is the country code of {}?",
        "What is the dialling code of {}?",
        "What is the weather in {}?",
    ),
)
_ANYTHING_ELSE = (
    "How old is {}?",
    "What is the phone number of {}?",
    "Who is the boss of {}?",
    "What does {} cost?",
    "What colour is {}?",
    "Who wrote about {}?",
    "What is the e-mail address of {}?",
)
_CITIES = tuple(
    """
    Oslo Bergen Lisbon Madrid Nairobi Denver Boston Dallas Vienna Prague Warsaw Geneva Zurich Dublin
    Athens Cairo Lagos Accra Tunis Delhi Mumbai Kyoto Osaka Seoul Taipei Manila Jakarta Perth Sydney
    Lima Bogota Quito Santiago Caracas Havana Panama Montreal Toronto Calgary Chicago Houston
    Phoenix Seattle Miami Orlando Memphis Detroit Tampa Austin Portland Helsinki Stockholm Riga
    Vilnius Sofia
    """.split()  # noqa: SIM905 - to be read as words
)


def read_edits(path: Path, start: int, n: int, *, seed: int) -> list[StoredFact]:
    """Return facts of a WikiBigEdit or zsRE file; relation questions are drawn from other facts."""
    edits = read_reworded_edits(path)[start : start + n]
    rng = random.Random(f"{path.name}/{seed}")
    facts = []
    for edit in edits:
        other, subject = rng.choice(edits), edit.subject
        relation = [rng.choice(_ANYTHING_ELSE).format(subject)] if rng.random() < 0.3 else []
        if other.subject in other.question and subject in edit.question:
            asks, other_asks = (
                {stem(word) for word in words_of(text.replace(name, " "))} - stop_word_stems()
                for text, name in ((edit.question, subject), (other.question, other.subject))
            )
            if not asks & other_asks:  # it may be the same relation otherwise
                relation.append(other.question.replace(other.subject, subject))
        fact = StoredFact(
            edit.question, edit.answer, subject, edit.reworded, (edit.near_miss,), tuple(relation)
        )
        facts.append(fact)
    return facts


def family_facts(
    families: Sequence[Family], subjects: Sequence[str], strangers: Sequence[str], *, seed: int
) -> list[StoredFact]:
    """Return a fact of each subject, of the families in turn; strangers are never stored."""
    rng = random.Random(f"families/{seed}")
    facts = []
    for i, subject in enumerate(subjects):
        family = families[i % len(families)]
        stranger = strangers[i % len(strangers)]
        near = tuple(t.format(stranger) for t in (family.taught, rng.choice(family.reworded)))
        facts.append(
            StoredFact(
                family.taught.format(subject),
                f"{rng.randrange(10**6):06}",
                subject,
                tuple(t.format(subject) for t in family.reworded),
                near,
                tuple(t.format(subject) for t in family.relation),
            )
        )
    return facts


def phone_facts(n: int, *, seed: int) -> list[StoredFact]:
    """Return a phone book with wordings that no fit has seen."""
    names = [entry.name for entry in phonebook.build(n + max(48, n // 2), seed=seed)]
    return family_facts([PHONE], names[:n], names[n:], seed=seed)


def code_facts(n: int, *, seed: int) -> list[StoredFact]:
    """Return airport codes of at most 48 cities."""
    return family_facts([CODE], _CITIES[:n], _CITIES[n:], seed=seed)


def fitting_facts(n: int, *, seed: int) -> list[StoredFact]:
    """Return facts of all families that are fitted, several about some of the subjects."""
    names = [entry.name for entry in phonebook.build(2 * n, seed=seed)]
    subjects = [names[(i * 7 // 10) % n] for i in range(n)]
    return family_facts(FITTED, subjects, names[n:], seed=seed)


def ask_facts(facts: Sequence[StoredFact], *, seed: int) -> list[Asked]:
    """Return all questions about some facts."""
    rng = random.Random(f"asked/{seed}")
    questions: list[Asked] = []
    for i, fact in enumerate(facts):
        questions.append(Asked("taught", i, fact.question))
        questions += [Asked("reworded", i, text) for text in fact.reworded]
        questions += [Asked("near_miss", None, text) for text in fact.near_miss]
        questions += [Asked("relation", None, text) for text in fact.relation]
        questions += [Asked("left_out", None, text, without=i) for text in fact.reworded[:1]]
        questions += [Asked(kind, i, text) for kind, text in _typed(fact, rng)]
    return questions + [Asked("ordinary", None, text) for text, _ in (*REPLIES, *KNOWN)]


def _typed(fact: StoredFact, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield the question as people type it, by kind."""
    yield "lower", fact.question.lower()
    yield "no_mark", fact.question.rstrip("?")
    yield "please", f"Please tell me: {fact.question}"
    names = [word for word in re.findall(r"\w+", fact.subject) if len(word) >= 4 and word.isalpha()]
    if names and fact.subject in fact.question:
        name = rng.choice(names)
        subject = fact.subject.replace(name, _slip(name, rng), 1)
        yield "typo", fact.question.replace(fact.subject, subject, 1)
        rest = re.findall(r"\w+", fact.question.replace(fact.subject, " ", 1))
        content = [word for word in rest if word.lower() not in STOP_WORDS]
        if content:
            yield "short", f"{fact.subject} {' '.join(content)}"


def _slip(word: str, rng: random.Random) -> str:
    """Return a word with two letters swapped, one left out, or one replaced."""
    i, kind = rng.randrange(len(word) - 1), rng.randrange(3)
    if kind == 0:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    other = rng.choice("abcdefghijklmnopqrstuvwxyz") if kind == 2 else ""
    return word[:i] + other + word[i + 1 :]
