# SPDX-License-Identifier: Apache-2.0
"""The files of a bundle, in a folder or a zip, read within limits and without writing anything."""

from __future__ import annotations

import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

__all__ = ["READ_ERRORS", "Finding", "Tree", "name_flaw", "read_folder", "read_zip"]

GIB = 2**30
MAX_FILES = 4096
MAX_FILE = 2 * GIB
MAX_TOTAL = 4 * GIB
RATIO, RATIO_FROM = 100, 4 * 2**20  # weights hardly shrink; a file above RATIO_FROM bytes that does is a bomb
READ_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, ValueError, NotImplementedError)


@dataclass(frozen=True, order=True)
class Finding:
    """Something to read before a bundle is used: in which `file`, why, and the `text` itself."""

    file: str
    reason: str
    text: str = ""


@dataclass
class Tree:
    """Names that can be read, how, and what is wrong with the container itself."""

    read: Callable[[str], bytes]
    names: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def name_flaw(name: str) -> str | None:
    """Why a path, as a bundle or a zip spells it, may not mean a file inside the bundle on every system."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "a path with .. leaves the bundle"
    if "\\" in name or ":" in name or not name.isprintable() or any(part != part.rstrip(". ") for part in name.split("/")):
        return "a name that systems read differently"
    return None


def _clashes(names: list[str]) -> list[Finding]:
    seen: dict[str, str] = {}
    out = []
    for name in names:
        key = unicodedata.normalize("NFKC", name).casefold()
        if key in seen:
            same = seen[key] == name
            reason = "the name occurs twice" if same else f"differs only in case or spelling from {seen[key]}"
            out.append(Finding(name, f"{reason}: which one is used depends on the reader"))
        seen[key] = name
    for key, name in seen.items():
        parents = [key[:i] for i, letter in enumerate(key) if letter == "/"]
        out += [Finding(name, f"lies below {seen[p]}, which is a file") for p in parents if p in seen]
    return out


def _size_flaw(size: int, total: int, packed: int | None) -> str | None:
    if size > MAX_FILE:
        return f"oversized: {size} bytes; more than {MAX_FILE} are not read"
    if total > MAX_TOTAL:
        return f"the bundle is oversized: more than {MAX_TOTAL} bytes are not read"
    if packed is not None and size > RATIO_FROM and size > RATIO * packed:
        return f"oversized: {packed} bytes unpack to {size}; not read"
    return None


def read_folder(folder: Path) -> Tree:
    """The files of a folder; links and whatever is no plain file are reported and never opened."""
    tree = Tree(lambda name: _read_plain(folder / name))
    total, count, waiting = 0, 0, [folder]
    while waiting:
        for entry in sorted(os.scandir(waiting.pop()), key=lambda e: e.name):
            name = Path(entry.path).relative_to(folder).as_posix()
            info = entry.stat(follow_symlinks=False)
            count += 1
            flaw = f"more than {MAX_FILES} files; the rest was not read" if count > MAX_FILES else _kind_flaw(info)
            if flaw is None and stat.S_ISDIR(info.st_mode):
                waiting.append(Path(entry.path))
                continue
            total += info.st_size
            flaw = flaw or name_flaw(name) or _size_flaw(info.st_size, total, None)
            if flaw:
                tree.findings.append(Finding(name, flaw))
            else:
                tree.names.append(name)
            if count > MAX_FILES:
                return tree
    tree.findings += _clashes(tree.names)
    return tree


def _kind_flaw(info: os.stat_result) -> str | None:
    if stat.S_ISLNK(info.st_mode):
        return "a symbolic link, to a file that may lie anywhere"
    if stat.S_ISREG(info.st_mode):
        return "a hard link: the same file lies under another name as well" if info.st_nlink > 1 else None
    return None if stat.S_ISDIR(info.st_mode) else "a device, pipe or socket"


def _read_plain(file: Path) -> bytes:
    """Read without following a link that was put there meanwhile, and without waiting for a pipe."""
    # Windows has neither of the two, and a mode of text that would change what is hashed.
    flags = [getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")]
    with os.fdopen(os.open(file, os.O_RDONLY | sum(flags)), "rb") as stream:
        data = stream.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError("it grew while it was read")
    return data


def read_zip(stream: IO[bytes]) -> Tree:
    """The files of a zip, read in memory; names are relative to its only top folder, if there is one.

    Raises:
        BadZipFile, OSError: it is no zip or its directory is damaged.
    """
    tail = _tail(stream)
    if tail[:4] == b"PK\x05\x06" and struct.unpack("<H", tail[10:12])[0] > MAX_FILES:
        return Tree(_nothing, findings=[Finding("(zip)", f"more than {MAX_FILES} files; none was read")])
    archive = zipfile.ZipFile(stream)
    entries = archive.infolist()[:MAX_FILES]
    tree = Tree(lambda name: _unpack(archive, inside[name]))
    tree.findings += [Finding("(zip)", flaw) for flaw in _layout_flaws(tail, archive)]
    tops = {entry.filename.split("/")[0] for entry in entries}
    top = f"{tops.pop()}/" if len(tops) == 1 and all("/" in e.filename for e in entries) else ""
    top = "" if top in ("configs/", "models/", "docs/", "scripts/") or name_flaw(top.rstrip("/")) else top
    inside: dict[str, zipfile.ZipInfo] = {}
    total, names = 0, []
    for entry in entries:
        name = entry.filename.removeprefix(top)
        total += entry.file_size
        flaw = _entry_flaw(entry) or _size_flaw(entry.file_size, total, entry.compress_size)
        if flaw:
            tree.findings.append(Finding(name or entry.filename, flaw))
        elif not entry.is_dir():
            names.append(name)
            inside[name] = entry
    tree.findings += _clashes(names)
    tree.names = list(inside)
    return tree


def _entry_flaw(entry: zipfile.ZipInfo) -> str | None:
    mode = entry.external_attr >> 16
    if entry.orig_filename.rstrip("/") != entry.filename.rstrip("/"):
        return "a name that systems read differently"
    if stat.S_ISLNK(mode):
        return "a symbolic link, to a file that may lie anywhere"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a device, pipe or socket"
    if entry.flag_bits & 0x41:
        return "encrypted: it cannot be read here"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "packed in an unusual way: it is not read here"
    if entry.is_dir() and entry.file_size:
        return "a folder with content of its own"
    return name_flaw(entry.filename.rstrip("/"))


def _tail(stream: IO[bytes]) -> bytes:
    """The last 22 bytes: the end record of a zip without a comment."""
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - 22))
    return stream.read(22)


def _nothing(name: str) -> bytes:
    raise FileNotFoundError(name)


def _layout_flaws(tail: bytes, archive: zipfile.ZipFile) -> list[str]:
    """Where readers of zips may see different files: several directories, entries over one another, bytes around."""
    out = []
    if len(archive.infolist()) > MAX_FILES:
        out.append(f"more than {MAX_FILES} files; the rest was not read")
    if tail[:4] != b"PK\x05\x06" or tail[20:] != b"\0\0":
        out.append("bytes follow the end of the zip: other readers may see other files")
    elif struct.unpack("<L", tail[16:20])[0] not in (archive.start_dir, 0xFFFFFFFF):
        out.append("the zip has two directories: other readers may see other files")
    end = 0
    for entry in sorted(archive.infolist(), key=lambda e: e.header_offset):
        if entry.header_offset < end or (end == 0 and entry.header_offset):
            out.append("entries of the zip overlap, or bytes come before the first")
            break
        end = entry.header_offset + 30 + len(entry.filename) + entry.compress_size
    return out if end <= archive.start_dir else [*out, "entries of the zip overlap its directory"]


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as member:
        return member.read(MAX_FILE)  # zipfile gives no more than the size that was checked, and compares the CRC
