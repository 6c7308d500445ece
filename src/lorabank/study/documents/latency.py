"""Measures how long answering from a long document takes, part by part, one question at a time.

Once: training, an index, reading the document, loading adapters. For each question: looking
chunks up, loading and merging their adapters (from files that the system has in memory), tokenising
the prompt, the time to the first token, every further token. Every answer is `new_tokens` long: the
end of a turn is never generated. (Question 15 of arXiv:2603.01097, whose times leave out training,
cache no document and are of answers of any length.)
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from lorabank.engine.adapters.adapter import Adapter, load_adapter, save_adapter
from lorabank.engine.adapters.loaded_fleet import fleet_of, load_slot
from lorabank.engine.backbone.caches import new_prompt_cache
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.running_batch import RowRequest, RunningBatch
from lorabank.engine.learn import software_versions
from lorabank.errors import UsageError
from lorabank.study.cells import CellClock
from lorabank.study.documents.axes import CHUNK, DOCUMENT, ICL, MERGED, NONE, DocumentsAxes
from lorabank.study.documents.cells import LatencyCell
from lorabank.study.documents.library import adapter_kind
from lorabank.study.documents.measure import hashes_of
from lorabank.study.documents.reader import ContextPrompt, DocumentReader
from lorabank.study.merges import merge_parts
from lorabank.study.plan import CellSpec
from lorabank.tasks.synthetic.chronicle_questions import SINGLE

_DOCUMENT = 0  # index of the document that is asked about
_DIGITS = 6
LOOKING_UP, TOKENISING, LOADING, MERGING = "looking up", "tokenising", "loading", "merging"
PLACING, FIRST_TOKEN, TOKEN = "placing", "to first token", "token"
"""Parts of a question's time; PLACING is putting an adapter into the fleet."""


@dataclass(slots=True)
class PartTimes:
    """Seconds by part, one for each question."""

    parts: dict[str, list[float]] = field(default_factory=dict)

    def add(self, part: str, seconds: float) -> None:
        """Note what a part of a question took."""
        self.parts.setdefault(part, []).append(seconds)

    def medians(self) -> dict[str, float]:
        """Return the median of each part."""
        return {part: median(values) for part, values in self.parts.items() if values}


def measure_latency(
    reader: DocumentReader, cell: CellSpec[DocumentsAxes], study: str, clock: CellClock
) -> LatencyCell:
    """Return the result of one cell."""
    axes, base = cell.axes, reader.base
    questions = [i for i, d in enumerate(reader.document_of) if d == _DOCUMENT]
    questions = [i for i in questions if reader.questions[i].kind == SINGLE] or questions
    once = _once(reader, axes)
    times = PartTimes()
    with TemporaryDirectory(prefix="lorabank-latency-") as folder:
        answerer = _Answerer(reader, axes, Path(folder))
        once |= answerer.once
        answerer.answer(questions[-1], PartTimes())  # the first answer of all takes longer
        answerer.n_tokens.clear()
        for i in questions:
            answerer.answer(i, times)
    parts = times.medians()
    first_token_s = sum(seconds for part, seconds in parts.items() if part != TOKEN)
    answer_s = first_token_s + parts.get(TOKEN, 0.0) * ((axes.new_tokens or 0) - 1)
    text = reader.library.documents[_DOCUMENT].document.text
    return LatencyCell(
        study=study,
        name=cell.name,
        base=base.info.name,
        axes=axes,
        mode=axes.mode,
        once_s={part: round(seconds, _DIGITS) for part, seconds in once.items()},
        parts_s={part: round(seconds, _DIGITS) for part, seconds in parts.items()},
        first_token_s=round(first_token_s, _DIGITS),
        answer_s=round(answer_s, _DIGITS),
        n_questions=len(questions),
        prompt_tokens=median(answerer.n_tokens),
        document_tokens=len(base.chat.tokenizer(text)["input_ids"]),
        library=reader.library.facts(axes),
        per_question={
            part: [round(seconds, _DIGITS) for seconds in values]
            for part, values in times.parts.items()
        },
        hashes=hashes_of(reader),
        versions=software_versions(base),
        cost=clock.cost(),
    )


def _once(reader: DocumentReader, axes: DocumentsAxes) -> dict[str, float]:
    """Return seconds before the first question, for one document, without loading adapters."""
    seconds: dict[str, float] = {}
    if axes.adapter != NONE:
        taught = reader.library.taught[adapter_kind(axes)]
        if taught.seconds is not None:
            seconds["training"] = taught.seconds / len(reader.library.documents)
    if axes.router is not None:
        reader.search.indices(axes.router)  # loads the embedder
        seconds["index"] = reader.search.index_seconds(_DOCUMENT, axes.router)
    return seconds


