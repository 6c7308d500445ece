"""What is cleaned from texts, titles and names."""

import unicodedata

import pytest

from lorabank.retrieval.cleaning import clean_text, clean_title, show_name

PICTURE = "iVBORw0KGgo" * 40


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("har\u00adbour", "harbour"),
        ("har\u00ad\n  bour", "harbour"),
        ("light\u200bkeeper \u200b x", "lightkeeper  x"),
        ("re\u2060\ufeffad\u200c", "read\u200c"),
        ("au\u200cf", "auf"),
        ("\u200eIlse\u202c", "Ilse"),
        ("می\u200cروم", "می\u200cروم"),
        ("\U0001f469\u200d\U0001f467", "\U0001f469\u200d\U0001f467"),
        ("ភាសា\u200bខ្មែរ", "ភាសា\u200bខ្មែរ"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("F\x0013\x07", "F\ufffd13\ufffd"),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x", "red x"),
        ("half \ud83d", "half \ufffd"),
        ("a" + " " * 500 + "b", "a" + " " * 80 + "b"),
    ],
)
def test_what_is_not_seen_does_not_part_words(raw: str, clean: str):
    assert clean_text(raw) == clean


def test_letters_are_composed():
    assert clean_text(unicodedata.normalize("NFD", "Café Ångström")) == "Café Ångström"
    assert show_name(unicodedata.normalize("NFD", "Café.md")) == "Café.md"


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (f"![map](data:image/png;base64,{PICTURE}) end", "![map]() end"),
        (f'<img src="data:image/svg+xml;utf8,{"%3Cpath" * 9}">', '<img src="">'),
        (f"[1]: <data:image/jpeg;name=a.jpg;base64,{PICTURE}>", "[1]: <>"),
        (f"data:font/woff;base64,\n{PICTURE[:76]}\n{PICTURE[:76]}\nAB==\nend", "\nend"),
        ("as in data:text/plain,Hello", "as in data:text/plain,Hello"),
        ("the data: 5, 6 and 7", "the data: 5, 6 and 7"),
    ],
)
def test_pictures_in_the_text_are_dropped(raw: str, clean: str):
    assert clean_text(raw) == clean


def test_a_title_is_one_short_line_without_controls():
    assert clean_title("The\n keeper\x00\x1b[2J") == "The keeper"
    assert len(clean_title("word " * 20_000)) <= 302


def test_a_name_can_be_printed_and_stored():
    name = b"caf\xe9\n\x1b.md".decode("utf-8", "surrogateescape")
    assert show_name(name) == "caf\ufffd\ufffd\ufffd.md"
