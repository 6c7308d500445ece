"""A reader that knows how chronicles put things, and of each one only its text.

It shares the forms of sentences and questions with the generator and nothing else: what it answers
follows from the text, and what it cannot answer does not.
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


STATEMENTS = [(one.id, _pattern(f)) for one in lore.RELATIONS.values() for f in one.statements]
STATEMENTS += [(lore.REEVE, _pattern(form)) for form in lore.REEVE_STATEMENTS]
QUESTIONS = [(one.id, _pattern(f)) for one in lore.RELATIONS.values() for f in one.questions]
PHRASES = [(one.id, _pattern(one.phrase)) for one in lore.RELATIONS.values() if one.phrase]
REVERSES = [(one.id, _pattern(one.reverse)) for one in lore.RELATIONS.values() if one.reverse]


def sentences(text: str) -> list[str]:
    """Of a chronicle or chapter, without headings and openings."""
    paragraphs = [p for p in text.split("\n\n") if not p.startswith("Chapter ")]
    found = [s for p in paragraphs for s in re.split(r"(?<=\.) ", p)]
    return [s for s in found if s not in lore.OPENINGS]


class Reader:
    """What sentences say, by subject and relation."""

    def __init__(self, told: Iterable[str]):
        self.facts: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.reeves: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for one in told:
            ((relation, found),) = [
                (name, m) for name, pattern in STATEMENTS if (m := pattern.fullmatch(one))
            ]
            subject, value = (re.sub("^The ", "the ", found[key]) for key in "sv")
            if relation == lore.REEVE:
                self.reeves[subject].append((int(found["d"].split()[-1]), value))
            else:
                self.facts[subject, relation].append(value)

    def answer(self, question: str) -> str | None:
        found = self._answers(question)
        assert len(found) <= 1, (question, found)
        return found.pop() if found else None

    def _answers(self, question: str) -> set[str]:
        if m := re.fullmatch(r"Which came first, (.+) or (.+)\?", question):
            years = {event: self._year(event) for event in m.groups()}
            known = {event: year for event, year in years.items() if year is not None}
            return {min(known, key=known.__getitem__)} if len(known) == 2 else set()
        if m := re.fullmatch(r"How many years after (.+) came (.+)\?", question):
            first, last = map(self._year, m.groups())
            return {str(last - first)} if first is not None and last is not None else set()
        if m := re.fullmatch(r"Who was reeve of (.+) in the year (\d+)\?", question):
            return self._ruled(m[1], int(m[2]))
        if m := re.fullmatch(r"Who became reeve of (.+) next after (.+)\?", question):
            names = [name for _, name in sorted(self.reeves[m[1]])]
            after = names[names.index(m[2]) + 1 :] if m[2] in names else []
            return set(after[:1])
        found = set()
        for relation, pattern in REVERSES:
            if m := pattern.fullmatch(question):
                found |= {s for (s, r), v in self.facts.items() if r == relation and m["v"] in v}
        for relation, pattern in QUESTIONS:
            if m := pattern.fullmatch(question):
                found |= {v for s in self._who(m["s"]) for v in self.facts.get((s, relation), [])}
        return found

    def _who(self, phrase: str) -> set[str]:
        for relation, pattern in PHRASES:
            if m := pattern.fullmatch(phrase):
                return {v for s in self._who(m["s"]) for v in self.facts.get((s, relation), [])}
        return {phrase}

    def _year(self, event: str) -> int | None:
        (date,) = self.facts.get((event, "date"), [None])
        return int(date.split()[-1]) if date else None

    def _ruled(self, place: str, year: int) -> set[str]:
        before = [one for one in self.reeves[place] if one[0] < year]
        after = [one for one in self.reeves[place] if one[0] > year]
        return {max(before)[1]} if before and after else set()
