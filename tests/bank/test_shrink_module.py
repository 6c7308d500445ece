"""A module of a bank in a smaller form: a new version, proved, and nothing lost by refusing."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import EXAMPLES
from lorabank.engine.adapters.adapter import TENSORS
from lorabank.engine.shrink import ShrinkSettings
from lorabank.errors import UsageError
from lorabank.store.records import Draft
from lorabank.tasks.examples import Example


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
def test_a_shrunk_module_answers_as_before_and_its_old_version_stays(
    bank: Bank, book: list[Example], tmp_path: Path, dtype: str
):
    before, recall = bank.store.current("north"), bank.recall_by_rendering("north")
    report = bank.shrink("north", ShrinkSettings(dtype=dtype))  # type: ignore[arg-type]
    after = bank.store.current("north")
    assert (report.version, after.number) == (2, 2)
    assert report.bytes_after < report.bytes_before == before.record["adapter_bytes"]
    assert after.record["adapter_bytes"] == report.bytes_after
    assert after.record["shrunk"]["from_version"] == 1
    assert (after.sources, after.files[EXAMPLES]) == (before.sources, before.files[EXAMPLES])
    assert bank.store.keys(after) == bank.store.keys(before)
    assert bank.verify() == []
    assert bank.recall_by_rendering("north") == recall == report.shrunk["recall"]
    assert recall["template"] == 1.0
    assert [bank.ask(e.question).text for e in book[:4]] == [e.answer for e in book[:4]]
    assert [event.what for event in bank.history("north")] == ["write", "shrink"]

    bank.export("north", tmp_path / "out")
    names = set(load((tmp_path / "out" / TENSORS).read_bytes()))
    assert all(name.endswith(".weight") for name in names)  # PEFT's own
    bank.import_(tmp_path / "out", "north", replace=True)
    assert bank.recall("north") == 1.0

    bank.rollback("north", 1)
    assert bank.store.current("north").files[TENSORS] == before.files[TENSORS]


def test_a_fact_is_forgotten_out_of_a_shrunk_module(bank: Bank, book: list[Example]):
    bank.shrink("north")
    proof = bank.forget(book[0].question, is_fact=True)
    assert (proof.recall_before, proof.recall_after, proof.kept_recall) == (1.0, 0.0, 1.0)
    assert proof.remaining == ()


def test_refusing_changes_nothing(bank: Bank):
    bank.shrink("north")
    with pytest.raises(UsageError, match="nothing was changed"):
        bank.shrink("north", ShrinkSettings(keep_recall=1.0, margin=20.0))
    with pytest.raises(UsageError, match=r"smallest rank that does is \d"):
        bank.shrink("south", ShrinkSettings(keep_recall=1.0, margin=6.0, r=1))
    assert [v.number for v in bank.modules()] == [1, 2, 1]
    assert not list(bank.store.path.glob(".partial*"))


def test_a_module_without_examples_or_written_meanwhile_is_refused(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    version = bank.store.current("east")
    files = {n: bank.store.read(version, n) for n in version.files if n != EXAMPLES}
    with bank.store.writing(what="t") as tx:
        tx.put("bare", Draft(files, version.record))
    with pytest.raises(UsageError, match="imported without its examples"):
        bank.shrink("bare")
    from lorabank.bank.write import shrunk_module

    measure = shrunk_module.measure_drift

    def write_meanwhile(*args: object) -> object:
        with bank.store.writing(what="t") as tx:
            draft = Draft(
                {n: bank.store.read(version, n) for n in version.files},
                version.record,
                version.sources,
                bank.store.keys(version),
            )
            tx.put("east", replace(draft), replace=True)
        return measure(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(shrunk_module, "measure_drift", write_meanwhile)
    with pytest.raises(UsageError, match="written again while it was being shrunk"):
        bank.shrink("east")
    assert bank.store.current("east").number == 2
