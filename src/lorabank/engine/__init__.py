"""The part of lorabank that uses torch, transformers and PEFT.

Two things are set here, before those libraries are first imported. OpenMP's threads get their wait
policy. And bitsandbytes, which PEFT imports where it is installed, is kept from warning on import
that it found no kernel for CPUs, which lorabank does not use; its other messages are unchanged.
"""

import logging

from lorabank.engine.backbone import threads


def _is_wanted(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")


threads.choose_openmp_wait_policy()
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_wanted)
