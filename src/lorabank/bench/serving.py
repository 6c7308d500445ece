"""The bench of serving: a server process with many modules, beside llama.cpp's server.

Both get the same completions over HTTP: prompts of a fixed number of tokens, no two alike, and
answers of a fixed number. llama.cpp does not write answers of different adapters together, so it is
also timed at its best, all clients on one adapter. Times to the first token are taken of streams
whose lengths differ, as answers that all end together would also begin together. Last, a module is
written while clients ask.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from lorabank.bank.bank import Bank
from lorabank.bench.decoding import ONE_FACT
from lorabank.bench.http_load import Body, Reply, ask, ask_on, ask_together, client_of, percentile
from lorabank.bench.llama_peer import LlamaPeer
from lorabank.bench.pairs import Pairs, report, run_pairs, timed
from lorabank.bench.reading import long_answers
from lorabank.bench.server_process import served
from lorabank.bench.setup import book
from lorabank.engine.adapters.adapter import Adapter, save_adapter
from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import TrainSettings
from lorabank.engine.training.train import train
from lorabank.errors import UnavailableError
from lorabank.tasks.examples import Message

_log = logging.getLogger(__name__)
_WARM_TOKENS = 160  # after which the weights' copies in half precision are made
_P95 = 0.95


@dataclass(frozen=True, slots=True)
class ServeSizes:
    """The sizes of the bench of serving."""

    clients: int = 16
    """Clients that ask at the same time, each its own module."""
    prompt_tokens: int = 64
    new_tokens: int = 32
    open_requests: int = 8
    """Clients that ask on while times to the first token are taken and a module is written."""
    requests_each: int = 12
    """Requests of each of them, and three times as many of one alone."""
    written_facts: int = 8
    settings: TrainSettings = ONE_FACT
    """Settings of the modules that answer."""
    written_settings: dict[str, Any] | None = None
    """Settings of the module that is written meanwhile; None for the server's default."""


class _Prompts:
    """Prompts of a number of tokens, no two alike, in the model's chat template."""

    def __init__(self, base: Base, n_tokens: int):
        self._base, self._n = base, n_tokens
        self._lock, self._n_made = threading.Lock(), 0
        self._names = [example.question for example in book(4096, seed=3)]

    def next(self) -> list[int]:
        with self._lock:
            i, self._n_made = self._n_made, self._n_made + 1
        text = f"{self._names[i % len(self._names)]} {i}. " + "Tell me all of it. " * self._n
        ids = list(self._base.chat.prompt_ids([Message("user", text)]))
        end = self._base.chat.header_start(ids) - 4  # inside what was said
        return ids[: end - (len(ids) - self._n)] + ids[end:]


class _Ours:
    """Our server as the bench asks it."""

    def __init__(self, url: str, prompts: _Prompts):
        self.url, self._prompts = url, prompts

    def body(self, module: int, n: int, **more: Any) -> Body:
        prompt = self._prompts.next()
        return {
            "model": f"module-{module}",
            "prompt": prompt,
            "max_tokens": n,
            "ignore_eos": True,
            **more,
        }


class _Theirs:
    """llama.cpp's server as the bench asks it."""

    def __init__(self, peer: LlamaPeer, prompts: _Prompts):
        self.url, self._peer, self._prompts = peer.url, peer, prompts

    def body(self, module: int, n: int, **more: Any) -> Body:
        return {
            "prompt": self._prompts.next(),
            "max_tokens": n,
            "ignore_eos": True,
            "temperature": 0.0,
            "cache_prompt": False,
            "lora": self._peer.scales(module),
            **more,
        }


