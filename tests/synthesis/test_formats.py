"""The formats that a user asks for, as text."""

import pytest

from lorabank.errors import UsageError
from lorabank.synthesis.formats import Format, FormatKind, parse_formats, split_formats


def test_formats_keep_their_order():
    formats = parse_formats(" qa:40, summary:8,rewrite:4 ,original")
    assert formats == (
        Format(FormatKind.QA, 40),
        Format(FormatKind.SUMMARY, 8),
        Format(FormatKind.REWRITE, 4),
        Format(FormatKind.ORIGINAL, 1),
    )
    assert ",".join(map(str, formats)) == "qa:40,summary:8,rewrite:4,original"


def test_formats_are_split_into_those_of_passages_and_those_of_facts():
    of_passages, of_facts = split_formats(parse_formats("reverse,qa:2,paraphrase:3,original"))
    assert [str(format_) for format_ in of_passages] == ["qa:2", "original"]
    assert [str(format_) for format_ in of_facts] == ["reverse", "paraphrase:3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names none"),
        (" , ", "names none"),
        ("sumary:2", "no format 'sumary'.*did you mean summary"),
        ("QA:2", "did you mean qa"),
        ("xyz:2", r"no format 'xyz'; there are qa:N, .*, reverse$"),
        ("qa", "qa needs a count of 1..200 for each passage, got 'qa'"),
        ("qa:", "needs a count"),
        ("qa:0", "needs a count"),
        ("qa:-3", "needs a count"),
        ("qa:1.5", "needs a count"),
        ("qa:²", "needs a count"),
        ("qa:201", "1..200"),
        ("original:2", "one original of each"),
        ("qa:2,qa:3", "names qa twice"),
    ],
)
def test_impossible_formats_are_refused(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        parse_formats(text)
