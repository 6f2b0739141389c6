# SPDX-License-Identifier: Apache-2.0
"""Bundles that try to run code, to reach outside their folder or to look like another bundle to another reader.

Each takes an exported bundle and changes it; what would run creates the file `canary`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import pickletools
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper

Change = Callable[[Path, Path], object]  # the bundle's folder and the canary


@dataclass(frozen=True)
class Hostile:
    """`change` makes the bundle hostile; `file` and `reason` must be reported (`reason` is a part of it)."""

    name: str
    file: str
    reason: str
    change: Change
    signed: bool = True  # whether the manifest is written anew, as whoever does this on purpose would


def payload(canary: Path) -> str:
    """Without the word "import", which MONAI's parser treats on its own."""
    return f"open({str(canary)!r}, 'w')"


class Touch:
    """Pickled, it creates the canary when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (payload(self.canary),)


def sign(folder: Path) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and p.name != "manifest.json")
    digests = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    (folder / "manifest.json").write_text(json.dumps({"files": digests}))


def config(content: Callable[[str], dict[str, Any]], *, file: str = "inference.json") -> Change:
    """Adds top-level keys to a configuration; `content` gets the payload."""

    def change(folder: Path, canary: Path) -> None:
        path = folder / "configs" / file
        path.write_text(json.dumps(json.loads(path.read_text()) | content(payload(canary))))

    return change


def text(file: str, content: Callable[[str], str | bytes]) -> Change:
    """Writes a file of the bundle; `content` gets the payload."""

    def change(folder: Path, canary: Path) -> None:
        data = content(payload(canary))
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode())

    return change


def repacked(file: str, edit: Callable[[dict[str, bytes], Path], None]) -> Change:
    """Edits the records of a torch zip, which are named without their folder."""

    def change(folder: Path, canary: Path) -> None:
        with zipfile.ZipFile(folder / file) as archive:
            top = archive.namelist()[0].split("/")[0]
            records = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
        edit(records, canary)
        with zipfile.ZipFile(folder / file, "w") as archive:
            for name, data in records.items():
                archive.writestr(f"{top}/{name}", data)

    return change


def _pickled(records: dict[str, bytes], canary: Path) -> None:
    records["data.pkl"] = pickle.dumps({"weight": Touch(canary)}, protocol=2)


def _tail_pickle(records: dict[str, bytes], canary: Path) -> None:
    records["data.pkl"] += pickle.dumps(Touch(canary), protocol=2)


def _stack_global(records: dict[str, bytes], canary: Path) -> None:
    records["data.pkl"] = pickletools.optimize(pickle.dumps(Touch(canary), protocol=4))


def _saving(records: dict[str, bytes], canary: Path) -> None:
    name = next(name for name in records if name.endswith("basic_unet.py"))
    line = f'    torch.save(x, "{canary}")\n    conv_0 = self.conv_0\n'
    records[name] = records[name].replace(b"    conv_0 = self.conv_0\n", line.encode(), 1)


def _aliased(records: dict[str, bytes], canary: Path) -> None:
    name = next(name for name in records if name.endswith("basic_unet.py"))
    line = f'    _99 = torch.from_file\n    y = _99("{canary}", True, 4)\n    conv_0 = self.conv_0\n'
    records[name] = records[name].replace(b"    conv_0 = self.conv_0\n", line.encode(), 1)


def _line(line: str) -> Callable[[dict[str, bytes], Path], None]:
    """Puts a line into the network's `forward`."""

    def edit(records: dict[str, bytes], canary: Path) -> None:
        name = next(name for name in records if name.endswith("basic_unet.py"))
        records[name] = records[name].replace(
            b"    conv_0 = self.conv_0\n", f"    {line}\n    conv_0 = self.conv_0\n".encode(), 1
        )

    return edit


def _inside_ts(records: dict[str, bytes], canary: Path) -> None:
    records["extra/inference.json"] = json.dumps({"x": f"${payload(canary)}"}).encode()


def _cookie(codec: str, newline: str) -> Callable[[str], str]:
    """Code in what is a comment to whoever reads UTF-8."""
    return lambda run: f"# coding: {codec}\n# {newline}{run}\n"


