"""Parts of a document that can be quoted: sentences, items, rows, and what a colon announces."""

from lorabank.retrieval.documents import document_from_text
from lorabank.retrieval.quotable import MOST_ANNOUNCED, quotable_parts

TEXT = """\
# The lighthouse

The keeper is Tuva Sorre. She lives
in the tower.

## Work

To light the lamp:

    lamp --on

There are two bells:

- north, of bronze
- south, of iron. It is cracked.

| Bell | Tone |
| ---- | ---- |
| North | C |

<!-- a note -->

```sh
lamp --off
```
"""


def parts_of(text: str) -> list[str]:
    return [p.shown for p in quotable_parts(document_from_text("x.md", text, is_markdown=True))]


def test_each_form_of_text_gives_its_parts():
    assert parts_of(TEXT) == [
        "The keeper is Tuva Sorre.",
        "She lives\nin the tower.",
        "To light the lamp:\n\n    lamp --on",
        "lamp --on",
        "There are two bells:\n\n- north, of bronze\n- south, of iron. It is cracked.",
        "- north, of bronze",
        "- south, of iron.",
        "It is cracked.",
        "| Bell | Tone |\n| North | C |",
        "```sh\nlamp --off\n```",
    ]


def test_parts_stand_in_the_text_and_know_their_headings():
    document = document_from_text("x.md", TEXT, is_markdown=True)
    for part in quotable_parts(document):
        assert document.text[part.start : part.end] == part.text
    assert quotable_parts(document)[0].place == "The lighthouse"
    assert quotable_parts(document)[-1].place == "The lighthouse > Work"


def test_what_a_colon_announces_is_quoted_as_far_as_it_is_short():
    long = f"The rules:\n\n- short\n- {'word ' * 78}\n- third"
    assert parts_of(long)[0].endswith("- third") is False
    assert len(parts_of(long)[0]) <= MOST_ANNOUNCED + len("The rules:")
    assert parts_of(f"The rules:\n\n{'word ' * 400}")[0] == "The rules:"


def test_text_without_markup_and_in_other_scripts_has_parts():
    plain = document_from_text("x.txt", "One thing. Another thing.\n\nA third.", is_markdown=False)
    assert [p.text for p in quotable_parts(plain)] == ["One thing.", "Another thing.", "A third."]
    assert parts_of("# 塔\n\n塔高42米。守塔人住在塔的旁边。") == [
        "塔高42米。",
        "守塔人住在塔的旁边。",
    ]
    assert parts_of("") == []
