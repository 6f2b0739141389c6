# SPDX-License-Identifier: Apache-2.0
"""Tables 9 and 12 of multi-dataset cross-domain distillation, cell by cell, as the bundles of cxr and dementia state them."""

from pathlib import Path
from typing import Any

import pytest
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


def test_a_target_without_a_row_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(RuntimeError) as error:
        run("training", config_file="bundles/joint_teacher_dementia/configs/train.yaml", target="kermany", logging_file=False)
    assert str(root_cause(error.value)) == "target: 'kermany'; choose oasis or adni."