def _legacy(folder: Path, canary: Path) -> None:
    torch.save({"weight": Touch(canary)}, folder / "models" / "model.pt", _use_new_zipfile_serialization=False)


def _polyglot(folder: Path, canary: Path) -> None:
    file = folder / "models" / "model.pt"  # torch reads the pickle in front, tools for zips the harmless archive behind it
    file.write_bytes(pickle.dumps(Touch(canary), protocol=2) + file.read_bytes())


def _external(folder: Path, canary: Path) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    _onnx(folder, helper.make_node("Identity", ["w"], ["pred"]), [tensor])


def _custom_operator(folder: Path, canary: Path) -> None:
    _onnx(folder, helper.make_node("Run", ["image"], ["pred"], domain="evil.ops"), [])


def _onnx(folder: Path, node: onnx.NodeProto, tensors: list[TensorProto]) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "pred")]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], tensors)
    (folder / "models" / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())


def _link(folder: Path, canary: Path) -> None:
    (folder / "docs" / "data_license.txt").unlink()
    (folder / "docs" / "data_license.txt").symlink_to("/etc/passwd")


def _hard_link(folder: Path, canary: Path) -> None:
    secret = folder.parent / "secret.txt"
    secret.write_text("secret")
    (folder / "LICENSE").unlink()
    os.link(secret, folder / "LICENSE")


def _linked_folder(folder: Path, canary: Path) -> None:
    (folder / "configs" / "more").symlink_to("/etc", target_is_directory=True)


def _pipe(folder: Path, canary: Path) -> None:
    os.mkfifo(folder / "configs" / "multi_gpu_train.json")


def _unlisted(folder: Path, canary: Path) -> None:
    (folder / "configs" / "more.json").write_text("{}")


def _removed(folder: Path, canary: Path) -> None:
    (folder / "docs" / "README.md").unlink()


def _changed(folder: Path, canary: Path) -> None:
    (folder / "docs" / "README.md").write_text("safe")


def _unsigned(folder: Path, canary: Path) -> None:
    (folder / "manifest.json").unlink()


def _aliases(_: str) -> str:
    return "a0: &a0 [x, x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))


def _logging(line: str) -> str:
    name = line.split("=")[0]
    lines = ["class=StreamHandler", "level=INFO", "args=(sys.stdout,)"]
    kept = [old for old in lines if not old.startswith(name)]
    root = "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n[logger_root]\nhandlers=h\n[handler_h]\n"
    return root + "\n".join([*kept, line])


def _key(run: str) -> dict[str, Any]:
    """MONAI makes `@#b` absolute by copying the names of the keys above it into the expression."""
    return {"q": {"b": 1}, f"q and {run} and @q": {"b": 1, "x": "$@#b"}}


SOURCE = "models/model.ts!code/__torch__/monai/networks/nets/basic_unet.py"
RUN = "code that is run"
CALL = "calls what is not on the list"
ARGUMENT = "an argument that"
OTHER = "changes another part of the configuration"
LEAVES = "a path that leaves the bundle"
LOADER = {"_target_": "monai.transforms.LoadImaged", "keys": "image"}
EVIL = {"_target_": "timeit.timeit", "number": 1}  # runs the text `stmt`
SAVER = "monai.handlers.ClassificationSaver"
EVIL_READER = {"reader": "timeit.timeit", "number": 1}

