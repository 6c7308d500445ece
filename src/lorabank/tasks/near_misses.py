"""Near misses: questions like those of a module about names that none of its facts has.

The first words of one fact's name and the last of the next one's make a name that sounds known.
Whoever answers such a question with a value answers from the form of the question alone.
"""

from collections.abc import Sequence

from lorabank.tasks.example import Example
from lorabank.tasks.question_shapes import find_relation


def make_near_misses(examples: Sequence[Example]) -> list[str]:
    """Return a question for each fact that asks something of a name in several words.

    There are none where questions have other shapes, and none that asks of a name that is known.
    """
    relations = [find_relation(example.question) for example in examples]
    named = [
        (example, relation.whom)
        for example, relation in zip(examples, relations, strict=True)
        if relation and len(relation.whom.split()) > 1 and relation.whom in example.question
    ]
    known = {name.casefold() for _, name in named}
    questions: dict[str, None] = {}
    for (example, name), (_, other) in zip(named, named[1:] + named[:1], strict=True):
        mixed = " ".join((*name.split()[:-1], other.split()[-1]))
        if mixed.casefold() not in known:
            questions[example.question.replace(name, mixed)] = None
    return list(questions)
