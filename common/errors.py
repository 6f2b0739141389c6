# SPDX-License-Identifier: Apache-2.0
"""One clear line at the end of a failed command, below MONAI's traceback of configuration expressions."""

from __future__ import annotations

import sys
from types import TracebackType

__all__ = ["plain_errors"]


def plain_errors() -> None:
    """After an uncaught exception, print its root cause as the last line of stderr (`error: ...`).

    MONAI evaluates configurations in nested expressions and wraps what they raise, so that the cause is in the middle of the output.
    """
    original = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        original(kind, error, trace)
        cause = error
        while isinstance(cause, RuntimeError) and cause.__cause__ is not None:
            cause = cause.__cause__
        if not isinstance(cause, KeyboardInterrupt):
            print(f"error: {cause}", file=sys.stderr)

    sys.excepthook = hook
