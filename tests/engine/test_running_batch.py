"""Rows enter and leave between tokens, and each writes what it writes alone."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.backbone.row_cache import RowCache
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.engine.inference.running_batch import (
    LENGTH,
    STOP,
    RowRequest,
    RunningBatch,
    WrittenToken,
)
from lorabank.engine.inference.sampling import Sampling
from lorabank.errors import DataError
from lorabank.tasks.examples import Message

QUESTIONS = (
    "Who?",
    "Who built the lighthouse at Nebo, and when was that?",
    "Name three rivers of Europe and the seas that they reach.",
    "What is two and two?",
    "Is Nebo a mountain? Say yes or no.",
    "Why is the sky blue at noon and red in the evening, and what has dust to do with it?",
)
LIMITS = (3, 12, 1, 7, 12, 5)


def random_fleet(base: Base, width: int = 4) -> Fleet:
    """Return a fleet whose slots are on from the header and always, in turn."""
    fleet = Fleet(base, paths=list(base.linears), r=4, width=width)
    fleet.theta.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    fleet.scale.fill_(1.0)
    fleet.activated = [base.chat.has_template and slot % 2 == 0 for slot in range(width)]
    return fleet


def requests(base: Base) -> list[RowRequest]:
    slots = (0, 1, None, 2, 3, 0)
    return [
        RowRequest(tuple(base.chat.prompt_ids([Message("user", q)])), slot, max_new_tokens=limit)
        for q, slot, limit in zip(QUESTIONS, slots, LIMITS, strict=True)
    ]


def write_alone(base: Base, fleet: Fleet, request: RowRequest) -> list[WrittenToken]:
    running = RunningBatch(base, fleet)
    running.add(request)
    return [token for _ in range(request.max_new_tokens) for token in running.step()]


def check_rows_that_come_and_go(base: Base) -> None:
    """Add rows one by one while others run, and compare each with itself alone."""
    with random_fleet(base) as fleet:
        asked = requests(base)
        expected = [write_alone(base, fleet, request) for request in asked]
        running = RunningBatch(base, fleet)
        written: dict[int, list[WrittenToken]] = {}
        for wave in (asked[:2], asked[2:3], [], asked[3:]):
            for request in wave:
                written[running.add(request)] = []
            for token in running.step():
                written[token.row].append(token)
        while running:
            for token in running.step():
                written[token.row].append(token)
    for got, alone in zip(written.values(), expected, strict=True):
        assert [(t.token, t.finish) for t in got] == [(t.token, t.finish) for t in alone]
        assert len(got) == next(i for i, t in enumerate(got, start=1) if t.finish)


def test_rows_that_come_and_go_write_what_they_write_alone(tiny: Base):
    check_rows_that_come_and_go(tiny)


@pytest.mark.real
def test_rows_of_the_real_base_write_what_they_write_alone(real: Base):
    check_rows_that_come_and_go(load_info(real.info, dtype="float32", device="cpu"))


def test_rows_that_have_ended_leave_the_cache(tiny: Base):
    running = RunningBatch(tiny)
    asked = [
        RowRequest(tuple(range(5, 5 + n)), max_new_tokens=limit, stops=frozenset())
        for n, limit in ((30, 2), (8, 5), (11, 90))
    ]
    rows = [running.add(request) for request in asked]
    widths: list[tuple[int, int]] = []
    while running:
        written = running.step()
        assert len(written) == len({token.row for token in written})
        if running:
            cache = running._groups[0].cache
            assert isinstance(cache, RowCache)
            widths.append((len(cache.layers[0].keys), cache.get_seq_length()))
    assert rows == [0, 1, 2]
    assert widths[:5] == [(3, 30), (2, 12), (2, 13), (2, 14), (1, 15)]
    assert widths[-1] == (1, 11 + 88)
    assert running.step() == []


def test_a_row_may_be_cancelled_at_any_time(tiny: Base):
    asked = [RowRequest((5, 6, n), max_new_tokens=6, stops=frozenset()) for n in (7, 8, 9, 10)]
    alone = [write_alone(tiny, random_fleet(tiny), request) for request in asked]
    running = RunningBatch(tiny)
    rows = [running.add(request) for request in asked]
    running.cancel(rows[3])
    first = running.step()
    running.cancel(rows[0])
    running.cancel(rows[3])
    rest = [token for _ in range(5) for token in running.step()]
    assert [token.row for token in first] == rows[:3]
    assert {token.row for token in rest} == set(rows[1:3])
    for row in rows[1:3]:
        got = [token.token for token in (*first, *rest) if token.row == row]
        assert got == [token.token for token in alone[row]]
    assert len(running) == 0


def test_a_row_ends_with_its_stop_its_limit_or_the_context(tiny: Base):
    running = RunningBatch(tiny)
    running.add(RowRequest((5, 6), max_new_tokens=2, stops=frozenset()))
    last = [token.token for _ in range(2) for token in running.step()][-1]
    running = RunningBatch(tiny)
    running.add(RowRequest((5, 6), stops=frozenset({last})))
    running.add(RowRequest((5, 6), max_new_tokens=1, stops=frozenset()))
    long = tuple(5 for _ in range(tiny.max_tokens - 2))
    running.add(RowRequest(long, max_new_tokens=50, stops=frozenset()))
    ends = {t.row: t.finish for _ in range(4) for t in running.step() if t.finish}
    assert ends == {0: STOP, 1: LENGTH, 2: LENGTH}
    with pytest.raises(DataError, match="does not fit"):
        running.add(RowRequest((*long, 5, 5)))
    with pytest.raises(DataError, match="0 tokens does not fit"):
        running.add(RowRequest(()))


def test_a_prompt_that_cannot_be_read_loses_no_other_row(
    tiny: Base, monkeypatch: pytest.MonkeyPatch
):
    with random_fleet(tiny) as fleet:
        request = requests(tiny)[1]
        expected = [token.token for token in write_alone(tiny, fleet, request)]
        running = RunningBatch(tiny, fleet)
        running.add(request)
        got = running.step()
        with pytest.raises(DataError, match="lacks the assistant's header"):
            running.add(RowRequest((5, 6), slot=0))
        running.add(request)
        with monkeypatch.context() as patched:
            patched.setattr(tiny, "logits_at", _out_of_memory)
            with pytest.raises(MemoryError):
                running.step()
        while running:
            got += running.step()
    assert [token.token for token in got] == expected


def _out_of_memory(*_: object, **__: object) -> Tensor:
    raise MemoryError


def test_log_probabilities_are_those_of_the_logits(tiny: Base):
    running = RunningBatch(tiny)
    running.add(RowRequest((5, 6, 7), max_new_tokens=3, n_likeliest=4, stops=frozenset()))
    running.add(RowRequest((5, 6, 7), max_new_tokens=3, stops=frozenset()))
    seen: list[Tensor] = []
    tokens = [t for _ in range(3) for t in running.step(lambda _, logits: seen.append(logits))]
    for reported, plain, logits in zip(tokens[::2], tokens[1::2], seen, strict=True):
        log_p = logits[0].log_softmax(-1)
        assert reported.log_p == pytest.approx(float(log_p[reported.token]))
        assert [token for token, _ in reported.likeliest] == log_p.topk(4).indices.tolist()
        assert reported.likeliest[0][1] == pytest.approx(float(log_p.max()))
        assert (plain.log_p, plain.likeliest) == (None, ())


def test_a_drawn_row_is_the_same_whatever_is_drawn_beside_it(tiny: Base):
    def drawn(seeds: list[int]) -> list[list[int]]:
        running = RunningBatch(tiny)
        for seed in seeds:
            sampling = Sampling(temperature=2.0, top_p=0.9, seed=seed)
            running.add(RowRequest((5, 6), max_new_tokens=8, sampling=sampling, stops=frozenset()))
        rows: list[list[int]] = [[] for _ in seeds]
        while running:
            for token in running.step():
                rows[token.row].append(token.token)
        return rows

    alone = [drawn([seed])[0] for seed in (1, 2)]
    assert drawn([2, 1, 1]) == [alone[1], alone[0], alone[0]]
    assert alone[0] != alone[1]


def test_drawing_follows_the_probabilities(tiny: Base):
    running = RunningBatch(tiny)
    for seed in range(300):
        sampling = Sampling(temperature=0.25, seed=seed)
        running.add(RowRequest((5, 6), max_new_tokens=1, sampling=sampling, stops=frozenset()))
    seen: list[Tensor] = []
    drawn = [token.token for token in running.step(lambda _, logits: seen.append(logits))]
    p = (seen[0][0] / 0.25).softmax(-1)
    mean = float(sum(p[token] for token in drawn)) / len(drawn)
    error = math.sqrt(float((p**3).sum() - (p**2).sum() ** 2) / len(drawn))
    assert abs(mean - float((p**2).sum())) < 4 * error + 1e-9


def test_generate_writes_rows_of_very_different_length(tiny: Base):
    prompts = [tuple(range(5, 5 + n)) for n in (3, 40, 17)]
    with random_fleet(tiny) as fleet:
        together = generate(tiny, prompts, fleet=fleet, slots=[1, 3, 1], max_new_tokens=20)
        alone = [
            generate(tiny, [prompt], fleet=fleet, slots=[slot], max_new_tokens=20)[0]
            for prompt, slot in zip(prompts, [1, 3, 1], strict=True)
        ]
    assert together == alone


def test_a_reply_ends_where_it_is_enough_and_the_others_go_on(tiny: Base):
    prompts = [tuple(tiny.chat.direct_prompt_ids([Message("user", q)])) for q in ("One?", "Two?")]
    whole = generate(tiny, prompts, max_new_tokens=12)
    seen: list[tuple[int, int]] = []

    def is_enough(i: int, tokens: Sequence[int]) -> bool:
        seen.append((i, len(tokens)))
        return i == 0 and len(tokens) == 3

    short = generate(
        tiny, prompts, max_new_tokens=12, options=GenerationOptions(is_enough=is_enough)
    )
    assert max(n for i, n in seen if i == 0) == 3
    assert whole[0].startswith(short[0])
    assert len(short[0]) < len(whole[0])
    assert short[1] == whole[1]
