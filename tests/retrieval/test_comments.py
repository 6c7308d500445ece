"""Comments of Markdown are dropped; code that looks like them stays."""

import pytest

from lorabank.retrieval.comments import without_comments
from lorabank.retrieval.documents import document_from_text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a <!-- b --> c", "a  c"),
        ("<!--\n# old\n\nhidden\n-->\n# New", "\n# New"),
        ("`<!-- a -->` and ``x ` <!-- b -->``", "`<!-- a -->` and ``x ` <!-- b -->``"),
        ("```\n<!-- a -->\n```\n<!-- b -->", "```\n<!-- a -->\n```\n"),
        ("    <!-- code -->\n\nx", "    <!-- code -->\n\nx"),
        ("a ` b\n\n<!-- c --> `", "a ` b\n\n `"),
        ("a <!--> b <!---> c", "a  b  c"),
        ("one <!-- never closed\n\n# Two", "one  never closed\n\n# Two"),
        ("Write <!-- first.\n\n```\n-->\n```\n", "Write  first.\n\n```\n-->\n```\n"),
    ],
)
def test_comments_are_dropped_outside_of_code(text: str, kept: str):
    assert without_comments(text) == kept


def test_a_heading_in_a_comment_is_no_section():
    text = "# Guide\n\n<!--\n# Old\nport 9\n-->\n\n## Real\n\nPort 8.\n"
    document = document_from_text("a.md", text, is_markdown=True)
    assert [s.headings for s in document.sections] == [("Guide",), ("Guide", "Real")]
    assert "port 9" not in document.text
