"""The spectra of all modules of a bank side by side, and what they make of inputs.

A module has spectra at a few layers of its own (bank/spectra.py), not always the same ones as its
neighbours, so it is scored over those it has. At each layer all modules are scored by one product.
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
    """One layer, with the spectra of the E modules that have one there."""

    path: str
    rows: Tensor
    """(modules,) the row of each module, -1 for one that has none here."""
    top: Tensor
    """(E, n) float32, first right singular vectors."""
    s: Tensor
    """(E, r), zero beyond a module's own rank."""
    v: Tensor
    """(E, r, n) half precision."""

    def scores(self, method: str, x: Tensor, rows: Tensor | None) -> Tensor:
        """(T, E) by `arrow` or `spectr`, or of some rows only."""
        if method == "arrow":
            return arrow.scores(x, self.top if rows is None else self.top[rows])
        if rows is None:
            return spectr.scores(x, self.s, self.v)
        return spectr.scores(x, self.s[rows], self.v[rows])


class StackedSpectra:
    """Modules by number."""

    def __init__(self, sites: Sequence[Site], n_modules: int):
        self.sites, self.n_modules = sites, n_modules
        self.paths = [site.path for site in sites]
        self._background: LayerInputs | None = None
        self._moments: dict[tuple[str, str], Tensor] = {}

    def set_background(self, background: LayerInputs) -> None:
        """Give scores from now on in standard deviations from those of a background's prompts."""
        self._background = background

    def scores(self, method: str, inputs: LayerInputs, some: Tensor | None = None) -> Tensor:
        """A module's mean over the tokens of a prompt and the module's sites.

        Args:
            method: `arrow` or `spectr`.
            some: (U,) numbers of modules; None for all.

        Returns:
            (P, modules), or (P, U).
        """
        n = self.n_modules if some is None else len(some)
        total = inputs.counts.new_zeros(len(inputs.counts), n, dtype=torch.float32)
        n_sites = torch.zeros_like(total[0])
        for site in self.sites:
            rows = site.rows if some is None else site.rows[some]
            here = rows >= 0
            chosen = None if some is None else rows[here]
            found = inputs.mean_per_prompt(site.scores(method, inputs.states[site.path], chosen))
            if self._background is not None:
                mean, spread = self._moments_of(site, method, self._background, rows[here])
                found = (found - mean) / spread
            total[:, here] += found
            n_sites += here
        return total / n_sites.clamp(min=1)

    def _moments_of(self, site: Site, method: str, background: LayerInputs, rows: Tensor) -> Tensor:
        """(2, rows) mean and spread on the background, computed once for each module."""
        known = self._moments.setdefault(
            (site.path, method), torch.full((2, len(site.s)), torch.nan, device=rows.device)
        )
        new = rows[known[0, rows].isnan()]
        if len(new):
            found = background.mean_per_prompt(
                site.scores(method, background.states[site.path], new)
            )  # (P, new)
            known[:, new] = torch.stack([found.mean(0), found.std(0).clamp(min=_TINY)])
        return known[:, rows]


def stack_spectra(
    modules: Sequence[dict[str, Spectrum]], *, r: int | None, device: torch.device
) -> StackedSpectra:
    """All modules' spectra by site.

    Args:
        r: directions kept of each; None for all. Arrow needs one.
    """
    by_path: dict[str, list[tuple[int, Spectrum]]] = {}
    for number, spectra in enumerate(modules):
        for path, found in spectra.items():
            by_path.setdefault(path, []).append((number, found))
    sites = []
    for path, pairs in by_path.items():
        most = max(len(found.s) for _, found in pairs)
        width = min(r or most, most)
        rows = torch.full((len(modules),), -1)
        rows[[number for number, _ in pairs]] = torch.arange(len(pairs))
        s = torch.stack([_fit(found.s, width) for _, found in pairs])
        v = torch.stack([_fit(found.v.T, width) for _, found in pairs]).to(device)
        sites.append(Site(path, rows.to(device), v[:, 0].float(), s.to(device), v))
    return StackedSpectra(sites, len(modules))


def _fit(values: Tensor, n: int) -> Tensor:
    """The first `n` along the first dimension, zeros where there are fewer."""
    beyond = max(0, n - len(values))
    return pad(values[:n], (*(0, 0) * (values.ndim - 1), 0, beyond))
