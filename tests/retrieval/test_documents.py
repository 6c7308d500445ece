"""Reading documents: Markdown, plain text, web pages and PDF files, and what is refused."""

import codecs
import hashlib
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.retrieval.documents import Document, document_from_text, read_document, read_documents

from .pdf_writer import encrypt_pdf, make_pdf

MARKDOWN = """\
Before.

# The *Manual*

Intro with `# no heading`.

```sh
# a comment, not a heading

make
```

## Set-up ##
Text.

Under
-----
More.

- item
---
| a | b |
|---|---|
"""

PAGE = """<!doctype html><html><head><title>The  Site &amp; more</title>
<style>p {color: red}</style><script>var x = "<p>no</p>";</script></head><body>
<nav><ul><li>Home<li>About</ul></nav>
<main><h1>Valves</h1><p>Turn <b>left</b>,
then&nbsp;wait.<br>Then stop.<p hidden>Secret</p>
<h2>Parts<a href="#p">¶</a></h2>
<ol><li>One<ul><li>inner</ul><li>Two</ol>
<table><tr><th>Part</th><th>Price</th></tr><tr><td><p>Gear</p></td><td></td><td>3 &lt; 4</td></tr>
</table><pre>x = 1

  y = 2</pre></main><footer>Imprint</footer></body></html>"""


def read(folder: Path, name: str, content: bytes | str, **options: object) -> Document:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_document(path, **options)


def headings_and_texts(document: Document) -> list[tuple[tuple[str, ...], str]]:
    """Return the headings and the text of each section."""
    return [
        (section.headings, document.text[section.start : section.end])
        for section in document.sections
    ]


def test_markdown_text_is_not_changed(tmp_path: Path):
    document = read(tmp_path, "m.md", MARKDOWN.replace("\n", "\r\n"))
    assert document.text == MARKDOWN
    assert document.title == "The Manual"
    assert document.sha256 == hashlib.sha256((tmp_path / "m.md").read_bytes()).hexdigest()
    assert [(headings, text.split("\n")[0]) for headings, text in headings_and_texts(document)] == [
        ((), "Before."),
        (("The Manual",), "# The *Manual*"),
        (("The Manual", "Set-up"), "## Set-up ##"),
        (("The Manual", "Under"), "Under"),
    ]
    assert "".join(text for _, text in headings_and_texts(document)) == MARKDOWN


def test_markdown_front_matter_gives_the_title():
    document = document_from_text(
        "a.md", '---\ntags: x\ntitle: "Pumps: all"\n---\n# One\n', is_markdown=True
    )
    assert (document.title, document.text) == ("Pumps: all", "# One\n")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The Long Way\n\nIt was late.", "The Long Way"),
        ("It was late.\n\nHe left.", "the way 2"),
        ("Late\nand later", "the way 2"),
    ],
)
def test_plain_text_takes_its_title_from_its_first_line_or_its_name(text: str, title: str):
    document = document_from_text("folder/the_way-2.txt", text)
    assert document.title == title
    assert headings_and_texts(document) == [((), text)]


def test_a_web_page_becomes_sections_lists_tables_and_code(tmp_path: Path):
    document = read(tmp_path, "v.html", PAGE)
    assert document.title == "The Site & more"
    assert headings_and_texts(document) == [
        (("Valves",), "Valves\n\nTurn left, then wait.\nThen stop.\n\n"),
        (
            ("Valves", "Parts"),
            "Parts\n\n1. One\n  - inner\n2. Two\n\n| Part | Price |\n| Gear | | 3 < 4 |\n\n"
            "```\nx = 1\n\n  y = 2\n```",
        ),
    ]


def test_a_web_page_without_a_main_part_is_read_without_menus(tmp_path: Path):
    page = "<nav>Home</nav><h2>One</h2>a<div>b</div><footer>c</footer><table><td>d<td>e</table>"
    assert read(tmp_path, "p.htm", page).text == "One\n\na\n\nb\n\n| d | e |"


