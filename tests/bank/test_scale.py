"""Ten thousand modules: opened, listed and searched without a look at their weights."""

import time
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import save

from lorabank.bank.bank import Bank
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import TextRouter
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.engine.adapters.adapter import CONFIG, TENSORS
from lorabank.engine.backbone.base import Base
from lorabank.errors import AdapterError
from lorabank.store.records import BaseIdentity, Draft, Key, Source
from lorabank.store.store import Store

N = 10_000


def draft(number: int) -> Draft:
    return Draft(
        files={TENSORS: f"weights {number}".encode()},
        record={"facts": 1, "recall": 1.0, "adapter_bytes": 16},
        sources=[Source(f"{number}.csv", f"{number:064}", 1)],
        keys=[Key("question", f"What is the number of person p{number}?")],
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("banks") / "large"
    with Store.create(path, base=BaseIdentity("tiny", "a" * 64)) as store:
        with store.writing(what="fill") as tx:
            for number in range(N):
                tx.put(f"module {number:05}", draft(number))
        yield store


def test_a_large_bank_opens_in_less_than_a_second_and_lists_its_modules(large: Store):
    started = time.perf_counter()
    with Store.open(large.path) as store:
        opened = time.perf_counter()
        versions = store.current_versions()
    assert opened - started < 1
    assert [v.module for v in versions] == [f"module {number:05}" for number in range(N)]


def test_a_large_bank_is_searched_where_no_weights_are(large: Store):
    with Store.open(large.path) as store:
        aside = store.path / "aside"
        (store.path / "blobs").rename(aside)
        try:
            router = TextRouter(ModuleTexts(store, embeds=False))
            names = [
                candidates[0].module
                for candidates in router.route(
                    [f"Tell me the number of person p{n}" for n in (0, 77, N - 1)], 3
                )
            ]
            assert names == ["module 00000", "module 00077", f"module {N - 1:05}"]
            with pytest.raises(AdapterError, match=r"safetensors of module .* is missing"):
                store.read(store.current(names[0]), TENSORS)
        finally:
            aside.rename(store.path / "blobs")


def test_a_question_reads_few_rows_of_a_large_bank(large: Store):
    texts = ModuleTexts(large, embeds=False)
    TextRouter(texts).route(["Who is person p3?"], 3)
    large.has_file(TENSORS)
    steps = []
    large._db.set_progress_handler(lambda: steps.append(1), 1000)
    try:
        assert TextRouter(texts).route(["Tell me the number of person p7"], 3)[0]
        assert large.has_file(TENSORS)
    finally:
        large._db.set_progress_handler(None, 0)
    assert len(steps) <= N // 1000  # fewer instructions of SQLite than there are modules


def test_a_write_into_a_large_bank_is_whole_and_found(large: Store):
    with large.writing(what="one more") as tx:
        tx.put("one more", Draft(files={TENSORS: b"w"}, record={}, keys=[Key("text", "zebras")]))
    texts = ModuleTexts(large, embeds=False)
    assert TextRouter(texts).route(["zebras"], 1)[0][0].module == "one more"
    with large.writing(what="no more") as tx:
        assert len(tx.forget("one more")) == 1
    assert TextRouter(texts).route(["zebras"], 1)[0][0].coverage == 0
    assert len(large.names()) == N


def test_adapters_in_memory_stay_below_their_bound(bank: Bank, tiny: Base):
    version = bank.store.current("north")
    tensors = bank.reader.load_adapters([version])[0].weights
    size = sum(a.nbytes + b.nbytes for a, b in tensors.values())
    config = bank.store.read(version, CONFIG)
    with bank.store.writing(what="fill") as tx:
        for number in range(8):
            changed = {
                f"base_model.model.{path}.lora_{letter}.weight": torch.full_like(tensor, number)
                for path, pair in tensors.items()
                for letter, tensor in zip("AB", pair, strict=True)
            }
            tx.put(f"m{number}", Draft(files={TENSORS: save(changed), CONFIG: config}, record={}))
    versions = [bank.store.current(f"m{number}") for number in range(8)]
    reader = ModuleReader(bank.store, tiny, max_bytes=3 * size)
    for number, read in enumerate(versions):
        weights = reader.load_adapters([read])[0].weights
        assert all((a == number).all() and (b == number).all() for a, b in weights.values())
        assert reader.adapter_cache.n_bytes == min(number + 1, 3) * size
    reader.load_adapters(versions[5:])
    assert reader.adapter_cache.n_computed == 8  # the last three were still there
    reader.load_adapters(versions[:1])
    reader.load_adapters(versions[6:])
    assert reader.adapter_cache.n_computed == 9  # and of them the one not used for longest has left
    reader.load_adapters(versions[5:6])
    assert reader.adapter_cache.n_computed == 10
