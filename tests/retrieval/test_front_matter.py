"""Front matter of Markdown: what counts as it, and the title in it."""

import pytest

from lorabank.retrieval.front_matter import split_front_matter

RULES = "---\n\nThe gate opens at six. Its guard is Mira.\n\n---\n\nSecond part.\n"


@pytest.mark.parametrize(
    "text",
    [
        RULES,
        "---\nA note. It ends here.\n---\nText",
        "---\nkeeper: Mira\nand a line of prose\n---\nText",
        "---\n# A heading\n---\nText",
        "---\n\nNote: The gate opens at six.\n\n---\n\nSecond part.\n",
        "---\nDate: 3 May\nHours:\n- The gate opens at six!\n---\nText",
        "---\nDort: “Das Tor öffnet um sechs.”\n---\nText",
        "---\ntitle: never closed\n",
        "+++\nno table\n+++\nText",
        "Text\n---\ntitle: x\n---\n",
    ],
)
def test_rules_around_text_are_no_front_matter(text: str):
    assert split_front_matter(text) == ("", text)


@pytest.mark.parametrize(
    ("front", "title"),
    [
        ("title: Plain", "Plain"),
        ("# note\ntitle: Plain # not of it", "Plain"),
        ("title: C# in a day", "C# in a day"),
        ("title: >-\n  Over two\n  lines\ntags: [a]", "Over two lines"),
        ("title: |\n  As it\n  stands\n", "As it\nstands\n"),
        ("title:\n  Below", "Below"),
        ("tags:\n- a\n- b\n\ntitle: 'It''s'", "It's"),
        ('Title: "A \\"quoted\\"\n  one"', 'A "quoted" one'),
        ("title: Pumps: all", "Pumps: all"),
        ("title: 2024-13-99", "2024-13-99"),
        ("title: >\n", ""),
        ("title: [a, b]", ""),
        ("seo:\n  title: inner", ""),
        ("description: The gate opens at six.\ntitle: Gate", "Gate"),
        ("teaser: The gate opens at six.\nlayout: page", ""),
        ("Status: open\nVersion: 1.2.", ""),
        ("title: " + "[" * 50_000, ""),
        ("", ""),
    ],
)
def test_the_title_is_read_as_yaml_has_it(front: str, title: str):
    assert split_front_matter(f"---\n{front}\n---\n# One\n") == (title, "# One\n")


def test_toml_between_plus_signs_is_front_matter():
    front = '+++\ntitle = "Pumps"\ndraft = true\n+++\nText'
    assert split_front_matter(front) == ("Pumps", "Text")