def test_pdf_lines_become_paragraphs_under_headings(tmp_path: Path):
    page = [
        (11, "The Pump Book {n}"),
        (20, "Care of"),
        (20, "pumps"),
        (11, "Oil the bearing every week, and never with the oil that the main-"),
        (11, "tenance kit has in it, which is for well-"),
        (11, "known reasons too thin."),
        (11, "A well-known reason is heat. It makes the oil in the bearing run off"),
        (14, "Parts {n}"),
        (11, "• a gear (steel)"),
        (11, "• a belt for {name}"),
        (9, "{n}"),
    ]
    pages = [
        [(size, text.format(n=n, name=name)) for size, text in page]
        for n, name in enumerate(("Ann", "Bea", "Cid"), start=1)
    ]
    document = read(tmp_path, "p.pdf", make_pdf(pages, title="Pumps (2nd ed.)"))
    assert document.title == "Pumps (2nd ed.)"
    assert document.sections[0].headings == ("Care of pumps",)
    assert [s.headings for s in document.sections[1::2]] == [
        ("Care of pumps", f"Parts {n}") for n in (1, 2, 3)
    ]
    assert headings_and_texts(document)[0][1].split("\n\n")[:3] == [
        "Care of pumps",
        "Oil the bearing every week, and never with the oil that the maintenance kit has in it, "
        "which is for well-known reasons too thin.",
        "A well-known reason is heat. It makes the oil in the bearing run off",
    ]
    assert "• a gear (steel)\n• a belt for Bea\n\n" in document.text
    assert "Pump Book" not in document.text


def test_a_pdf_page_without_text_is_named_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    read(tmp_path, "p.pdf", make_pdf([[(11, "Words.")], [], [(11, "More.")]], title="untitled"))
    assert "1 of 3 pages have no text: 2" in caplog.text


def test_an_encrypted_pdf_without_a_user_password_is_read(tmp_path: Path):
    assert (
        read(tmp_path, "p.pdf", encrypt_pdf(SECRET, user="", owner="boss")).text == "Secret words."
    )


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        ("Café".encode(), {}),
        ("Café".encode(), {"encoding": "latin-1"}),
        (codecs.BOM_UTF8 + "Café".encode(), {}),
        ("Café".encode("utf-16"), {}),
        (codecs.BOM_UTF16_BE + "Café".encode("utf-16-be"), {}),
        ("Café".encode("latin-1"), {"encoding": "latin-1"}),
        ("Café".encode("cp1252"), {"encoding": "windows-1252"}),
    ],
)
def test_a_text_is_read_in_its_encoding(tmp_path: Path, raw: bytes, options: dict[str, str]):
    assert read(tmp_path, "a.txt", raw, **options).text == "Café"


@pytest.mark.parametrize(
    "head",
    [
        '<meta charset="ISO-8859-1">',
        "<meta http-equiv='Content-Type' content='text/html; charset=latin1'>",
        '<?xml version="1.0" encoding="windows-1252"?>',
    ],
)
def test_a_page_may_declare_latin_1(tmp_path: Path, head: str):
    assert read(tmp_path, "a.html", f"{head}<p>Café".encode("latin-1")).text == "Café"


AES = b"""trailer << /ID [<00><00>] /Encrypt << /Filter /Standard /V 5 /R 6 /Length 256 /P -4
/O (%s) /U (%s) /OE (%s) /UE (%s) /Perms (%s) /StmF /StdCF /StrF /StdCF
/CF << /StdCF << /CFM /AESV3 /Length 32 >> >> >> """ % tuple(b"x" * n for n in (48, 48, 32, 32, 16))
SECRET = make_pdf([[(11, "Secret words.")]])
LOCKED = encrypt_pdf(SECRET, user="x", owner="y")
SCAN = make_pdf([[], []])
WORDS = make_pdf([[(11, "Words")]])
UNREADABLE = {
    "empty.txt": (b"", r"empty\.txt: an empty file; fill it or leave it out"),
    "blank.md": (b" \n\n", r"an empty file"),
    "script.html": (b"<script>draw()</script>", r"no text in it; leave it out, or, if a browser"),
    "front.md": (b"---\ntitle: x\n---\n", r"no text in it"),
    "nul.txt": (b"a\0b\0", r"not text, got NUL bytes: binary, or UTF-16 without a byte order mark"),
    "pdf.txt": (b"%PDF-1.4\n\0\0", r"not text, got a PDF: .* give it the suffix of what it is"),
    "control.txt": (b"\x01\x02\x03 abc", r"not text, 43% of its characters are not text"),
    "half.txt": (codecs.BOM_UTF16_LE + b"a\0b", r"byte 0x62 in line 1 is not utf-16"),
    "latin.txt": (b"ok\nCaf\xe9 au", r"byte 0xe9 in line 2 is not utf-8; .* --encoding latin-1"),
    "sjis.html": (
        b"<meta charset=shift_jis><p>\x83e",
        r"is declared to be in shift_jis, and is not UTF-8; only latin-1",
    ),
    "odd.html": (b"<meta charset=klingon><p>\x83e", r"is declared to be in klingon"),
    "text.pdf": (b"Hello, I am text", r"text\.pdf: is not a PDF, it begins with b'Hello, I'"),
    "cut.pdf": (WORDS[:300], r"a damaged PDF \(.*\); print it to a new PDF"),
    "scan.pdf": (
        make_pdf([[], []]),
        r"no text on any of its 2 pages, as in a scan; run character rec",
    ),
    "locked.pdf": (
        encrypt_pdf(SECRET, user="x", owner="y"),
        r"an encrypted PDF; save it without pass",
    ),
    "aes.pdf": (
        WORDS.replace(b"trailer << ", AES),
        r"an encrypted PDF; save it",
    ),
    "word.odt": (b"PK", r"must be one of \.md .* \.epub, got \.odt; convert it"),
    "README": (b"Hi", r"got no suffix"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_file_is_refused_with_the_reason(tmp_path: Path, name: str):
    raw, message = UNREADABLE[name]
    with pytest.raises(DataError, match=message):
        read(tmp_path, name, raw)


def test_a_file_over_the_size_limit_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"2\.0 MB, documents may have 1\.5; .* --limit-mb"):
        read(tmp_path, "big.txt", b"a" * 2_000_000, limit_mb=1.5)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"gone\.md: no such file or folder"):
        read_document(tmp_path / "gone.md")


