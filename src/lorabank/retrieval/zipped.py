"""Documents that are ZIP files with markup inside, opened so that none of them fills memory."""

import io
import zipfile
from xml.etree import ElementTree

from lorabank.errors import DataError

_MAX_BYTES = 200_000_000  # of all parts together, unpacked


def open_zip(shown: str, raw: bytes, kind: str) -> zipfile.ZipFile:
    """Return the parts of a document.

    Args:
        shown: name of the document in errors.
        kind: what it is expected to be, such as "a Word document".

    Raises:
        DataError: it is no ZIP file, is encrypted, or would unpack to more than 200 MB.
    """
    try:
        parts = zipfile.ZipFile(io.BytesIO(raw))
        infos = parts.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise DataError(f"{shown}: not {kind}, or damaged: {error}; save it again") from None
    if any(info.flag_bits & 1 for info in infos):
        raise DataError(f"{shown}: {kind} with a password; save it without one")
    if (n_bytes := sum(info.file_size for info in infos)) > _MAX_BYTES:
        raise DataError(
            f"{shown}: unpacks to {n_bytes / 1e6:,.0f} MB, at most {_MAX_BYTES / 1e6:.0f} are read"
        )
    return parts


def read_part(shown: str, parts: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of a part.

    Raises:
        DataError: there is no such part, or it is damaged.
    """
    try:
        return parts.read(name)
    except KeyError:
        raise DataError(f"{shown}: lacks its part {name[:80]}; save it again") from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise DataError(f"{shown}: its part {name[:80]} is damaged: {error}") from None
    except Exception as error:  # zlib.error has no public base of its own
        raise DataError(f"{shown}: its part {name[:80]} cannot be unpacked: {error}") from None


def parse_xml(shown: str, name: str, content: bytes) -> ElementTree.Element:
    """Return the root of a part of XML, which must not define entities.

    Raises:
        DataError: it is no XML, or defines entities.
    """
    if b"<!ENTITY" in content:
        raise DataError(f"{shown}: its part {name[:80]} defines entities; save it again")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{shown}: its part {name[:80]} is no XML: {error}") from None
