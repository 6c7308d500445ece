"""Documents of all kinds, read, cut into chunks and taken as passages and sentences."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from lorabank.retrieval.chunks import chunk_document
from lorabank.retrieval.documents import read_document
from lorabank.retrieval.indexed_texts import split_into_passages
from tests.fuzz.runner import Target
from tests.retrieval.pdf_writer import make_pdf, make_pdf_of_content
from tests.retrieval.zip_writers import make_docx, make_epub

MARKDOWN = (
    "---\n# note\ntitle: >-\n  The lamp\n  of Nebo\ntags: [a]\n---\n\n# Lamp\n\nIt is lit. <!-- "
    "not seen -->\n\n```sh\n# code\n```\n\n- one\n  1. two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "+++\ntitle = 'Nebo'\n+++\n> quoted\n\nUnder\n---\n\n``` in line ```\n\n![map](data:image/png;"
    "base64,iVBORw0KGgoAAAANSUhEUgAAAAE=) `<!-- x -->` [a]: <b> *c* &amp; {#id}\n",
)
PAGES = (
    "<!doctype html><title>Nebo &amp; more</title><nav><a href=x>Home</a></nav><main><h1>Lamp</h1>"
    "<p hidden>no<p>10<sup>6</sup> birds, note<sup><a href='#n'>3</a></sup>, H<sub>2</sub>O.<ol "
    "start=5 reversed><li>a<ul><li value=9>b</ul></ol><table><tr><th>A<td>B</table><pre>x\n y</pre>"
    "</main><footer>f</footer>",
    "<svg><title>i</title><path d=x></svg><script>if (a < b) {}</script><!-- c --><div style='"
    "display:none'>x</div><math><msup><mn>10</mn><mrow><mi>n</mi></mrow></msup><mfrac><mi>a</mi>"
    "<mi>b</mi></mfrac></math>&#x1F600;<textarea>t</textarea><template><dl><dt>a<dd>b</dl>",
)
TEXTS = (
    "The lamp\n\n“It is lit.” Tuva Sorre said so. ¿Quién? Dr. Brown, e.g. the keeper.\n",
    "灯塔建于一八八七年。「来た。」と言った。\n\nสวัสดีชาวโลก Его хранит "
    "А. С. Мирин. har\u00adbour\u200b x\n",
)
FORM = (
    b"/Annots [<< /Type /Annot /Subtype /Widget /FT /Tx /T (keeper) /V (Tuva) /Rect [0 0 9 9] >> "
    b"<< /Type /Annot /Subtype /FreeText /Contents (typed) /Rect [0 0 9 9] >>]"
)
RAISED = b"BT /F1 10 Tf 50 700 Td (over 10) Tj 4 Ts /F1 6 Tf (6) Tj 0 Ts /F1 10 Tf ( birds) Tj ET"
PDFS = (
    make_pdf(
        [[(20, "The lamp"), (11, "It is lit at night, and main-"), (11, "tained by day.")]] * 3
    ),
    make_pdf_of_content(RAISED, FORM),
)


def targets() -> Iterator[Target]:
    yield _documents("markdown", "a.md", [text.encode() for text in MARKDOWN])
    yield _documents("web-pages", "a.html", [text.encode() for text in PAGES])
    yield _documents("plain-text", "a.txt", [text.encode() for text in TEXTS])
    yield _documents("pdf", "a.pdf", PDFS)
    yield _documents("epub", "a.epub", [make_epub()])
    if find_spec("docx"):
        yield _documents("word", "a.docx", [make_docx()])


def _documents(name: str, file: str, samples: list[bytes] | tuple[bytes, ...]) -> Target:
    def read(content: bytes, folder: Path) -> None:
        path = folder / file
        path.write_bytes(content)
        document = read_document(path)
        document.text.encode()
        assert "\n" not in document.title
        assert "\x1b" not in document.text + document.title
        chunks = chunk_document(document, size_tokens=40)
        # Chunks together hold all of the text but white space.
        assert "".join("".join(c.text for c in chunks).split()) == "".join(document.text.split())
        split_into_passages([("module", "text", document.text)])

    return Target(name, samples, read)
