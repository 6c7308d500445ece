"""A document read once gives what reading it each time gives, for whoever answers."""

import math

import pytest
import torch

from lorabank.engine.backbone import attention
from lorabank.engine.backbone import prefill as prompts
from lorabank.engine.backbone.attention import supports_document_prefix
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference import document_prefix as contexts
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.inference.candidates import probe_candidates
from lorabank.engine.inference.document_prefix import group_by_document, prompt_with_document
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.errors import UsageError
from lorabank.tasks.synthetic import chronicle

DOCUMENTS = [chronicle.render_text(chronicle.build(500, seed=s, count=lambda t: 2 * len(t)))[:180]
             for s in range(2)]  # fmt: skip
QUESTIONS = ("Who built it?", "When did the rising of Muhamere begin, and who led it?", "Why?")


def prompts_of(base: Base) -> list[contexts.DocumentPrompt]:
    """Questions on the two documents in turn."""
    return [
        prompt_with_document(base, DOCUMENTS[i % 2], q, room=16)
        for i, q in enumerate(QUESTIONS * 2)
    ]


def with_adapters(fleet: Fleet, *, activated: tuple[bool, ...]) -> None:
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


def test_a_prefix_is_the_document_whatever_is_asked(tiny: Base):
    asked = prompts_of(tiny)
    for document in (0, 1):
        same = asked[document::2]
        assert len({one.ids[: one.prefix] for one in same}) == 1
        assert all(len(DOCUMENTS[document]) * 0.5 < one.prefix < len(one.ids) for one in same)
    assert asked[0].ids[: asked[0].prefix] != asked[1].ids[: asked[1].prefix]


def test_what_does_not_fit_says_by_how_much(tiny: Base):
    with pytest.raises(UsageError, match=r"[\d,]+ more than .* takes \(512\); .*--with rag"):
        prompt_with_document(tiny, "word " * 400, "Why?")
    one = prompt_with_document(tiny, "word " * 50, "Why?", room=8)
    assert len(one.ids) + 8 <= tiny.max_tokens


def test_the_bare_model_writes_and_reads_the_same(tiny: Base):
    asked = prompts_of(tiny)
    rows, prefix = [one.ids for one in asked], [one.prefix for one in asked]
    alone = [generate(tiny, [row], max_new_tokens=8)[0] for row in rows]
    assert generate(tiny, rows, max_new_tokens=8, options=GenerationOptions(prefix=prefix)) == alone
    assert tiny.document_cache.n_computed == 2
    assert generate(tiny, rows, max_new_tokens=8, options=GenerationOptions(prefix=prefix)) == alone
    assert tiny.document_cache.n_computed == 2  # kept from call to call
    probes = [
        EvaluationPrompt(row, tuple(tiny.chat.answer_ids("Nebo")), "Nebo", ends_turn=True)
        for row in rows
    ]
    ours, theirs = read_answers(tiny, probes, prefix=prefix), read_answers(tiny, probes)
    assert [r.bits for r in ours] == pytest.approx([r.bits for r in theirs], abs=1e-4)
    assert tiny.document_cache.n_computed == 2


@pytest.mark.parametrize("activated", [(True, True), (True, False)])
def test_adapters_write_read_and_are_heard_the_same(tiny: Base, activated: tuple[bool, ...]):
    """An adapter that is always on reads the document itself, and nobody else's reading."""
    asked = prompts_of(tiny)
    rows, prefix, slots = [o.ids for o in asked], [o.prefix for o in asked], [0, 1, 1, 0, 1, 0]
    header = len(tiny.chat.header_ids())
    probes = [
        EvaluationPrompt(
            row,
            tuple(tiny.chat.answer_ids("Nebo")),
            "Nebo",
            ends_turn=True,
            adapter_start=len(row) - header if activated[slot] else 0,
        )
        for row, slot in zip(rows, slots, strict=True)
    ]
    with Fleet(tiny, paths=list(tiny.linears), r=4, width=2) as fleet:
        with_adapters(fleet, activated=activated)
        given = {"fleet": fleet, "slots": slots}
        alone = [
            generate(tiny, [row], fleet=fleet, slots=[slot], max_new_tokens=8)[0]
            for row, slot in zip(rows, slots, strict=True)
        ]
        assert len(set(alone)) > 1
        assert (
            generate(
                tiny, rows, **given, max_new_tokens=8, options=GenerationOptions(prefix=prefix)
            )
            == alone
        )
        ours, theirs = (
            read_answers(tiny, probes, **given, prefix=prefix),
            read_answers(tiny, probes, **given),
        )
        assert [r.bits for r in ours] == pytest.approx([r.bits for r in theirs], abs=1e-4)
        few = [[0, 1]] * len(rows)
        heard = probe_candidates(tiny, rows, fleet=fleet, slots=few, n_tokens=6, prefix=prefix)
        as_before = probe_candidates(tiny, rows, fleet=fleet, slots=few, n_tokens=6)
    for mine, other in zip(heard, as_before, strict=True):
        assert [trace.tokens for trace in mine] == [trace.tokens for trace in other]
        for a, b in zip(mine, other, strict=True):
            assert (a.entropy, a.divergence) == pytest.approx((b.entropy, b.divergence), abs=1e-4)
    bare = [generate(tiny, [row], max_new_tokens=8)[0] for row in rows]
    assert generate(tiny, rows, max_new_tokens=8, options=GenerationOptions(prefix=prefix)) == bare


def as_copies(base: Base) -> None:
    """Attention as transformers has it, for which each row's cache must hold the document."""
    base.model.set_attn_implementation("sdpa")


