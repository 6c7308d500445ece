"""Protection of the base: adapters do not see the directions in which ordinary text varies.

The bare base reads a fixed set of ordinary prompts with replies once (tasks/ordinary_texts.py).
What the layers get as input there spans the directions that A is kept orthogonal to
(lora/null_space.py), so no rows are trained for it, and an adapter's effect on ordinary text is
small from the first step to the last.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import evaluation_batch
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_prompt
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.training.jobs import Job
from lorabank.errors import DataError
from lorabank.lora.null_space import principal_directions, remove_directions_
from lorabank.tasks.examples import Message
from lorabank.tasks.ordinary_texts import TEXTS

_MOST_DIRECTIONS = 512  # of a layer, for wide models: their number times the width is kept
Directions = Mapping[str, Tensor]
"""(in, k) orthonormal columns by the path of a layer."""


def protect(fleet: Fleet, slot: int, job: Job, directions: Directions) -> None:
    """Take the directions of ordinary text out of the adapter in a slot, as its job asks."""
    share = job.settings.protect_directions
    for path in job.paths:
        a, _ = fleet.weights_at(slot, path, job.saved_r)
        n = _count(share, a.shape[1])
        remove_directions_(a, directions[path][:, :n])


def directions_for(base: Base, jobs: Iterable[Job]) -> dict[bool, Directions]:
    """Return the directions that jobs need, for activated and for always-on adapters.

    They are computed on first use, before a fleet is around the base, and stay with it.
    """
    directions: dict[bool, Directions] = {}
    for activated in (True, False):
        asking = [
            job
            for job in jobs
            if job.settings.protect_directions and job.settings.activated == activated
        ]
        if asking:
            share = max(job.settings.protect_directions for job in asking)
            paths = {path for job in asking for path in job.paths}
            directions[activated] = _ordinary_directions(base, paths, share, activated=activated)
    return directions


def _count(share: float, width: int) -> int:
    return min(round(share * width), _MOST_DIRECTIONS)


def _ordinary_directions(
    base: Base, paths: Iterable[str], share: float, *, activated: bool
) -> Directions:
    """Return the directions for layers, kept with the base for the next call."""
    directions = base.ordinary_directions.setdefault(activated, {})
    missing = [
        path
        for path in paths
        if path not in directions
        or directions[path].shape[1] < _count(share, base.linears[path][1])
    ]
    if missing:
        directions.update(_read_directions(base, missing, share, activated=activated))
    return directions


@torch.no_grad()
def _read_directions(
    base: Base, paths: Sequence[str], share: float, *, activated: bool
) -> dict[str, Tensor]:
    """Read the ordinary texts in one pass; each layer's directions are taken as it runs."""
    prompts = _prompts(base, activated=activated)
    if not prompts:  # a context too short for any of them
        return {path: torch.zeros(base.linears[path][1], 0) for path in paths}
    batch = evaluation_batch(prompts, device=base.device)
    n_columns = batch.input_ids.shape[1]
    columns = torch.arange(n_columns, device=base.device)
    starts = torch.tensor([p.adapter_start for p in prompts], device=base.device)
    ends = torch.tensor([len(ids) for ids in batch.token_ids], device=base.device)
    seen = (columns >= starts[:, None]) & (columns < ends[:, None])  # (R, T)
    directions: dict[str, Tensor] = {}
    last: tuple[Tensor | None, Tensor | None] = (None, None)  # layers in turn share an input

    def recorder(path: str) -> object:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            nonlocal last
            if last[0] is not args[0]:
                inputs = args[0][seen]
                last = args[0], principal_directions(inputs, _count(share, inputs.shape[1]))
            assert last[1] is not None
            directions[path] = last[1]

        return base.model.get_submodule(path).register_forward_pre_hook(hook)

    hooks = [recorder(path) for path in paths]
    try:
        base.logits_at(batch.rows, batch.columns, input_ids=batch.input_ids, use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()  # type: ignore[attr-defined]
    return directions


def _prompts(base: Base, *, activated: bool) -> list[EvaluationPrompt]:
    """Return the ordinary texts that fit, each in one of the forms in which programs render it."""
    prompts, renderings = [], base.chat.renderings
    for number, (question, reply) in enumerate(TEXTS):
        message, rendering = [Message("user", question)], renderings[number % len(renderings)]
        with suppress(DataError):  # a template that takes no such conversation
            prompt = encode_prompt(
                base.chat, message, reply, activated=activated, rendering=rendering
            )
            if len(prompt.prompt_ids) + len(prompt.answer_ids) <= base.max_tokens:
                prompts.append(prompt)
    return prompts
