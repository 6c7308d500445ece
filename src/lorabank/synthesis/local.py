"""The base model as a generator that decodes many requests in one batch.

On a CPU most of a batch's time goes into reading the weights, so sixteen rows take little longer
than one. A process that is killed loses its batch. Samples depend on the seed and on the rows of a
batch, so a run that is resumed draws other samples.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import final

from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.engine.inference.sampling import Sampling
from lorabank.errors import UsageError
from lorabank.synthesis.generators import Finish, Reply, Request

ROWS = 16


@final
class LocalGenerator:
    """A loaded base model, greedy or sampled as each request says."""

    is_file = False
    writes_json = False  # small models write labelled lines far better than JSON

    def __init__(self, base: Base, *, rows: int = ROWS):
        if rows < 1:
            raise UsageError(f"--workers must be 1 or more, got {rows}")
        self._base, self._rows = base, rows
        self.name = f"local:{base.info.name}@{base.info.sha256[:16]} {base.precision}"

    def complete(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield replies batch by batch; a prompt that leaves no room for its reply fails."""
        waiting = iter(requests)
        while taken := list(islice(waiting, self._rows)):
            taken.sort(key=_decoding_settings)  # one batch has one limit and one way of sampling
            for _, batch in groupby(taken, key=_decoding_settings):
                yield from self._batch(list(batch))

    def _batch(self, requests: list[Request]) -> Iterator[Reply]:
        prompts = [self._base.chat.direct_prompt_ids(request.messages) for request in requests]
        fits = []
        for request, prompt in zip(requests, prompts, strict=True):
            if len(prompt) + request.max_tokens > self._base.max_tokens:
                reason = (
                    f"a prompt of {len(prompt)} tokens and a reply of up to {request.max_tokens} "
                    f"do not fit the model's {self._base.max_tokens}; use shorter passages"
                )
                yield Reply(request, "", Finish.FAILED, reason=reason)
            else:
                fits.append((request, prompt))
        if not fits:
            return
        first = fits[0][0]
        n_written = [0] * len(fits)

        def count(row: int, _: int) -> None:
            n_written[row] += 1

        sampling = None
        if first.temperature:
            sampling = Sampling(first.temperature, first.top_p, first.seed)
        texts = generate(
            self._base,
            [prompt for _, prompt in fits],
            max_new_tokens=first.max_tokens,
            options=GenerationOptions(sampling=sampling, on_token=count),
        )
        for (request, prompt), text, n in zip(fits, texts, n_written, strict=True):
            finish = Finish.LENGTH if n >= request.max_tokens else Finish.STOP
            yield Reply(request, text, finish, len(prompt), n)


def _decoding_settings(request: Request) -> tuple[int, float, float]:
    return request.max_tokens, request.temperature, request.top_p
