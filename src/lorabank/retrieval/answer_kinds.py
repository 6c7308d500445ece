"""Kinds of things that questions in English ask for, and whether a text has one.

"How many" asks for a number, "when" for a time, "who" for somebody, "where" for a place, "why" for
a reason. A text without such a thing does not answer, whatever else it shares with the question.
Questions that ask for nothing of this kind, and other languages, say nothing.
"""

import re

_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|"
    r"fifty|hundred|thousand|million|half|once|twice|dozen|single|couple)\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"\d|\b(?:january|february|march|april|may|june|july|august|september|october|november|december|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|before|after|afterwards|during|once|until|while|"
    r"when|whenever|annually|yearly|monthly|weekly|daily|days?|weeks?|months?|years?|hours?|"
    r"minutes?|seconds?|century|soon|upon|start|end|first|next|later|immediately|always|never)\b",
    re.IGNORECASE,
)
_SOMEBODY = re.compile(
    r"(?<=[\w,;:'\"(`*_] )[A-Z]|\b(?:team|people|users?|staff|members?|employees?|management|"
    r"administration|everyone|everybody|anyone|anybody|nobody|someone|we|you|king|queen|president|"
    r"company|\w{2,}(?:er|or|ist)s?)\b"
)
_PLACE = re.compile(
    r"\b(?:in|at|on|under|near|into|inside|from|to|within|of|behind|above|below|outside)\b|/"
)
_REASON = re.compile(
    r"\b(?:because|since|so|due|to|as|for|avoid|therefore|thus|ensures?|otherwise|causes?|caused|"
    r"results?|can|could|may|leads?|helps?|makes?|prevents?)\b"
)
_ASKED = (
    (
        re.compile(
            r"\bhow (?:many|much|far|old|high|tall|large|big|fast|deep|wide|heavy|often|close|hot|"
            r"cold|thick)\b|\b(?:what|which) (?:percentage|percent|number|price|rate|amount|share|"
            r"proportion)\b|\bprice\b|\bcosts?\b",
            re.IGNORECASE,
        ),
        _NUMBER,
    ),
    (
        re.compile(
            r"^when\b|, when\b|\bhow (?:long|soon|early|late)\b|\b(?:what|which) (?:year|month|day|"
            r"date|time|century|decade|season|age)\b",
            re.IGNORECASE,
        ),
        _TIME,
    ),
    (re.compile(r"\bwho(?:m|se)?\b", re.IGNORECASE), _SOMEBODY),
    (re.compile(r"^where\b", re.IGNORECASE), _PLACE),
    (re.compile(r"^why\b|\bthe reason\b", re.IGNORECASE), _REASON),
)


def has_kind(question: str, text: str) -> bool | None:
    """Return whether a text has what a question asks for; None where the question does not say."""
    for opening, thing in _ASKED:
        if opening.search(question):
            return bool(thing.search(text))
    return None