def bench_serve(base: Base, *, pairs: int = 3, sizes: ServeSizes | None = None) -> dict[str, Any]:
    """Time a server of many modules against llama.cpp's server, and while it learns."""
    sizes = sizes or ServeSizes()
    n_modules = sizes.clients
    examples = long_answers(n_modules)
    jobs = [
        plan_job(base, [example], replace(sizes.settings, seed=i), name=f"module-{i}")
        for i, example in enumerate(examples)
    ]
    _log.info("teaching %d modules an answer each", n_modules)
    adapters = [outcome.adapter for outcome in train(base, jobs)]
    prompts = _Prompts(base, sizes.prompt_tokens)
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        _make_bank(folder / "bank", base, adapters)
        options = ("--max-rows", str(n_modules), "--pending-limit", "0")
        url = stack.enter_context(served(folder / "bank", *options, log=folder / "log"))
        peer = stack.enter_context(closing(LlamaPeer(base, adapters, folder)))
        ours, theirs = _Ours(url, prompts), _Theirs(peer, prompts)
        client = stack.enter_context(client_of(url))
        _check(ask(client, ours.body(0, _WARM_TOKENS)))
        questions = [list(base.chat.prompt_ids(example.prompt)) for example in examples]
        same = _n_same(client, peer, questions, sizes.new_tokens)
        figures, alone = _throughput(ours, theirs, sizes, pairs)
        figures |= _first_tokens(ours, sizes)
        figures |= _while_learning(ours, sizes)
    return report(
        "serve",
        base,
        alone,
        equal=same == n_modules,
        equal_note="same text to the end of the turn, by each module on its own question",
        same_texts=f"{same} of {n_modules}",
        **figures,
        settings=sizes.settings.as_json(),
    )


def _make_bank(path: Path, base: Base, adapters: Sequence[Adapter]) -> None:
    with Bank.create(path, base=base) as bank:
        for i, adapter in enumerate(adapters):
            folder = path.parent / f"module-{i}"
            save_adapter(folder, adapter, base=base)
            bank.import_(folder)


def _n_same(client: httpx2.Client, peer: LlamaPeer, questions: Sequence[list[int]], n: int) -> int:
    """Return how many modules give the peer's answer to the question that they were taught."""
    same = 0
    for i, prompt in enumerate(questions):
        body = {"model": f"module-{i}", "prompt": prompt, "max_tokens": n}
        same += ask(client, body).text.strip() == peer.write(prompt, i, n, to_end=True)
    return same


def _throughput(
    ours: _Ours, theirs: _Theirs, sizes: ServeSizes, pairs: int
) -> tuple[dict[str, Any], Pairs[Any, Any]]:
    """Return tokens a second of one client and of many, and the pairs of one."""
    n, every = sizes.new_tokens, list(range(sizes.clients))
    with ExitStack() as stack:
        our_clients = [stack.enter_context(client_of(ours.url)) for _ in every]
        their_clients = [stack.enter_context(client_of(theirs.url)) for _ in every]

        def compare(modules: Sequence[int], of_peer: Sequence[int]) -> Pairs[Any, Any]:
            def ask_ours() -> None:
                _check(*ask_together(our_clients, [ours.body(m, n) for m in modules]))

            def ask_theirs() -> None:
                _check(*ask_together(their_clients, [theirs.body(m, n) for m in of_peer]))

            return run_pairs(timed(ask_ours), timed(ask_theirs), n=pairs, warm=True)

        alone = compare([0], [0])
        many = compare(every, every)
        best = compare(every, [0] * len(every))
    total = n * len(every)
    figures = {
        "clients": len(every),
        "prompt_tokens": sizes.prompt_tokens,
        "new_tokens": n,
        "ratio_many": many.ratio,
        "ratio_many_to_peer_on_one_adapter": best.ratio,
        "tokens_per_s_alone": n / alone.ours_s,
        "peer_tokens_per_s_alone": n / alone.theirs_s,
        "tokens_per_s_many": total / many.ours_s,
        "peer_tokens_per_s_many": total / many.theirs_s,
        "peer_tokens_per_s_many_on_one_adapter": total / best.theirs_s,
        "pairs_many": many.as_json(),
        "pairs_many_to_peer_on_one_adapter": best.as_json(),
    }
    return figures, alone


def _first_tokens(ours: _Ours, sizes: ServeSizes) -> dict[str, float]:
    """Return the times to the first token of one client and of several, in seconds."""
    n_asked = sizes.requests_each
    alone = _ask_on(ours, sizes, n_clients=1, is_over=lambda n: n >= 3 * n_asked)
    several = _ask_on(ours, sizes, n_clients=sizes.open_requests, is_over=lambda n: n >= n_asked)
    p95, p95_alone = _p95_first(several), _p95_first(alone)
    return {
        "open_requests": sizes.open_requests,
        "first_token_p95_s_alone": p95_alone,
        "first_token_p95_s_open": p95,
        "first_token_ratio": p95 / p95_alone,
    }


