"""A bank of three small phone books on the tiny model."""

from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.parcels import from_examples
from lorabank.engine.base import Base
from lorabank.engine.settings import TrainSettings
from lorabank.store.store import Store
from lorabank.tasks import phonebook
from lorabank.tasks.examples import Example, from_phonebook

TINY = TrainSettings(r=4, alpha=8.0, lr=1e-2, exposures=200, batch_size=4)
NAMES = ("north", "south", "east")


@pytest.fixture(scope="session")
def book() -> list[Example]:
    return from_phonebook(phonebook.build(16, seed=7))


@pytest.fixture(scope="session")
def written(
    tiny_folder: Path, book: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bank written once; copy it before changing it."""
    from lorabank.engine.base import load_info
    from lorabank.engine.models import find_model

    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    path = tmp_path_factory.mktemp("banks") / "written"
    with Bank.create(path, base=base) as bank:
        parcels = [
            from_examples(name, book[4 * i : 4 * i + 4], source=f"{name}.csv")
            for i, name in enumerate(NAMES)
        ]
        reports = bank.write_all(parcels, settings=TINY)
        assert [report.recall for report in reports] == [1.0, 1.0, 1.0]
    return path


@pytest.fixture
def bank(written: Path, tiny: Base, tmp_path: Path) -> Bank:
    """A copy of the written bank, to do anything with."""
    import shutil

    shutil.copytree(written, tmp_path / "bank")
    return Bank(Store.open(tmp_path / "bank"), tiny, embeds=False)
