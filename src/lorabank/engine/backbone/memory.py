"""Free memory of the machine or of a GPU."""

from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch

_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # cgroup v2, v1


def free_bytes(device: torch.device) -> int:
    """Return the memory that can be allocated now, within the limit of the control group."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = int(psutil.virtual_memory().available)
    for name in _LIMITS:
        try:
            limit = int((Path("/sys/fs/cgroup") / name).read_text())
        except (OSError, ValueError):  # no such group, or "max"
            continue
        free = min(free, max(0, limit - int(psutil.Process().memory_info().rss)))
    return free
