"""Wordings made by rule: each fact in other words, so that it is known however it is asked.

Styles beat count, and rewording some of the facts helps the others (Physics of Language Models
3.1), so the styles are dealt out in turn: neighbouring facts get different ones. Two styles of each
shape are never trained on, and show whether the fact is known beyond its wordings.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lorabank.tasks.example import Example
from lorabank.tasks.examples import from_pair
from lorabank.tasks.joined_facts import PromptKey, prompt_keys
from lorabank.tasks.question_shapes import Relation, find_relation, find_wordings, is_name

MOST_WORDINGS = 16
N_HELD_OUT = 2
"""Wordings of a fact that are held out, where that many can be made."""
_WORD = re.compile(r"\w+")
_CODE = re.compile(r"[`_{}=<>\\/]|\(\)")
_COMMON = frozenset(
    _WORD.findall(
        "a an the of for is was are were be in on at to by and what who whom which tell give name "
        "state say me please s located situated found"
    )
)


def reword(
    examples: Sequence[Example],
    n: int,
    *,
    reserved: Iterable[Example] = (),
    written: Sequence[Sequence[str]] = (),
) -> list[Example]:
    """Return examples with wordings made by rule, and two held out, where their shape is known.

    Args:
        n: wordings a fact is taught in, its own and the given ones included; 0 or 1 for none.
        reserved: other examples whose prompts must not come up, such as held-out questions.
        written: wordings that a generator wrote of each example, taken before those of rules as
            far as they keep its names and numbers; empty for none.
    """
    if n < 2:
        return list(examples)
    pairs = zip(examples, written or [()] * len(examples), strict=True)
    candidates = [_candidates(e, texts, first=i) for i, (e, texts) in enumerate(pairs)]
    taken = {key for e in (*examples, *reserved) for key in (*prompt_keys(e), *_held_out_keys(e))}
    n_facts_of = Counter(
        key
        for example, (taught, held_out) in zip(examples, candidates, strict=True)
        for key in set(_keys(example, (*taught, *held_out)))
    )
    reworded = []
    for example, (taught, held_out) in zip(examples, candidates, strict=True):
        typed = prompt_keys(example)[:1]  # typed in another way a prompt is a wording too
        free = {
            key: text
            for text, key in zip(taught, _keys(example, taught), strict=True)
            if n_facts_of[key] == 1
            and (key not in taken or (key in typed and text not in example.questions))
        }
        free_held_out = [
            text
            for text, key in zip(held_out, _keys(example, held_out), strict=True)
            if n_facts_of[key] == 1 and key not in taken and key not in free
        ]
        n_made = max(0, n - len(example.questions))
        n_held_out = max(0, N_HELD_OUT - len(example.held_out))
        also = (*example.also, *list(free.values())[:n_made])
        asked_only = (*example.held_out, *free_held_out[:n_held_out])
        reworded.append(replace(example, also=also, held_out=asked_only))
    return reworded


def _candidates(
    example: Example, written: Sequence[str], *, first: int
) -> tuple[list[str], list[str]]:
    """Return wordings of an example to train on, best first, and wordings to hold out.

    Args:
        first: number of the rule's style to begin with; the others follow in turn.
    """
    shape = find_wordings(example.question)
    by_rule = [text for text in shape.taught if keeps(example, text)]
    start = first % len(by_rule) if by_rule else 0
    held_out = [text for text in shape.held_out if keeps(example, text)]
    return [*written, *by_rule[start:], *by_rule[:start]], held_out


def reverse(examples: Sequence[Example], n: int) -> list[Example | None]:
    """Return each example's reversed question, or None where it makes no sense.

    "What is the phone number of Kimu Gugu?" becomes "Whose phone number is 519-017-5311?".

    An answer must be a name or number that one fact alone has, and be asked of a name: many have
    the same mother tongue, and nobody is asked "Whose colour is red?".

    Args:
        n: wordings each is taught in, as for `reword`.
    """
    relations = [
        find_relation(example.question) if len(example.prompt) == 1 else None
        for example in examples
    ]
    counts = Counter(e.answer.strip().casefold() for e in examples)
    taken = {key for example in examples for key in prompt_keys(example)}
    made: list[Example | None] = []
    for example, relation in zip(examples, relations, strict=True):
        answer = example.answer.strip()
        is_one = _is_specific(answer) and counts[answer.casefold()] == 1
        question = _turn_round(relation, answer, n) if relation and is_one else None
        is_taken = question is not None and taken & set(prompt_keys(question))
        made.append(None if is_taken else question)
    return made


def _turn_round(relation: Relation, answer: str, n: int) -> Example | None:
    """Return the question that asks whose `answer` is; None where that is no name."""
    what, be, whom = relation.what, relation.be, relation.whom
    if not is_name(whom) or whom[0].islower():
        return None
    also = (
        f"Who has the {what} {answer}?",
        f"{answer} {be} the {what} of",
        f"whose {what} {be} {answer}".lower(),
    )
    held_out = (f"Do you know whose {what} {be} {answer}?",) if n > 1 else ()
    return Example(
        from_pair(f"Whose {what} {be} {answer}?", whom).prompt,
        whom,
        also=also[: max(0, n - 1)],
        held_out=held_out,
        is_reversed=True,
    )


def keeps(example: Example, wording: str) -> bool:
    """Return whether a wording has all words and numbers of the question that are not common.

    Where capitals say something, as in code, they have to be kept too.
    """
    if _CODE.search(example.question) and wording == wording.lower() != example.question:
        return False
    return not _content(example.question) - _content(wording)


def _content(text: str) -> Counter[str]:
    return Counter(w for w in _WORD.findall(text.casefold()) if w not in _COMMON)


def _held_out_keys(example: Example) -> list[PromptKey]:
    return _keys(example, example.held_out)


def _keys(example: Example, texts: Sequence[str]) -> list[PromptKey]:
    return [key for text in texts for key in prompt_keys(example.asked_as(text))]


def _is_specific(answer: str) -> bool:
    """Return whether an answer names or numbers something, in few words."""
    words = answer.split()
    return len(words) <= 6 and (any(c.isdigit() for c in answer) or words[0][0].isupper())
