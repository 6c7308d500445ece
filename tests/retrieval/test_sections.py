"""Headings and paragraphs of Markdown as CommonMark has them, at exact offsets, in linear time."""

import time

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


def test_headings_and_where_they_begin():
    marks = markdown_headings(TEXT)
    assert [(mark.level, mark.words) for mark in marks] == [
        (1, "Two lines of a heading"),
        (2, "Second link code * & em alt"),
        (3, "2 * 3"),
    ]
    assert [TEXT[mark.start :].partition("\n")[0][:10] for mark in marks] == [
        "Two lines",
        "## *Second",
        "### 2 * 3 ",
    ]


def test_sections_lie_side_by_side():
    sections = sections_at_headings(TEXT, markdown_headings(TEXT))
    assert "".join(TEXT[section.start : section.end] for section in sections) == TEXT
    assert [section.headings[1:] for section in sections] == [
        (),
        (),
        ("Second link code * & em alt",),
        ("Second link code * & em alt", "2 * 3"),
    ]


def test_a_link_by_reference_in_a_heading():
    (mark,) = markdown_headings("# See [the page][1]\n\n[1]: https://a.example\n")
    assert mark.words == "See the page"


def test_code_in_a_list_is_one_paragraph():
    first = TEXT.index("- a list")
    parts = [TEXT[a:b] for a, b in paragraph_spans(TEXT, first, TEXT.index("> #"))]
    assert parts == ["- a list", "```sh\n  # a comment\n\n  make\n  ```"]


@pytest.mark.parametrize(
    "text",
    ["# " + "[" * 60_000, "# a" + " " * 100_000, "# a" + " " * 100_000 + "b", "# " + "![" * 30_000],
    ids=["brackets", "blanks", "blanks within", "images"],
)
def test_odd_headings_take_no_quadratic_time(text: str):
    started = time.process_time()
    assert len(markdown_headings(text)) == 1
    assert paragraph_spans(text, 0, len(text))
    assert time.process_time() - started < 1  # regular expressions took many seconds
