"""A module's held-out wordings and near misses, asked by lm-eval without a network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("lm_eval", reason="needs the extra lorabank[eval]")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from lorabank.bank.bank import Bank
from lorabank.bank.write.transfer import export_module
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings
from lorabank.errors import UsageError
from lorabank.integrations.evaluation_tasks import export_tasks
from lorabank.integrations.lm_eval_model import LorabankLM
from lorabank.tasks.synthetic import phonebook

QUICK = TrainSettings(renderings="template", margin=0.0, protect_share=0.0)
FACTS = phonebook.to_examples(phonebook.build(4, seed=5))


def evaluate(model: LorabankLM, folder: Path, *tasks: str) -> dict[str, float]:
    """Return the share of each task that counts."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    options: dict[str, Any] = {"bootstrap_iters": 0, "apply_chat_template": True}
    found = simple_evaluate(model=model, tasks=list(tasks), task_manager=manager, **options)
    return {
        task: next(v for k, v in found["results"][task].items() if k.startswith("exact_match,"))
        for task in tasks
    }


@pytest.mark.real
def test_a_module_and_its_bank_are_asked_by_lm_eval(
    real: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with Bank.create(tmp_path / "bank", base=real) as bank:
        bank.write("team", FACTS, settings=QUICK)
        version = bank.store.current("team")
        report = export_tasks(bank.store, version, tmp_path / "tasks")
        export_module(bank.store, version, tmp_path / "team")
    assert (report.questions, report.near_misses, report.left_out) == (8, 4, 0)
    task = yaml.safe_load((tmp_path / "tasks" / "team.yaml").read_text())
    assert task["metadata"]["module_version"] == 1
    lines = (tmp_path / "tasks" / "team_near_misses.jsonl").read_text().splitlines()
    assert not {json.loads(line)["question"] for line in lines} & {f.question for f in FACTS}

    both = ("team", "team_near_misses")
    bank_scores = evaluate(LorabankLM(bank=tmp_path / "bank", base=real), tmp_path / "tasks", *both)
    assert bank_scores["team"] >= 0.75
    assert bank_scores["team_near_misses"] >= 0.75
    alone = evaluate(LorabankLM(adapter=tmp_path / "team", base=real), tmp_path / "tasks", *both)
    assert alone["team"] >= 0.75
    assert alone["team_near_misses"] == 0  # an adapter alone cannot say that it does not know
    assert evaluate(LorabankLM(base=real), tmp_path / "tasks", "team") == {"team": 0}


def test_texts_are_read_as_transformers_reads_them(tiny: Base):
    model, text = LorabankLM(base=tiny), "Nebo has a lighthouse, and somebody keeps it."
    ids = [tiny.chat.tokenizer.bos_token_id, *tiny.chat.tokenizer(text).input_ids]
    with torch.no_grad():
        log_p = tiny.model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    wanted = log_p.gather(-1, torch.tensor(ids[1:])[:, None]).sum().item()
    [rolled] = model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)])
    [(alone, _)] = model.loglikelihood([Instance("loglikelihood", {}, ("", text), 0)])
    assert rolled == pytest.approx(wanted, abs=1e-3)
    assert alone == pytest.approx(wanted, abs=1e-3)


def test_what_cannot_be_asked_is_said(tiny: Base, tmp_path: Path):
    settings = TrainSettings(r=2, layers=None, exposures=1, wordings=0, protect_share=0.0)
    with Bank.create(tmp_path / "bank", base=tiny) as bank:
        bank.write("team", [(e.question, e.answer) for e in FACTS[:2]], settings=settings)
        version = bank.store.current("team")
        with pytest.raises(UsageError, match="no wording of them that was held out; --as-taught"):
            export_tasks(bank.store, version, tmp_path / "tasks")
        report = export_tasks(bank.store, version, tmp_path / "tasks", as_taught=True)
        export_module(bank.store, version, tmp_path / "team")
    assert report.questions == 2
    request = Instance("loglikelihood", {}, ("Nebo", " is"), 0)
    with pytest.raises(UsageError, match="a bank has no log-probabilities"):
        LorabankLM(bank=tmp_path / "bank", base=tiny).loglikelihood([request])
    with pytest.raises(UsageError, match="apply_chat_template"):
        LorabankLM(adapter=tmp_path / "team", base=tiny).loglikelihood([request])
    with pytest.raises(UsageError, match="give one of"):
        LorabankLM()
