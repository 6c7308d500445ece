"""The bench of documents and modules, on a random model with room for a chronicle."""

import json
import shutil
from pathlib import Path

import pytest

from lorabank.bench.benches import run_bench
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.models.registry import find_model

SMALL = {"facts": 4, "document_tokens": 900, "exact_tokens": 600, "peer_questions": 2, "repeats": 6}


@pytest.fixture
def long_context_base(tiny_folder: Path, tmp_path: Path) -> Base:
    """Return a base like `tiny` with a longer context: its tokens are about a letter each."""
    folder = shutil.copytree(tiny_folder, tmp_path / "long-context")
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 2048
    (folder / "config.json").write_text(json.dumps(config))
    return load_info(find_model(str(folder)), dtype="float32", device="cpu")


def test_both_sides_answer_the_same_and_everything_is_measured(long_context_base: Base):
    result = run_bench(long_context_base, "context", pairs=1, **SMALL)
    assert result["equal"] is True
    assert result["icl_prefix_ratio"] == result["ratio"] > 0
    assert (result["questions"], result["peer_questions"]) == (4, 2)
    assert 700 < result["document_tokens"] <= 1000
    assert len(result["pairs"]) == 1
    assert result["together_differing"] == 0
    measured = ("icl_batched_ratio", "ttft_ratio", "switch_ms", "load_ms", "probe_ratio")
    assert all(result[name] > 0 for name in measured)
