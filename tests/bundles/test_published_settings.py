# SPDX-License-Identifier: Apache-2.0
"""Tables 9 and 12 of multi-dataset cross-domain distillation, cell by cell, in the bundles; whose classes are weighted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, run

from common.errors import root_cause

ROOT = Path(__file__).parents[2]
# dropout, attention dropout, baseline's learning rate and weight decay, joint_ch, fa_blocks, joint teacher's rate and decay
TABLES = {
    "covidx_cxr3": (0, 0, 1e-5, 1e-2, 256, 3, 1e-4, 0),
    "covid_collection": (0, 0, 5e-5, 1e-2, 256, 3, 1e-4, 1e-2),
    "covid_qu_ex": (0.3, 0.2, 5e-5, 0.5, 256, 3, 1e-4, 1e-2),
    "oasis": (0.3, 0, 1e-4, 1e-2, 1024, 3, 1e-5, 0.5),  # "-": EfficientNet-B0 has no attention
    "adni": (0.3, 0.2, 1e-4, 1e-2, 1024, 3, 5e-5, 1e-2),
}
NETWORKS = {  # architecture of teacher and of student (captions), size of the MedViT
    "covidx_cxr3": ("MedViT", "MedViT", "large"),
    "covid_collection": ("MedViT", "MedViT", "large"),
    "covid_qu_ex": ("MedViT", "MedViT", "large"),
    "oasis": ("EfficientNet", "MedViT", "small"),
    "adni": ("MedViT", "MedViT", "small"),
}
# the students' learning rate and weight decay, ceiling of cf, gamma, delta, kappa: section 5.5's text on each group
STUDENTS = {"cxr": (1e-4, 1e-2, 1.0, 0.3, 0.1, 0.4), "dementia": (1e-5, 1e-2, 0.5, 0.2, 0.2, 0.3)}
GROUP = dict.fromkeys(TABLES, "cxr") | {"oasis": "dementia", "adni": "dementia"}


def read(bundle: str, config: str, **overrides: Any) -> ConfigParser:
    parser = ConfigParser(ConfigParser.load_config_file(str(ROOT / "bundles" / bundle / "configs" / f"{config}.yaml")))
    for key, value in overrides.items():
        parser[key] = value
    return parser


def values(parser: ConfigParser, *keys: str) -> tuple[Any, ...]:
    return tuple(parser.get_parsed_content(key) for key in keys)


@pytest.mark.parametrize("target", TABLES)
def test_a_joint_teacher_is_trained_by_its_targets_row(target: str) -> None:
    dropout, attention, _, _, width, blocks, rate, decay = TABLES[target]
    parser = read(f"joint_teacher_{GROUP[target]}", "train", target=target)
    assert values(parser, "dropout", "attention_dropout") == (dropout, attention)
    assert values(parser, "joint_ch", "fa_blocks", "learning_rate", "weight_decay") == (width, blocks, rate, decay)
    parser["learning_rate"] = 0.3  # as on the command line
    assert values(parser, "learning_rate", "weight_decay") == (0.3, decay)


@pytest.mark.parametrize("target", TABLES)
def test_a_multi_head_network_is_its_targets_student(target: str) -> None:
    multi, own = read(f"multi_head_{GROUP[target]}", "train", target=target), read(f"student_{target}", "train")
    keys = ("learning_rate", "weight_decay", "upright", "architecture")
    assert values(multi, *keys) == values(own, *keys)
    for key in ("MedViT::dropout", "MedViT::attention_dropout", "EfficientNet::dropout", "MedViT::out_channels"):
        assert values(multi, f"networks::{key}") == values(own, f"networks::{key}"), key


@pytest.mark.parametrize("dataset", TABLES)
def test_a_dataset_is_trained_alone_by_its_row(dataset: str) -> None:
    rate, decay = TABLES[dataset][2:4]
    for bundle, config in ((f"student_{dataset}", "train"), (f"teacher_{dataset}", "train"), (f"teacher_{dataset}", "adapt")):
        assert values(read(bundle, config), "learning_rate", "weight_decay") == (rate, decay), (bundle, config)


@pytest.mark.parametrize("dataset", TABLES)
def test_teacher_and_student_are_the_networks_of_the_row(dataset: str) -> None:
    teacher, student, size = NETWORKS[dataset]
    for bundle, config, network in (
        (f"teacher_{dataset}", "train", teacher),
        (f"teacher_{dataset}", "adapt", teacher),
        (f"student_{dataset}", "train", student),
        (f"student_{dataset}", "distill", student),
    ):
        parser = read(bundle, config)
        assert values(parser, "architecture", "networks::MedViT::variant") == (network, size), (bundle, config)
        assert parser["networks::EfficientNet::variant"] == "efficientnet_b0"
        dropouts = ("networks::EfficientNet::dropout", "networks::MedViT::dropout", "networks::MedViT::attention_dropout")
        assert values(parser, *dropouts) == (TABLES[dataset][0], *TABLES[dataset][:2]), (bundle, config)


@pytest.mark.parametrize("dataset", TABLES)
def test_a_student_is_distilled_as_the_text_says(dataset: str) -> None:
    parser = read(f"student_{dataset}", "distill")
    keys = ("learning_rate", "weight_decay", "ceiling", "gamma", "delta", "kappa", "warmup", "ramp")
    assert values(parser, *keys) == (*STUDENTS[GROUP[dataset]], 5, 10)


def test_pneumonia_has_the_same_rates_and_terms_in_every_arm() -> None:
    for dataset in ("kermany", "nih"):
        arms = [read(f"student_{dataset}", "train"), read(f"student_{dataset}", "distill"), read(f"teacher_{dataset}", "train")]
        arms += [read(f"{bundle}_pneumonia", "train", target=dataset) for bundle in ("joint_teacher", "multi_head")]
        assert {values(arm, "learning_rate", "weight_decay", "upright") for arm in arms} == {(1e-3, 1e-2, True)}
        assert values(arms[1], "gamma", "delta", "kappa") == (0.3, 0.1, 0.4)
        assert values(arms[3], "joint_ch", "fa_blocks") == (256, 3)


@pytest.mark.parametrize("dataset", [*TABLES, "kermany", "nih"])
def test_classes_are_weighted_for_students_and_not_for_teachers(dataset: str) -> None:
    group = GROUP.get(dataset, "pneumonia")
    for config in ("train", "distill"):
        assert read(f"student_{dataset}", config)["class_weights"] is True
    if dataset != "figshare":
        assert read(f"multi_head_{group}", "train", target=dataset).get_parsed_content("class_weights") is True
    teachers = [(f"teacher_{dataset}", "train"), (f"teacher_{dataset}", "adapt"), (f"joint_teacher_{group}", "train")]
    for bundle, config in teachers:
        parser = read(bundle, config, data=None)  # an unweighted loss reads no counts
        assert not parser.get().get("class_weights", False), (bundle, config)
        loss = parser.get_parsed_content("task_loss")
        assert type(loss) is torch.nn.CrossEntropyLoss and loss.weight is None, (bundle, config)


def test_a_target_without_a_row_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(RuntimeError) as error:
        run("training", config_file="bundles/joint_teacher_dementia/configs/train.yaml", target="kermany", logging_file=False)
    assert str(root_cause(error.value)) == "target: 'kermany'; choose oasis or adni."
