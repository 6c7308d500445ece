"""Bench of long documents and of asking modules: a document read once, and the cost of a switch.

The document is a generated chronicle. Reading it once is compared with reading it for each
question, as plain `model.generate` does. The peer answers the first questions only and its time is
scaled to all of them, as each costs it the same. We answer one question after the other, and once
all together, which is also compared with our own batches without the cached document. Asking a
module is compared with asking the bare model, and four candidates with one.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.bench.pairs import Timed, now, report, run_pairs, timed
from lorabank.bench.setup import book, empty_caches
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.inference.candidates import Probing, probe_candidates
from lorabank.engine.inference.document_prefix import DocumentPrompt, prompt_with_document
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.engine.settings import PLAIN
from lorabank.store.records import Version
from lorabank.tasks.examples import Message
from lorabank.tasks.synthetic import chronicle, chronicle_questions
from lorabank.tasks.synthetic.chronicle_questions import SINGLE

_NEW_TOKENS = 16
_PROBED = 8  # tokens of a candidate's draft
_MODULES = 4
_EXACT = 3  # questions answered in float32, on a shorter document
_MADE = replace(PLAIN, exposures=1, until_recall=None)
Prompts = list[DocumentPrompt]


@dataclass(frozen=True, slots=True)
class ContextSizes:
    """The sizes of the bench of documents and modules."""

    facts: int = 30
    """Number of questions to the document."""
    document_tokens: int = 6000
    peer_questions: int = 3
    """Number of questions that the peer answers; its time is scaled to all."""
    exact_tokens: int = 1000
    """Length of the document that both sides answer from in float32, to be compared."""
    repeats: int = 30
    """Number of repeats of what takes milliseconds; medians are reported."""


def bench_context(
    base: Base, *, pairs: int = 3, sizes: ContextSizes | None = None
) -> dict[str, Any]:
    """Time questions to one document, and questions to modules."""
    sizes = sizes or ContextSizes()
    prompts = _prompts(base, sizes.document_tokens, sizes.facts)
    peer_prompts = prompts[: sizes.peer_questions]
    n_ratio = len(prompts) / len(peer_prompts)

    def ours() -> list[str]:
        empty_caches(base)
        return [_answer(base, prompt) for prompt in prompts]

    def peer() -> Timed[list[str]]:
        started = now()
        replies = [_plain_answer(base, prompt) for prompt in peer_prompts]
        return Timed((now() - started) * n_ratio, replies)

    def together() -> list[str]:
        empty_caches(base)
        ids, prefix = [prompt.ids for prompt in prompts], [prompt.prefix for prompt in prompts]
        return generate(
            base, ids, max_new_tokens=_NEW_TOKENS, options=GenerationOptions(prefix=prefix)
        )

    ran = run_pairs(timed(ours), peer, n=pairs)
    at_once = timed(together)()
    peer_ids = [prompt.ids for prompt in peer_prompts]
    batched = timed(lambda: generate(base, peer_ids, max_new_tokens=_NEW_TOKENS))()
    differing = _differing_in_float32(base, sizes.exact_tokens)
    return {
        **report("context", base, ran, equal=not differing),
        "icl_prefix_ratio": ran.ratio,
        "equal_note": f"same text of {_EXACT} answers on {sizes.exact_tokens} tokens in float32",
        "icl_together_ratio": ran.theirs_s / at_once.seconds,
        "icl_batched_ratio": batched.seconds * n_ratio / at_once.seconds,
        "together_differing": sum(
            a != b for a, b in zip(ran.ours[0].result, at_once.result, strict=True)
        ),
        "questions": len(prompts),
        "document_tokens": prompts[0].prefix,
        "peer_questions": len(peer_prompts),
        **_time_modules(base, sizes.repeats),
    }


def _differing_in_float32(base: Base, n_tokens: int) -> list[int]:
    """Return the questions to a shorter document that both sides answer differently in float32."""
    exact = load_info(base.info, dtype="float32", device=base.device.type)
    return [
        i
        for i, prompt in enumerate(_prompts(exact, n_tokens, _EXACT))
        if _answer(exact, prompt) != _plain_answer(exact, prompt)
    ]


def _prompts(base: Base, n_tokens: int, n_questions: int) -> Prompts:
    def count(text: str) -> int:
        return len(base.chat.tokenizer(text, add_special_tokens=False)["input_ids"])

    document = chronicle.build(n_tokens, seed=0, count=count)
    text = chronicle.render_text(document)
    questions = chronicle_questions.draw_questions(document, SINGLE, n_questions, seed=0)
    return [
        prompt_with_document(base, text, question.text, room=_NEW_TOKENS) for question in questions
    ]


def _answer(base: Base, prompt: DocumentPrompt) -> str:
    options = GenerationOptions(prefix=[prompt.prefix])
    (reply,) = generate(base, [prompt.ids], max_new_tokens=_NEW_TOKENS, options=options)
    return reply


@torch.no_grad()
def _plain_answer(base: Base, prompt: DocumentPrompt) -> str:
    """Return the reply through transformers' own decoding, which reads the whole prompt."""
    ids = torch.tensor([prompt.ids], device=base.device)
    stops = sorted(base.chat.stop_ids)
    out = base.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=_NEW_TOKENS,
        eos_token_id=stops,
        pad_token_id=stops[0],
    )
    return base.chat.decode(out[0, len(prompt.ids) :].tolist())