# Name: (reason, content); the tests show that each creates the canary when MONAI resolves it.
LIVE: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "expression": (RUN, lambda run: {"x": f"${run}"}),
    "expression_deep_in_lists": (RUN, lambda run: {"x": [[{"a": ["b", f"${run}"]}]]}),
    "expression_in_a_description": (RUN, lambda run: {"x": {**LOADER, "_desc_": f"${run}"}}),
    "expression_that_disables": (RUN, lambda run: {"x": {**LOADER, "_disabled_": f"${run}"}}),
    "expression_required": (RUN, lambda run: {"x": {**LOADER, "_requires_": [f"${run}"]}}),
    "expression_among_imports": (RUN, lambda run: {"imports": ["$import torch", f"${run}"]}),
    "f_string": (RUN, lambda run: {"x": f'$f"{{{run}}}"'}),
    "lambda": (RUN, lambda run: {"x": f"$(lambda: {run})()"}),
    "comprehension": (RUN, lambda run: {"x": f"$[{run} for torch in [1]]"}),
    "walrus": (RUN, lambda run: {"x": f"$[y := {run}]"}),
    "attributes_of_a_reference": (RUN, lambda run: {"y": 1, "x": f"$@y.__class__.__base__.__subclasses__() and {run}"}),
    "inside_a_plain_list": (RUN, lambda run: {"y": 1, "x": f"$[1, @y, {run}]"}),
    "path_with_a_call": (RUN, lambda run: {"bundle_root": ".", "x": f"$@bundle_root + str({run})"}),
    "call_by_a_known_name": (RUN, lambda run: {"x": f"$bool({run})"}),
    "torch_hub_style": (RUN, lambda run: {"x": f"$torch.serialization.os.path.exists(str({run}))"}),
    "key_copied_into_an_expression": ("copies the names of keys", _key),
    "target": (CALL, lambda run: {"x": {**EVIL, "stmt": run}}),
    "target_in_a_list_in_a_list": (CALL, lambda run: {"x": [[{**EVIL, "stmt": run}]]}),
    "target_by_expression": (RUN, lambda run: {"x": {"_target_": f"$lambda: {run}"}}),
    "target_set_from_elsewhere": (OTHER, lambda run: {"x": {"stmt": run}, "x#_target_": "timeit.timeit", "x#number": 1}),
    "argument_set_from_elsewhere": (
        OTHER,
        lambda run: {"x": {**LOADER, "stmt": run, "number": 1}, "x#reader": "timeit.timeit"},
    ),
    "argument_merged_in": (OTHER, lambda run: {"x": {**LOADER}, "+x": {**EVIL_READER, "stmt": run}}),
    "reader_of_a_known_callable": (ARGUMENT, lambda run: {"x": {**LOADER, **EVIL_READER, "stmt": run}}),
}

# Name: (reason, content); reported in configs/inference.json.
STATIC: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "hub": (CALL, lambda run: {"x": {"_target_": "torch.hub.load", "repo_or_dir": "evil/repo", "model": "m"}}),
    "nested_bundle": (CALL, lambda run: {"x": {"_target_": "monai.bundle.run", "config_file": "other.json"}}),
    "short_name": (CALL, lambda run: {"x": {"_target_": "Compose", "transforms": []}}),
    "code_of_another_package": (CALL, lambda run: {"x": {"_target_": "scripts.Evil"}}),
    "target_that_is_no_text": (CALL, lambda run: {"x": {"_target_": ["os.system"]}}),
    "macro_of_another_file": ("copies in another file", lambda run: {"x": "%/elsewhere/other.json#x"}),
    "mode": (ARGUMENT, lambda run: {"x": {**LOADER, "_mode_": "debug"}}),
    "debugger": (ARGUMENT, lambda run: {"x": {**LOADER, "_debug_": True}}),
    "weights_from_the_net": (ARGUMENT, lambda run: {"x": {"_target_": "timm.create_model", "model_name": "hf-hub:evil/m"}}),
    "target_in_an_expression": (RUN, lambda run: {"x": "$[{'_target_': 'os.system', 'command': 'true'}]"}),
    "import": (RUN, lambda run: {"imports": ["$import os"]}),
    "import_under_a_known_name": (RUN, lambda run: {"imports": ["$import os as torch"]}),
    "import_of_the_bundles_code": (RUN, lambda run: {"imports": ["$from scripts.evil import f"]}),
    "format": (RUN, lambda run: {"x": "$'{0.__class__}'.format(1)"}),
    "long_expression": ("too long", lambda run: {"x": "$" + "-" * 100_000 + "1"}),
    "nested_expression": (RUN, lambda run: {"x": "$" + "(" * 900 + "1" + ")" * 900}),
    "absolute_path": (LEAVES, lambda run: {"output": {"folder": "/etc/cron.d"}}),
    "windows_path": (LEAVES, lambda run: {"output": "C:\\Windows"}),
    "home": (LEAVES, lambda run: {"output": "~/.ssh"}),
    "path_upwards": (LEAVES, lambda run: {"x": ["data/../../secret"]}),
    "path_upwards_in_an_expression": (RUN, lambda run: {"x": "$@bundle_root + '/../x'"}),
    "path_from_an_empty_root": ("not a folder inside", lambda run: {"output_dir": "", "x": "$@output_dir + '/etc'"}),
    "writes_settings": ("not a folder inside", lambda run: {"output_dir": ".ssh"}),
    "writes_settings_deeper": ("not a folder inside", lambda run: {"output_dir": "a/.config"}),
    "writes_what_is_read_at_start": (ARGUMENT, lambda run: {"x": {"_target_": SAVER, "filename": ".env"}}),
    "writes_elsewhere": (ARGUMENT, lambda run: {"x": {"_target_": "monai.handlers.MetricsSaver", "save_dir": "scripts"}}),
    "path_from_a_hidden_root": ("not a folder inside", lambda run: {"y": "", "output_dir": "@y"}),
    "path_below_a_file_not_known": (RUN, lambda run: {"y": "", "x": "$@y + '/etc/passwd'"}),
    "download": ("an address on the net", lambda run: {"x": "https://example.org/x.pt"}),
}

