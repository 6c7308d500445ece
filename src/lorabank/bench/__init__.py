"""Timed comparisons with plain PEFT, with our own engine and with `model.generate`.

The engine is imported first, because it has to choose how threads wait before torch is imported.
"""

import lorabank.engine  # noqa: F401
