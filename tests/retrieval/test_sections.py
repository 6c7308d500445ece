"""Headings and paragraphs of Markdown: as CommonMark has them, at exact offsets, in linear time."""

import subprocess
import sys

import pytest

from lorabank.retrieval.sections import (
    markdown_headings,
    paragraph_spans,
    sections_at_headings,
)

TEXT = """\
Before.

Two lines
of a heading
===

- a list

  ```sh
  # a comment

  make
  ```

> # quoted

<!--
# a comment
-->

``` inline fence ```

## *Second* [link](x) `code` \\* &amp; _em_ ![alt](y) <a id="z"></a> {#anchor}

    # indented code

#no heading
## ##
### 2 * 3 ###
"""


def test_headings_have_their_level_words_and_offset():
    headings = markdown_headings(TEXT)
    assert [(heading.level, heading.words) for heading in headings] == [
        (1, "Two lines of a heading"),
        (2, "Second link code * & em alt"),
        (3, "2 * 3"),
    ]
    assert [TEXT[heading.start :].partition("\n")[0][:10] for heading in headings] == [
        "Two lines",
        "## *Second",
        "### 2 * 3 ",
    ]


def test_sections_together_are_the_whole_text():
    sections = sections_at_headings(TEXT, markdown_headings(TEXT))
    assert "".join(TEXT[section.start : section.end] for section in sections) == TEXT
    assert [section.headings[1:] for section in sections] == [
        (),
        (),
        ("Second link code * & em alt",),
        ("Second link code * & em alt", "2 * 3"),
    ]


def test_a_link_by_reference_in_a_heading_becomes_its_words():
    (heading,) = markdown_headings("# See [the page][1]\n\n[1]: https://a.example\n")
    assert heading.words == "See the page"


def test_code_in_a_list_is_one_paragraph():
    start = TEXT.index("- a list")
    parts = [TEXT[a:b] for a, b in paragraph_spans(TEXT, start, TEXT.index("> #"))]
    assert parts == ["- a list", "```sh\n  # a comment\n\n  make\n  ```"]


READ_HEADING = """
from lorabank.retrieval.sections import markdown_headings, paragraph_spans
text = {expression}
assert len(markdown_headings(text)) == 1
assert paragraph_spans(text, 0, len(text))
"""


@pytest.mark.parametrize(
    "expression",
    [
        "'# ' + '[' * 600_000",
        "'# a' + ' ' * 1_000_000",
        "'# a' + ' ' * 1_000_000 + 'b'",
        "'# ' + '![' * 300_000",
    ],
    ids=["brackets", "trailing blanks", "blanks within", "images"],
)
def test_a_long_heading_takes_no_quadratic_time(expression: str):
    # Linear time is under a second. Regular expressions once took many seconds for a tenth of
    # this, which makes many minutes in quadratic time; even a busy machine tells these apart.
    code = READ_HEADING.format(expression=expression)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
