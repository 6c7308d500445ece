"""Bench of long documents and of asking modules: what is read once, and what a switch costs.

The document is a drawn chronicle. Reading it once is held against reading it anew for each
question, as plain `model.generate` does; the peer answers the first few questions only, and what
it takes is scaled to all of them, for each costs it the same. We are asked one question after the
other, and once all together, which is held against our own batches without the kept document, too.
Asking a module is held against asking the bare model, four candidates against one.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lorabank.bank.bank import Bank
from lorabank.bank.write.drafts import draft_from_examples
from lorabank.bench.pairs import Timed, now, report, run_pairs, timed
from lorabank.bench.setup import book, empty_shelves
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.inference.candidates import probe_candidates
from lorabank.engine.inference.document_prefix import Prompt, with_context
from lorabank.engine.inference.generate import generate, stop_ids
from lorabank.engine.training.settings import SOUND
from lorabank.store.records import Version
from lorabank.tasks.examples import Message
from lorabank.tasks.synthetic import chronicle, chronicle_questions
from lorabank.tasks.synthetic.chronicle_questions import SINGLE

_NEW_TOKENS = 16
_PROBED = 8  # tokens a candidate is heard
_MODULES = 4
_EXACT = 3  # questions answered in float32, on a document that is shorter
_MADE = replace(SOUND, exposures=1, until_recall=None)
Prompts = list[Prompt]


def bench_context(
    base: Base,
    *,
    pairs: int = 3,
    facts: int = 30,
    document_tokens: int = 6000,
    peer_questions: int = 3,
    exact_tokens: int = 1000,
    repeats: int = 30,
) -> dict[str, Any]:
    """Questions to one document, and to modules.

    Args:
        facts: questions to the document.
        peer_questions: how many of them the peer answers, its time scaled to all.
        exact_tokens: of the document that both sides answer from in float32, to be compared.
        repeats: of what takes milliseconds; medians are reported.
    """
    asked = _prompts(base, document_tokens, facts)
    few = asked[:peer_questions]

    def ours() -> list[str]:
        empty_shelves(base)
        return [_answer(base, one) for one in asked]

    def peer() -> Timed[list[str]]:
        started = now()
        replies = [_plain(base, one) for one in few]
        return Timed((now() - started) * len(asked) / len(few), replies)

    def together() -> list[str]:
        empty_shelves(base)
        ids, prefix = [one.ids for one in asked], [one.prefix for one in asked]
        return generate(base, ids, prefix=prefix, max_new_tokens=_NEW_TOKENS)

    ran = run_pairs(timed(ours), peer, n=pairs)
    at_once = timed(together)()
    batched = timed(lambda: generate(base, [o.ids for o in few], max_new_tokens=_NEW_TOKENS))()
    exact = load_info(base.info, dtype="float32", device=base.device.type)
    checked = _prompts(exact, exact_tokens, _EXACT)
    differing = [i for i, one in enumerate(checked) if _answer(exact, one) != _plain(exact, one)]
    return {
        **report("context", base, ran, equal=not differing),
        "icl_prefix_ratio": ran.ratio,
        "equal_note": f"same text of {_EXACT} answers on {exact_tokens} tokens in float32",
        "icl_together_ratio": ran.theirs_s / at_once.seconds,
        "icl_batched_ratio": batched.seconds / len(few) * len(asked) / at_once.seconds,
        "together_differing": sum(
            a != b for a, b in zip(ran.ours[0].result, at_once.result, strict=True)
        ),
        "questions": len(asked),
        "document_tokens": asked[0].prefix,
        "peer_questions": len(few),
        **_modules(base, repeats),
    }


def _prompts(base: Base, n_tokens: int, n_questions: int) -> Prompts:
    def count(text: str) -> int:
        return len(base.chat.tokenizer(text, add_special_tokens=False)["input_ids"])

    told = chronicle.build(n_tokens, seed=0, count=count)
    text = chronicle.text(told)
    questions = chronicle_questions.ask(told, SINGLE, n_questions, seed=0)
    return [with_context(base, text, one.text, room=_NEW_TOKENS) for one in questions]


def _answer(base: Base, one: Prompt) -> str:
    (reply,) = generate(base, [one.ids], max_new_tokens=_NEW_TOKENS, prefix=[one.prefix])
    return reply


@torch.no_grad()
def _plain(base: Base, one: Prompt) -> str:
    ids = torch.tensor([one.ids], device=base.device)
    stops = sorted(stop_ids(base))
    out = base.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=_NEW_TOKENS,
        eos_token_id=stops,
        pad_token_id=stops[0],
    )
    return base.chat.decode(out[0, len(one.ids) :].tolist())


def _modules(base: Base, repeats: int) -> dict[str, float]:
    """Milliseconds and ratios of asking modules; medians."""
    questions = [one.question for one in book(repeats, seed=5)]
    prompts = [base.chat.prompt_ids([Message("user", question)]) for question in questions]
    with _bank(base) as (bank, versions):
        reader = bank.reader

        def first_token(prompt: list[int], version: Version | None) -> None:
            if version is None:
                generate(base, [prompt], max_new_tokens=1)
                return
            with reader.loaded_fleet([version]) as fleet:
                generate(base, [prompt], fleet=fleet, slots=[0], max_new_tokens=1)

        def probe(prompt: list[int], n: int) -> None:
            with reader.loaded_fleet(versions[:n]) as fleet:
                slots = [list(range(n))]
                probe_candidates(base, [prompt], fleet=fleet, slots=slots, n_tokens=_PROBED)

        def switch(i: int) -> None:
            with reader.loaded_fleet([versions[i % _MODULES]]):
                pass

        def load(i: int) -> None:
            reader.adapter_cache.clear()
            reader.load_adapters([versions[i % _MODULES]])

        reader.load_adapters(versions)
        empty_shelves(base)
        bare, module = _alternate(
            [lambda p=p: first_token(p, None) for p in prompts],  # type: ignore[misc]
            [lambda p=p: first_token(p, versions[0]) for p in prompts],  # type: ignore[misc]
        )
        one, four = _alternate(
            [lambda p=p: probe(p, 1) for p in prompts[: repeats // 3]],  # type: ignore[misc]
            [lambda p=p: probe(p, _MODULES) for p in prompts[: repeats // 3]],  # type: ignore[misc]
        )
        switches = [timed(lambda i=i: switch(i))().seconds for i in range(repeats)]  # type: ignore[misc]
        loads = [timed(lambda i=i: load(i))().seconds for i in range(repeats)]  # type: ignore[misc]
    return {
        "ttft_ratio": median(b / a for a, b in zip(bare, module, strict=True)),
        "bare_ttft_ms": 1000 * median(bare),
        "switch_ms": 1000 * median(switches),
        "load_ms": 1000 * median(loads),
        "probe_ratio": median(b / a for a, b in zip(one, four, strict=True)),
    }


def _alternate(
    ones: list[Callable[[], None]], others: list[Callable[[], None]]
) -> tuple[list[float], list[float]]:
    """Seconds of each, in pairs; the first of both runs once more before, uncounted."""
    ones[0](), others[0]()
    mine, theirs = [], []
    for one, other in zip(ones[1:], others[1:], strict=True):
        mine.append(timed(one)().seconds)
        theirs.append(timed(other)().seconds)
    return mine, theirs


@contextmanager
def _bank(base: Base) -> Iterator[tuple[Bank, list[Version]]]:
    """Modules of the size of any, hardly trained: what is measured does not depend on it."""
    folder = Path(tempfile.mkdtemp(prefix="lorabank-bench-"))
    try:
        with Bank.create(folder / "bank", base=base) as bank:
            parcels = [
                draft_from_examples(f"book-{i}", book(8, seed=10 + i), source=f"{i}")
                for i in range(_MODULES)
            ]
            bank.write_all(parcels, settings=_MADE)
            yield bank, bank.modules()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
