"""Us beside plain PEFT, timed. The engine comes first: it settles how torch's threads wait."""

import lorabank.engine  # noqa: F401
