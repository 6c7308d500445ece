"""Edits are scored by which target the model finds likelier."""

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.edits import score_edits
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import settings_for
from lorabank.engine.training.train import train
from lorabank.tasks.datasets import counterfact
from lorabank.tasks.datasets.counterfact import Edit


def test_a_learnt_edit_beats_the_truth_and_a_bare_model_knows_neither(tiny: Base):
    edits = counterfact.build(6, seed=0)
    settings = settings_for("sound", r=8, lr=5e-3, until_recall=1.0)
    job = plan_job(tiny, counterfact.as_examples(edits), settings)
    outcome = train(tiny, [job])[0]
    assert outcome.recall == 1.0
    bare = score_edits(tiny, edits, recipe="sound", activated=True)
    with loaded_fleet(tiny, [outcome.adapter]) as fleet:
        after = score_edits(tiny, edits, recipe="sound", activated=True, fleet=fleet, slot=0)
    assert after.efficacy == 1.0
    assert bare.efficacy is not None
    assert bare.efficacy < 1.0
    assert after.paraphrase is not None
    assert after.neighbourhood is not None


def test_targets_that_share_their_first_token_fail_as_published_only(tiny: Base):
    edits = [Edit("Ann", "Ann lives in", "Rome", "Romeo")]
    assert score_edits(tiny, edits, recipe="sound", activated=True).efficacy_published == 0.0


def test_without_a_true_target_there_is_no_score(tiny: Base):
    scores = score_edits(tiny, [Edit("A", "A is", "b")], recipe="sound", activated=True)
    assert scores.efficacy is None
    assert scores.paraphrase is None
