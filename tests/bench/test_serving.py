"""A server process and llama.cpp's are asked the same over HTTP, also while a module is written."""

from dataclasses import replace

import pytest

from lorabank.bench.decoding import ONE_FACT
from lorabank.bench.http_load import percentile
from lorabank.bench.serving import ServeSizes, bench_serve
from lorabank.engine.backbone.base import Base

pytest.importorskip("xllamacpp", reason="llama.cpp is the peer: pip install xllamacpp (extra dev)")
pytest.importorskip("fastapi", reason="needs the extra lorabank[server]")


def test_both_servers_answer_and_a_module_is_written_meanwhile(tiny: Base):
    # Rates at which answers of the tiny model are sure, as the peer computes in half precision.
    sizes = ServeSizes(
        clients=2,
        prompt_tokens=64,
        new_tokens=12,
        open_requests=2,
        requests_each=3,
        written_facts=2,
        settings=replace(ONE_FACT, lr=2e-2, exposures=40, r=4),
        written_settings={"exposures": 40, "wordings": 0, "protect_share": 0.0, "r": 4},
    )
    result = bench_serve(tiny, pairs=1, sizes=sizes)
    assert result["same_texts"] == "2 of 2"
    assert result["equal"]
    assert result["failed_while_written"] == 0
    assert result["requests_while_written"] > 0
    assert result["written_module"].endswith("of 2 facts recalled")
    ratios = ("ratio", "ratio_many", "ratio_many_to_peer_on_one_adapter", "first_token_ratio")
    assert all(result[name] > 0 for name in ratios)
    assert len(result["pairs_many"]) == 1


def test_a_percentile_is_a_value_that_was_seen():
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(list(map(float, range(100))), 0.95) == 94.0
    assert percentile([5.0], 0.95) == 5.0