class _Answerer:
    """One way of answering, with what it holds in memory."""

    def __init__(self, reader: DocumentReader, axes: DocumentsAxes, folder: Path):
        self.reader, self.axes, self.folder = reader, axes, folder
        self.once: dict[str, float] = {}
        self.n_tokens: list[int] = []
        self.loaded: dict[int, Adapter] = {}
        self.fleet: Fleet | None = None
        reader.base.document_cache.clear()
        if axes.adapter != NONE:
            for chunk, adapter in self._trained_adapters().items():
                save_adapter(folder / str(chunk), adapter, base=reader.base)
        if axes.adapter == DOCUMENT or axes.preloaded:
            started = time.perf_counter()
            self.loaded = {chunk: self._load(chunk) for chunk in self.chunks}
            if axes.adapter in (DOCUMENT, CHUNK):
                self.fleet = fleet_of(reader.base, list(self.loaded.values()))
            self.once["loading"] = time.perf_counter() - started
        if axes.text == ICL and axes.document_cached:
            self._read_document()

    @property
    def chunks(self) -> list[int]:
        """Return the chunks that have adapters; the whole document counts as number 0."""
        return sorted(self._trained_adapters())

    def answer(self, i: int, times: PartTimes) -> None:
        """Answer question `i` and note what each part took."""
        reader, axes = self.reader, self.axes
        started = time.perf_counter()
        passages = reader.passages(i, axes)
        chosen = self._choose_chunks(i, passages) if axes.is_routed else []
        if axes.router is not None:
            times.add(LOOKING_UP, time.perf_counter() - started)
        started = time.perf_counter()
        prompt = reader.prompt(i, axes.text, passages)
        times.add(TOKENISING, time.perf_counter() - started)
        fleet, slot = self._place_adapter(chosen, times)
        reader.base.prompt_cache = new_prompt_cache()  # each question is new
        started = time.perf_counter()
        token_times = self._generate(prompt, axes.new_tokens or 0, fleet, slot)
        times.add(FIRST_TOKEN, token_times[0] - started)
        if len(token_times) > 1:
            times.add(TOKEN, (token_times[-1] - token_times[0]) / (len(token_times) - 1))
        self.n_tokens.append(len(prompt.prompt.prompt_ids))

    def _choose_chunks(self, i: int, passages: Sequence[int]) -> list[int]:
        """Return the chunks whose adapters answer; the lookup for the prompt is used again."""
        n_chunks = (self.axes.k or 0) if self.axes.adapter == MERGED else 1
        first = list(passages[:n_chunks])
        if len(first) == n_chunks and set(first) <= set(self.chunks):
            return first
        return self.reader.search.rank(i, str(self.axes.router), self.chunks)[:n_chunks]

    def _place_adapter(self, chosen: Sequence[int], times: PartTimes) -> tuple[Fleet | None, int]:
        """Return a fleet and the slot in it that has the adapter of a question."""
        axes = self.axes
        if axes.adapter in (NONE, DOCUMENT):
            return self.fleet, 0
        if axes.adapter == CHUNK and axes.preloaded:
            return self.fleet, self.chunks.index(chosen[0])
        started = time.perf_counter()
        parts = [self.loaded.get(chunk) or self._load(chunk) for chunk in chosen]
        if not axes.preloaded:
            times.add(LOADING, time.perf_counter() - started)
        if axes.adapter == MERGED:
            started = time.perf_counter()
            parts = [merge_parts(parts, axes)]
            times.add(MERGING, time.perf_counter() - started)
        started = time.perf_counter()
        (adapter,) = parts
        if self.fleet is None or self.fleet.r != adapter.r:
            self.fleet = fleet_of(self.reader.base, [adapter])
        else:
            load_slot(self.fleet, 0, adapter)
        times.add(PLACING, time.perf_counter() - started)
        return self.fleet, 0

    def _read_document(self) -> None:
        """Put the document's KV cache into the base's document cache.

        Raises:
            UsageError: the document is larger than the cache.
        """
        cache = self.reader.base.document_cache
        prompt = self.reader.prompt(0, ICL, [])
        started = time.perf_counter()
        self._generate(prompt, 1, None, 0)
        self.once["reading"] = time.perf_counter() - started
        if prompt.prompt.prompt_ids[: prompt.n_prefix] not in cache:
            raise UsageError(
                f"a document of {prompt.n_prefix:,} tokens is larger than the document cache "
                f"({cache.max_bytes >> 20:,} MiB); set a smaller length, or document_cached=false"
            )

    def _generate(
        self, prompt: ContextPrompt, n_tokens: int, fleet: Fleet | None, slot: int
    ) -> list[float]:
        """Return the time at which each of `n_tokens` tokens was generated."""
        base, prompt_ids = self.reader.base, prompt.prompt.prompt_ids
        # An adapter that is always on has to read the document itself.
        is_base_prefix = fleet is None or fleet.activated[slot]
        is_cached = bool(self.axes.document_cached) and is_base_prefix
        document = prompt_ids[: prompt.n_prefix] if is_cached else ()
        request = RowRequest(
            prompt_ids, None if fleet is None else slot, max_new_tokens=n_tokens, stops=frozenset()
        )
        with nullcontext() if fleet is None else fleet:
            running, times = RunningBatch(base, fleet, document=document), []
            running.add(request)
            while running:
                running.step()
                times.append(time.perf_counter())
            return times

    def _trained_adapters(self) -> Mapping[int, Adapter]:
        """Return the adapters of the document by chunk, its own under 0."""
        library = self.reader.library
        if self.axes.adapter == DOCUMENT:
            return {0: library.document_adapters()[_DOCUMENT]}
        return library.chunk_adapters(_DOCUMENT)

    def _load(self, chunk: int) -> Adapter:
        return load_adapter(self.folder / str(chunk), self.reader.base)
