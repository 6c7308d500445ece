"""lm-eval as a client of the server: its own classes against what transformers computes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval", reason="needs the extra lorabank[eval]")

import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorabank.tasks.examples import Example

from .conftest import Running

PAIRS = [
    ("The capital of France is", " Paris"),
    ("The capital of France is", " a city on a river"),
    ("", "Nebo has a lighthouse."),
    ("Who keeps the lighthouse?", " Tuva Sorre, since the spring"),
]


def bare_log_p(folder: Path, context: str, text: str) -> tuple[float, bool]:
    """Return what transformers says of a text after a context, and whether it is the likeliest."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(context).input_ids or [tokenizer.bos_token_id]
    targets = tokenizer(text).input_ids
    with torch.no_grad():
        log_p = model(torch.tensor([ids + targets])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
    of_targets = log_p.gather(-1, torch.tensor(targets)[:, None])
    return float(of_targets.sum()), log_p.argmax(-1).tolist() == targets


def client(server: Running, tokenizer: Path, **options: Any) -> LocalCompletionsAPI:
    return LocalCompletionsAPI(
        base_url=f"{server.url}/v1/completions",
        model="tiny",
        tokenizer=str(tokenizer),
        tokenizer_backend="huggingface",
        max_retries=1,
        **options,
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"batch_size": 4}, {"num_concurrent": 3}, {"tokenized_requests": False}],
    ids=lambda options: "-".join(options) or "plain",
)
def test_loglikelihoods_are_those_of_the_bare_model(
    server: Running, tiny_folder: Path, options: dict[str, Any]
):
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(PAIRS)]
    got = client(server, tiny_folder, **options).loglikelihood(requests)
    wanted = [bare_log_p(tiny_folder, *pair) for pair in PAIRS]
    assert [p for p, _ in got] == pytest.approx([p for p, _ in wanted], abs=1e-3)
    assert [greedy for _, greedy in got] == [greedy for _, greedy in wanted]


def test_rolling_loglikelihoods_are_those_of_the_bare_model(server: Running, tiny_folder: Path):
    text = "Nebo has a lighthouse, and somebody keeps it."
    request = Instance("loglikelihood_rolling", {}, (text,), 0)
    [got] = client(server, tiny_folder).loglikelihood_rolling([request])
    assert got == pytest.approx(bare_log_p(tiny_folder, "", text)[0], abs=1e-3)


def test_a_task_runs_against_a_module_and_against_the_bank(
    server: Running, tiny_folder: Path, book: list[Example], tmp_path: Path
):
    rows = [{"question": e.question, "choices": [e.answer, "000-000-0000"]} for e in book[:3]]
    (tmp_path / "book.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "book.jsonl")}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
    }
    kinds = {
        "choice": {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": 0,
        },
        "written": {
            "output_type": "generate_until",
            "doc_to_target": "{{choices[0]}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 32, "do_sample": False},
            "metric_list": [{"metric": "exact_match"}],
        },
    }
    for name, kind in kinds.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **task, **kind}))
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    options = {"task_manager": tasks, "bootstrap_iters": 0, "apply_chat_template": True}
    api = client(server, tiny_folder, batch_size=4)
    api.model = "north"
    module = simple_evaluate(model=api, tasks=list(kinds), **options)["results"]
    assert module["choice"]["acc,none"] == 1
    assert module["written"]["exact_match,none"] == 1
    chat = {"model": "memory", "base_url": f"{server.url}/v1/chat/completions", "max_retries": 1}
    bank = simple_evaluate(
        model="local-chat-completions", model_args=chat, tasks=["written"], **options
    )
    assert bank["results"]["written"]["exact_match,none"] == 1
