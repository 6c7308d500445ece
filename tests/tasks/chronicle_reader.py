"""A reader that answers questions about a chronicle from the chronicle's text alone.

It shares the forms of sentences and questions with the generator and nothing else, so its answers
follow from the text, and a question that it cannot answer is not answered by the text.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from lorabank.tasks.synthetic import chronicle_lore as lore


def _pattern(form: str) -> re.Pattern[str]:
    form = re.escape(form)
    for name in "svd":
        form = form.replace(rf"\{{{name}\}}", f"(?P<{name}>.+)")
    return re.compile(form, re.IGNORECASE)


STATEMENTS = [
    (relation.id, _pattern(form))
    for relation in lore.RELATIONS.values()
    for form in relation.statements
]
STATEMENTS += [(lore.REEVE, _pattern(form)) for form in lore.REEVE_STATEMENTS]
QUESTIONS = [
    (relation.id, _pattern(form))
    for relation in lore.RELATIONS.values()
    for form in relation.questions
]
PHRASES = [
    (relation.id, _pattern(relation.phrase))
    for relation in lore.RELATIONS.values()
    if relation.phrase
]
REVERSES = [
    (relation.id, _pattern(relation.reverse))
    for relation in lore.RELATIONS.values()
    if relation.reverse
]


def sentences(text: str) -> list[str]:
    """Return the sentences of a chronicle or chapter, without headings and openings."""
    paragraphs = [p for p in text.split("\n\n") if not p.startswith("Chapter ")]
    parts = [part for paragraph in paragraphs for part in re.split(r"(?<=\.) ", paragraph)]
    return [part for part in parts if part not in lore.OPENINGS]


class Reader:
    """The facts of some sentences, by subject and relation."""

    def __init__(self, sentences_read: Iterable[str]):
        self.facts: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.reeves: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for sentence in sentences_read:
            ((relation, match),) = [
                (name, m) for name, pattern in STATEMENTS if (m := pattern.fullmatch(sentence))
            ]
            subject, value = (re.sub("^The ", "the ", match[key]) for key in "sv")
            if relation == lore.REEVE:
                self.reeves[subject].append((int(match["d"].split()[-1]), value))
            else:
                self.facts[subject, relation].append(value)

    def answer(self, question: str) -> str | None:
        answers = self._answers(question)
        assert len(answers) <= 1, (question, answers)
        return answers.pop() if answers else None

    def _answers(self, question: str) -> set[str]:
        if m := re.fullmatch(r"Which came first, (.+) or (.+)\?", question):
            years = {event: self._year(event) for event in m.groups()}
            known_years = {event: year for event, year in years.items() if year is not None}
            return (
                {min(known_years, key=known_years.__getitem__)} if len(known_years) == 2 else set()
            )
        if m := re.fullmatch(r"How many years after (.+) came (.+)\?", question):
            first, last = map(self._year, m.groups())
            return {str(last - first)} if first is not None and last is not None else set()
        if m := re.fullmatch(r"Who was reeve of (.+) in the year (\d+)\?", question):
            return self._reeve_between(m[1], int(m[2]))
        if m := re.fullmatch(r"Who became reeve of (.+) next after (.+)\?", question):
            names = [name for _, name in sorted(self.reeves[m[1]])]
            after = names[names.index(m[2]) + 1 :] if m[2] in names else []
            return set(after[:1])
        answers = set()
        for relation, pattern in REVERSES:
            if m := pattern.fullmatch(question):
                answers |= {s for (s, r), v in self.facts.items() if r == relation and m["v"] in v}
        for relation, pattern in QUESTIONS:
            if m := pattern.fullmatch(question):
                answers |= {
                    v for s in self._resolve(m["s"]) for v in self.facts.get((s, relation), [])
                }
        return answers

    def _resolve(self, phrase: str) -> set[str]:
        """Return the names that a phrase such as "the teacher of Ada Bo" stands for."""
        for relation, pattern in PHRASES:
            if m := pattern.fullmatch(phrase):
                return {v for s in self._resolve(m["s"]) for v in self.facts.get((s, relation), [])}
        return {phrase}

    def _year(self, event: str) -> int | None:
        (date,) = self.facts.get((event, "date"), [None])
        return int(date.split()[-1]) if date else None

    def _reeve_between(self, place: str, year: int) -> set[str]:
        before = [(start, name) for start, name in self.reeves[place] if start < year]
        after = [(start, name) for start, name in self.reeves[place] if start > year]
        return {max(before)[1]} if before and after else set()
