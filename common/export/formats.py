# SPDX-License-Identifier: Apache-2.0
"""One network in three formats that give the same output: state dict, TorchScript, ONNX."""

from __future__ import annotations

import ast
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import save_net_with_metadata
from torch import nn

from .. import networks
from ..errors import brief
from ..networks import FeatureNet

__all__ = ["bundled_code", "carry", "check_agreement", "network_def", "write_onnx", "write_torchscript"]

TOLERANCE = 1e-4  # of logits, between the formats
OWN = networks.__name__ + "."  # prefix of the classes that a bundle must carry


def network_def(network: FeatureNet) -> dict[str, Any]:
    """The component that builds `network` in a bundle: the stock class where there is one, else ours under `scripts.`."""
    return network.stock or _renamed(network.spec)


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _renamed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    return value.replace(OWN, "scripts.", 1) if isinstance(value, str) and value.startswith(OWN) else value


def carry(network: FeatureNet, folder: Path) -> None:
    """Copy the modules that `network_def` names, and what they import, into `<folder>/scripts`; none for a stock class."""
    if network.stock:
        return
    classes = sorted(_classes(network_def(network)))
    modules = {name: Path(str(import_module(getattr(networks, name).__module__).__file__)) for name in classes}
    target = folder / "scripts"
    target.mkdir()
    waiting = list(modules.values())
    while waiting:
        file = waiting.pop()
        if (target / file.name).exists():
            continue
        shutil.copyfile(file, target / file.name)
        tree = ast.walk(ast.parse(file.read_text()))
        imports = [node for node in tree if isinstance(node, ast.ImportFrom) and node.level]
        outside = [node for node in imports if node.level > 1 or not node.module]
        if outside:
            raise ValueError(f"{file}, line {outside[0].lineno}: a network's module may import its neighbours only.")
        waiting += [file.with_name(f"{node.module}.py") for node in imports]
    lines = ["# SPDX-License-Identifier: Apache-2.0", '"""The network of this bundle."""', ""]
    lines += [f"from .{modules[name].stem} import {name}" for name in classes]
    (target / "__init__.py").write_text("\n".join(lines) + f"\n\n__all__ = {classes}\n".replace("'", '"'))


def _classes(spec: Any) -> set[str]:
    if isinstance(spec, list):
        return {name for item in spec for name in _classes(item)}
    if not isinstance(spec, Mapping):
        return set()
    own = spec["_target_"].removeprefix("scripts.") if str(spec.get("_target_", "")).startswith("scripts.") else None
    return ({own} if own else set()) | {name for item in spec.values() for name in _classes(item)}


@contextmanager
def bundled_code(folder: Path) -> Iterator[None]:
    """Import `scripts` from a bundle's folder, whatever was imported under that name before (as MONAI Label does)."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "scripts"}
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
            del sys.modules[name]
        sys.modules.update(before)


def build(definition: Mapping[str, Any], weights: Path) -> nn.Module:
    """The bundle's network with the weights of its model.pt, in eval mode."""
    network = ConfigParser({"network_def": dict(definition)}).get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    return network.eval()


def write_torchscript(network: nn.Module, file: Path, metadata: Mapping[str, Any], inference: str) -> None:
    """Script `network` into `file` with metadata and the inference configuration inside, as MONAI's `ckpt_export` lays them.

    The archive's folder is named after the file, which MONAI Deploy relies on: a renamed file is not read. Records of source
    positions are left out, they hold paths of this machine.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated by torch and demanded by MONAI's clients
        try:
            scripted = torch.jit.script(network)
        except Exception as error:  # torch has several types, none public
            raise ValueError(f"{type(network).__name__} cannot be scripted ({brief(error)}); nothing was exported.") from error
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / file.name
        save_net_with_metadata(
            scripted, str(whole), include_config_vals=False, append_timestamp=False, meta_values=dict(metadata),
            more_extra_files={"inference.json": inference.encode()},
        )  # fmt: skip
        reader = torch._C.PyTorchFileReader(str(whole))
        writer = torch._C.PyTorchFileWriter(str(file))
        for name in reader.get_all_records():
            if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
                record = reader.get_record(name)
                writer.write_record(name, record, len(record))
        writer.write_end_of_file()


def write_onnx(network: nn.Module, file: Path, image: torch.Tensor) -> None:
    """Export for images of `image`'s size and any batch size, input `image`, output `pred`; without positions in source files.

    Raises:
        ModuleNotFoundError: onnxscript is not installed.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                network, (image.repeat(2, 1, 1, 1),), dynamo=True, verbose=False, input_names=["image"], output_names=["pred"],
                dynamic_shapes=({0: batch},),
            )  # fmt: skip
        except ModuleNotFoundError:
            raise
        except Exception as error:  # torch has several types
            name = type(network).__name__
            raise ValueError(f"{name} cannot be exported to ONNX ({brief(error)}); nothing was exported.") from error
    assert program is not None
    model: Any = program.model_proto
    graphs = [model.graph, *model.functions]
    for part in [model, *graphs, *(node for graph in graphs for node in graph.node), *model.graph.value_info]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    file.write_bytes(model.SerializeToString())


def check_agreement(network: nn.Module, folder: Path, image: torch.Tensor) -> float:
    """Largest difference of the logits of a bundle's three formats and of the run's network, on one image `(1, 1, H, W)`.

    Raises:
        ValueError: a format cannot be run, or differs by more than 1e-4; names it.
    """
    import onnxruntime

    models = folder / "models"
    worst = 0.0
    with torch.no_grad():
        truth = network(image)
        for name in ("model.pt", "model.ts", "model.onnx"):
            try:
                if name == "model.pt":
                    definition = ConfigParser.load_config_file(str(folder / "configs" / "inference.json"))["network_def"]
                    output = build(definition, models / name)(image)
                elif name == "model.ts":
                    output = torch.jit.load(str(models / name), map_location="cpu")(image)
                else:
                    session = onnxruntime.InferenceSession(str(models / name), providers=["CPUExecutionProvider"])
                    output = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
            except Exception as error:  # each runtime raises types of its own
                raise ValueError(f"models/{name} cannot be run ({brief(error)}); nothing was exported.") from error
            gap = float((output - truth).abs().max())
            if not gap <= TOLERANCE:  # also a NaN
                raise ValueError(f"models/{name} differs from the run by {gap:.2g} on a test slice; nothing was exported.")
            worst = max(worst, gap)
    return worst