def _while_learning(ours: _Ours, sizes: ServeSizes) -> dict[str, Any]:
    """Return how requests fare before and while a module is written."""
    before = _ask_on(
        ours, sizes, n_clients=sizes.open_requests, is_over=lambda n: n >= sizes.requests_each
    )
    _log.info("a module of %d facts is written while clients ask", sizes.written_facts)
    job = _Writing(ours.url, sizes)
    during = _ask_on(
        ours, sizes, n_clients=sizes.open_requests, is_over=lambda _: job.has_ended(), check=False
    )
    whole = [reply for reply in during if reply.is_whole]
    seconds, seconds_before = (
        percentile([reply.seconds for reply in replies], _P95) for replies in (whole, before)
    )
    return {
        "written_module": job.summary,
        "written_in_s": job.seconds,
        "requests_while_written": len(during),
        "failed_while_written": len(during) - len(whole),
        "p95_s_before": seconds_before,
        "p95_s_while_written": seconds,
        "p95_ratio_while_written": seconds / seconds_before,
        "first_token_p95_s_while_written": _p95_first(whole),
        "longest_s_while_written": max(reply.seconds for reply in whole),
    }


class _Writing:
    """A module that the server is told to write."""

    def __init__(self, url: str, sizes: ServeSizes):
        facts = book(sizes.written_facts, seed=11)
        rows = "".join(f"{e.question},{e.answer}\n" for e in facts)
        self._client = httpx2.Client(base_url=url, timeout=600)
        file = self._client.post(
            "/v1/files",
            files={"file": ("facts.csv", f"prompt,answer\n{rows}")},
            data={"purpose": "fine-tune"},
        ).json()
        body = {"model": "memory", "training_file": file["id"], "suffix": "written"}
        if sizes.written_settings is not None:
            body["lorabank"] = {"settings": sizes.written_settings}
        self._started = time.perf_counter()
        self._id = self._client.post("/v1/fine_tuning/jobs", json=body).json()["id"]
        self._lock, self.seconds, self.summary = threading.Lock(), 0.0, ""

    def has_ended(self) -> bool:
        """Ask the server whether the module is written.

        Raises:
            UnavailableError: it could not be.
        """
        with self._lock:
            if self.seconds:
                return True
            job = self._client.get(f"/v1/fine_tuning/jobs/{self._id}").json()
            if job["status"] in ("queued", "validating_files", "running"):
                return False
            if job["status"] != "succeeded":
                raise UnavailableError(f"the module was not written: {job['error']}")
            self.seconds = time.perf_counter() - self._started
            record = job["lorabank"]["reports"][0]
            self.summary = f"{record['recall']:.0%} of {record['facts']} facts recalled"
            self._client.close()
            return True


def _ask_on(
    ours: _Ours,
    sizes: ServeSizes,
    *,
    n_clients: int,
    is_over: Callable[[int], bool],
    check: bool = True,
) -> list[Reply]:
    """Have clients ask on, each its own module, answers of half to one and a half the length."""
    half = sizes.new_tokens // 2
    rng = random.Random(f"lengths/{n_clients}")
    lengths = [[rng.randint(half, 3 * half) for _ in range(64)] for _ in range(n_clients)]

    def next_body(client: int, n_asked: int) -> Body:
        return ours.body(client, lengths[client][n_asked % 64], stream=True)

    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(ours.url)) for _ in range(n_clients)]
        replies = ask_on(clients, next_body, is_over)
    if check:
        _check(*replies)
    return replies


def _p95_first(replies: Sequence[Reply]) -> float:
    return percentile([reply.first_s for reply in replies if reply.first_s is not None], _P95)


def _check(*replies: Reply) -> None:
    """Refuse to time replies that are errors.

    Raises:
        UnavailableError: states the first of them.
    """
    for reply in replies:
        if not reply.is_whole:
            raise UnavailableError(f"a server answered with {reply.status}: {reply.text[:300]}")
