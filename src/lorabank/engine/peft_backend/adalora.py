"""AdaLoRA as PEFT has it: ranks that fall to a mean of `r` while a job trains.

Each layer starts at one and a half times the rank, as PEFT's own defaults have it. After a tenth of
the steps the triples that matter least by PEFT's score are masked, until the last third, in which
the ranks stay. The orthogonality of A and B is asked for by a term of the loss, which PEFT adds to
the model's own loss and which is added here to ours. Needs a fixed number of steps.

Source: arXiv:2303.10512; peft/tuners/adalora/model.py.
"""

from typing import Any

import torch
from torch import Tensor

from lorabank.engine.settings import TrainSettings

VARIANT = "peft:adalora"
_FIRST, _LAST = 0.1, 1 / 3  # shares of the steps before ranks fall, and after


def schedule(settings: TrainSettings, total_steps: int) -> dict[str, Any]:
    """Return the fields of PEFT's configuration that say how ranks fall."""
    last = max(1, round(_LAST * total_steps))
    return {
        "init_r": round(1.5 * settings.r),
        "target_r": settings.r,
        "total_step": max(3, total_steps),
        "tinit": min(round(_FIRST * total_steps), max(0, total_steps - last - 1)),
        "tfinal": last,
    }


def orthogonality(model: Any) -> Tensor:
    """Return the term of the loss that keeps the rows of A and the columns of B orthogonal."""
    config = model.peft_config["default"]
    distances = []
    for name, p in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            gram = p @ p.T if "lora_A" in name else p.T @ p
            distances.append(torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device)))
    term: Tensor = config.orth_reg_weight * torch.stack(distances).mean()
    return term


def allocate(model: Any, step: int) -> None:
    """Mask what matters least after a step; gradients must still be there.

    Args:
        step: number of steps before this one.
    """
    model.base_model.update_and_allocate(step)


def note_ranks(model: Any) -> None:
    """Tell PEFT which triples are left, so that it saves no others."""
    model.peft_config["default"].rank_pattern = {
        name.removeprefix("base_model.model."): (p != 0).view(-1).tolist()
        for name, p in model.named_parameters()
        if "lora_E" in name
    }
