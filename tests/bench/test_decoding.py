"""llama.cpp is given the same base and the same adapters, and writes what we write."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bench.decoding import ONE_FACT, DecodeSizes, bench_decode
from lorabank.engine.backbone.base import Base
from lorabank.engine.runtimes.gguf_files import write_base
from lorabank.errors import UsageError

pytest.importorskip("xllamacpp", reason="llama.cpp is the peer: pip install xllamacpp (extra dev)")


def test_both_write_the_same_with_each_module_and_without(tiny: Base):
    # Rates at which answers of the tiny model are sure, as the peer computes in half precision.
    settings = replace(ONE_FACT, lr=2e-2, exposures=40, r=4)
    sizes = DecodeSizes(modules=2, new_tokens=12, settings=settings)
    result = bench_decode(tiny, pairs=1, sizes=sizes)
    assert result["same_texts"] == "2 of 2"
    assert result["equal"]
    assert min(result["ratio"], result["ratio_bare"], result["ratio_16_modules"]) > 0
    assert len(result["pairs_16_modules"]) == 1


def test_other_bases_are_refused(tiny: Base, tmp_path: Path):
    tiny.model.config.model_type = "gemma3"
    with pytest.raises(UsageError, match=r"GGUF is written for .* is gemma3"):
        write_base(tiny, tmp_path / "base.gguf")
