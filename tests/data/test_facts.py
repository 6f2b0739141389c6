# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from common.data import acdc, lits
from common.data.facts import Facts, load_facts, load_group, with_class

GROUP = """
group: heart
task: segmentation
datasets:
  ours:
    classes: {lv: [3], rv: [1, 2]}
    label_values: [0, 1, 2, 3]
    percentiles: [1.0, 99.0]
    dims: 2
    spacing_known: false
  acdc:
    module: .acdc
  lits:
    module: common.data.lits
    window: [-50.0, 150.0]
    slice_axis: 1
  lits_mr:
    module: .lits
    window: null
    percentiles: [2.0, 98.0]
"""


@pytest.fixture
def group(tmp_path: Path) -> Path:
    (tmp_path / "heart.yaml").write_text(GROUP)
    return tmp_path / "heart.yaml"


def facts(**changes) -> Facts:
    options = {"name": "toy", "reader": list, "classes": {"a": (1,)}, "label_values": (0, 1), "window": (0.0, 1.0)}
    return Facts(**(options | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": (250.0, -100.0)}, r"`window` is \[250.0, -100.0\]; give the lower limit, then the upper one"),
        ({"window": None, "percentiles": (1.0,)}, r"`percentiles` is \[1.0\]; give the lower limit"),
        ({"percentiles": (1.0, 99.0)}, "exactly one of `window` and `percentiles`"),
        ({"window": None}, "exactly one of `window` and `percentiles`"),
        ({"classes": {}}, "`classes` is empty"),
        ({"classes": {"a": (1, 5)}}, r"raw values \[5\]"),
        ({"dims": 4}, "`dims`"),
        ({"slice_axis": 3}, "`slice_axis`"),
    ],
)
def test_refuses_facts_that_contradict_each_other(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"dataset toy.*{message}"):
        facts(**changes)


def test_channels_count_the_background_and_distances_have_a_unit() -> None:
    assert facts(classes={"a": (1,), "b": (0,)}).out_channels == 3
    assert (facts().hd95_unit, facts(spacing_known=False).hd95_unit) == ("mm", "px")


def test_an_entry_of_a_table_states_all_its_facts(group: Path, tmp_path: Path) -> None:
    found = load_facts(group, "ours")
    (tmp_path / "index.csv").write_text("image,case_id\na.png,p1\n")
    assert found.reader(tmp_path)[0]["case"] == "ours/p1"
    assert found == Facts(
        name="ours",
        reader=found.reader,
        classes={"lv": (3,), "rv": (1, 2)},
        label_values=(0, 1, 2, 3),
        percentiles=(1.0, 99.0),
        dims=2,
        spacing_known=False,
    )


def test_an_entry_of_a_module_takes_its_facts_and_may_replace_some(group: Path) -> None:
    assert load_facts(group, "acdc") == acdc.FACTS
    found = load_facts(group, "lits")
    assert (found.window, found.slice_axis) == ((-50.0, 150.0), 1)
    assert (found.reader, found.classes, found.orientation) == (
        lits.FACTS.reader,
        lits.FACTS.classes,
        lits.FACTS.orientation,
    )
    assert load_facts(group, "lits_mr").percentiles == (2.0, 98.0)


def test_names_a_dataset_or_key_that_is_unknown(group: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset 'kits' is not in .*heart\.yaml; choose from ours, acdc, lits"):
        load_facts(group, "kits")
    group.write_text(GROUP.replace("dims: 2", "dim: 2"))
    with pytest.raises(ValueError, match=r"heart\.yaml, dataset ours: unknown keys \['dim'\]; known: .*dims"):
        load_facts(group, "ours")


DEMENTIA = """
group: dementia
task: classification
datasets:
  ours:
    classes: {cn: [normal], ad: ["1", "2"]}
    label_values: [normal, smc, "1", "2"]
    percentiles: [1.0, 99.0]
    middle_share: 0.4
"""


def test_a_classification_group_reads_texts_from_tables(tmp_path: Path) -> None:
    group = tmp_path / "dementia.yaml"
    group.write_text(DEMENTIA)
    found = load_facts(group, "ours")
    assert (found.task, found.out_channels, found.middle_share) == ("classification", 2, 0.4)
    (tmp_path / "index.csv").write_text("image,case_id,label\na.nii,p1,2\nb.nii,p2,smc\nc.nii,p3,\nd.nii,p4,normal\n")
    items = found.reader(tmp_path)
    assert [found.class_of(item) for item in items] == [1, None, None, 0]
    assert [item["case"] for item in with_class(found, items)] == ["ours/p1", "ours/p3", "ours/p4"]
    for label in ("Normal", "normal ", "1.0"):
        with pytest.raises(
            ValueError, match=rf"index\.csv, row 2: .*a\.nii has the label '{label}'; .* 'normal', 'smc', '1', '2'"
        ):
            found.class_of(items[0] | {"label": label})
    (tmp_path / "index.csv").unlink()
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match=r"write an index\.csv with a column label"):
        found.reader(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["1", "2"]', "[1, 2]", r"class ad: \[1, 2\] is not a list of texts"),
        ("[normal, smc", "[normal, yes", r"label_values: .*True.* is not a list of texts"),
        ("[normal], ad", '[normal, "1"], ad', "label '1' is of class cn and of ad"),
        ('["1", "2"]}', '["3"]}', r"raw values \['3'\] that are not in `label_values`"),
        ("middle_share: 0.4", "middle_share: 0", "`middle_share` is 0"),
        ("middle_share: 0.4", "middle_share: 0.4\n    dims: 2", "`middle_share` is 0.4"),
        ("middle_share: 0.4", "task: segmentation", r"unknown keys \['task'\]"),
        ("task: classification", "task: detection", "task 'detection' is unknown; choose segmentation or classification"),
        ("    classes", "    module: .lits\n    classes", r"\.lits is for segmentation, its group for classification"),
    ],
)
def test_names_what_is_wrong_in_a_classification_group(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in DEMENTIA
    (tmp_path / "dementia.yaml").write_text(DEMENTIA.replace(old, new))
    with pytest.raises(ValueError, match=rf"dementia\.yaml.*{message}"):
        load_facts(tmp_path / "dementia.yaml", "ours")


def test_names_a_group_file_that_is_missing_or_no_group(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml does not exist"):
        load_group(tmp_path / "gone.yaml")
    for content in ("", "[1, 2]", "group: heart\ntask: segmentation\n"):
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(ValueError, match=r"bad\.yaml needs the keys group, task and datasets"):
            load_group(tmp_path / "bad.yaml")
