# SPDX-License-Identifier: Apache-2.0
"""The list of a bundle's files with their SHA-256, by which a receiver sees what was changed, lost or slipped in."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["NAME", "digest", "manifest"]

NAME = "manifest.json"


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    """`{"files": {relative POSIX path: SHA-256}}` of every file of `folder` but the manifest itself, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {"files": {f.relative_to(folder).as_posix(): digest(f) for f in files if f != folder / NAME}}
