"""A document read once for all questions gives the same answers as one read for each."""

import math

import pytest
import torch

from lorabank.engine.backbone import attention, prefill
from lorabank.engine.backbone.attention import supports_document_prefix
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference import document_prefix
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.inference.candidates import Probing, probe_candidates
from lorabank.engine.inference.document_prefix import group_by_document, prompt_with_document
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.errors import UsageError
from lorabank.tasks.synthetic import chronicle

DOCUMENTS = [chronicle.render_text(chronicle.build(500, seed=s, count=lambda t: 2 * len(t)))[:180]
             for s in range(2)]  # fmt: skip
QUESTIONS = ("Who built it?", "When did the rising of Muhamere begin, and who led it?", "Why?")


def document_prompts(base: Base) -> list[document_prefix.DocumentPrompt]:
    """Return prompts with questions about the two documents in turn."""
    return [
        prompt_with_document(base, DOCUMENTS[i % 2], q, room=16)
        for i, q in enumerate(QUESTIONS * 2)
    ]


def fill_with_random_adapters(fleet: Fleet, *, activated: tuple[bool, ...]) -> None:
    for slot, is_activated in enumerate(activated):
        rng = torch.Generator().manual_seed(slot)
        weights = {
            path: (
                torch.randn(4, fleet.base.linears[path][1], generator=rng) * 0.3,
                torch.randn(fleet.base.linears[path][0], 4, generator=rng) * 0.3,
            )
            for path in fleet.regions
        }
        fleet.load(slot, weights, alpha=8.0, activated=is_activated)


def test_the_prefix_is_the_document_whatever_the_question(tiny: Base):
    prompts = document_prompts(tiny)
    for document in (0, 1):
        about_it = prompts[document::2]
        assert len({prompt.ids[: prompt.prefix] for prompt in about_it}) == 1
        length = len(DOCUMENTS[document])
        assert all(length * 0.5 < prompt.prefix < len(prompt.ids) for prompt in about_it)
    first, second = prompts[:2]
    assert first.ids[: first.prefix] != second.ids[: second.prefix]


def test_a_prompt_that_is_too_long_is_refused_with_its_excess(tiny: Base):
    with pytest.raises(UsageError, match=r"[\d,]+ more than .* takes \(512\); .*--with rag"):
        prompt_with_document(tiny, "word " * 400, "Why?")
    prompt = prompt_with_document(tiny, "word " * 50, "Why?", room=8)
    assert len(prompt.ids) + 8 <= tiny.max_tokens


def test_the_bare_model_answers_the_same_with_a_cached_document(tiny: Base):
    prompts = document_prompts(tiny)
    rows, prefix = [prompt.ids for prompt in prompts], [prompt.prefix for prompt in prompts]
    alone = [generate(tiny, [row], max_new_tokens=8)[0] for row in rows]
    assert generate(tiny, rows, max_new_tokens=8, options=GenerationOptions(prefix=prefix)) == alone
    assert tiny.document_cache.n_computed == 2
    assert generate(tiny, rows, max_new_tokens=8, options=GenerationOptions(prefix=prefix)) == alone
    assert tiny.document_cache.n_computed == 2  # cached from call to call
    questions = [
        EvaluationPrompt(row, tuple(tiny.chat.answer_ids("Nebo")), "Nebo", ends_turn=True)
        for row in rows
    ]
    cached, uncached = (
        read_answers(tiny, questions, prefix=prefix),
        read_answers(tiny, questions),
    )
    assert [r.bits for r in cached] == pytest.approx([r.bits for r in uncached], abs=1e-4)
    assert tiny.document_cache.n_computed == 2


