"""Each module of a bank starts from weights of its own, the same alone and in company."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.bank.write.training import WriteSettings
from lorabank.bank.write.write import plan_jobs
from lorabank.bench.setup import start_weights
from lorabank.engine.backbone.base import Base
from lorabank.tasks.examples import Example

from .conftest import TINY

BRIEF = dataclasses.replace(TINY, exposures=1, until_recall=None)


def initial_a(base: Base, names: list[str], book: list[Example], **options: bool) -> list[Tensor]:
    """Return the initial A of each module's first layer, for modules of four facts each."""
    drafts = [
        draft_from_examples(name, book[4 * i : 4 * i + 4], source=f"{name}.csv")
        for i, name in enumerate(names)
    ]
    jobs = plan_jobs(base, drafts, WriteSettings(BRIEF, **options))
    return [next(iter(start_weights(base, job).values()))[0] for job in jobs]


def test_modules_of_a_fleet_start_apart_and_each_as_it_would_alone(tiny: Base, book):
    north, south = initial_a(tiny, ["north", "south"], book)
    assert abs(torch.cosine_similarity(north.flatten(), south.flatten(), dim=0)) < 0.5
    assert torch.equal(initial_a(tiny, ["south"], book)[0], south)


def test_modules_share_initial_weights_where_it_is_asked_for(tiny: Base, book):
    north, south = initial_a(tiny, ["north", "south"], book, one_seed=True)
    assert torch.equal(north, south)


def test_a_module_trained_again_after_forgetting_keeps_its_seed(
    tiny: Base, book: list[Example], tmp_path: Path
):
    files = [tmp_path / f"{i}.jsonl" for i in range(2)]
    for i, file in enumerate(files):
        file.write_text(
            "".join(
                f'{{"prompt": "{e.question}", "answer": "{e.answer}"}}\n'
                for e in book[2 * i : 2 * i + 2]
            ),
            "utf-8",
        )
    with Bank.create(tmp_path / "bank", base=tiny) as bank:
        bank.write("north", files, settings=BRIEF)
        before = bank.reader.read_settings(bank.store.current("north")).seed
        bank.forget("0.jsonl")
        assert bank.reader.read_settings(bank.store.current("north")).seed == before != BRIEF.seed
