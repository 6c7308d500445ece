"""Web pages as people write them: hidden, unclosed, damaged, with raised numbers and formulas."""

import logging
import time

import pytest

from lorabank.retrieval.webpage import read_page


def text_of(markup: str) -> str:
    return "\n".join(block.text for block in read_page(markup)[1])


@pytest.mark.parametrize(
    "hidden",
    [
        "<ul><li hidden>no<li>yes</ul>",
        "<p hidden>no<p>yes",
        '<p style="color: red; DISPLAY : none">no<p>yes',
        '<dl><dt aria-hidden="true">no<dd>yes</dl>',
        "<table><tr hidden><td>no<tr><td>yes</table>",
        "<table><tr><td hidden>no<td>yes</table>",
        "<table><tbody hidden><tr><td>no<tbody><tr><td>yes</table>",
        "<div hidden><div>no</div>no</div>yes",
        "<ul><li>yes<ul hidden><li>no</ul></ul>",
        "<div><p hidden>no</div>yes",
        '<span hidden="hidden">no</span>yes',
        "<p hidden>no<table><tr><td>yes</table>",
    ],
)
def test_hidden_elements_end_where_html_ends_them(hidden: str):
    text = text_of(f"<h1>Top</h1>{hidden}<p>End.")
    assert "no" not in text
    assert "yes" in text
    assert text.endswith("End.")


@pytest.mark.parametrize(
    "start",
    [
        "<svg><path d=x>",
        "<nav><a href=x>Home</a>",
        "<button>Menu",
        "<script>x = 1;",
        "<style>p {}",
        "<template>",
        "<noscript>",
        "<select><option>a",
        "<footer>Imprint",
        "<div hidden>",
        "<iframe src=x>",
        "<object data=x>",
        "<!-- a note ",
        "<a title='x>",
        "<dialog>",
        "<textarea>",
    ],
)
def test_what_is_never_closed_loses_no_paragraph(start: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    text = text_of(f"<h1>Top</h1>{start}<p>First one.</p><div>Second.</div>")
    assert "First one." in text
    assert text.endswith("Second.")


def test_a_menu_without_its_end_is_named_in_a_warning(caplog: pytest.LogCaptureFixture):
    read_page("<nav>Home<p>Text", where="shop.html")
    assert "shop.html: 1 menus, scripts or hidden parts have no end" in caplog.text


def test_a_title_without_its_end_ends_at_the_body():
    assert read_page("<title>The shop<body><p>Text")[0] == "The shop"
    assert text_of("<title>The shop</head><body><p>Text") == "Text"


def test_drawings_within_a_page_do_not_give_it_its_title():
    title, blocks = read_page("<svg><title>Icon</title></svg><title>Shop</title><p>x")
    assert (title, [block.text for block in blocks]) == ("Shop", ["x"])


def test_elements_closed_as_in_xhtml_hide_nothing():
    text = text_of("<script src='x'/><title/><nav/><p>One</p><div hidden=''/><p>Two</p>")
    assert text == "One\nTwo"


def test_a_main_part_that_says_next_to_nothing_is_not_all():
    page = "<main><p>Loading…</p></main><div><p>The gate opens at six and Mira keeps it.</p></div>"
    assert "Mira keeps it" in text_of(page)
    assert text_of("<main>The port is 8123.</main><div>Ads!</div>") == "The port is 8123."


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("10<sup>6</sup> birds", "10^6 birds"),
        ("10<sup>&minus;3</sup> m", "10^−3 m"),
        ("2<sup>n+1</sup>", "2^(n+1)"),
        ("8 km<sup>2</sup>", "8 km^2"),
        ("5 mol<sup>-1</sup>", "5 mol^-1"),
        ("x<sup>2</sup>3", "x^2 3"),
        ("the keeper<sup>3</sup> said", "the keeper[3] said"),
        ("in 1887<sup><a href='#n'>3</a></sup>.", "in 1887[3]."),
        ("lit.<sup>4</sup> The", "lit.[4] The"),
        ("keeper<sup>[5]</sup>", "keeper[5]"),
        ("1<sup>st</sup> of May", "1st of May"),
        ("brand<sup>TM</sup>", "brandTM"),
        ("3<sup>1</sup>/<sub>2</sub> pears", "3 1/2 pears"),
        ("H<sub>2</sub>O", "H2O"),
        ("1010<sub>2</sub> and x<sub>i</sub>", "1010_2 and x_i"),
        ("log<sub>2</sub>8", "log2 8"),
        ("<math><msup><mn>10</mn><mn>6</mn></msup></math>", "10^6"),
        ("<math><mfrac><mn>1</mn><mrow><mi>x</mi><mo>+</mo><mn>1</mn></mrow></mfrac>", "1/(x+1)"),
        ("<math><semantics><mi>x</mi><annotation>\\x</annotation></semantics></math> y", "x y"),
    ],
)
def test_no_number_grows_by_what_is_raised_behind_it(markup: str, text: str):
    assert text_of(f"<p>{markup}</p>") == text


def test_lists_begin_at_the_number_they_say():
    markup = (
        "<ol start=5><li>a<li>b</ol><ol reversed start=2><li>c<li value=9>d</ol><ol start=x><li>e"
    )
    assert text_of(markup).split("\n") == ["5. a", "6. b", "2. c", "9. d", "1. e"]


def test_lists_in_hidden_parts_do_not_move_the_others():
    markup = "<ol><li>a<div hidden><ul><li>x</ul></div><li>b</ol>"
    assert text_of(markup) == "1. a\n2. b"


def test_entities_that_are_impossible_are_replaced():
    assert text_of("<p>&#" + "9" * 6000 + "; &#xD800; &#0; &copy") == "\ufffd \ufffd \ufffd ©"


HARD = {
    "open tags": "<a " * 33_000,
    "open tags and an end": "<a " * 33_000 + ">",
    "open quotes": "<a b='" * 16_000 + ">",
    "quoted ends": "<a b='>' " * 12_000,
    "drawings": "<svg>" * 20_000,
    "formatting": "<p>" + "".join(f"<font c={i}>" for i in range(4000)) + "<p>x" * 4000,
    "end tags": "<p><table><td>" + "<b>" * 15_000 + "</p>" * 15_000,
    "comments": "<!--" * 25_000,
    "scripts": "<script>" * 12_000,
    "menus": "<nav>" * 20_000,
    "blanks": "<title>a" + " " * 80_000 + "b</title>",
    "raised": "<sup>" * 20_000,
}


@pytest.mark.parametrize("name", HARD)
def test_damaged_pages_of_100_kb_take_linear_time(name: str):
    # A second at most; in quadratic time each takes over a minute.
    began = time.process_time()
    read_page(HARD[name] + "<p>x")
    assert time.process_time() - began < 10
