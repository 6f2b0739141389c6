# SPDX-License-Identifier: Apache-2.0
"""What a bundle says of itself: metadata, README by the model zoo's template, the licences of the data."""

from __future__ import annotations

import math
from typing import Any

from ..bundle_card import metadata
from ..networks import ViT
from .source import Source

__all__ = ["data_licence", "description", "full_metadata", "readme"]

INTENDED = "Research, and drafts that a trained person checks. Not a medical device; not for diagnosis or treatment."
# What the configurations import beside monai, torch and numpy.
RUNNING = ("pytorch-ignite", "nibabel", "fire", "tqdm")  # the command line and its progress bar too
PACKAGES = {"segmentation": RUNNING, "classification": (*RUNNING, "pillow", "timm")}
TEXTS = {
    "segmentation": {
        "fine_tuning": "`configs/train.json` fine-tunes it on volumes of your own; label volumes hold the class indices listed"
        " under Output.",
        "input": "One channel: a volume, run slice by slice.",
        "infer": "Segment the volumes (`.nii.gz`) of `data/imagesTs`; label volumes are written to `eval`:",
        "train": "Fine-tune on the volumes of `data/imagesTr` and their labels of the same names in `data/labelsTr`",
    },
    "classification": {
        "fine_tuning": "`configs/train.json` fine-tunes it on images of your own, a folder a class.",
        "input": "One channel: an image, or a volume whose slices are classified and averaged.",
        "infer": "Classify the images of `data/imagesTs`; the classes' probabilities are written to `eval/probabilities.csv`:",
        "train": "Fine-tune on the images of `data/imagesTr/<class>`",
    },
}


def description(source: Source) -> str:
    """One sentence: task, classes, what was learned from which data."""
    classes = ", ".join(source.facts.classes)
    target, *others = source.datasets
    also = f", with knowledge of {', '.join(others)}" if others else ""
    return f"A network of {source.metrics['parameters']:,} parameters for {source.task} of {classes}, for {target}{also}."


def full_metadata(source: Source, name: str, *, version: str, changelog: str, authors: str) -> dict[str, Any]:
    """configs/metadata.json by the zoo's schema, with the figures of the run's own test patients."""
    fixed = any(isinstance(module, ViT) for module in source.network.modules())  # by its position embeddings
    side = source.image_size if fixed else None
    out = metadata(name, description(source), source.facts, packages=PACKAGES[source.task], side=side)
    about = next(iter(source.datasets.values()))
    mean = {key: round(value, 4) for key, value in source.metrics["mean"].items() if _known(value)}
    out |= {"version": version, "changelog": {version: changelog}, "authors": authors, "intended_use": INTENDED}
    out |= {"data_source": _sources(source), "eval_metrics": mean, "references": []}
    for tensors in out["network_data_format"].values():
        for tensor in tensors.values():
            tensor["modality"] = about["modality"]
    return out


def _known(value: float | None) -> bool:
    """A metric that is undefined on this test set is null."""
    return value is not None and math.isfinite(value)


def _sources(source: Source) -> str:
    return "; ".join(f"{dataset}: {about['source']}" for dataset, about in source.datasets.items())


def data_licence(source: Source) -> str:
    """docs/data_license.txt: the terms of every dataset that the weights learned from."""
    parts = ["The weights in this bundle were learned from the data below. Their terms bind whoever uses the weights.\n"]
    for dataset, about in source.datasets.items():
        parts.append(f"{dataset}\n  source: {about['source']}\n  licence: {about['licence']}\n")
    return "\n".join(parts)