def test_rows_are_bounded_by_what_each_of_them_holds(tiny: Base, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contexts, "HELD_TOKENS", 100)
    rows = [(*range(40), i) for i in range(5)] + [(7, 7, 7)]

    def sizes() -> list[int]:
        found = list(group_by_document(tiny, rows, [40] * 5 + [0], extra=29))
        assert sorted(i for _, places in found for i in places) == list(range(6))
        return [len(places) for _, places in found]

    assert sizes() == [3, 2, 1]
    as_copies(tiny)
    assert sizes() == [1, 1, 1, 1, 1, 1]


def test_with_a_copy_for_each_row_all_is_the_same(tiny: Base):
    asked = prompts_of(tiny)
    rows, prefix = [one.ids for one in asked], [one.prefix for one in asked]
    probes = [
        EvaluationPrompt(row, tuple(tiny.chat.answer_ids("Nebo")), "Nebo", ends_turn=True)
        for row in rows
    ]

    def found() -> tuple[list[str], list[float]]:
        texts = generate(tiny, rows, max_new_tokens=8, options=GenerationOptions(prefix=prefix))
        return texts, [reading.bits for reading in read_answers(tiny, probes, prefix=prefix)]

    texts, bits = found()
    as_copies(tiny)
    assert not supports_document_prefix(tiny.model)
    assert found() == (texts, pytest.approx(bits, abs=1e-4))


def test_a_window_or_another_kind_of_attention_is_no_case_for_it(tiny: Base):
    assert supports_document_prefix(tiny.model)
    config = tiny.model.config
    config.layer_types = ["full_attention", "sliding_attention"]
    assert not supports_document_prefix(tiny.model)
    config.layer_types = None
    config.sliding_window = 64
    assert not supports_document_prefix(tiny.model)


def test_scores_in_parts_are_those_of_one_piece(tiny: Base, monkeypatch: pytest.MonkeyPatch):
    asked = prompts_of(tiny)[::2]
    answer = tuple(tiny.chat.answer_ids("Nebo"))
    probes = [EvaluationPrompt(one.ids, answer, "Nebo", ends_turn=True) for one in asked]
    whole = read_answers(tiny, probes, prefix=[one.prefix for one in asked])
    monkeypatch.setattr(attention, "_MAX_SCORES", 4 * asked[0].prefix * 7)
    parts = read_answers(tiny, probes, prefix=[one.prefix for one in asked])
    assert [r.bits for r in parts] == pytest.approx([r.bits for r in whole], abs=1e-4)


def test_a_long_document_read_in_parts_is_the_one_read_whole(
    tiny: Base, monkeypatch: pytest.MonkeyPatch
):
    tokens = prompt_with_document(tiny, "word " * 60, "Why?", room=8).ids
    whole = prompts.prefill_prefix(tiny.model, tokens)
    monkeypatch.setattr(prompts, "_PART_TOKENS", 50)
    parts = prompts.prefill_prefix(tiny.model, tokens)
    assert len(tokens) > 150
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one.keys, other.keys, atol=1e-4)
        assert torch.allclose(one.values, other.values, atol=1e-4)


def test_the_real_model_in_its_own_precision(real: Base):
    """Bfloat16 has ties, so likelihoods are compared and not texts."""
    document = chronicle.render_text(chronicle.build(500, seed=3))
    asked = [prompt_with_document(real, document, question) for question in QUESTIONS]
    answer = tuple(real.chat.answer_ids("The rising of Muhamere"))
    probes = [EvaluationPrompt(one.ids, answer, "", ends_turn=True) for one in asked]
    ours = read_answers(real, probes, prefix=[one.prefix for one in asked])
    for mine, other in zip(ours, read_answers(real, probes), strict=True):
        assert math.isclose(mine.bits, other.bits, rel_tol=0.03)


def test_an_adapter_in_anothers_seat_is_not_taken_for_it(tiny: Base):
    """What is kept of a seated adapter goes by its weights, from question to question."""
    prompt = prompts_of(tiny)[0].ids
    on = torch.arange(len(prompt))[None, :, None] >= len(prompt) - len(tiny.chat.header_ids())
    ids = torch.tensor([prompt])

    def logits(fleet: Fleet) -> torch.Tensor:
        with torch.no_grad(), fleet.assigned([0], adapter_mask=on):
            return tiny.model(ids).logits

    with Fleet(tiny, paths=list(tiny.linears), r=4, width=2) as fleet:
        with_adapters(fleet, activated=(True, True))
        first = logits(fleet)
        assert torch.equal(first, logits(fleet))
        fleet.theta.data[0].zero_()  # behind torch's back: what is kept is used
        assert torch.equal(first, logits(fleet))
        with torch.no_grad():
            fleet.theta[0].copy_(fleet.theta[1])
        second = logits(fleet)
        assert not torch.allclose(first, second, atol=1e-2)
        with fleet.assigned([1], adapter_mask=on):  # with gradients nothing is kept
            assert torch.allclose(second, tiny.model(ids).logits, atol=1e-4)


def test_the_head_gets_one_row_as_it_gets_many(tiny: Base):
    """A column cut from one row calls itself contiguous; torch would copy the head for it."""
    seen: list[tuple[int, ...]] = []
    head = tiny.model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, args: seen.append(args[0].stride()))
    for rows in (1, 2):
        tiny.model(torch.zeros(rows, 9, dtype=torch.long), logits_to_keep=1)
    assert seen == [(64, 64, 1)] * 2
