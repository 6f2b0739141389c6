# SPDX-License-Identifier: Apache-2.0
"""What every bundle has beside its configurations: metadata, README, logging."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .data.facts import Facts

__all__ = ["LOGGING", "metadata", "readme"]


def metadata(bundle: str, summary: str, facts: Facts, *, packages: Sequence[str], side: int | None = None) -> dict[str, Any]:
    """metadata.json of a bundle; `packages` are those its configurations import beside monai, torch and numpy.

    `side`: pixels a side of the images that its network takes, where it takes no others.
    """
    names = list(facts.classes) if facts.classification else ["background", *facts.classes]
    channels = {str(index): name for index, name in enumerate(names)}
    least = 32 if facts.classification else 16  # pixels that a network's deepest level stands for
    tensor = {
        "type": "image",
        "modality": "n/a",
        "spatial_shape": [side or f"{least}*n"] * 2,
        "dtype": "float32",
        "is_patch_data": False,
    }
    output = tensor | {"format": "segmentation"}
    if facts.classification:
        output |= {"type": "probabilities", "format": "labels", "spatial_shape": [1]}
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "0.1.0",
        "changelog": {"0.1.0": "first version"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {p: version(p) for p in packages},
        "supported_apps": {},
        "name": bundle,
        "task": facts.task,
        "description": summary,
        "authors": "Medistill",
        "copyright": "Medistill contributors, Apache-2.0",
        "data_source": facts.name,
        "data_type": "nifti" if facts.dims == 3 or not facts.classification else "png or jpeg",
        "image_classes": "one channel, intensities in [0, 1]",
        "label_classes": ", ".join(f"{i}: {name}" for i, name in channels.items()),
        "pred_classes": ", ".join(f"{i}: {name}" for i, name in channels.items()),
        "intended_use": "research; not for diagnosis",
        "network_data_format": {
            "inputs": {"image": tensor | {"format": "magnitude", "num_channels": 1, "value_range": [0, 1]}
                       | {"channel_def": {"0": "image"}}},
            "outputs": {"pred": output | {"num_channels": facts.out_channels, "value_range": [0, 1], "channel_def": channels}},
        },
    }  # fmt: skip


def readme(bundle: str, summary: str, root: Path) -> str:
    lines = [
        f"# {bundle}",
        "",
        summary,
        "",
        "Run from the repository's root; every key at the top of a file can be overridden.",
        "",
    ]
    runs = [(path.stem, path.read_text().splitlines()[:2]) for path in sorted((root / "configs").glob("*.yaml"))]
    for stem, (what, command) in runs:
        lines += [
            f"- `{stem}.yaml`: {what.removeprefix('# ').split(': ', 1)[1]}",
            "",
            f"      {command.removeprefix('# ')}",
            "",
        ]
    return "\n".join(lines)


LOGGING = """[loggers]
keys=root

[handlers]
keys=consoleHandler

[formatters]
keys=fullFormatter

[logger_root]
level=INFO
handlers=consoleHandler

[handler_consoleHandler]
class=StreamHandler
level=INFO
formatter=fullFormatter
args=(sys.stdout,)

[formatter_fullFormatter]
format=%(asctime)s - %(name)s - %(levelname)s - %(message)s
"""
