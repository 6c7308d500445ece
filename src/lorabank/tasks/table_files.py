"""Rows of Parquet files and of folders that `datasets` saved, as records.

Columns that are null in a row are left out of its record, but for those that hold answers: there
null is a fault that has to be named. Reading needs pyarrow, which is in the extra `data`.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorabank.errors import DataError, UnavailableError
from lorabank.strict_json import check_value
from lorabank.tasks import fields

_ANSWERS = ("answer", "output", "response", "completion")
_SPLITS = "dataset_dict.json"
_STATE = "state.json"
PARQUET = ".parquet"


def is_dataset_folder(path: Path) -> bool:
    """Return whether a folder is one that `datasets` saved, whole or in splits."""
    return any((path / name).is_file() for name in (_STATE, _SPLITS))


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or of the hashes of a saved dataset's parts."""
    files = _parts(path) if is_dataset_folder(path) else [path]
    digests = [hashlib.sha256(fields.read_bytes(file)).hexdigest() for file in files]
    return digests[0] if files == [path] else hashlib.sha256("".join(digests).encode()).hexdigest()


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (row number, record) for each row.

    Raises:
        DataError: the file is damaged, or the folder has splits, one of which must be named.
        UnavailableError: pyarrow is not installed.
    """
    number = 0
    for file in _parts(path) if path.is_dir() else [path]:
        for row in _rows(file):
            number += 1
            where = f"{path}, row {number}"
            try:
                check_value(row)
            except ValueError as error:
                raise DataError(f"{where}: {error}") from None
            yield number, {k: v for k, v in row.items() if v is not None or k in _ANSWERS}


def _parts(folder: Path) -> list[Path]:
    """Return the Arrow files of a saved dataset."""
    if (folder / _SPLITS).is_file():
        splits = sorted(path.name for path in folder.iterdir() if is_dataset_folder(path))
        raise DataError(
            f"{folder}: a dataset with the splits {', '.join(splits) or 'none'}; name one of them, "
            f"as {folder / (splits or ['train'])[0]}"
        )
    files = sorted(folder.glob("*.arrow"))
    if not files:
        raise DataError(f"{folder}: a saved dataset without .arrow files; save it again")
    return files


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UnavailableError(
            f"{file}: tables are read by pyarrow: pip install 'lorabank[data]'"
        ) from error
    content = pa.BufferReader(fields.read_bytes(file))
    try:
        if file.suffix.lower() == PARQUET:
            yield from parquet.read_table(content).to_pylist()
        else:
            yield from pa.ipc.open_stream(content).read_all().to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{file}: cannot be read as a table: {reason}") from None
