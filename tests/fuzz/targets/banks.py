"""Banks of somebody else: rows and pages of the database, files, what is derived; replies.

Whoever makes a bank can make its hashes fit, so rows and files are sealed again once damaged.
"""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from lorabank.bank.answer.gate import Gate, decode_gate, encode_gate
from lorabank.bank.drafts import EXAMPLES, draft_from_examples
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.bank.stored_text import DOCUMENTS, encode_documents
from lorabank.bank.write.contradictions import find_contradictions, note_contradiction
from lorabank.bank.write.transfer import export_module
from lorabank.cli.records import history, list_, show
from lorabank.engine.adapters.adapter import CONFIG, RECORD, TENSORS
from lorabank.engine.settings import SOUND
from lorabank.errors import AdapterError, LorabankError, UsageError
from lorabank.retrieval.documents import Document
from lorabank.retrieval.sections import Section
from lorabank.store import schema
from lorabank.store.blobs import blob_path
from lorabank.store.derived import make_derived_folder, write_derived
from lorabank.store.generation import seal_records, write_last
from lorabank.store.records import BaseIdentity, Draft
from lorabank.store.seal import seal_of
from lorabank.store.store import Store
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.tasks.examples import Message, from_pair
from tests.fuzz.runner import Target

TABLES = ("meta", "modules", "versions", "files", "sources", "keys", "events")
REQUEST = Request((Message("user", "Write."),), 9)
NOTE = {"question": "Who?", "answer": "Tuva", "module": "south", "other_answer": "Berta"}
MODULES = {"north": {"contradicts": [NOTE], "missing": ["When?"]}, "south": {"not_stuck": []}}


class Writer:
    """A generator as the cache knows it: by its name."""

    name = "fuzz"


def targets() -> Iterator[Target]:
    yield Target("bank-rows", [_rows()], _read_rows)
    yield Target("bank-pages", [(_bank() / schema.DATABASE).read_bytes()], _read_pages)
    yield Target("bank-generation", [(_bank() / "generation").read_bytes()], _read_generation)
    for name, content in _files().items():
        yield Target(f"bank-{name.partition('.')[0]}", [content], _read_file(name))
    yield Target("derived-index", [_index()], _read_index)
    gate = Gate((0.0,), (1.0,), (2.0,), 0.5, 0.0, 0.01, 0.02, 9)
    yield Target("derived-gate", [encode_gate(gate)], _read_gate)
    with tempfile.TemporaryDirectory() as folder:
        with ReplyCache(Path(folder) / "c") as replies:
            for text in ("Question: Who?", "x" * 9_000):
                replies.put(Writer(), Reply(REQUEST, text, Finish.STOP, 1, 2))  # type: ignore[arg-type]
        content = (Path(folder) / "c").read_bytes()
    yield Target("reply-cache", [content], _read_cache)


def _files() -> dict[str, bytes]:
    draft = draft_from_examples("m", [from_pair("Who?", "Tuva"), from_pair("When?", "1887")])
    document = Document("d.md", "2" * 64, "T", "Tuva came.", (Section(("T",), 0, 10),))
    record = {"base": {"name": "t", "sha256": "a" * 64}, "settings": SOUND.as_json()}
    return {
        EXAMPLES: draft.as_jsonl(),
        DOCUMENTS: encode_documents([document]),
        RECORD: json.dumps(record).encode(),
    }


@cache
def _bank() -> Path:
    """Return a bank that is copied for each input; it goes when the process ends."""
    _bank.folder = tempfile.TemporaryDirectory()  # type: ignore[attr-defined]
    path = Path(_bank.folder.name) / "bank"  # type: ignore[attr-defined]
    draft = draft_from_examples("m", [from_pair("Who?", "Tuva"), from_pair("When?", "1887")])
    with Store.create(path, base=BaseIdentity("tiny", "a" * 64)) as store:
        for name, more in MODULES.items():
            files = {**_files(), CONFIG: b"{}", TENSORS: name.encode()}
            record = {"facts": 2, "recall": 1.0, "adapter_bytes": 5, **more}
            with store.writing(what="t") as tx:
                tx.put(name, Draft(files, record, draft.sources, draft.keys))
    (path / "reserve").unlink(missing_ok=True)
    return path


def _copy(folder: Path) -> Path:
    return Path(shutil.copytree(_bank(), folder / "bank"))


def _rows() -> bytes:
    with closing(sqlite3.connect(_bank() / schema.DATABASE)) as db:
        rows = {
            table: [[_opened(v) for v in row] for row in db.execute(f"SELECT * FROM {table}")]
            for table in TABLES
        }
    return json.dumps(rows).encode()


