"""The axes of studies about long documents: which adapter, which text, and what each costs.

A document can be known by one adapter, by one for each chunk of it (routed: the first, or the first
few merged), by text in the prompt, or by both; each with a random other module in the adapter's
place as the control (questions 12 to 15 of arXiv:2603.01097). Chunk adapters together are as large
as the document's one: its rank is theirs times their number.
"""

import json
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from lorabank.errors import UsageError
from lorabank.lora.merge import RULES
from lorabank.study.axes import LAYERS, LR, Axes, Text, lr_for_rank, one_of

CHRONICLE = "chronicle"
PUBLISHED = ("narrativeqa", "quality", "infinitebench", "longbench", "locomo", "longmemeval")
TASKS = (CHRONICLE, "books", *PUBLISHED)
ANSWERS, LATENCY = "answers", "latency"
NONE, DOCUMENT, CHUNK, MERGED = "none", "document", "chunk", "merged"
RAG, ICL = "rag", "icl"
ORACLE = "oracle"
ADAPTERS, TEXTS = (NONE, DOCUMENT, CHUNK, MERGED), (NONE, RAG, ICL)
_READING = (
    *("measure", "adapter", "random", "text", "router", "k", "rule", "norm", "written"),
    *("new_tokens", "preloaded", "document_cached"),
)


class DocumentsAxes(Axes):
    """A cell of a study about long documents: a library, and one way of answering from it.

    Cells that agree in the fields down to `one_seed` share their documents and adapters.
    """

    former_names: ClassVar[Mapping[str, str]] = {"document_cached": "kept"}
    added: ClassVar[tuple[str, ...]] = ("one_seed",)

    task: Annotated[str, one_of(TASKS)] = Field(CHRONICLE, description=", ".join(TASKS))
    documents: int = Field(3, ge=2, le=1000, description="2 to 1,000")
    length: int = Field(
        2000, ge=350, le=1_000_000, description="350 to 1,000,000 tokens of a document"
    )
    chunk_tokens: int = Field(512, ge=50, le=8192, description="50 to 8,192")
    overlap: float = Field(0.1, ge=0, le=0.5, description="0 to 0.5 of a chunk")
    questions: int = Field(
        10, ge=1, le=1000, description="1 to 1,000 of each kind, for each document"
    )
    r: int = Field(4, ge=1, le=256, description="1 to 256: of a chunk's adapter")
    layers: Text = Field("all", description=LAYERS)
    activated: bool = Field(True, description="true or false")
    exposures: int = Field(20, ge=1, le=100_000, description="1 to 100,000")
    lr: float = Field(default_factory=lr_for_rank, gt=0, le=1, description=LR)
    batch_size: int = Field(8, ge=1, le=4096, description="1 to 4,096")
    seed: int = Field(0, ge=0, le=2**31, description="0 or more")
    one_seed: bool = Field(
        True, description="true or false: all adapters start from the same weights"
    )
    measure: Literal["answers", "latency"] = Field("answers", description="answers or latency")
    adapter: Literal["none", "document", "chunk", "merged"] = Field(
        "none", description="none, document, chunk, merged"
    )
    random: bool = Field(False, description="true or false: another document's in its place")
    text: Literal["none", "rag", "icl"] = Field("none", description="none, rag, icl")
    router: Literal["oracle", "bm25", "dense", "hybrid"] | None = Field(
        "hybrid", description="oracle, bm25, dense, hybrid"
    )
    k: int | None = Field(
        3, ge=1, le=100, description="1 to 100: chunks merged, or put in the prompt"
    )
    rule: Annotated[str, one_of(RULES)] | None = Field("ties", description=", ".join(RULES))
    norm: Literal["published", "matched"] | None = Field(
        "matched", description="published or matched"
    )
    written: int | None = Field(
        0, ge=0, le=1000, description="0 to 1,000: answers written out, of each document"
    )
    new_tokens: int | None = Field(24, ge=1, le=4096, description="1 to 4,096")
    preloaded: bool | None = Field(True, description="true or false: adapters in memory")
    document_cached: bool | None = Field(
        True, description="true or false: the KV cache of a document is kept for all questions"
    )

    def normalised(self) -> Self:
        """Return the cell with None for what its way of answering does not use."""
        if self.random and self.adapter == NONE:
            raise UsageError(
                "random puts another document's adapter in the place, got adapter=none; set "
                "adapter to document, chunk or merged, or leave random out"
            )
        if self.router == ORACLE and self.task != CHRONICLE:
            raise UsageError(
                f"it is not known where {self.task} has its answers; "
                "take router bm25, dense or hybrid"
            )
        is_merged, is_latency = self.adapter == MERGED, self.measure == LATENCY
        is_always_on = self.adapter != NONE and not self.activated  # and reads all by itself
        unused = {
            "rule": not is_merged,
            "norm": not is_merged,
            "router": not self.is_routed and self.text != RAG,
            "k": not is_merged and self.text != RAG,
            "new_tokens": not (self.written or is_latency),
            "written": is_latency,
            "preloaded": not is_latency or not self.is_routed,
            "document_cached": not is_latency or self.text != ICL or is_always_on,
        }
        return self.model_copy(update={name: None for name, is_off in unused.items() if is_off})

    @property
    def is_routed(self) -> bool:
        """Return whether the adapter is chosen for each question."""
        return self.adapter in (CHUNK, MERGED)

    @property
    def library_key(self) -> str:
        """Return a text that is equal for cells with the same adapters and questions."""
        return json.dumps(self.model_dump(exclude=set(_READING)))

    @property
    def mode(self) -> str:
        """Return how the cell answers, in a few words."""
        adapter = {MERGED: f"top-{self.k} merged", CHUNK: "top-1"}.get(self.adapter, self.adapter)
        if self.random:
            adapter = f"random {adapter}"
        if self.text == NONE:
            return "bare" if self.adapter == NONE else adapter
        return self.text if self.adapter == NONE else f"{adapter} + {self.text}"

    @property
    def short_name(self) -> str:
        """Return the task, the length, how the cell answers, and what is unusual about it."""
        parts = [self.task, f"n{self.length}", self.mode.replace(" + ", "+")]
        parts += [str(self.rule), str(self.norm)] if self.adapter == MERGED else []
        parts += [self.router] if self.router not in (None, "hybrid") else []
        parts += [] if self.activated else ["always-on"]
        parts += ["dynamic"] if self.preloaded is False else []
        parts += ["reread"] if self.document_cached is False else []
        parts += ["latency"] if self.measure == LATENCY else []
        parts += [] if self.one_seed else ["own-seeds"]
        return "-".join(part.replace(" ", "-") for part in [*parts, f"s{self.seed}"])