@pytest.mark.parametrize("activated", [(True, True), (True, False)])
def test_adapters_answer_the_same_with_a_cached_document(tiny: Base, activated: tuple[bool, ...]):
    """An always-on adapter must read the document itself instead of the base's keys and values."""
    prompts = document_prompts(tiny)
    rows, prefix = [prompt.ids for prompt in prompts], [prompt.prefix for prompt in prompts]
    slots = [0, 1, 1, 0, 1, 0]
    n_header_tokens = len(tiny.chat.header_ids())
    questions = [
        EvaluationPrompt(
            row,
            tuple(tiny.chat.answer_ids("Nebo")),
            "Nebo",
            ends_turn=True,
            adapter_start=len(row) - n_header_tokens if activated[slot] else 0,
        )
        for row, slot in zip(rows, slots, strict=True)
    ]
    with Fleet(tiny, paths=list(tiny.linears), r=4, width=2) as fleet:
        fill_with_random_adapters(fleet, activated=activated)
        routing = {"fleet": fleet, "slots": slots}
        alone = [
            generate(tiny, [row], fleet=fleet, slots=[slot], max_new_tokens=8)[0]
            for row, slot in zip(rows, slots, strict=True)
        ]
        assert len(set(alone)) > 1
        assert (
            generate(
                tiny, rows, **routing, max_new_tokens=8, options=GenerationOptions(prefix=prefix)
            )
            == alone
        )
        cached, uncached = (
            read_answers(tiny, questions, **routing, prefix=prefix),
            read_answers(tiny, questions, **routing),
        )
        assert [r.bits for r in cached] == pytest.approx([r.bits for r in uncached], abs=1e-4)
        candidates = [[0, 1]] * len(rows)
        drafts = probe_candidates(
            tiny, rows, fleet=fleet, slots=candidates, probing=Probing(6), prefix=prefix
        )
        uncached = probe_candidates(tiny, rows, fleet=fleet, slots=candidates, probing=Probing(6))
    for cached_drafts, other_drafts in zip(drafts, uncached, strict=True):
        assert [draft.tokens for draft in cached_drafts] == [draft.tokens for draft in other_drafts]
        for a, b in zip(cached_drafts, other_drafts, strict=True):
            assert (a.entropy, a.divergence) == pytest.approx((b.entropy, b.divergence), abs=1e-4)
    bare = [generate(tiny, [row], max_new_tokens=8)[0] for row in rows]
    assert generate(tiny, rows, max_new_tokens=8, options=GenerationOptions(prefix=prefix)) == bare


def disable_shared_prefix(base: Base) -> None:
    """Switch to transformers' own attention, for which each row's cache must hold the document."""
    base.model.set_attn_implementation("sdpa")


