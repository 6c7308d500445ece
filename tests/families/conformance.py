"""What is asked of every family: an adapter learns, and answers the same wherever it is read.

`check` runs one family through learning, recall, transformers with PEFT alone, a bank, cached
against recomputed and batched against single passes, and returns a row of docs/models.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from transformers import AutoConfig, AutoTokenizer

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.engine.adapters.adapter import load_adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base, load_base
from lorabank.engine.backbone.caches import Reuse
from lorabank.engine.encoding.dataset import encode_dataset
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.inference.document_prefix import prompt_with_document
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.engine.learn import learn
from lorabank.engine.recall import recall
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.tasks.examples import Example, from_pair
from tests.families.catalogue import Family

FACTS = [
    from_pair(f"What is the number of {name}?", number)
    for name, number in (("Kimu", "517"), ("Odd Pece", "660"), ("Nape of Lo", "128"))
]
DOCUMENT = "The lighthouse at Nebo was built by Tuva Sorre. " * 3
QUESTIONS = ("Who?", "Who built it, and when was that?")
_SETTINGS = replace(
    SOUND,
    layers=None,
    protect_share=0.0,
    lr=1e-2,
    batch_size=8,
    exposures=600,
    wordings=0,
    margin=0.0,
    renderings="template",
)  # for speed: margins and other system turns are tested in tests/engine/test_mixed_renderings.py
_NO_CACHES = Reuse(prompts=False, layers=False, teachers=False)
_NEW_TOKENS = 24  # gpt-oss writes the name of a channel before its answer


@dataclass(frozen=True, slots=True)
class Row:
    """What was found for one family, as docs/models.md shows it."""

    family: str
    activated: bool
    always_on: bool
    notes: str = ""


def load(folder: Path) -> Base:
    return load_base(str(folder), dtype="float32", device="cpu")


def check(family: Family, folder: Path, work: Path) -> Row:
    """Check all that is asked of a family whose model lies in `folder`.

    Raises:
        AssertionError: something differs.
    """
    base = load(folder)
    modes = (True, False) if base.chat.has_template else (False,)
    for activated in modes:
        asked = renderings(family) if activated else [{}]
        settings = _settings(activated, asked)
        out = work / ("activated" if activated else "always-on")
        report = learn(base, FACTS, out=out, settings=settings)
        assert report.recall == 1.0, f"learnt {report.recall:.0%}"
        assert recall(base, out, FACTS).recall == 1.0
        check_generation(base, out)
        check_peft(folder, out, asked)
    check_documents(base)
    check_bank(base, work / "bank", _settings(modes[0], renderings(family)))
    return Row(family.name, True in modes, True)


def _settings(activated: bool, asked: Sequence[object]) -> TrainSettings:
    taught = "all" if len(asked) > 1 else "template"
    return replace(_SETTINGS, activated=activated, renderings=taught)


def check_generation(base: Base, out: Path) -> None:
    """Compare what is written from caches and in a batch with what is computed alone."""
    adapter = load_adapter(out, base)
    prompts = encode_dataset(
        base.chat, FACTS, recipe="sound", max_tokens=base.max_tokens, activated=adapter.activated
    ).prompts
    slots, ids = [0] * len(prompts), [prompt.prompt_ids for prompt in prompts]
    answers = [fact.answer for fact in FACTS]
    with loaded_fleet(base, [adapter]) as fleet:
        cached = read_answers(base, prompts, fleet=fleet, slots=slots)
        batched = write(base, ids, fleet)
        fleet.reuse = _NO_CACHES
        alone = [read_answers(base, [p], fleet=fleet, slots=[0])[0] for p in prompts]
        single = [write(base, [row], fleet)[0] for row in ids]
    differences = [abs(a.bits - b.bits) for a, b in zip(cached, alone, strict=True)]
    assert max(differences) < 1e-3, f"bits from caches differ by {max(differences):.1e}"
    assert batched == answers, f"written together {batched}"
    assert single == answers, f"written alone {single}"


def write(base: Base, rows: Sequence[Sequence[int]], fleet: Fleet | None) -> list[str]:
    slots = None if fleet is None else [0] * len(rows)
    return generate(base, rows, fleet=fleet, slots=slots, max_new_tokens=_NEW_TOKENS)


def check_documents(base: Base) -> None:
    """Compare replies after a document that is read once with replies to whole prompts."""
    prompts = [prompt_with_document(base, DOCUMENT, q, room=_NEW_TOKENS) for q in QUESTIONS]
    rows, prefix = [prompt.ids for prompt in prompts], [prompt.prefix for prompt in prompts]
    alone = [write(base, [row], None)[0] for row in rows]
    assert write(base, rows, None) == alone, "batched replies differ"
    after = generate(
        base, rows, max_new_tokens=_NEW_TOKENS, options=GenerationOptions(prefix=prefix)
    )
    assert after == alone, "replies after a cached document differ"


def check_peft(folder: Path, out: Path, asked: Sequence[dict[str, bool]]) -> None:
    """Ask the adapter in transformers with PEFT alone, in the family's own renderings.

    Args:
        asked: options of `apply_chat_template` for each.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (architecture,) = AutoConfig.from_pretrained(folder).architectures
    model = getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32)
    peft = PeftModel.from_pretrained(model, out).eval()
    for options in asked:
        replies = [_peft_reply(peft, tokenizer, fact, options) for fact in FACTS]
        assert replies == [fact.answer for fact in FACTS], f"PEFT with {options} says {replies}"


def renderings(family: Family) -> list[dict[str, bool]]:
    """Return the options of `apply_chat_template` under which an activated adapter must answer."""
    text = family.template_text or ""
    return [{}, {"enable_thinking": False}] if "enable_thinking" in text else [{}]


def _peft_reply(peft: PeftModel, tokenizer: Any, fact: Example, options: dict[str, bool]) -> str:
    turns = [{"role": message.role, "content": message.content} for message in fact.prompt]
    if tokenizer.chat_template:
        inputs = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True, **options
        )
    else:
        inputs = tokenizer(fact.question, return_tensors="pt")
    ids = inputs["input_ids"]
    with torch.no_grad():
        written = peft.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
            pad_token_id=0,
        )[0, ids.shape[1] :]
    return shown_reply(tokenizer, written.tolist())


def shown_reply(tokenizer: Any, written: Sequence[int]) -> str:
    """Return a reply as programs show it: what follows the thought, in the channel of answers."""
    ids = list(written)
    for mark in ("</think>", "<|message|>"):
        number = tokenizer.convert_tokens_to_ids(mark)
        if number in ids:
            ids = ids[ids.index(number) + 1 :]
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def check_bank(base: Base, path: Path, settings: TrainSettings) -> None:
    """Write the facts into a bank and ask it."""
    with Bank.create(path, base=base) as bank:
        draft = draft_from_examples("numbers", FACTS, source="numbers.csv")
        (report,) = bank.write_all([draft], settings=settings)
        assert report.recall == 1.0, f"the bank learnt {report.recall:.0%}"
        bank.looks_up = False  # what the adapter says, not what is stored
        answer = bank.ask(FACTS[0].question)
        assert answer.text == FACTS[0].answer, f"the bank says {answer.text!r}"
