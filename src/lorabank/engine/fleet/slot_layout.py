"""The layout of a slot: the part of its row of numbers that belongs to each layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lorabank.lora.shapes import Shape


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a slot's row with one layer's A (r, in) and after it B (out, r)."""

    start: int
    out: int
    inner: int

    def end(self, r: int) -> int:
        """Return the index after the region's last number at rank `r`."""
        return self.start + r * (self.out + self.inner)


def lay_out(shapes: Mapping[str, Shape], paths: Sequence[str], r: int) -> dict[str, Region]:
    """Return the regions of the layers `paths` at rank `r`, one after the other."""
    regions: dict[str, Region] = {}
    start = 0
    for path in paths:
        out, inner = shapes[path]
        regions[path] = Region(start, out, inner)
        start = regions[path].end(r)
    return regions


def adapter_views(matrix: Tensor, region: Region, r: int) -> tuple[Tensor, Tensor]:
    """Return A (E, r, in) and B (E, out, r) of a layer as views of `matrix` (E, P)."""
    width, middle = len(matrix), region.start + r * region.inner
    a = matrix[:, region.start : middle].view(width, r, region.inner)
    b = matrix[:, middle : region.end(r)].view(width, region.out, r)
    return a, b