def _opened(value: object) -> object:
    """Return the value of a text that is JSON, so that what is in it is damaged too."""
    return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def _closed(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _read_rows(data: bytes, folder: Path) -> object:
    try:
        tables = json.loads(data)
        rows = [(table, row) for table in TABLES for row in tables[table]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    bank = _copy(folder)
    with closing(sqlite3.connect(bank / schema.DATABASE, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        for table in TABLES:
            db.execute(f"DELETE FROM {table}")
        for table, row in rows:
            with suppress(sqlite3.Error, TypeError, OverflowError, UnicodeEncodeError):
                values = [_closed(value) for value in row]
                db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", values)
        _seal(bank, db)
    return _use(bank)


def _seal(bank: Path, db: sqlite3.Connection) -> None:
    for (version,) in db.execute("SELECT id FROM versions").fetchall():
        db.execute("UPDATE versions SET seal = ? WHERE id = ?", (seal_of(db, version), version))
    with suppress(KeyError, ValueError, TypeError):  # there is no generation any more
        write_last(bank, seal_records(db))


def _read_pages(data: bytes, folder: Path) -> object:
    bank = _copy(folder)
    (bank / schema.DATABASE).write_bytes(data)
    return _use(bank)


def _read_generation(data: bytes, folder: Path) -> object:
    bank = _copy(folder)
    text = data.partition(b"\n")[0]
    (bank / "generation").write_bytes(text + b"\n" + sha256(text).hexdigest().encode() + b"\n")
    return _use(bank)


def _read_file(name: str):  # type: ignore[no-untyped-def]
    def read(data: bytes, folder: Path) -> object:
        bank, digest = _copy(folder), sha256(data).hexdigest()
        path = blob_path(bank, digest)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        with closing(sqlite3.connect(bank / schema.DATABASE, isolation_level=None)) as db:
            db.execute("UPDATE files SET sha256 = ? WHERE name = ?", (digest, name))
            _seal(bank, db)
        return _use(bank)

    return read


def _use(bank: Path) -> object:
    """Do with a bank what needs no base model; our own errors are fine, each on its own."""
    with Store.open(bank) as store:
        faults = [fault.lost.encode() for fault in store.verify()]
        reader = ModuleReader(store, None)  # type: ignore[arg-type]
        for use in (
            lambda: list_(bank),
            lambda: list_(bank, json=True),
            lambda: history(None, bank),
            lambda: [show(name, bank) for name in store.names()],
            lambda: [show(name, bank, json=True) for name in store.names()],
            lambda: _use_versions(reader),
            lambda: ModuleTexts(store, embeds=False).search(["Who came?"], k=2),
            lambda: _remove(store),
        ):
            with suppress(LorabankError):
                use()
    return faults


def _use_versions(reader: ModuleReader) -> None:
    store = reader.store
    versions = {version.module: version for version in store.current_versions()}
    for version in versions.values():
        note_contradiction("Who?", version, versions).encode()
        reader.read_settings(version)
        with suppress(AdapterError, UsageError):
            find_contradictions(store, [reader.read_draft(version)])
        with suppress(AdapterError):
            reader.read_record(version)
        with suppress(AdapterError):
            export_module(store, version, store.path.parent / f"out-{version.id}")


def _remove(store: Store) -> None:
    with store.writing(what="prune", frees=True) as tx:
        tx.prune()
    for name in store.names():
        with store.writing(what="forget", frees=True) as tx:
            tx.forget(name)


@cache
def _index() -> bytes:
    with tempfile.TemporaryDirectory() as folder, Store.open(_copy(Path(folder))) as store:
        texts = ModuleTexts(store, embeds=False)
        texts.search(["Who?"], k=1)
        return texts._encode()


def _read_index(data: bytes, folder: Path) -> object:
    with Store.open(_copy(folder)) as store:
        state = store.modules_state
        make_derived_folder(store.path, state)
        write_derived(store.path, state, "modules", content=data)
        texts = ModuleTexts(store, embeds=False)
        hits = texts.search(["Who came in 1887?"], k=2)
        return texts.text_coverage("Who came?", ["Who?"]), [str(hit).encode() for hit in hits[0]]


def _read_gate(data: bytes, folder: Path) -> object:
    try:
        gate = decode_gate(data)
    except Exception:  # as in ModuleTexts, which makes a file again that does not decode
        return None
    return gate and (gate.opens(gate.mean), gate.probability(gate.mean), gate.as_json())


def _read_cache(data: bytes, folder: Path) -> object:
    (folder / "c").write_bytes(data)
    with ReplyCache(folder / "c") as replies:
        found = replies.get(Writer(), REQUEST)  # type: ignore[arg-type]
        replies.put(Writer(), Reply(REQUEST, "new", Finish.STOP, 1, 2))  # type: ignore[arg-type]
        return len(replies), found and found.text.encode()
