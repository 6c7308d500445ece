"""Reading the text of an EPUB book: the pages of its spine, in their order.

The pages are web pages and read as such. Those that only help to find one's way (the table of
contents), and what is encrypted, are told by the book itself.
"""

import posixpath
import zipfile
from urllib.parse import unquote
from xml.etree import ElementTree

from lorabank.errors import DataError
from lorabank.retrieval.sections import Block
from lorabank.retrieval.webpage import read_page
from lorabank.retrieval.zipped import open_zip, parse_xml, read_part

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_PAGES = {"application/xhtml+xml", "text/html"}


def read_epub(shown: str, raw: bytes) -> tuple[str, list[Block]]:
    """Return the title of a book, which may be empty, and its blocks.

    Args:
        shown: name of the book in errors.

    Raises:
        DataError: it is no EPUB, is damaged, or its pages are encrypted.
    """
    parts = open_zip(shown, raw, "an EPUB")
    container = parse_xml(shown, _CONTAINER, read_part(shown, parts, _CONTAINER))
    root = next((e.get("full-path") for e in _all(container, "rootfile")), None)
    if not root:
        raise DataError(f"{shown}: an EPUB that names no book; save it again")
    package = parse_xml(shown, root, read_part(shown, parts, root))
    encrypted = _encrypted(shown, parts)
    blocks: list[Block] = []
    for name in _spine(package, posixpath.dirname(root)):
        if name in encrypted:
            raise DataError(
                f"{shown}: its pages are encrypted (DRM); give a copy that is not protected"
            )
        page = read_part(shown, parts, name).decode("utf-8-sig", "replace")
        blocks += read_page(page, where=f"{shown}, {name}")[1]
    title = next((e.text for e in _all(package, "title") if e.text), "")
    return " ".join(title.split()), blocks


def _spine(package: ElementTree.Element, folder: str) -> list[str]:
    """Return the names of the pages in reading order, without the table of contents."""
    items = {item.get("id"): item for item in _all(package, "item")}
    names = []
    for reference in _all(package, "itemref"):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in _PAGES:
            continue
        if "nav" in (item.get("properties") or "").split() or reference.get("linear") == "no":
            continue
        path = unquote((item.get("href") or "").partition("#")[0])
        names.append(posixpath.normpath(posixpath.join(folder, path)))
    return names


def _encrypted(shown: str, parts: zipfile.ZipFile) -> set[str]:
    """Return the names of encrypted parts; fonts often are, in books that can be read."""
    if _ENCRYPTION not in parts.namelist():
        return set()
    root = parse_xml(shown, _ENCRYPTION, read_part(shown, parts, _ENCRYPTION))
    return {unquote(e.get("URI") or "") for e in _all(root, "CipherReference")}


def _all(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Return the elements of a name, whatever their namespace."""
    return [e for e in root.iter() if isinstance(e.tag, str) and e.tag.rpartition("}")[2] == name]
