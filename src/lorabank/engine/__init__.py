"""The only part of lorabank that touches transformers and PEFT.

How OpenMP waits is settled here, because it has to be before torch is first imported.
"""

from lorabank.engine.backbone import threads

threads.choose_openmp_wait_policy()
