"""Spectral routing on the tiny bank: scores by brute force, and what it may not touch."""

import statistics
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.bank.route.spectral_keys import SPECTRA, choose_sites, read_spectra
from lorabank.bank.route.spectral_router import METHODS, SpectralRouter
from lorabank.bank.route.stacked_spectra import stack_spectra
from lorabank.engine.adapters.adapter import TENSORS
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.activations import LayerInputs, capture_layer_inputs, encode_question
from lorabank.errors import UsageError
from lorabank.lora.spectra import Spectrum
from lorabank.store.records import Draft
from lorabank.tasks.examples import Example
from lorabank.tasks.ordinary_texts import QUESTIONS as ORDINARY

from .conftest import NAMES, TINY

SITE = "model.layers.1.self_attn.o_proj"
OWNERS = [name for name in NAMES for _ in range(4)]


@pytest.fixture
def questions(book: list[Example]) -> list[str]:
    return [example.question for example in book[:12]]


def brute_force(bank: Bank, method: str, question: str) -> dict[str, float]:
    """A module's mean score over the question's last tokens, its product formed whole."""
    ids = encode_question(bank.base.chat, question)
    x = capture_layer_inputs(bank.base, [ids], [SITE], n_tokens=16).states[SITE]
    mean_scores = {}
    for version in bank.modules():
        adapter = bank.reader.load_adapters([version])[0]
        a, b = adapter.weights[SITE]
        product = adapter.alpha / adapter.r * b @ a
        if method == "arrow":
            scores = (x @ torch.linalg.svd(product).Vh[0]).abs()
        else:
            scores = (x @ product.T).norm(dim=1)
        mean_scores[version.module] = float(scores.mean())
    return mean_scores