def test_a_folder_is_read_in_order_of_names(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in ("b.txt", "a/z.md", ".git/x.md", "a/.hidden.md", "c.png", "d.PNG"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"Text of {name}")
    (tmp_path / "loop").symlink_to(tmp_path)
    caplog.set_level(logging.WARNING)
    assert [document.name for document in read_documents([tmp_path])] == ["a/z.md", "b.txt"]
    assert "skipped files that are not documents: 1 .png, 1 .PNG" in caplog.text


def test_folders_without_documents_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="name at least one document or folder"):
        read_documents([])
    with pytest.raises(DataError, match=r"a folder without documents \(.md .*\), got no files"):
        read_documents([tmp_path])
    (tmp_path / "x.png").write_bytes(b"1")
    with pytest.raises(DataError, match=r"without documents .*, got 1 \.png"):
        read_documents([tmp_path])
    (tmp_path / "x.md").write_bytes(b" ")
    with pytest.raises(DataError, match=r"all documents are empty; fill one"):
        read_documents([tmp_path])


def test_equal_files_named_by_the_user_are_refused(tmp_path: Path):
    for name in ("a.md", "b.txt"):
        (tmp_path / name).write_text("Same")
    with pytest.raises(DataError, match=r"b\.txt and .*a\.md hold the same bytes; give one"):
        read_documents([tmp_path / "a.md", tmp_path / "b.txt"])


LINE = "The valve in row {} is turned to the left until the gauge shows its mark."


def build_pdf(n_lines: int) -> bytes:
    """Return a PDF with 45 of the lines on each page."""
    lines = [(11, LINE.format(number)) for number in range(n_lines)]
    return make_pdf([lines[start : start + 45] for start in range(0, n_lines, 45)])


def build_web_page(n_lines: int) -> bytes:
    return "".join(f"<div><p>{LINE.format(n)}</p></div>" for n in range(n_lines)).encode()


LARGE = {"a.pdf": build_pdf, "a.html": build_web_page}


@pytest.mark.parametrize("name", LARGE)
def test_a_document_of_a_megabyte_is_read_to_its_last_page(tmp_path: Path, name: str):
    raw = LARGE[name](11_700)
    assert len(raw) > 1_000_000
    assert LINE.format(11_650) in read(tmp_path, name, raw).text


@pytest.mark.parametrize("name", LARGE)
def test_twice_the_document_is_at_most_twice_the_work(tmp_path: Path, name: str):
    """The work is a count of function calls, which is the same on a busy machine."""
    n_calls = []
    for n_lines in (450, 900):
        raw = LARGE[name](n_lines)
        n_calls.append(count_calls(partial(read, tmp_path, name, raw)))
    assert n_calls[1] < 2.2 * n_calls[0]


def count_calls(work: Callable[[], object]) -> int:
    """Return how often functions are called, those of Python and of C, while `work` runs."""
    n_calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal n_calls
        n_calls += event in ("call", "c_call")

    profiler = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(profiler)
    return n_calls