def _time_modules(base: Base, repeats: int) -> dict[str, float]:
    """Return medians of the milliseconds and ratios of asking modules."""
    questions = [example.question for example in book(repeats, seed=5)]
    prompts = [base.chat.direct_prompt_ids([Message("user", question)]) for question in questions]
    with _bank(base) as (bank, versions):
        reader = bank.reader

        def first_token(prompt: list[int], version: Version | None) -> None:
            if version is None:
                generate(base, [prompt], max_new_tokens=1)
                return
            with reader.loaded_fleet([version]) as fleet:
                generate(base, [prompt], fleet=fleet, slots=[0], max_new_tokens=1)

        def draft(prompt: list[int], n: int) -> None:
            with reader.loaded_fleet(versions[:n]) as fleet:
                slots = [list(range(n))]
                probe_candidates(base, [prompt], fleet=fleet, slots=slots, probing=Probing(_PROBED))

        def switch(i: int) -> None:
            with reader.loaded_fleet([versions[i % _MODULES]]):
                pass

        def load(i: int) -> None:
            reader.adapter_cache.clear()
            reader.load_adapters([versions[i % _MODULES]])

        reader.load_adapters(versions)
        empty_caches(base)
        bare, module = _alternate(
            [lambda p=p: first_token(p, None) for p in prompts],  # type: ignore[misc]
            [lambda p=p: first_token(p, versions[0]) for p in prompts],  # type: ignore[misc]
        )
        single, four = _alternate(
            [lambda p=p: draft(p, 1) for p in prompts[: repeats // 3]],  # type: ignore[misc]
            [lambda p=p: draft(p, _MODULES) for p in prompts[: repeats // 3]],  # type: ignore[misc]
        )
        switches = [timed(lambda i=i: switch(i))().seconds for i in range(repeats)]  # type: ignore[misc]
        loads = [timed(lambda i=i: load(i))().seconds for i in range(repeats)]  # type: ignore[misc]
    return {
        "ttft_ratio": median(b / a for a, b in zip(bare, module, strict=True)),
        "bare_ttft_ms": 1000 * median(bare),
        "switch_ms": 1000 * median(switches),
        "load_ms": 1000 * median(loads),
        "probe_ratio": median(b / a for a, b in zip(single, four, strict=True)),
    }


def _alternate(
    first_calls: list[Callable[[], None]], second_calls: list[Callable[[], None]]
) -> tuple[list[float], list[float]]:
    """Return the seconds of both kinds of call, run in pairs; the first pair is not counted."""
    first_calls[0](), second_calls[0]()
    first_s, second_s = [], []
    for first, second in zip(first_calls[1:], second_calls[1:], strict=True):
        first_s.append(timed(first)().seconds)
        second_s.append(timed(second)().seconds)
    return first_s, second_s


@contextmanager
def _bank(base: Base) -> Iterator[tuple[Bank, list[Version]]]:
    """Yield a bank of hardly trained modules; how much they know does not change the times."""
    folder = Path(tempfile.mkdtemp(prefix="lorabank-bench-"))
    try:
        with Bank.create(folder / "bank", base=base) as bank:
            bank.looks_up = False  # what is measured are weights
            drafts = [
                draft_from_examples(f"book-{i}", book(8, seed=10 + i), source=f"{i}")
                for i in range(_MODULES)
            ]
            bank.write_all(drafts, settings=_MADE)
            yield bank, bank.modules()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
