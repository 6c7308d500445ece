"""A bank of three small phone books on the tiny model."""

from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.bank.opening import identify_base
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings
from lorabank.store.store import Store
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

TINY = TrainSettings(
    r=4,
    alpha=8.0,
    layers=None,
    lr=1e-2,
    exposures=200,
    wordings=0,
    protect_share=0.0,
)
NAMES = ("north", "south", "east")


@pytest.fixture(scope="session")
def book() -> list[Example]:
    return phonebook.to_examples(phonebook.build(16, seed=7))


@pytest.fixture(scope="session")
def written(
    tiny_folder: Path, book: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bank written once; copy it before changing it."""
    from lorabank.engine.backbone.base import load_info
    from lorabank.engine.models.registry import find_model

    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    path = tmp_path_factory.mktemp("banks") / "written"
    with Bank.create(path, base=base) as bank:
        drafts = [
            draft_from_examples(name, book[4 * i : 4 * i + 4], source=f"{name}.csv")
            for i, name in enumerate(NAMES)
        ]
        reports = bank.write_all(drafts, settings=TINY)
        assert [report.recall for report in reports] == [1.0, 1.0, 1.0]
    return path


@pytest.fixture
def bank(written: Path, tiny: Base, tmp_path: Path) -> Bank:
    """A copy of the written bank, to do anything with."""
    import shutil

    shutil.copytree(written, tmp_path / "bank")
    return Bank(Store.open(tmp_path / "bank"), tiny, embeds=False)


PEOPLE = tuple(
    zip(
        ("Tora Lunt", "Ebbe Vrang", "Siv Kolbe", "Aksel Tofte", "Runa Hjelm", "Odd Sunde"),
        ("Fenholm", "Grisby", "Larkwell", "Mosstead", "Nunford", "Quarley"),
        ("cooper", "glazier", "tanner", "miller", "scribe", "dyer"),
        ("spoon", "kettle", "lantern", "thimble", "whistle", "razor"),
        strict=True,
    )
)


@pytest.fixture(scope="session")
def shelved(
    tiny_folder: Path, book: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A phone book, and two documents with a module that has hardly looked at them."""
    from dataclasses import replace

    from lorabank.engine.backbone.base import load_info
    from lorabank.engine.models.registry import find_model
    from lorabank.retrieval.documents import document_from_text
    from lorabank.tasks.examples import from_pair

    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    path = tmp_path_factory.mktemp("banks") / "shelved"
    births = "".join(f"{name} was born in the town of {town}.\n\n" for name, town, _, _ in PEOPLE)
    trades = "".join(
        f"By trade {name} was a {trade}.\n\nOn every road {name} carried a {thing}.\n\n"
        for name, _, trade, thing in PEOPLE
    )
    documents = (
        document_from_text("births.md", f"# Rolls\n\n## Births\n\n{births}", is_markdown=True),
        document_from_text("trades.md", f"# Rolls\n\n## Trades\n\n{trades}", is_markdown=True),
    )
    examples = [from_pair(f"In which town was {name} born?", town) for name, town, _, _ in PEOPLE]
    examples += [from_pair(f"What was the trade of {name}?", trade) for name, _, trade, _ in PEOPLE]
    rolls = draft_from_examples("rolls", examples, source="rolls.csv", texts=[births])
    with Bank(Store.create(path, base=identify_base(base.info)), base, embeds=False) as bank:
        bank.write_all([draft_from_examples("north", book[:4], source="north.csv")], settings=TINY)
        brief = replace(TINY, exposures=1)
        bank.write_all([replace(rolls, documents=documents)], settings=brief)
    return path


@pytest.fixture
def library(shelved: Path, tiny: Base, tmp_path: Path) -> Bank:
    """A copy of it, to do anything with."""
    import shutil

    shutil.copytree(shelved, tmp_path / "library")
    assert tiny.identity  # of the configuration as it was loaded
    tiny.model.config.max_position_embeddings = 4096  # nothing is learned by place: it can be any
    return Bank(Store.open(tmp_path / "library"), tiny, embeds=False)
