# SPDX-License-Identifier: Apache-2.0
"""The configuration of the running bundle, checked before anything is read."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

__all__ = ["live_config"]

# Checked before anything is read: least values of whole numbers, and choices.
LEAST = {"seed": 0, "image_size": 16, "batch_size": 1, "epoch_length": 1, "max_epochs": 1, "workers": 0}
WORDS = {"true": "True", "false": "False", "null": "None"}  # the command line takes Python's, not YAML's
CHOICES: dict[str, tuple[Any, ...]] = {"architecture": ("UNet", "TransResUNet"), "r": (0, 1), "pairing": ("early", "late")}


def live_config() -> dict[str, Any]:
    """The configuration being run, overrides included, after a check of its keys, its words, `LEAST` and `CHOICES`.

    MONAI hands expressions the parsed values only and takes any override silently, so the parser is found among the callers.
    Known are the keys of the bundle's own files, of the overlays and of all recipes (one study's settings go to every stage).
    """
    parsers = [f.frame.f_locals.get("self") for f in inspect.stack(context=0)]
    parser = next((p for p in reversed(parsers) if isinstance(p, ConfigParser)), None)
    if parser is None:
        raise RuntimeError("live_config is called by a bundle's `initialize`, under monai.bundle.run.")
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    recipes = Path(__file__).with_name("recipes").glob("*.yaml")
    files = [*(Path(config["bundle_root"]) / "configs").glob("*.yaml"), *Path("bundles").glob("multi_gpu*.yaml"), *recipes]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # every run pays for it
    tracking: Any = DEFAULT_EXP_MGMT_SETTINGS["mlflow"]["configs"]  # keys that `--tracking` adds
    _check_keys(config, [tracking, *(yaml.load(file.read_text(), Loader=loader) for file in files)])
    _check_words(config)
    if "train" in config and not _computed(config.get("dataset_dir", "$")):
        raise ValueError("dataset_dir: a dataset lies in data_dir/<its name>; give data_dir, the folder of all datasets.")
    for key, least in LEAST.items():
        value = config.get(key, least)
        if not _computed(value) and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{key}: {value!r}; give a whole number of at least {least}.")
    tables = {"architecture": "networks", "target": "by_target"}
    own = {key: tuple(config[table]) for key, table in tables.items() if table in config}
    for key, choices in (CHOICES | own).items():
        if key in config and config[key] not in choices and not _computed(config[key]):
            raise ValueError(f"{key}: {config[key]!r}; choose {' or '.join(map(str, choices))}.")
    return config


def _computed(value: Any) -> bool:
    return isinstance(value, str) and value[:1] in ("$", "@")


def _check_words(config: Any, place: str = "") -> None:
    """Refuse `--upright false`: it arrives as a text, and every text is true."""
    items = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in items:
        if isinstance(value, dict | list):
            _check_words(value, f"{place}{key}::")
        elif isinstance(config, dict) and isinstance(value, str) and value in WORDS:
            raise ValueError(f"{place}{key}: {value!r} is a text here; write {WORDS[value]}.")


def _check_keys(config: Mapping[str, Any], known: Sequence[Mapping[str, Any]], place: str = "") -> None:
    """Refuse a key that is in no known file at this place and is no argument of the component here."""
    choices = {key for tree in known for key in tree}
    try:
        target = inspect.signature(locate(config["_target_"])).parameters if "_target_" in config else {}  # type: ignore[arg-type]
    except (TypeError, ValueError):  # no such callable, which MONAI says, or one without a signature
        return
    if any(p.kind is p.VAR_KEYWORD for p in target.values()):
        return
    for key in sorted(set(config) - choices - set(target)):
        if not key.startswith("_"):
            close = difflib.get_close_matches(key, choices | set(target), n=1)
            advice = f"did you mean {place + close[0]!r}?" if close else "leave it out."
            raise ValueError(f"unknown configuration key {place + key!r}; {advice}")
    for key, value in config.items():
        inner = value if isinstance(value, list) else [value]
        given = [tree[key] for tree in known if key in tree]
        component = bool(given) and all(isinstance(part, dict) and "_target_" in part for part in given)
        if component and isinstance(value, str) and not _computed(value):  # what the command line makes of unquoted names
            form = f"""--{place}{key} '{{"_target_": "module.Name", "argument": "@key"}}'"""
            raise ValueError(f"{place}{key}: {value!r} is a text, a component is expected; quote each name: {form}.")
        for number, part in enumerate(inner):
            # a mapping inside a component is an argument, free of form
            if isinstance(part, dict) and ("_target_" in part or not place):
                trees = [tree[key] for tree in known if isinstance(tree.get(key), dict)]
                _check_keys(part, trees, f"{place}{key}::" + (f"{number}::" if inner is value else ""))
