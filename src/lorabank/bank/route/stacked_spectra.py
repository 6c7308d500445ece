"""The spectra of all modules of a bank, stacked, and their scores for given inputs.

A module has spectra at a few layers of its own (spectral_keys.py), not always the same as other
modules, so it is scored over those it has. At each layer all modules are scored by one product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from lorabank.engine.inference.activations import LayerInputs
from lorabank.lora import arrow, spectr
from lorabank.lora.spectra import Spectrum

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True)
class Site:
    """A layer with the spectra of the E modules that have one at it."""

    path: str
    rows: Tensor
    """(modules,) the row of each module, -1 for a module without a spectrum here."""
    top: Tensor
    """(E, n) float32, first right singular vectors."""
    s: Tensor
    """(E, r) singular values, zero beyond a module's own rank."""
    v: Tensor
    """(E, r, n) right singular vectors, half precision."""

    def scores(self, method: str, x: Tensor, rows: Tensor | None) -> Tensor:
        """Return scores (T, E) by `arrow` or `spectr`.

        Args:
            x: (T, n) inputs of the layer.
            rows: rows to score; None for all.
        """
        if method == "arrow":
            return arrow.scores(x, self.top if rows is None else self.top[rows])
        if rows is None:
            return spectr.scores(x, self.s, self.v)
        return spectr.scores(x, self.s[rows], self.v[rows])


class StackedSpectra:
    """Spectra of modules, which are known by their number."""

    def __init__(self, sites: Sequence[Site], n_modules: int):
        self.sites, self.n_modules = sites, n_modules
        self.paths = [site.path for site in sites]
        self._background: LayerInputs | None = None
        self._moments: dict[tuple[str, str], Tensor] = {}

    def set_background(self, background: LayerInputs) -> None:
        """Standardise scores from now on by those of a background's prompts."""
        self._background = background

    def scores(self, method: str, inputs: LayerInputs, modules: Tensor | None = None) -> Tensor:
        """Return each module's mean over the tokens of a prompt and the module's sites.

        Args:
            method: `arrow` or `spectr`.
            modules: (U,) numbers of modules; None for all.

        Returns:
            (P, modules), or (P, U).
        """
        n = self.n_modules if modules is None else len(modules)
        total = inputs.counts.new_zeros(len(inputs.counts), n, dtype=torch.float32)
        n_sites = torch.zeros_like(total[0])
        for site in self.sites:
            rows = site.rows if modules is None else site.rows[modules]
            has_row = rows >= 0
            chosen = None if modules is None else rows[has_row]
            scores = inputs.mean_per_prompt(site.scores(method, inputs.states[site.path], chosen))
            if self._background is not None:
                mean, spread = self._moments_of(site, method, self._background, rows[has_row])
                scores = (scores - mean) / spread
            total[:, has_row] += scores
            n_sites += has_row
        return total / n_sites.clamp(min=1)

    def _moments_of(self, site: Site, method: str, background: LayerInputs, rows: Tensor) -> Tensor:
        """Return mean and spread (2, rows) on the background, computed once for each module."""
        known = self._moments.setdefault(
            (site.path, method), torch.full((2, len(site.s)), torch.nan, device=rows.device)
        )
        new = rows[known[0, rows].isnan()]
        if len(new):
            scores = background.mean_per_prompt(
                site.scores(method, background.states[site.path], new)
            )  # (P, new)
            known[:, new] = torch.stack([scores.mean(0), scores.std(0).clamp(min=_TINY)])
        return known[:, rows]


def stack_spectra(
    modules: Sequence[dict[str, Spectrum]], *, r: int | None, device: torch.device
) -> StackedSpectra:
    """Stack the spectra of all modules by layer.

    Args:
        modules: spectra of each module by layer.
        r: number of directions of each spectrum that are used; None for all. Arrow needs one.
    """
    by_path: dict[str, list[tuple[int, Spectrum]]] = {}
    for number, spectra in enumerate(modules):
        for path, spectrum in spectra.items():
            by_path.setdefault(path, []).append((number, spectrum))
    sites = []
    for path, pairs in by_path.items():
        largest_rank = max(len(spectrum.s) for _, spectrum in pairs)
        width = min(r or largest_rank, largest_rank)
        rows = torch.full((len(modules),), -1)
        rows[[number for number, _ in pairs]] = torch.arange(len(pairs))
        s = torch.stack([_pad(spectrum.s, width) for _, spectrum in pairs])
        v = torch.stack([_pad(spectrum.v.T, width) for _, spectrum in pairs]).to(device)
        sites.append(Site(path, rows.to(device), v[:, 0].float(), s.to(device), v))
    return StackedSpectra(sites, len(modules))


def _pad(values: Tensor, n: int) -> Tensor:
    """Return the first `n` along the first dimension, with zeros where there are fewer."""
    beyond = max(0, n - len(values))
    return pad(values[:n], (*(0, 0) * (values.ndim - 1), 0, beyond))
