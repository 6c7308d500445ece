"""Modules of documents are trained again where passages did not stick."""

import dataclasses

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import DraftPassage, DraftSource, ModuleDraft, draft_from_examples
from lorabank.bank.write.document_drafts import (
    DraftOptions,
)
from lorabank.bank.write.training import WriteSettings, train_drafts
from lorabank.bank.write.write import plan_jobs
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.store.records import Source
from lorabank.tasks.examples import from_pair
from tests.synthesis.fact_documents import word

from .conftest import TINY

QUICK = dataclasses.replace(TINY, exposures=2, until_recall=None)
QA = DraftOptions(formats="qa:6")


def draft_with_passages(n: int) -> ModuleDraft:
    """Return a draft of random answers, with a passage for each half of them."""
    examples = tuple(from_pair(f"What is {word(i)}?", word(500 + 7 * i)) for i in range(n))
    halves = (tuple(range(n // 2)), tuple(range(n // 2, n)))
    passages = tuple(DraftPassage("d", "", f"half {i}", half) for i, half in enumerate(halves))
    return ModuleDraft("p", (DraftSource(Source("d", "0" * 64, n), examples),), passages=passages)


def test_what_did_not_stick_is_trained_again_and_the_better_pass_is_kept(tiny: Base):
    draft = draft_with_passages(8)
    settings = dataclasses.replace(TINY, exposures=12, until_recall=None)
    jobs = plan_jobs(tiny, [draft], WriteSettings(settings))
    (once,) = train_drafts(tiny, [draft], jobs, WriteSettings())
    assert once.not_stuck
    assert once.recall < 1
    (twice,) = train_drafts(tiny, [draft], jobs, WriteSettings(passes=2))
    assert len(twice.passes) == 2
    assert dataclasses.replace(twice.passes[0], is_kept=True) == once.passes[0]
    assert twice.recall == max(training_pass.recall for training_pass in twice.passes)
    assert [training_pass.is_kept for training_pass in twice.passes].count(True) == 1
    assert len(twice.evaluation.after) == len(twice.evaluation.before) == len(draft.examples)


def test_a_module_that_recalls_everything_is_not_trained_again(tiny: Base):
    draft = draft_with_passages(4)
    (trained,) = train_drafts(
        tiny, [draft], plan_jobs(tiny, [draft], WriteSettings(TINY)), WriteSettings(passes=3)
    )
    assert trained.recall == 1
    assert len(trained.passes) == 1


@pytest.mark.parametrize("passes", [0, 6])
def test_a_number_of_passes_out_of_range_is_refused(bank: Bank, passes: int):
    draft = draft_from_examples("x", [from_pair("q?", "a")])
    with pytest.raises(UsageError, match=rf"--passes must be 1\.\.5, got {passes}"):
        bank.write_all([draft], settings=QUICK, passes=passes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"formats": "qa"}, "qa needs a count"),
        ({"chunk_tokens": 0}, "--chunk-tokens must be at least 1, got 0"),
        ({"modules": "few"}, "--modules must be auto, per-document or a number, got 'few'"),
        ({"modules": "0"}, "--modules must be"),
    ],
)
def test_options_that_are_not_allowed_are_refused(wrong: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        DraftOptions(**wrong)  # type: ignore[arg-type]