def readme(source: Source, name: str, meta: dict[str, Any]) -> str:
    """docs/README.md with the sections of the model zoo's template."""
    channels = meta["network_data_format"]["outputs"]["pred"]["channel_def"]
    carried, texts = source.network.stock is None, TEXTS[source.task]
    size = source.image_size
    train = "python -m monai.bundle run --config_file configs/train.json"
    lines = [
        f"# {name}", "",
        "### **Authors**", "", meta["authors"], "",
        "### **Tags**", "", ", ".join([source.task.capitalize(), *_modalities(source), *source.facts.classes]), "",
        "## **Model Description**", "", description(source), "", INTENDED, "",
        "## **Data**", "",
        *(f"- {d}: {about['source']} ({about['modality']})" for d, about in source.datasets.items()), "",
        "The terms of the data are in `docs/data_license.txt`.", "",
        "#### **Preprocessing**", "", _preprocessing(source), "",
        "#### **Training**", "",
        f"Trained on slices of {size}x{size} pixels: {source.config['max_epochs']} epochs of {source.config['epoch_length']}"
        f" steps, batch size {source.config['batch_size']}, learning rate {source.config['learning_rate']}."
        f" {texts['fine_tuning']}", "",
        "#### **Input**", "", texts["input"], "",
        "#### **Output**", "", ", ".join(f"{index}: {label}" for index, label in channels.items()), "",
        "## **Performance**", "", _performance(source), "",
        "#### **TorchScript and ONNX**", "",
        f"`models/model.ts` and `models/model.onnx` (images of {size}x{size} pixels, any batch size) give the output of"
        " `models/model.pt` to 1e-4. Do not rename `model.ts`: MONAI Deploy relies on its name. Hand MONAI Deploy's bundle"
        " operator an `Image`, not a bare array: of an array it takes the first slice only.", "",
        "## **Additional Usage Steps**", "",
        *(["This bundle carries code in `scripts/`. Run the commands from its folder; `monai.bundle.load`, `ckpt_export` and"
           " federated clients need the folder on the path: `export PYTHONPATH=$PWD`.", ""] if carried else []),
        texts["infer"], "", "```", "python -m monai.bundle run --config_file configs/inference.json", "```", "",
        f"{texts['train']} (a fifth of the cases, from five on, validates):", "",
        "```", train, "```", "",
        "Evaluate on the validation cases:", "",
        "```", "python -m monai.bundle run --config_file \"['configs/train.json','configs/evaluate.json']\"", "```", "",
        "Check the files against the manifest:", "",
        "```", "python scripts/inspect_bundle.py " + name + "   # from a checkout of Medistill", "```", "",
        "## **System Configuration**", "",
        f"Trained with PyTorch {meta['pytorch_version']} and MONAI {meta['monai_version']}. It runs on a CPU; a GPU is used if"
        " there is one.", "",
        "## **Limitations**", "",
        "The figures hold for data like the test data. Expect less on other scanners, protocols and populations: measure on"
        " your own labelled cases first.", "",
        "## **References**", "",
        *(f"- {about['source']}" for about in source.datasets.values()), "",
        "## **License**", "",
        "The code is under the Apache License 2.0 (`LICENSE`). The weights are bound by the terms of the data"
        " (`docs/data_license.txt`).", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _preprocessing(source: Source) -> str:
    facts = source.facts
    if facts.window is not None:
        scale = f"intensities {facts.window[0]:g} to {facts.window[1]:g} become 0 to 1"
    else:
        assert facts.percentiles is not None
        what = "slice" if facts.dims == 2 and not facts.classification else "image"
        scale = f"percentiles {facts.percentiles[0]:g} and {facts.percentiles[1]:g} of each {what} become 0 and 1"
    turn = f"axes brought to {facts.orientation}, " if facts.orientation else ""
    return f"{turn}{scale}, resized to {source.image_size}x{source.image_size} pixels in-plane."


def _modalities(source: Source) -> list[str]:
    return sorted({about["modality"] for about in source.datasets.values()} - {"n/a"})


def _performance(source: Source) -> str:
    names = {"hd95": f"HD95 ({source.metrics.get('hd95_unit', 'px')})", "iou": "IoU", "auroc": "AUROC", "ece": "ECE"}
    mean = {key: value for key, value in source.metrics["mean"].items() if _known(value)}
    rows = [
        f"On the {source.test_cases} test patients of {source.metrics['dataset']} (fold {source.config['seed']}), whom no"
        " network of this model's making has seen.", "",
        "| metric | mean |", "|---|---|",
        *(f"| {names.get(key, key.replace('_', ' ').capitalize())} | {value:.3f} |" for key, value in mean.items()),
    ]  # fmt: skip
    return "\n".join(rows)
