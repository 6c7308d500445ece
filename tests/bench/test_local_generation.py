"""The bench of synthesis: both sides write the same texts, and all requests differ."""

from lorabank.bench.local_generation import GenerationSizes, bench_synthesise, make_requests
from lorabank.engine.backbone.base import Base


def test_requests_have_the_same_length_and_different_texts():
    requests = make_requests(9, 16)
    assert len({request.messages for request in requests}) == 9
    assert {request.kind for request in requests} == {"qa", "summary", "rewrite"}
    assert {request.max_tokens for request in requests} == {16}


def test_both_sides_write_the_same_texts(tiny: Base):
    result = bench_synthesise(
        tiny, pairs=1, sizes=GenerationSizes(requests=3, new_tokens=4, rows=2)
    )
    assert result["equal"] is True
    assert result["differing"] == result["differing_float32"] == []
    assert result["tokens_written"] > 0
    assert result["ratio"] > 0