@pytest.mark.parametrize("method", ["arrow", "spectr"])
def test_scores_equal_the_formula(bank: Bank, questions: list[str], method: str):
    plain = SpectralRouter(bank.reader, bank.texts, method=method, background="none")
    against = SpectralRouter(bank.reader, bank.texts, method=method, background="ordinary")
    ordinary = [brute_force(bank, method, question) for question in ORDINARY[::3]]
    for question in questions[::5]:
        expected = brute_force(bank, method, question)
        for candidate in plain.route([question], 3)[0]:
            assert candidate.score == pytest.approx(expected[candidate.module], rel=2e-3)
        for candidate in against.route([question], 3)[0]:
            usual = [scores[candidate.module] for scores in ordinary]
            z = (expected[candidate.module] - statistics.mean(usual)) / statistics.stdev(usual)
            assert candidate.score == pytest.approx(z, rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("method", METHODS)
def test_names_modules_best_first_and_reads_no_weights(
    bank: Bank, questions: list[str], method: str
):
    for version in bank.modules():
        bank.store.path_of(version, TENSORS).unlink()
    router = SpectralRouter(bank.reader, bank.texts, method=method)
    for candidates, own in zip(router.route(questions, 3), OWNERS, strict=True):
        assert {candidate.module for candidate in candidates} == set(NAMES)
        scores = [candidate.score for candidate in candidates]
        assert scores == sorted(scores, reverse=True)
        assert (
            candidates[0].parts["arrow" if method == "arrow" else "spectr"] == candidates[0].score
        )
        coverages = {candidate.module: candidate.coverage for candidate in candidates}
        assert coverages[own] == pytest.approx(1.0)
    assert bank.reader.adapter_cache.n_computed == 0
    assert bank.reader.adapter_cache.n_bytes == 0


def test_lag_of_all_modules_orders_as_spectr(bank: Bank, questions: list[str]):
    spectr = SpectralRouter(bank.reader, bank.texts, method="spectr").route(questions, 3)
    lag = SpectralRouter(bank.reader, bank.texts, method="lag", filter_to=3).route(questions, 3)
    assert [[c.module for c in candidates] for candidates in lag] == [
        [c.module for c in candidates] for candidates in spectr
    ]
    assert [candidates[0].score for candidates in lag] == pytest.approx(
        [candidates[0].score for candidates in spectr]
    )


def test_lag_leaves_to_spectr_what_arrow_picked(bank: Bank, questions: list[str]):
    arrow = SpectralRouter(bank.reader, bank.texts, method="arrow").route(questions, 1)
    lag = SpectralRouter(bank.reader, bank.texts, method="lag", filter_to=1).route(questions, 1)
    assert [candidates[0].module for candidates in lag] == [
        candidates[0].module for candidates in arrow
    ]


def test_a_question_is_scored_the_same_in_any_company(bank: Bank, questions: list[str]):
    router = SpectralRouter(bank.reader, bank.texts, method="lag")
    together = router.route(questions * 2, 3)
    alone = router.route(questions[:1], 3)[0]
    for candidates in (together[0], together[len(questions)]):
        assert [c.module for c in candidates] == [c.module for c in alone]
        assert [c.score for c in candidates] == pytest.approx([c.score for c in alone], abs=1e-3)


def test_a_forgotten_module_is_gone_with_its_spectra(bank: Bank, questions: list[str]):
    router = SpectralRouter(bank.reader, bank.texts)
    router.route(questions[:1], 3)
    spectra = bank.store.current("north").files[SPECTRA]
    proof = bank.forget("north")
    assert spectra in proof.removed
    assert proof.remaining == ()
    assert not [path for path in bank.store.path.rglob("*") if path.name == spectra]
    assert {c.module for c in router.route(questions[:1], 3)[0]} == {"south", "east"}


def test_a_rewritten_module_is_routed_by_its_new_spectra(bank: Bank, book: list[Example]):
    router = SpectralRouter(bank.reader, bank.texts, background="none")
    question = book[0].question
    before = {c.module: c.score for c in router.route([question], 3)[0]}
    bank.write_all(
        [draft_from_examples("north", book[12:], source="new")], settings=TINY, replace=True
    )
    after = {c.module: c.score for c in router.route([question], 3)[0]}
    assert after["north"] != pytest.approx(before["north"], rel=1e-3)
    assert after["south"] == pytest.approx(before["south"])


def test_imported_modules_and_those_written_without_have_the_same_spectra(
    bank: Bank, tmp_path: Path
):
    bank.export("north", tmp_path / "north")
    own = bank.store.current("north")
    with Bank.create(tmp_path / "other", base=bank.base) as other:
        assert other.import_(tmp_path / "north").files[SPECTRA] == own.files[SPECTRA]
    files = {name: bank.store.path_of(own, name) for name in own.files if name != SPECTRA}
    with bank.store.writing(what="a module without spectra") as tx:
        version = tx.put("old", Draft(files, own.record))
    theirs, ours = read_spectra(bank.reader, version), read_spectra(bank.reader, own)
    assert theirs.keys() == ours.keys() == {SITE}
    assert torch.equal(theirs[SITE].v, ours[SITE].v)


def test_a_bank_is_asked_through_it(bank: Bank, questions: list[str], book: list[Example]):
    router = SpectralRouter(bank.reader, bank.texts)
    answers = bank.ask_all(
        questions, router=router, n_candidates=3
    )  # all there are: the gate picks
    assert [answer.text for answer in answers] == [example.answer for example in book[:12]]


def test_an_empty_bank_has_no_candidates(tiny: Base, tmp_path: Path):
    with Bank.create(tmp_path / "empty", base=tiny) as bank:
        assert SpectralRouter(bank.reader, bank.texts).route(["Who?"], 3) == [[]]


def test_what_cannot_be_asked_for(bank: Bank):
    with pytest.raises(UsageError, match="method must be arrow, spectr, lag, got 'cosine'"):
        SpectralRouter(bank.reader, bank.texts, method="cosine")
    with pytest.raises(UsageError, match="background must be bank, ordinary, none, got 'all'"):
        SpectralRouter(bank.reader, bank.texts, background="all")
    with pytest.raises(UsageError, match="must be at least 1, got 0 and 32"):
        SpectralRouter(bank.reader, bank.texts, n_tokens=0)


def test_sites_are_the_ends_of_attention_in_the_upper_third(tiny: Base):
    weights = dict.fromkeys(tiny.linears, (torch.empty(0), torch.empty(0)))
    assert choose_sites(tiny, weights) == [SITE]
    low = {path: pair for path, pair in weights.items() if ".0." in path and ".mlp." in path}
    assert choose_sites(tiny, low) == ["model.layers.0.mlp.down_proj"]
    only = {path: pair for path, pair in weights.items() if path.endswith(("v_proj", "up_proj"))}
    assert choose_sites(tiny, only) == ["model.layers.1.self_attn.v_proj"]


def spectrum_of(r: int, n: int, seed: int) -> Spectrum:
    rng = torch.Generator().manual_seed(seed)
    v = torch.linalg.qr(torch.randn(n, r, generator=rng)).Q
    return Spectrum(torch.rand(r, generator=rng).sort(descending=True).values, v)


def inputs_of(states: dict[str, Tensor], owner: list[int]) -> LayerInputs:
    whose = torch.tensor(owner)
    return LayerInputs(whose, torch.bincount(whose), states)


def test_modules_with_other_layers_and_ranks_are_scored_over_those_they_have():
    rng = torch.Generator().manual_seed(9)
    x = {"a": torch.randn(5, 8, generator=rng), "b": torch.randn(5, 6, generator=rng)}
    modules = [
        {"a": spectrum_of(4, 8, 1), "b": spectrum_of(4, 6, 2)},
        {"b": spectrum_of(2, 6, 3)},
        {"a": spectrum_of(1, 8, 4)},
    ]
    stacked = stack_spectra(modules, r=None, device=torch.device("cpu"))
    owner = [0, 0, 0, 1, 1]
    scores = stacked.scores("spectr", inputs_of(x, owner))
    for p, tokens in enumerate([slice(0, 3), slice(3, 5)]):
        for m, spectra in enumerate(modules):
            each = [(x[q][tokens] @ f.v * f.s).norm(dim=1).mean() for q, f in spectra.items()]
            assert float(scores[p, m]) == pytest.approx(float(sum(each) / len(each)), rel=1e-5)
    two_modules = stacked.scores("spectr", inputs_of(x, owner), torch.tensor([0, 2]))
    torch.testing.assert_close(two_modules, scores[:, [0, 2]])


def test_a_background_takes_the_norm_of_an_adapter_out():
    rng = torch.Generator().manual_seed(9)
    x = {"a": torch.randn(4, 8, generator=rng)}
    usual = {"a": torch.randn(12, 8, generator=rng)}
    plain = [{"a": spectrum_of(4, 8, seed)} for seed in range(3)]
    loud = [*plain[:2], {"a": Spectrum(100 * plain[2]["a"].s, plain[2]["a"].v)}]
    both_scores = []
    for modules in (plain, loud):
        stacked = stack_spectra(modules, r=None, device=torch.device("cpu"))
        if modules is loud:  # as published it wins whatever is asked
            raw = stacked.scores("spectr", inputs_of(x, [0, 1, 2, 3]))
            assert raw.argmax(dim=1).tolist() == [2] * 4
        stacked.set_background(inputs_of(usual, list(range(12))))
        both_scores.append(stacked.scores("spectr", inputs_of(x, [0, 1, 2, 3])))
    torch.testing.assert_close(both_scores[0], both_scores[1], rtol=1e-4, atol=1e-5)
