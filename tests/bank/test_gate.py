"""The gate on rows whose rule is known: what it opens for, and whether its stated rates hold."""

import json
import random
from dataclasses import replace

import pytest

from lorabank.bank.answer.gate import (
    FEATURES,
    RATES,
    CalibrationCase,
    FeatureRow,
    Gate,
    decode_gate,
    encode_gate,
    fit_gate,
)
from lorabank.errors import UsageError


def row(rng: random.Random, coverage: float, hint: float = 0.0) -> FeatureRow:
    return (coverage, *(rng.gauss(hint, 1) for _ in FEATURES[1:]))


def draw(n: int, *, seed: int, blur: float, hint: float = 0.0) -> list[CalibrationCase]:
    """Coverage is near 1 for known questions and 0.5 for others.

    The rest is noise, higher by `hint` for known questions.
    """
    rng = random.Random(seed)
    return [
        CalibrationCase(
            row(rng, rng.gauss(1.0, blur), hint),
            tuple(row(rng, rng.gauss(0.5, blur)) for _ in range(3)),
        )
        for _ in range(n)
    ]


def open_shares(gate: Gate, cases: list[CalibrationCase]) -> tuple[float, float]:
    """Of known questions and of unknown ones."""
    known = sum(gate.opens(case.own) for case in cases if case.own)
    return known / len(cases), sum(any(map(gate.opens, c.others)) for c in cases) / len(cases)


def test_a_feature_that_tells_is_not_drowned_by_six_that_only_hint():
    wrong = 0.0
    for seed in range(4):
        gate = fit_gate(draw(100, seed=seed, blur=0.05, hint=1.0))
        known, unknown = open_shares(gate, draw(2000, seed=seed + 10, blur=0.05, hint=1.0))
        wrong += (1 - known) + unknown
    assert wrong / 4 < 0.002


@pytest.mark.parametrize("seed", range(3))
def test_where_known_and_unknown_overlap_the_stated_rates_hold_for_fresh_questions(seed: int):
    gate = fit_gate(draw(200, seed=seed, blur=0.2))
    assert 0 < gate.false_activations <= 0.05
    assert gate.misses > 0
    known, unknown = open_shares(gate, draw(2000, seed=seed + 10, blur=0.2))
    assert unknown == pytest.approx(gate.false_activations, abs=0.03)
    assert 1 - known == pytest.approx(gate.misses, abs=0.06)


def test_a_gate_is_fitted_on_one_question_of_each_kind():
    rng = random.Random(0)
    own, other = row(rng, 1.0), row(rng, 0.2)
    gate = fit_gate([CalibrationCase(own, ()), CalibrationCase(None, (other,))])
    assert gate.opens(own)
    assert not gate.opens(other)
    assert gate.questions == 2


def test_a_lower_rate_of_false_activations_refuses_more():
    gate = fit_gate(draw(200, seed=3, blur=0.2))
    rates, false, misses = zip(*gate.curve(), strict=True)
    assert all(measured <= rate for rate, measured in zip(rates, false, strict=True))
    assert list(false) == sorted(false)
    assert list(misses) == sorted(misses, reverse=True)
    assert misses[0] > misses[-1]
    assert gate.at_rate(0.05) == gate
    fresh = draw(2000, seed=13, blur=0.2)
    assert open_shares(gate.at_rate(0.02), fresh)[1] < open_shares(gate.at_rate(0.2), fresh)[1]
    for rate in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="--false-activation"):
            gate.at_rate(rate)


def test_with_few_unknown_questions_no_module_answers_one_like_them():
    gate = fit_gate(draw(12, seed=1, blur=0.3)).at_rate(0.01)
    assert gate.threshold > max(gate.unknown)


def test_a_gate_of_before_rates_could_be_chosen_is_fitted_again():
    values = json.loads(encode_gate(fit_gate(draw(8, seed=0, blur=0.1))))
    del values["unknown"]
    with pytest.raises(KeyError):
        decode_gate(json.dumps(values).encode())


def test_a_gate_is_kept_as_json():
    gate = fit_gate(draw(8, seed=0, blur=0.1))
    assert decode_gate(encode_gate(gate)) == gate
    assert decode_gate(encode_gate(None)) is None


@pytest.mark.parametrize("seed", range(6))
def test_a_higher_rate_never_has_a_higher_threshold(seed: int):
    # One unknown question lies among the known ones, as a name that differs by a letter does.
    rng = random.Random(seed)
    known = tuple(sorted(rng.gauss(8, 2) for _ in range(48)))
    unknown = tuple(sorted([*(rng.gauss(-4, 3) for _ in range(40)), 7.0]))
    gate = replace(fit_gate(draw(12, seed=1, blur=0.3)), known=known, unknown=unknown)
    thresholds = [gate.at_rate(rate).threshold for rate in RATES]
    assert thresholds == sorted(thresholds, reverse=True)
    assert [false for _, false, _ in gate.curve()] == sorted(false for _, false, _ in gate.curve())
