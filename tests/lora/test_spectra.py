"""Spectra equal the SVD of the product, and the three scores equal their formulas."""

import pytest
import torch
from torch import Tensor

from lorabank.errors import UsageError
from lorabank.lora import arrow, lag, spectr
from lorabank.lora.spectra import Spectrum, spectrum

N, OUT, R, E, T = 24, 16, 4, 7, 5


@pytest.fixture
def factors() -> list[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(0)
    return [
        (torch.randn(R, N, generator=rng), torch.randn(OUT, R, generator=rng)) for _ in range(E)
    ]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(T, N, generator=torch.Generator().manual_seed(1))


def spectra_of(factors: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return singular values (E, r) and right vectors (E, r, n), as routers stack them."""
    spectra = [spectrum(a, b) for a, b in factors]
    return torch.stack([f.s for f in spectra]), torch.stack([f.v.T for f in spectra])


@pytest.mark.parametrize(
    ("out", "n", "r"), [(16, 24, 4), (24, 16, 4), (8, 8, 8), (3, 24, 4), (24, 3, 4), (16, 24, 1)]
)
def test_a_spectrum_equals_the_svd_of_the_product(out: int, n: int, r: int):
    rng = torch.Generator().manual_seed(2)
    a, b = torch.randn(r, n, generator=rng), torch.randn(out, r, generator=rng)
    computed = spectrum(a, b, scale=2.0)
    rank = min(out, n, r)
    _, s, v = torch.linalg.svd(2.0 * b @ a)
    torch.testing.assert_close(computed.s, s[:rank], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(computed.v.abs(), v[:rank].T.abs(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(computed.v.T @ computed.v, torch.eye(rank), rtol=0, atol=1e-5)


def test_an_untrained_adapter_has_no_spectrum():
    computed: Spectrum = spectrum(torch.randn(R, N), torch.zeros(OUT, R))
    assert computed.s.tolist() == [0.0] * R
    assert bool(computed.v.isfinite().all())


def test_arrow_is_the_part_along_the_first_direction(
    factors: list[tuple[Tensor, Tensor]], x: Tensor
):
    _, v = spectra_of(factors)
    expected = torch.empty(T, E)
    for e, (a, b) in enumerate(factors):
        first = torch.linalg.svd(b @ a).Vh[0]
        for t in range(T):
            expected[t, e] = abs(first @ x[t])
    torch.testing.assert_close(arrow.scores(x, v[:, 0]), expected, rtol=1e-5, atol=1e-5)


def test_spectr_is_the_length_of_what_the_adapter_adds(
    factors: list[tuple[Tensor, Tensor]], x: Tensor
):
    s, v = spectra_of(factors)
    expected = torch.stack([(x @ (b @ a).T).norm(dim=1) for a, b in factors], dim=1)
    torch.testing.assert_close(spectr.scores(x, s, v), expected, rtol=1e-5, atol=1e-5)


def test_spectr_scores_many_modules_as_it_scores_each():
    rng = torch.Generator().manual_seed(3)
    s, v = torch.rand(2050, 2, generator=rng), torch.randn(2050, 2, 8, generator=rng).half()
    inputs = torch.randn(3, 8, generator=rng)
    one_by_one = [spectr.scores(inputs, s[e : e + 1], v[e : e + 1]) for e in range(len(s))]
    torch.testing.assert_close(spectr.scores(inputs, s, v), torch.cat(one_by_one, dim=1))


def test_lag_orders_by_spectr_what_arrow_picked(factors: list[tuple[Tensor, Tensor]], x: Tensor):
    s, v = spectra_of(factors)
    arrow_scores, spectr_scores = arrow.scores(x, v[:, 0]), spectr.scores(x, s, v)
    scored = []

    def score_modules(modules: Tensor) -> Tensor:
        scored.append(modules)
        return spectr.scores(x, s[modules], v[modules])

    lag_scores = lag.scores(arrow_scores, 2, score_modules)
    picked = arrow_scores.argsort(dim=1, descending=True)[:, :2]
    for t in range(T):
        for e in range(E):
            assert lag_scores[t, e] == pytest.approx(
                spectr_scores[t, e] if e in picked[t] else -torch.inf
            )
    assert [modules.tolist() for modules in scored] == [sorted(set(picked.flatten().tolist()))]


@pytest.mark.parametrize("k", [E, E + 100])
def test_lag_of_all_is_spectr(factors: list[tuple[Tensor, Tensor]], x: Tensor, k: int):
    s, v = spectra_of(factors)
    lag_scores = lag.scores(arrow.scores(x, v[:, 0]), k, lambda e: spectr.scores(x, s[e], v[e]))
    torch.testing.assert_close(lag_scores, spectr.scores(x, s, v))


def test_lag_of_no_module_is_refused(x: Tensor):
    with pytest.raises(UsageError, match="LAG needs k of at least 1 module, got 0"):
        lag.scores(x, 0, lambda modules: x[:, modules])
