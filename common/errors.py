# SPDX-License-Identifier: Apache-2.0
"""What a failed command says: one clear line, below MONAI's traceback of configuration expressions."""

from __future__ import annotations

import sys
from types import TracebackType

__all__ = ["brief", "plain_errors", "root_cause"]


def root_cause(error: BaseException) -> BaseException:
    """What was raised: MONAI evaluates configurations in nested expressions and wraps errors in RuntimeErrors."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def brief(error: BaseException) -> str:
    """Type and first sentence of an error's root cause, in one line, for a message of ours about a file."""
    cause = root_cause(error)
    text = " ".join(str(cause).split()).split(". ")[0].rstrip(".")
    return f"{type(cause).__name__}: {text[:200]}" if text else type(cause).__name__


def plain_errors() -> None:
    """After an uncaught exception, print its root cause as the last line of stderr (`error: ...`)."""
    original = sys.excepthook
    if getattr(original, "plain", False):  # a second bundle in one process
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        original(kind, error, trace)
        cause = root_cause(error)
        if isinstance(cause, KeyboardInterrupt):
            return
        ours = isinstance(cause, ValueError | OSError) and str(cause)
        print(f"error: {'' if ours else type(cause).__name__ + ': '}{' '.join(str(cause).split())}", file=sys.stderr)

    hook.plain = True  # type: ignore[attr-defined]
    sys.excepthook = hook
