# SPDX-License-Identifier: Apache-2.0
"""Goes through a bundle file by file. Nothing of it is imported, evaluated, unpickled or written to disk."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from .archives import check_archive
from .configs import check_config, check_logging
from .known import FILES
from .onnx_file import check_onnx
from .tree import READ_ERRORS, Finding, Tree, read_folder, read_zip

__all__ = ["Finding", "inspect_bundle"]

NETWORKS = Path(__file__).parents[1] / "networks"
MANIFEST = "manifest.json"
CONFIG = re.compile(r".*\.(json|yaml|yml)", re.IGNORECASE)
SCRIPT = re.compile(r"scripts/\w+\.py")
WEIGHTS = re.compile(r".*\.(pt|pth|ts|ckpt)", re.IGNORECASE)
ODD = [  # why a file that no exported bundle has matters, by its name
    (r"(.*/)?\.env", "MONAI Label takes its settings from a file of this name in the folder where it is started"),
    (r"(.*/)?__pycache__/.*|.*\.py[co]", "compiled Python, which is imported in place of its source"),
    (r".*\.(so|pyd|dll|dylib)(\.\d+)*", "a compiled library"),
    (r"(.*/)?(site|user)customize\.py", "Python runs it at every start when its folder is on the path"),
    (r".*\.pyw?", "Python code outside scripts/; it can also stand in for an installed package of that name"),
    (r"(.*/)?models/.*\.(pt|ts)", "more weights: MONAI Label serves the .pt with the shortest name"),
    (r".*\.(pth|pkl|pickle|joblib|np[yz]|ckpt|bin)", "a kind of file whose loading may run code"),
    (r"large_files\.(json|ya?ml)", "a list of files that clients download"),
    (r".*\.(zip|tar|t?gz|whl|egg|jar)", "an archive, not looked into"),
]


def inspect_bundle(path: str | Path) -> list[Finding]:
    """What has to be read before the bundle at `path`, a folder or a zip, is used; sorted by file.

    An empty list says that nothing unknown was found, not that the bundle does what it says: a manifest shows accidents and
    careless changes, whoever changes a file on purpose can change it too.

    Raises:
        FileNotFoundError, ValueError, OSError: `path` is missing, neither a folder nor a zip, or damaged.
    """
    place = Path(path)
    if place.is_dir():
        return _inspect(read_folder(place))
    if not place.is_file():
        raise FileNotFoundError(f"{place} does not exist; give the folder or the zip of a bundle.")
    with place.open("rb") as stream:
        try:
            tree = read_zip(stream)
        except READ_ERRORS as error:
            raise ValueError(f"{place} is neither a folder nor a zip that can be read ({error}).") from error
        return _inspect(tree)


def _inspect(tree: Tree) -> list[Finding]:
    if not tree.names and not tree.findings:
        raise ValueError("the bundle is empty; give the folder or the zip of a bundle.")
    out = list(tree.findings)
    digests: dict[str, str] = {}

    def read(name: str) -> bytes | None:
        try:
            data = tree.read(name)
        except READ_ERRORS as error:
            out.append(Finding(name, "cannot be read", str(error)))
            return None
        digests[name] = hashlib.sha256(data).hexdigest()
        return data

    code = {name: read(name) or b"" for name in tree.names if SCRIPT.fullmatch(name)}
    carried, unknown = _scripts(code)
    out += unknown
    listed = None
    for name in sorted(set(tree.names) - set(code)):
        data = read(name)
        if data is not None:
            out += _file(name, data, carried)
            listed = data if name == MANIFEST else listed
    out += _manifest(listed, digests)
    stems = [name for name in tree.names if FILES.fullmatch(name) and CONFIG.fullmatch(name)]
    for name in stems:
        twin = [other for other in stems if other > name and Path(other).with_suffix("") == Path(name).with_suffix("")]
        out += [Finding(other, f"beside {name}: clients differ in which of the two they read") for other in twin]
    return sorted(set(out))


def _file(name: str, data: bytes, carried: frozenset[str]) -> list[Finding]:
    """Findings of one file that is no code of the bundle."""
    out = []
    if not FILES.fullmatch(name):
        why = next((reason for pattern, reason in ODD if re.fullmatch(pattern, name, re.IGNORECASE)), None)
        hidden = any(part.startswith(".") for part in name.split("/"))
        out.append(Finding(name, why or ("a hidden file" if hidden else "a file that no exported bundle has")))
    if CONFIG.fullmatch(name):
        out += [Finding(name, *found) for found in check_config(name, data, carried=carried)]
    elif WEIGHTS.fullmatch(name):
        out += check_archive(name, data, carried=carried)
    elif name.lower().endswith((".conf", ".ini", ".cfg")):
        out += [Finding(name, *found) for found in check_logging(data)]
    elif name.lower().endswith(".onnx"):
        out += [Finding(name, *found) for found in check_onnx(data)]
    return out


def _scripts(files: dict[str, bytes]) -> tuple[frozenset[str], list[Finding]]:
    """Classes of the bundle's own code that targets may name, and the files that are not those of this installation.

    A module is known if it is byte for byte the one of the same name in common/networks; `scripts/__init__.py` if it only
    imports classes from such modules.
    """
    code = {Path(name).stem: data for name, data in files.items()}
    odd = []
    for stem, data in code.items():
        ours = NETWORKS / f"{stem}.py"
        if stem != "__init__" and not (ours.is_file() and ours.read_bytes() == data):
            odd.append(stem)
    known = {stem: data for stem, data in code.items() if stem not in (*odd, "__init__")}
    classes = _exports(code.get("__init__", b""), known)
    if "__init__" in code and classes is None:
        odd.append("__init__")
    reason = "Python code that this installation does not have: read it, importing it runs it"
    findings = [Finding(f"scripts/{stem}.py", reason) for stem in odd]
    return frozenset() if odd or not classes else frozenset(f"scripts.{name}" for name in classes), findings


def _exports(data: bytes, modules: dict[str, bytes]) -> list[str] | None:
    """The classes that `scripts/__init__.py` imports from modules that define them; None if it does anything else.

    Comments are one exact kind: `# coding: utf-7` makes Python read code in what looks like a comment.
    """
    names = []
    for line in data.decode("utf-8", "replace").splitlines():
        found = re.fullmatch(r"from \.(\w+) import ([A-Z]\w*)", line)
        if found and re.search(rf"^class {found[2]}\b".encode(), modules.get(found[1], b""), re.MULTILINE):
            names.append(found[2])
        elif not re.fullmatch(r'(# SPDX-License-Identifier: Apache-2\.0)?|"""[ \w.,-]*"""|__all__ = \[("\w+"(, )?)*\]', line):
            return None
    return names


def _manifest(data: bytes | None, digests: dict[str, str]) -> list[Finding]:
    if data is None:
        return [Finding(MANIFEST, "missing: nothing says which files belong to the bundle")]
    try:
        content = json.loads(data)
        listed = content["files"]
        if set(content) != {"files"} or not all(isinstance(part, str) for pair in listed.items() for part in pair):
            raise ValueError("it should hold files and their digests only")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return [Finding(MANIFEST, "no manifest of a bundle", str(error))]
    out = [Finding(name, "not in the manifest") for name in digests if name not in listed and name != MANIFEST]
    for name, digest in listed.items():
        if name == MANIFEST:
            out.append(Finding(name, "the manifest lists itself"))
        elif name not in digests:
            out.append(Finding(name, "in the manifest, and missing"))
        elif digests[name] != digest:
            out.append(Finding(name, "changed since the manifest was written"))
    return out