_FILES = [
    Hostile("in_train", TRAIN := "configs/train.json", RUN, config(lambda run: {"x": f"${run}"}, file="train.json")),
    Hostile("in_metadata", "configs/metadata.json", RUN, config(lambda run: {"x": f"${run}"}, file="metadata.json")),
    Hostile(
        "schema", "configs/metadata.json", "on the net", config(lambda run: {"schema": "http://a.b/c"}, file="metadata.json")
    ),
    Hostile("yml", "configs/multi.yml", RUN, text("configs/multi.yml", lambda run: f"a:\n- b: [c, {json.dumps('$' + run)}]\n")),
    Hostile("upper_case", "configs/A.JSON", RUN, text("configs/A.JSON", lambda run: json.dumps({"x": f"${run}"}))),
    Hostile("elsewhere", "docs/x.yaml", RUN, text("docs/x.yaml", lambda run: json.dumps({"x": f"${run}"}))),
    Hostile(
        "yaml_tag",
        "configs/a.yaml",
        "cannot be read",
        text("configs/a.yaml", lambda run: f'a: !!python/object/apply:eval ["{run}"]'),
    ),
    Hostile("yaml_aliases", "configs/a.yaml", "cannot be read", text("configs/a.yaml", _aliases)),
    Hostile("yaml_key_twice", "configs/a.yaml", "occurs twice", text("configs/a.yaml", lambda run: "a: 1\na: 2\n")),
    Hostile("twins", "configs/inference.yaml", "beside", text("configs/inference.yaml", lambda run: "a: 1\n")),
    Hostile("json_key_twice", TRAIN, "occurs twice", text(TRAIN, lambda run: '{"x": 1, "x": "$' + run + '"}')),
    Hostile("json_deep", TRAIN, "cannot be read", text(TRAIN, lambda _: '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}")),
    Hostile("json_huge", TRAIN, "cannot be read", text(TRAIN, lambda _: json.dumps({"x": os.urandom(2**22).hex()}))),
    Hostile("not_utf8", TRAIN, "cannot be read", text(TRAIN, lambda _: b'{"x": "\xff"}')),
    Hostile("utf16", TRAIN, "cannot be read", text(TRAIN, lambda run: json.dumps({"x": f"${run}"}).encode("utf-16"))),
    Hostile("logging_args", LOG := "configs/logging.conf", "is run as code", text(LOG, lambda run: _logging(f"args=({run},)"))),
    Hostile("logging_class", LOG, "is run as code", text(LOG, lambda run: _logging("class=eval"))),
    Hostile("logging_defaults", LOG, "may be run", text(LOG, lambda run: _logging(f"defaults={run}"))),
    Hostile("logging_file", LOG, "is run as code", text(LOG, lambda run: _logging("class=FileHandler"))),
    Hostile("code", "scripts/evil.py", "Python code", text("scripts/evil.py", str)),
    Hostile("code_at_import", "scripts/__init__.py", "Python code", text("scripts/__init__.py", str)),
    Hostile("code_in_utf_7", "scripts/__init__.py", "Python code", text("scripts/__init__.py", _cookie("utf-7", "+AAo-"))),
    Hostile(
        "code_in_escapes", "scripts/__init__.py", "Python code", text("scripts/__init__.py", _cookie("unicode_escape", "\\n"))
    ),
    Hostile("code_that_stands_in", "torch.py", "stand in", text("torch.py", str)),
    Hostile("sitecustomize", "sitecustomize.py", "every start", text("sitecustomize.py", str)),
    Hostile("compiled", C := "scripts/__pycache__/a.cpython-311.pyc", "compiled", text(C, lambda _: b"\0")),
    Hostile("library", "scripts/a.so", "compiled library", text("scripts/a.so", lambda _: b"\x7fELF")),
    Hostile("dot_env", ".env", "MONAI Label", text(".env", lambda _: "MONAI_LABEL_APP_DIR=/evil")),
    Hostile("large_files", "large_files.yml", "download", text("large_files.yml", lambda _: "large_files: []")),
    Hostile("shorter_weights", "models/a.pt", "shortest name", text("models/a.pt", lambda _: b"")),
    Hostile("numpy", "data/a.npy", "may run code", text("data/a.npy", lambda _: b"\x93NUMPY")),
    Hostile("pickle", PT := "models/model.pt!data.pkl", "other than tensors", repacked("models/model.pt", _pickled)),
    Hostile("pickle_4", PT, "other than tensors", repacked("models/model.pt", _stack_global)),
    Hostile("pickle_behind", PT, "follow the end", repacked("models/model.pt", _tail_pickle)),
    Hostile("pickle_of_old", "models/model.pt", "older files", _legacy),
    Hostile("pickle_before_a_zip", "models/model.pt", "older files", _polyglot),
    Hostile("pickle_in_torchscript", "models/model.ts!data.pkl", "other than tensors", repacked("models/model.ts", _pickled)),
    Hostile("torchscript_saves", SOURCE, "an operator", repacked("models/model.ts", _saving)),
    Hostile("torchscript_reads", SOURCE, "an operator", repacked("models/model.ts", _aliased)),
    Hostile("torchscript_method", SOURCE, "an operator", repacked("models/model.ts", _line("y = x._index_put_impl_([], x)"))),
    Hostile("torchscript_getattr", SOURCE, "an operator", repacked("models/model.ts", _line('y = getattr(x, "resize_")([9])'))),
    Hostile("torchscript_result", SOURCE, "an operator", repacked("models/model.ts", _line("y = torch.relu(x).resize_([9])"))),
    Hostile("torchscript_local", SOURCE, "an operator", repacked("models/model.ts", _line("_9 = x.resize_; y = _9([9])"))),
    Hostile(
        "torchscript_library", SOURCE, "an operator", repacked("models/model.ts", _line('y = getattr(__torch__.torch, "x")'))
    ),
    Hostile("torchscript_config", "models/model.ts!extra/inference.json", RUN, repacked("models/model.ts", _inside_ts)),
    Hostile("onnx_external", "models/model.onnx", "another file", _external),
    Hostile("onnx_library", "models/model.onnx", "library", _custom_operator),
    Hostile("onnx_damaged", "models/model.onnx", "no ONNX", text("models/model.onnx", lambda run: run)),
    Hostile("link", "docs/data_license.txt", "symbolic link", _link),
    Hostile("link_to_a_folder", "configs/more", "symbolic link", _linked_folder),
    Hostile("hard_link", "LICENSE", "hard link", _hard_link),
    Hostile("pipe", "configs/multi_gpu_train.json", "pipe", _pipe),
    Hostile("manifest_gone", "manifest.json", "missing", _unsigned, signed=False),
    Hostile("manifest_file_added", "configs/more.json", "not in the manifest", _unlisted, signed=False),
    Hostile("manifest_file_gone", "docs/README.md", "missing", _removed, signed=False),
    Hostile("manifest_file_changed", "docs/README.md", "changed", _changed, signed=False),
    Hostile("manifest_that_is_none", "manifest.json", "no manifest", text("manifest.json", lambda _: "[]"), signed=False),
]
CONFIGS = [
    Hostile(name, "configs/inference.json", reason, config(content)) for name, (reason, content) in (LIVE | STATIC).items()
]
FOLDERS = [*CONFIGS, *_FILES]


def _members(archive: zipfile.ZipFile, folder: Path) -> None:
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        archive.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")


def _special(folder: Path, archive: zipfile.ZipFile, name: str, kind: int, data: str = "/etc/passwd") -> None:
    entry = zipfile.ZipInfo(f"{folder.name}/{name}")
    entry.external_attr = (kind | 0o644) << 16
    archive.writestr(entry, data)


def zipped(folder: Path, file: Path, *, extra: Callable[[zipfile.ZipFile], object] | None = None) -> Path:
    """A zip of a bundle as it is shared, with `extra` entries."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that occur twice
        _members(archive, folder)
        if extra:
            extra(archive)
    return file


def _encrypted(data: bytes) -> bytes:
    """Sets the bit of encryption in the first entry of the directory."""
    at = data.index(b"PK\x01\x02") + 8
    return data[:at] + struct.pack("<H", struct.unpack("<H", data[at : at + 2])[0] | 1) + data[at + 2 :]


def _liar(data: bytes) -> bytes:
    """The directory names the first file otherwise than its own header does."""
    at = data.index(b"PK\x01\x02")
    return data[:at] + data[at:].replace(b"/LICENSE", b"/license", 1)


def _overlapping(data: bytes) -> bytes:
    """The second entry of the directory points at the first one's data."""
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4) + 42
    return data[:second] + b"\0\0\0\0" + data[second + 4 :]


# Name: (file, reason, entries to add, change of the zip's bytes).
Added = Callable[[zipfile.ZipFile, Path], object]
ZIPS: dict[str, tuple[str, str, Added | None, Callable[[bytes], bytes] | None]] = {
    "absolute": ("/etc/evil", "absolute", lambda z, f: z.writestr("/etc/evil", ""), None),
    "upwards": ("../evil", "..", lambda z, f: z.writestr("../evil", ""), None),
    "upwards_inside": ("a/../../../evil", "..", lambda z, f: z.writestr(f"{f.name}/a/../../../evil", ""), None),
    "backslash": ("..\\evil", "..", lambda z, f: z.writestr(f"{f.name}/..\\evil", ""), None),
    "drive": ("C:evil", "absolute", lambda z, f: z.writestr("C:evil", ""), None),
    "twice": ("LICENSE", "occurs twice", lambda z, f: z.writestr(f"{f.name}/LICENSE", "another"), None),
    "case": ("license", "differs only in case", lambda z, f: z.writestr(f"{f.name}/license", ""), None),
    "file_and_folder": ("LICENSE/x", "which is a file", lambda z, f: z.writestr(f"{f.name}/LICENSE/x", ""), None),
    "control": ("a\x1b[2J", "read differently", lambda z, f: z.writestr(f"{f.name}/a\x1b[2J", ""), None),
    "link": ("configs/l", "symbolic link", lambda z, f: _special(f, z, "configs/l", stat.S_IFLNK), None),
    "device": ("configs/d", "a device", lambda z, f: _special(f, z, "configs/d", stat.S_IFCHR), None),
    "bomb": ("docs/bomb.txt", "oversized", lambda z, f: z.writestr(f"{f.name}/docs/bomb.txt", bytes(2**25)), None),
    "many": ("(zip)", "more than", lambda z, f: [z.writestr(f"{f.name}/{i}", "") for i in range(5000)], None),
    "encrypted": ("LICENSE", "encrypted", None, _encrypted),
    "two_names": ("license", "cannot be read", None, _liar),
    "overlapping": ("(zip)", "overlap", None, _overlapping),
    "bytes_before": ("(zip)", "before the first", None, lambda data: b"#!/bin/sh\n" + data),
    "bytes_behind": ("(zip)", "follow the end", None, lambda data: data + b"\0" * 8),
}
