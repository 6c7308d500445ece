"""What cannot be done is refused with the reason, and the bank is what it was before."""

import hashlib
import json
import pickle
import shutil
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.engine.adapters.adapter import CONFIG, RECORD, TENSORS
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.models.registry import find_model
from lorabank.engine.models.tiny import build_tiny
from lorabank.errors import AdapterError, DataError, LorabankError, UsageError
from lorabank.store import schema
from lorabank.store.blobs import blob_path, stored_hashes
from lorabank.tasks.examples import Example, from_pair

from .conftest import TINY


def state(bank: Bank) -> dict[str, Any]:
    """Everything that must not change."""
    store = bank.store
    return {
        "versions": [v for name in store.names() for v in store.versions(name)],
        "currents": store.current_versions(),
        "keys": store.all_keys(),
        "history": store.history(),
        "generation": store.generation,
        "files": {
            name: hashlib.sha256(blob_path(store.path, name).read_bytes()).hexdigest()
            for name in stored_hashes(store.path)
        },
        "damage": store.verify(),
    }


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    path = tmp_path / "facts.csv"
    path.write_text("prompt,answer\nWho is new?,Somebody\n")
    return path


REFUSED: dict[str, tuple[Callable[[Bank, Path], object], type[LorabankError], str]] = {
    "slash": (lambda b, f: b.write("a/b", [f]), UsageError, "'a/b' has a slash in it"),
    "dots": (lambda b, f: b.write("..", [f]), UsageError, r"'\.\.' begins with a dot"),
    "control": (lambda b, f: b.write("a\x1bb", [f]), UsageError, "has control or invisible"),
    "no name": (lambda b, f: b.write("", [f]), UsageError, "is empty"),
    "long name": (lambda b, f: b.write("x" * 201, [f]), UsageError, "201 characters, at most 200"),
    "taken": (
        lambda b, f: b.write("north", [f]),
        UsageError,
        r"'north' exists \(version 1, since 20.*add --replace",
    ),
    "no file": (lambda b, f: b.write("new", [f.parent / "no.csv"]), DataError, "no such file"),
    "nothing": (lambda b, f: b.write("new", []), UsageError, "at least one .csv or .jsonl file"),
    "empty question": (lambda b, f: b.ask(" \n"), UsageError, "the question is empty"),
    "no text": (lambda b, f: b.ask("\udcff who"), UsageError, "bytes that are not text"),
    "long question": (
        lambda b, f: b.ask("who " * 2000),
        DataError,
        r"a question of [\d,]+ tokens does not fit: .* takes 512",
    ),
    "no module": (lambda b, f: b.rollback("nord"), UsageError, "no module is called 'nord'"),
    "no version": (lambda b, f: b.rollback("north", 9), UsageError, "no version 9; it has 1"),
    "no source": (lambda b, f: b.forget("x.csv"), UsageError, "nothing called 'x.csv' is held"),
    "keep none": (lambda b, f: b.prune(keep=0), UsageError, "at least 1, got 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_cannot_be_met_changes_nothing(bank: Bank, facts: Path, name: str):
    do, kind, message = REFUSED[name]
    before = state(bank)
    with pytest.raises(kind, match=message):
        do(bank, facts)
    assert state(bank) == before
    assert before["damage"] == []


def test_a_source_that_is_held_is_named_with_its_holder(bank: Bank, facts: Path):
    bank.write("first", [facts], settings=TINY)
    same = shutil.copy(facts, facts.with_name("other.csv"))
    before = state(bank)
    with pytest.raises(UsageError, match=r"source other.csv is already held by module 'first'"):
        bank.write("second", [same], settings=TINY)
    with pytest.raises(UsageError, match=r"source other.csv is already held by module 'first'"):
        bank.write("north", [same], settings=TINY, replace=True)
    assert state(bank) == before


def test_a_bank_of_another_base_or_a_newer_schema_is_not_opened(bank: Bank, tmp_path: Path):
    other = build_tiny(tmp_path / "other", seed=1)
    base = load_info(find_model(str(other)), dtype="float32", device="cpu")
    before = state(bank)
    mine, theirs = bank.base.info.sha256[:12], base.info.sha256[:12]
    with pytest.raises(
        UsageError, match=rf"belongs to the base model .*\({mine}\), got .*{theirs}; open it with"
    ):
        Bank.open(bank.store.path, base=base)
    assert state(bank) == before
    bank.close()
    with sqlite3.connect(bank.store.path / schema.DATABASE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageError, match=r"is a bank of schema 99, .* use the newer lorabank"):
        Bank.open(bank.store.path, base=bank.base)
    with sqlite3.connect(bank.store.path / schema.DATABASE) as db:
        db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
    db.close()
    with Bank.open(bank.store.path, base=bank.base) as again:
        assert state(again) == before


HOLD = """
import sys
from pathlib import Path
from lorabank.store.store import Store
with Store.open(Path(sys.argv[1])).writing(what="write team"):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_locked_bank_says_by_whom_and_since_when_and_is_still_asked(
    bank: Bank, facts: Path, book: list[Example], tmp_path: Path
):
    bank.export("north", tmp_path / "north")
    before = state(bank)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, bank.store.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        message = (
            rf"being written by process {writer.pid} since 20\S+ \(write team\); try again later"
        )
        for do in (
            lambda: bank.write("new", [facts], settings=TINY),
            lambda: bank.forget("north"),
            lambda: bank.forget("north.csv"),
            lambda: bank.rollback("north"),
            lambda: bank.prune(),
            lambda: bank.import_(tmp_path / "north", "north", replace=True),
        ):
            with pytest.raises(UsageError, match=message):
                do()
        assert bank.ask(book[0].question).text == book[0].answer
        writer.kill()
    assert state(bank) == before


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def retensor(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / TENSORS)
    change(tensors)
    save_file(tensors, folder / TENSORS)


def halve_a(tensors: dict[str, torch.Tensor]) -> None:
    key = next(key for key in tensors if "lora_A" in key)
    tensors[key] = tensors[key][:2].contiguous()


def drop(letter: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[next(key for key in tensors if f"lora_{letter}" in key)]

    return change


def spoil(tensors: dict[str, torch.Tensor]) -> None:
    next(iter(tensors.values()))[0, 0] = float("nan")


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (lambda f: (f / "weights.PT").write_bytes(b"x"), r"weights.PT, a pickle"),
    "pickle inside": (
        lambda f: (f / TENSORS).write_bytes(pickle.dumps({"a": 1})),
        "adapter_model.safetensors cannot be read",
    ),
    "cut off": (
        lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-9]),
        "adapter_model.safetensors cannot be read",
    ),
    "no weights": (lambda f: (f / TENSORS).unlink(), "adapter_model.safetensors cannot be read"),
    "no config": (lambda f: (f / CONFIG).unlink(), "it has no adapter_config.json"),
    "config is no JSON": (lambda f: (f / CONFIG).write_text("{"), "cannot be read"),
    "no rank": (lambda f: rewrite(f / CONFIG, lambda c: c.pop("r")), "r must be a rank of 1 to"),
    "not LoRA": (
        lambda f: rewrite(f / CONFIG, lambda c: c.update(peft_type="IA3")),
        "must be a LoRA adapter, got IA3",
    ),
    "another rank": (lambda f: retensor(f, halve_a), r"must be 4 x 128 by its rank .* got 2 x 128"),
    "no B": (lambda f: retensor(f, drop("B")), r"without B of that layer"),
    "no A": (lambda f: retensor(f, drop("A")), "without A of that layer"),
    "no tensors": (lambda f: retensor(f, dict.clear), "lacks A and B of"),
    "nan": (lambda f: retensor(f, spoil), "contains NaN, infinity"),
    "another base": (
        lambda f: rewrite(f / RECORD, lambda c: c.update(base={"name": "big", "sha256": "b" * 64})),
        r"belongs to the base model big \(bbbbbbbbbbbb\)",
    ),
    "base is no object": (
        lambda f: rewrite(f / RECORD, lambda c: c.update(base="big")),
        "has base 'big'",
    ),
    "description is no JSON": (
        lambda f: (f / "module.json").write_text("["),
        "do not describe a module",
    ),
    "recall is a word": (
        lambda f: rewrite(f / "module.json", lambda c: c["record"].update(recall="all")),
        "'all' has the wrong type",
    ),
    "source without hash": (
        lambda f: rewrite(f / "module.json", lambda c: c.update(sources=[["a.csv"]])),
        "do not describe a module",
    ),
    "examples of another source": (
        lambda f: rewrite(f / "module.json", lambda c: c.update(sources=[["a", "b" * 64, 1]])),
        "do not describe a module",
    ),
}


def describe(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    return lambda folder: rewrite(folder / "module.json", change)


def first_example(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = (folder / "examples.jsonl").read_text("utf-8").split("\n")
        lines[0] = json.dumps({**json.loads(lines[0]), **values})
        (folder / "examples.jsonl").write_text("\n".join(lines), "utf-8")

    return change


def settings(**values: object) -> Callable[[Path], object]:
    return lambda folder: rewrite(folder / RECORD, lambda c: c["settings"].update(values))


def linked_examples(folder: Path) -> None:
    (folder / "examples.jsonl").rename(folder.parent / "secret")
    (folder / "examples.jsonl").symlink_to(folder.parent / "secret")


_USER = {"role": "user", "content": "Who keeps the lamp?"}
BAD_FOLDERS |= {
    "answer a number": (first_example(answer=7), "do not describe a module"),
    "answer empty": (first_example(answer=" "), "the answer is empty"),
    "half a character": (first_example(answer="a\ud83d"), "half of a character"),
    "prompt empty": (first_example(prompt=[]), "do not describe a module"),
    "prompt blank": (first_example(prompt=[{**_USER, "content": " "}]), "the prompt is empty"),
    "prompt a text": (first_example(prompt="Who?"), "do not describe a module"),
    "role unknown": (first_example(prompt=[{**_USER, "role": "lamp"}]), "do not describe"),
    "too long": (first_example(answer="lamp " * 2000), r"examples\.jsonl cannot be asked: .*512"),
    "no examples": (lambda f: (f / "examples.jsonl").write_text(""), "there are no facts"),
    "examples a link": (linked_examples, "it is a link"),
    "missing of numbers": (describe(lambda c: c["record"].update(missing=[[1]])), "wrong type"),
    "recall true": (describe(lambda c: c["record"].update(recall=True)), "has the wrong type"),
    "facts below zero": (describe(lambda c: c["record"].update(facts=-1)), "has the wrong type"),
    "key a number": (describe(lambda c: c.update(keys=[["text", 5]])), "has the wrong type"),
    "key of no kind": (describe(lambda c: c.update(keys=[["lamp", "x"]])), "has the wrong type"),
    "source twice": (describe(lambda c: c.update(sources=c["sources"] * 2)), "occurs twice"),
    "hash no hash": (describe(lambda c: c["sources"][0].__setitem__(1, "../x")), "no sha256"),
    "settings unknown": (settings(lamp=1), "settings that cannot be used: .*lamp"),
    "settings text": (settings(lr="fast"), "settings that cannot be used"),
    "settings flag": (settings(activated="yes"), "settings that cannot be used: activated is"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_an_import_that_is_refused_changes_nothing(bank: Bank, tmp_path: Path, name: str):
    bank.export("north", tmp_path / "north")
    spoil_it, message = BAD_FOLDERS[name]
    spoil_it(tmp_path / "north")
    before = state(bank)
    with pytest.raises(AdapterError, match=message):
        bank.import_(tmp_path / "north", "north", replace=True)
    assert state(bank) == before


def test_what_peft_wrote_is_taken_if_it_is_plain_lora_of_this_base(
    bank: Bank, tiny: Base, tmp_path: Path
):
    pissa = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa")
    for name, config in {
        "ia3": IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        "dora": LoraConfig(r=4, target_modules=["q_proj"], use_dora=True),
        "pissa": pissa,
        "plain": LoraConfig(r=4, target_modules=["q_proj"]),
    }.items():
        model = get_peft_model(load_info(tiny.info, dtype="float32", device="cpu").model, config)
        model.save_pretrained(tmp_path / name)
    before = state(bank)
    for name, message in {
        "ia3": "must be a LoRA adapter, got IA3",
        "dora": "use_dora=True is not read here",
        "pissa": "init_lora_weights=pissa is not read here",
    }.items():
        with pytest.raises(AdapterError, match=message):
            bank.import_(tmp_path / name)
    assert state(bank) == before
    assert bank.import_(tmp_path / "plain").number == 1
    larger = build_tiny(tmp_path / "larger", layers=1)
    base = load_info(find_model(str(larger)), dtype="float32", device="cpu")
    with (
        Bank.create(tmp_path / "other", base=base) as other,
        pytest.raises(AdapterError, match=r"layers.1.* matches no layer of"),
    ):
        other.import_(tmp_path / "plain")


def test_a_damaged_module_can_still_be_replaced_or_forgotten(
    bank: Bank, book: list[Example], caplog: pytest.LogCaptureFixture
):
    for name in ("north", "south"):
        bank.store.path_of(bank.store.current(name), TENSORS).unlink()
    with pytest.raises(AdapterError, match=r"safetensors of module 'north' .* is missing"):
        bank.ask_all([book[0].question], gated=False)
    bank.write_all(
        [draft_from_examples("north", book[:4], source="n")], settings=TINY, replace=True
    )
    proof = bank.forget("south")
    assert (proof.facts, proof.recall_before, proof.recall_after) == (4, 0.0, 0.0)
    assert "adapter_model.safetensors of module 'south' version 1 is missing" in caplog.text
    assert bank.store.names() == ["east", "north"]
    left = {(damage.module, damage.version) for damage in bank.verify()}
    assert left <= {("north", 1)}  # none where training alone gives the very bytes that are missing


def test_a_name_is_found_however_its_accents_were_typed(bank: Bank, book: list[Example]):
    composed = unicodedata.normalize("NFC", "Ärzte")
    apart = unicodedata.normalize("NFD", composed)
    bank.write_all([draft_from_examples(apart, book[12:14], source="a.csv")], settings=TINY)
    assert composed in bank.store.names()
    with pytest.raises(UsageError, match="exists"):
        bank.write_all([draft_from_examples(apart, book[14:], source="b.csv")], settings=TINY)
    bank.write_all(
        [draft_from_examples(apart, book[12:14], source="a.csv")], settings=TINY, replace=True
    )
    assert bank.rollback(apart).number == 1
    assert bank.forget(apart).facts == 2
    assert composed not in bank.store.names()


def test_texts_with_strange_line_ends_come_back_whole(bank: Bank):
    strange = from_pair("What is\u2028between\x85these?", "Line\u2029ends")
    bank.write_all([draft_from_examples("strange", [strange], source="s")], settings=TINY)
    version = bank.store.current("strange")
    assert bank.forget("strange").facts == 1
    assert version.sources[0].n_examples == 1


def test_a_refused_forget_keeps_what_is_derived(bank: Bank, book: list[Example]):
    bank.ask(book[0].question)
    derived = sorted(p.name for p in (bank.store.path / "derived").rglob("*"))
    with pytest.raises(UsageError, match="nothing called 'nord'"):
        bank.forget("nord")
    assert sorted(p.name for p in (bank.store.path / "derived").rglob("*")) == derived
