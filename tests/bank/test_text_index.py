"""What is derived from a bank's texts never outlives them, however processes interleave."""

from pathlib import Path

import numpy as np

from lorabank.bank.bank import Bank
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.store.store import Store
from lorabank.tasks.examples import Example


def names_in(folder: Path) -> str:
    return "".join(
        path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()
    )


def test_an_index_begun_before_a_forget_is_not_saved_after_it(bank: Bank, book: list[Example]):
    with Store.open(bank.store.path) as other:
        late = ModuleTexts(other, embeds=False)
        late.state = other.modules_state  # has begun, and reads the keys now …
        keys = other.all_keys()
        assert any(key.text == book[0].question for _, _, key in keys)
        bank.forget("north")
        late._build()  # … and is done after the forget
    derived = bank.store.path / "derived"
    name = book[0].question.split()[-1].strip("?")
    assert name not in names_in(derived)
    assert not (derived / late.state).exists()


def test_damaged_vectors_are_made_again(bank: Bank, book: list[Example], tmp_path: Path):
    class Hashing:
        """Embeds by length: real vectors are not the question here."""

        sha256 = "lengths"

        def embed_parts(self, parts: list[tuple[str, int, int]]) -> np.ndarray:
            rows = np.array([[1.0, len(text), end - start] for text, start, end in parts])
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

        def embed(self, texts: list[str]) -> np.ndarray:
            return self.embed_parts([(text, 0, len(text)) for text in texts])

    def fresh() -> ModuleTexts:
        texts = ModuleTexts(bank.store, embeds=False)
        texts._embedder = Hashing()  # type: ignore[assignment]
        return texts

    bank.texts.clear()
    first = fresh().search([book[0].question], k=3)
    vectors = bank.store.path / "derived" / "vectors.derived"
    whole = vectors.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:40] + b"\0" * 60 + whole[100:], b""):
        for old in (bank.store.path / "derived").iterdir():
            if old.is_dir():
                (old / "modules.derived").unlink()
        vectors.write_bytes(broken)
        assert fresh().search([book[0].question], k=3) == first
    assert not list((bank.store.path / "derived").glob(".partial-*"))
