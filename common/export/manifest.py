# SPDX-License-Identifier: Apache-2.0
"""The list of a bundle's files with their SHA-256, by which a receiver sees what was changed, lost or slipped in."""

from __future__ import annotations

from pathlib import Path

from ..handlers import digest

__all__ = ["NAME", "manifest"]

NAME = "manifest.json"


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    """`{"files": {relative POSIX path: SHA-256}}` of every file of `folder` but the manifest itself, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {"files": {f.relative_to(folder).as_posix(): digest(f) for f in files if f != folder / NAME}}
