"""Scores that arXiv:2603.01097 reports for the settings closest to ours, for a column of a table.

Its scores are a judge's, 0 to 10, for Llama-3.1-8B and Qwen3-8B on 15 papers after 1,000 steps;
ours are likelihoods of a small base. Orders can be compared, sizes cannot.
"""

from lorabank.study.texts.axes import TextsAxes

NOTE = (
    "Recalled: share of the questions asked whose answer greedy decoding gives. "
    "The paper's column is a judge's score of 0 to 10 for Llama-3.1-8B / Qwen3-8B on 15 papers "
    "after 1,000 steps at one learning rate, without intervals; only its order compares with ours."
)
_FORMATS = {
    "original": "3.19 / 4.59",
    "qa:20": "5.47 / 5.14",
    "qa:40": "5.89 / 5.41",
    "original,qa:40": "6.30 / 5.37",
    "summary:8,qa:40": "6.38 / 5.66",
    "rewrite:4,qa:40": "6.65 / 5.43",
    "original,summary:8,rewrite:4,qa:40": "6.82 / 5.61",
}
"""Table 1, and Q7 for twenty questions."""
_BY_BASE_ITSELF = "4.46 / 4.84"  # twenty questions, Q7
_BASES = {"Qwen3-0.6B": "3.51", "Qwen3-1.7B": "4.32", "Qwen3-4B": "4.58", "Qwen3-8B": "4.65"}
"""Figure 5, in rising order; the best of 16 rates and lengths, chosen on the test questions."""


def published_score(axes: TextsAxes, base: str) -> str:
    """Return the paper's number for a setting of its PaperQA task; empty where it has none.

    Args:
        base: name of the base model.
    """
    if axes.task != "paperqa" or axes.objective != "ce" or axes.protect_share:
        return ""
    model = base.rpartition("/")[2]
    if model in _BASES and axes.formats == "qa:40":
        return _BASES[model]
    if axes.generator == "local":
        return _BY_BASE_ITSELF if axes.formats == "qa:20" else ""
    return _FORMATS.get(axes.formats, "")
