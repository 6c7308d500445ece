"""The tables of the documentation are what the committed results say."""

import json
from pathlib import Path

import pytest

from lorabank.bench.performance_page import PAGES, RESULTS, fill_tables, newest_results

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_results_say(page: str):
    text = (ROOT / page).read_text("utf-8")
    assert "made from bench/results -->" in text
    hint = "run python -m lorabank.bench.performance_page"
    assert fill_tables(text, newest_results(ROOT / RESULTS)) == text, hint


def test_a_table_follows_the_newest_result(tmp_path: Path):
    machine = {"cpu": "Some CPU", "device": "cpu", "threads": 1, "dtype": "float32"}
    for date, ratio in (("2026-01-02", 3.14159), ("2026-01-01", 0.5)):
        result = {"bench": "fleet", "ratio": ratio, "machine": machine, "date": date}
        (tmp_path / f"{date}-cpu-fleet.json").write_text(json.dumps(result), "utf-8")
    text = (
        "Before.\n\n<!-- ratios: made from bench/results -->\nold\n<!-- end of ratios -->\nAfter.\n"
    )
    filled = fill_tables(text, newest_results(tmp_path))
    row = "one after the other | 3.14 | Some CPU, 1 thread, float32, 2026-01-02 |"
    assert row in filled
    assert "old" not in filled
    assert filled.startswith("Before.\n\n<!--")
    assert filled.endswith("<!-- end of ratios -->\nAfter.\n")
    assert fill_tables(filled, newest_results(tmp_path)) == filled


def test_the_table_of_growth_has_a_line_for_each_row():
    row = {"what": "training", "of": "rank", "sizes": [1, 1000], "seconds": [0.0123, 2.5]}
    result = {
        "rows": [{**row, "rounds": 1, "exponent": 0.512}],
        "base": {"name": "tiny"},
        "machine": {"cpu": "Some CPU", "device": "cpu", "threads": 2, "dtype": "float32"},
        "date": "2026-01-01",
    }
    text = "<!-- growth: made from bench/results -->\n<!-- end of growth -->\n"
    assert fill_tables(text, {}) == text
    filled = fill_tables(text, {"growth": result})
    assert "\n| training | rank | 1, 1,000 | .012, 2.5 | 0.51 | 1 |\n" in filled
    assert "tiny on Some CPU, 2 threads, float32, 2026-01-01:" in filled
    assert "](images/growth.png)" in filled