def test_rows_of_a_pass_are_bounded_by_the_tokens_they_hold(
    tiny: Base, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(document_prefix, "HELD_TOKENS", 100)
    rows = [(*range(40), i) for i in range(5)] + [(7, 7, 7)]

    def sizes() -> list[int]:
        groups = list(group_by_document(tiny, rows, [40] * 5 + [0], extra=29))
        assert sorted(i for _, indices in groups for i in indices) == list(range(6))
        return [len(indices) for _, indices in groups]

    assert sizes() == [3, 2, 1]
    disable_shared_prefix(tiny)
    assert sizes() == [1, 1, 1, 1, 1, 1]


def test_a_copy_of_the_document_for_each_row_gives_the_same(tiny: Base):
    prompts = document_prompts(tiny)
    rows, prefix = [prompt.ids for prompt in prompts], [prompt.prefix for prompt in prompts]
    questions = [
        EvaluationPrompt(row, tuple(tiny.chat.answer_ids("Nebo")), "Nebo", ends_turn=True)
        for row in rows
    ]

    def answer() -> tuple[list[str], list[float]]:
        texts = generate(tiny, rows, max_new_tokens=8, options=GenerationOptions(prefix=prefix))
        return texts, [reading.bits for reading in read_answers(tiny, questions, prefix=prefix)]

    texts, bits = answer()
    disable_shared_prefix(tiny)
    assert not supports_document_prefix(tiny.model)
    assert answer() == (texts, pytest.approx(bits, abs=1e-4))


def test_sliding_window_attention_does_not_support_shared_prefixes(tiny: Base):
    assert supports_document_prefix(tiny.model)
    config = tiny.model.config
    config.layer_types = ["full_attention", "sliding_attention"]
    assert not supports_document_prefix(tiny.model)
    config.layer_types = None
    config.sliding_window = 64
    assert not supports_document_prefix(tiny.model)


def test_attention_scores_computed_in_parts_are_the_same(
    tiny: Base, monkeypatch: pytest.MonkeyPatch
):
    prompts = document_prompts(tiny)[::2]
    answer = tuple(tiny.chat.answer_ids("Nebo"))
    questions = [EvaluationPrompt(prompt.ids, answer, "Nebo", ends_turn=True) for prompt in prompts]
    whole = read_answers(tiny, questions, prefix=[prompt.prefix for prompt in prompts])
    monkeypatch.setattr(attention, "_MAX_SCORES", 4 * prompts[0].prefix * 7)
    parts = read_answers(tiny, questions, prefix=[prompt.prefix for prompt in prompts])
    assert [r.bits for r in parts] == pytest.approx([r.bits for r in whole], abs=1e-4)


def test_a_long_document_prefilled_in_parts_gives_the_same_keys_and_values(
    tiny: Base, monkeypatch: pytest.MonkeyPatch
):
    tokens = prompt_with_document(tiny, "word " * 60, "Why?", room=8).ids
    whole = prefill.prefill_prefix(tiny.model, tokens)
    monkeypatch.setattr(prefill, "_PART_TOKENS", 50)
    parts = prefill.prefill_prefix(tiny.model, tokens)
    assert len(tokens) > 150
    for layer, layer_in_parts in zip(whole, parts, strict=True):
        assert torch.allclose(layer.keys, layer_in_parts.keys, atol=1e-4)
        assert torch.allclose(layer.values, layer_in_parts.values, atol=1e-4)


def test_the_real_model_reads_a_cached_document_in_its_own_precision(real: Base):
    """Compare likelihoods, not texts, because in bfloat16 two tokens are often equally likely."""
    document = chronicle.render_text(chronicle.build(500, seed=3))
    prompts = [prompt_with_document(real, document, question) for question in QUESTIONS]
    answer = tuple(real.chat.answer_ids("The rising of Muhamere"))
    questions = [EvaluationPrompt(prompt.ids, answer, "", ends_turn=True) for prompt in prompts]
    cached = read_answers(real, questions, prefix=[prompt.prefix for prompt in prompts])
    for reading, uncached in zip(cached, read_answers(real, questions), strict=True):
        assert math.isclose(reading.bits, uncached.bits, rel_tol=0.03)


def test_an_adapter_that_replaces_another_in_its_slot_is_not_mistaken_for_it(tiny: Base):
    """Operands cached for a slot are computed again once the slot has other weights."""
    prompt = document_prompts(tiny)[0].ids
    adapter_mask = torch.arange(len(prompt))[None, :, None] >= len(prompt) - len(
        tiny.chat.header_ids()
    )
    ids = torch.tensor([prompt])

    def logits(fleet: Fleet) -> torch.Tensor:
        with torch.no_grad(), fleet.assigned([0], adapter_mask=adapter_mask):
            return tiny.model(ids).logits

    with Fleet(tiny, paths=list(tiny.linears), r=4, width=2) as fleet:
        fill_with_random_adapters(fleet, activated=(True, True))
        first = logits(fleet)
        assert torch.equal(first, logits(fleet))
        # torch's version counter does not see a change through .data: cached operands are used.
        fleet.theta.data[0].zero_()
        assert torch.equal(first, logits(fleet))
        with torch.no_grad():
            fleet.theta[0].copy_(fleet.theta[1])
        second = logits(fleet)
        assert not torch.allclose(first, second, atol=1e-2)
        with fleet.assigned([1], adapter_mask=adapter_mask):  # with gradients nothing is cached
            assert torch.allclose(second, tiny.model(ids).logits, atol=1e-4)


def test_the_head_gets_the_same_strides_for_one_row_as_for_many(tiny: Base):
    """Slicing leaves other strides on a single row; torch would then copy the head's weights."""
    strides: list[tuple[int, ...]] = []
    head = tiny.model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, args: strides.append(args[0].stride()))
    for rows in (1, 2):
        tiny.model(torch.zeros(rows, 9, dtype=torch.long), logits_to_keep=1)
    assert strides == [(64, 64, 1)] * 2
