# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch
from PIL import Image

from common import runs  # the module: `test_items` and `test_slices` are functions of it, and pytest would collect them
from common.data.facts import load_facts
from common.data.folds import make_split
from common.data.store import SliceStore
from common.errors import root_cause
from common.networks import FeatureNet, JointTeacher, MultiHead, UNet

GROUP = "bundles/cardiac.yaml"
SMALL = {"max_epochs": 1, "epoch_length": 1, "select_from": 0}


def unet(seed: int = 0, **options) -> UNet:
    torch.manual_seed(seed)
    return UNet(**({"features": (4, 4, 6, 6, 8, 4)} | options)).eval()


def save(run: Path, network: FeatureNet, best_value: float = 0.5, r: int = 1) -> str:
    """A finished run of dataset b for target a, as training leaves it."""
    run.mkdir(parents=True)
    (run / "network.json").write_text(json.dumps(network.spec))
    (run / "history.json").write_text(json.dumps({"epochs": [], "best_epoch": 0, "best_value": best_value}))
    config = {"target": "a", "dataset": "b", "r": r, "validate": {"dataset": {"entry": "$@data[@target if @r else @dataset]"}}}
    (run / "config.json").write_text(json.dumps(config))
    (run / "folds.json").write_text(json.dumps({"datasets": {"a": {}, "b": {}}}))
    torch.save(network.state_dict(), run / "model.pt")
    return str(run)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def test_a_run_gives_its_network_back(tmp_path: Path, image: torch.Tensor) -> None:
    network = unet()
    found = runs.from_run(save(tmp_path / "run", network))
    assert type(found) is UNet and not found.training
    assert torch.equal(found(image), network(image))


def test_a_network_of_several_heads_gives_the_one_asked_for(tmp_path: Path, image: torch.Tensor) -> None:
    network = MultiHead(unet(), {"a": 2, "b": 3}, "a").eval()
    run = save(tmp_path / "run", network)
    levels = network.encode(image)
    for head, name in ((None, "a"), ("a", "a"), ("b", "b")):
        assert torch.equal(runs.from_run(run, head=head)(image), network.decode_head(name, levels, image))
    with pytest.raises(ValueError, match=r"run .*/run has no head for c, only for a, b.*train it with r: 1"):
        runs.from_run(run, head="c")
    assert torch.equal(runs.from_run(save(tmp_path / "one", unet()), head="c")(image), unet()(image))


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(change((run / name).read_bytes()))


DAMAGES: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no folder": (shutil.rmtree, FileNotFoundError, r"run .*/run does not exist; train it first"),
    "no weights": (lambda run: (run / "model.pt").unlink(), FileNotFoundError, r"has no model\.pt: .*not complete"),
    "no network": (lambda run: (run / "network.json").unlink(), FileNotFoundError, r"has no network\.json"),
    "garbage": (rewrite("model.pt", lambda content: b"garbage"), ValueError, r"model\.pt is damaged"),
    "nothing": (rewrite("model.pt", lambda content: b""), ValueError, r"model\.pt is damaged"),
    "half the weights": (rewrite("model.pt", lambda content: content[: len(content) // 2]), ValueError, r"model\.pt"),
    "a list": (lambda run: torch.save([1], run / "model.pt"), ValueError, r"model\.pt is not of the architecture"),
    "code": (lambda run: torch.save(unet(), run / "model.pt"), ValueError, r"model\.pt is damaged"),
    "half a network": (rewrite("network.json", lambda content: content[:20]), ValueError, r"network\.json is damaged"),
    "an unknown network": (
        rewrite("network.json", lambda content: content.replace(b"UNet", b"VNet")),
        ValueError,
        r"network\.json gives no network",
    ),
    "other widths": (
        rewrite("network.json", lambda content: content.replace(b"[4, 4,", b"[6, 4,")),
        ValueError,
        r"model\.pt is not of the architecture in network\.json.*size mismatch",
    ),
    "other levels": (
        lambda run: torch.save({k: v for k, v in unet().state_dict().items() if "down" not in k}, run / "model.pt"),
        ValueError,
        r"model\.pt is not of the architecture in network\.json.*Missing key",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_names_what_is_wrong_with_a_run(tmp_path: Path, damage: str) -> None:
    act, kind, message = DAMAGES[damage]
    run = save(tmp_path / "run", unet())
    act(tmp_path / "run")
    with pytest.raises(kind, match=message) as error:
        runs.from_run(run)
    assert "\n" not in str(error.value) and str(tmp_path / "run") in str(error.value)


def test_several_runs_come_in_order_and_no_runs_are_refused(tmp_path: Path, image: torch.Tensor) -> None:
    folders = [save(tmp_path / str(seed), unet(seed)) for seed in range(3)]
    for seed, network in enumerate(runs.from_runs(folders)):
        assert torch.equal(network(image), unet(seed)(image))
    for nothing in ([], folders[0]):
        with pytest.raises(ValueError, match="give a list of runs"):
            runs.from_runs(nothing)


def test_a_warm_start_is_the_best_teacher(tmp_path: Path, image: torch.Tensor) -> None:
    scores = [0.4, 0.8, 0.6]
    folders = [save(tmp_path / str(k), unet(k), score) for k, score in enumerate(scores)]
    warm = JointTeacher(runs.from_runs(folders, best_on="a"), 2, warm_start=True).eval()
    assert torch.equal(warm(image), unet(1)(image))
    cold = JointTeacher(runs.from_runs(folders), 2).eval()
    outputs = [unet(k)(image) for k in range(3)]
    assert not any(torch.equal(cold(image), output) for output in outputs)
    # the target teacher is the first as given: the fusion is the identity on its maps
    assert all(torch.equal(a, b) for a, b in zip(cold.encode(image), unet(0).encode(image), strict=True))
    # and what is saved gives the same joint teacher back, without the teachers' runs
    run = save(tmp_path / "joint", warm)
    for folder in folders:
        shutil.rmtree(folder)
    assert torch.equal(runs.from_run(run)(image), warm(image))


def test_the_best_teacher_needs_its_run(tmp_path: Path) -> None:
    folders = [save(tmp_path / "0", unet()), str(tmp_path / "gone")]
    for best in (None, "a"):
        with pytest.raises(FileNotFoundError, match=r"run .*gone does not exist"):
            runs.from_runs(folders, best_on=best)


def test_a_teacher_validated_on_its_source_is_not_the_best_on_the_target(tmp_path: Path, image: torch.Tensor) -> None:
    scores = [(0.9, 0), (0.99, 0), (0.3, 1), (0.4, 1)]
    folders = [save(tmp_path / str(k), unet(k), score, r) for k, (score, r) in enumerate(scores)]
    assert [runs.validated_on(folder) for folder in folders] == ["b", "b", "a", "a"]
    for best_on, order in (("a", [3, 2, 0, 1]), ("b", [1, 0, 2, 3]), (None, [0, 1, 2, 3])):
        for k, network in zip(order, runs.from_runs(folders, best_on=best_on), strict=True):
            assert torch.equal(network(image), unet(k)(image))


def test_a_teacher_without_a_head_for_the_target_is_not_asked_for_it(tmp_path: Path, image: torch.Tensor) -> None:
    networks = {
        "plain": unet(),
        "both": MultiHead(unet(1), {"a": 2, "b": 3}, "b"),
        "source": MultiHead(unet(2), {"b": 3}, "b"),
        "others": MultiHead(unet(3), {"b": 3, "c": 2}, "b"),
    }
    networks["joint"] = JointTeacher([unet(), unet(1)], 2)  # its `heads` are those of its attention
    folders = {name: save(tmp_path / name, network) for name, network in networks.items()}
    found = runs.predictors([folders[name] for name in ("plain", "both", "source", "joint")], head="a")
    assert list(found) == [folders["plain"], folders["both"], folders["joint"]]
    assert all(network(image).shape[1] == 2 for network in found.values())
    with pytest.raises(ValueError, match=r"others has no head for a, only for b, c"):
        runs.predictors([folders["others"]], head="a")


# From here on: runs that were trained.


@pytest.fixture(scope="module")
def trained(tiny_stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with the target teacher of seed 0."""
    folder = tmp_path_factory.mktemp("runs")
    tiny_stages.train("alone", folder, teachers=folder, **SMALL)
    return folder


def failure(tiny_stages, stage: str, folder: Path, teachers: Path | None = None, **overrides: Any) -> str:
    with pytest.raises(Exception) as error:  # MONAI's wrappers hide the type
        tiny_stages.train(stage, folder, teachers=teachers or folder, **(SMALL | overrides))
    cause = root_cause(error.value)
    return f"{type(cause).__name__}: {cause}"


def test_a_run_learned_from_what_its_teachers_learned_from(tmp_path: Path) -> None:
    """Whatever `sources` says, which not every variant reads."""

    def write(run: str, datasets: list[str], **config: object) -> Path:
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.json").write_text(json.dumps(config))
        (tmp_path / run / "folds.json").write_text(json.dumps({"datasets": {name: {} for name in datasets}}))
        return tmp_path / run

    write("teacher_a/alone/0", ["a"])
    teacher = write("teacher_b/for_a/0", ["b", "a"])
    moved = ["/moved/runs/teacher_a/alone/0", "/moved/runs/teacher_b/for_a/0"]
    write("joint_teacher_g/for_a/0", ["a"], teachers=moved, sources=["b"])
    taught = write("student_a/distill_soft/0", ["a"], teacher="runs/joint_teacher_g/for_a/0", sources=[])
    alone = write("student_a/distill_target_only/0", ["a"], teacher="runs/teacher_a/alone/0", sources=["b"])
    assert runs.learned_from(taught) == ["a", "b"] and runs.learned_from(alone) == ["a"]
    shutil.rmtree(teacher)
    with pytest.raises(FileNotFoundError, match=r"for_a/0 was taught by /moved/runs/teacher_b/for_a/0, which does not exist"):
        runs.learned_from(taught)


def test_a_run_records_what_it_is(tiny_stages, trained: Path) -> None:
    run = tiny_stages.run_dir("alone", trained)
    config, splits = (json.loads((run / name).read_text()) for name in ("config.json", "folds.json"))
    assert (config["dataset"], config["seed"], config["learning_rate"]) == ("acdc", 0, 0.001)
    assert (config["epoch_length"], config["unet"]["features"]) == (1, [4, 4, 8, 8, 8, 4])
    facts = load_facts(GROUP, "acdc")
    expected = make_split({item["case"] for item in facts.reader(tiny_stages.data / "acdc")}, fold=0)._asdict()
    assert splits == expected | {"datasets": {"acdc": expected}}
    assert runs.from_run(run).spec == json.loads((run / "network.json").read_text())
    history = json.loads((run / "history.json").read_text())
    assert runs.validated_on(run) == "acdc"
    assert runs.validation_score(run) == history["best_value"] == history["epochs"][0]["val"]


def test_the_items_of_the_test_patients(tiny_stages, trained: Path) -> None:
    run = tiny_stages.run_dir("alone", trained)

    def items(dataset: str, seed: int) -> set[str]:
        found = runs.test_items(run, dataset=dataset, group_file=GROUP, data_dir=str(tiny_stages.data), seed=seed)
        assert found and all(item["label"] for item in found)
        return {item["case"] for item in found}

    assert items("acdc", 0) == set(json.loads((run / "folds.json").read_text())["test"])
    assert 1 <= len(items("sunnybrook", 3)) <= 2  # a fifth of 8, never trained on
    with pytest.raises(ValueError, match=r"trained on test patient acdc/\S+ of fold 1; evaluate it on its own seed"):
        items("acdc", 1)


def test_unlabelled_patients_are_not_test_items(tiny_stages, trained: Path, tmp_path: Path) -> None:
    run = tiny_stages.run_dir("alone", trained)
    shutil.copytree(tiny_stages.data / "sunnybrook", tmp_path / "sunnybrook")
    table = tmp_path / "sunnybrook" / "index.csv"
    head, *rows = table.read_text().splitlines()
    column = {name: number for number, name in enumerate(head.split(","))}
    extra = []
    for row in rows[:3]:
        cells = row.split(",")
        copy = f"new_{Path(cells[column['image']]).name}"
        shutil.copy(tmp_path / "sunnybrook" / cells[column["image"]], tmp_path / "sunnybrook" / copy)
        cells[column["image"]], cells[column["mask"]], cells[column["case_id"]] = copy, "", "new"
        extra.append(",".join(cells))
    table.write_text("\n".join([head, *rows, *extra]) + "\n")
    options = {"dataset": "sunnybrook", "group_file": GROUP, "seed": 0}
    found, before = (runs.test_items(run, data_dir=str(folder), **options) for folder in (tmp_path, tiny_stages.data))
    assert [item["case"] for item in found] == [item["case"] for item in before]


def test_slices_of_the_test_patients(tiny_stages, trained: Path) -> None:
    run = tiny_stages.run_dir("alone", trained)
    facts = load_facts(GROUP, "acdc")
    store = SliceStore(tiny_stages.store, facts, facts.reader(tiny_stages.data / "acdc"), 32)
    test = json.loads((run / "folds.json").read_text())["test"]
    stored = [
        (torch.from_numpy(pair.astype(np.float32)), unit.case)
        for number, unit in enumerate(store.units)
        if unit.case in test
        for pair in np.load(store.file(number))
        if (pair[1] > 0).any()
    ]
    found = runs.test_slices(run, "acdc", 1000)
    assert [case for *_, case in found] == [case for _, case in stored]
    for (image, label, _), (pair, _) in zip(found, stored, strict=True):
        assert torch.equal(torch.cat([image, label]), pair)
    first, last = runs.test_slices(run, "acdc", 2)
    assert torch.equal(first[0], found[0][0]) and torch.equal(last[0], found[-1][0])
    with pytest.raises(ValueError, match="has no fold of dataset sunnybrook; it knows acdc"):
        runs.test_slices(run, "sunnybrook", 2)


def test_slices_are_found_where_the_store_has_its_default_place(tiny_stages, tmp_path: Path) -> None:
    job = tiny_stages.job("alone", tmp_path, teachers=tmp_path, **SMALL)
    del job["store_dir"]
    monai.bundle.run(**job)
    before = set(Path().iterdir())
    assert len(runs.test_slices(tiny_stages.run_dir("alone", tmp_path), "acdc", 2)) == 2
    assert set(Path().iterdir()) == before and (tmp_path / ".store").is_dir()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"max_epoch": 3}, "unknown configuration key 'max_epoch'; did you mean 'max_epochs'?"),
        ({"unet::feature": [1]}, "unknown configuration key 'unet::feature'; did you mean 'unet::features'?"),
        ({"train::trainer::max_epoch": 3}, "'train::trainer::max_epoch'; did you mean 'train::trainer::max_epochs'?"),
    ],
)
def test_a_misspelt_key_is_refused(tiny_stages, tmp_path: Path, override: dict, message: str) -> None:
    assert message in failure(tiny_stages, "alone", tmp_path, **override)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"learning_rate": 0.5}, "another learning_rate (config.json: 0.001, now 0.5)"),
        ({"unet::features": [4, 4, 8, 8, 8, 8]}, "another unet::features"),
        ({"max_epochs": 2}, "another max_epochs"),
        ({"target_cases": 4}, "another target_cases"),
    ],
)
def test_a_run_begun_otherwise_is_refused(tiny_stages, trained: Path, override: dict, message: str) -> None:
    run = tiny_stages.run_dir("alone", trained)
    before = {path: path.read_bytes() for path in run.rglob("*.json")}
    found = failure(tiny_stages, "alone", trained, **override)
    assert message in found and "another variant, or remove that folder" in found
    assert {path: path.read_bytes() for path in run.rglob("*.json")} == before


def test_a_run_on_other_patients_is_refused(tiny_stages, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_stages.data / "acdc", tmp_path / "acdc")
    table = tmp_path / "acdc" / "index.csv"
    head, *rows = table.read_text().splitlines()
    first = rows[0].split(",")[head.split(",").index("case_id")]
    table.write_text("\n".join([head, *[row for row in rows if first not in row.split(",")]]) + "\n")
    found = failure(tiny_stages, "alone", trained, data_dir=str(tmp_path), store_dir=str(tmp_path / "store"))
    assert "was begun with another" in found and "folds.json" in found


def test_a_complete_run_may_be_started_again_from_elsewhere(tiny_stages, trained: Path, tmp_path: Path) -> None:
    model = tiny_stages.run_dir("alone", trained) / "model.pt"
    before = model.read_bytes()
    tiny_stages.train("alone", trained, teachers=trained, store_dir=str(tmp_path), workers=2, **SMALL)
    assert model.read_bytes() == before


def test_a_folder_of_runs_may_move(tiny_stages, tmp_path: Path) -> None:
    for stage in ("alone", "adapt", "joint"):
        tiny_stages.train(stage, tmp_path / "old", teachers=tmp_path / "old", **SMALL)
    (tmp_path / "old").rename(moved := tmp_path / "new")
    model = tiny_stages.run_dir("joint", moved) / "model.pt"
    before = model.read_bytes()
    tiny_stages.train("joint", moved, teachers=moved, **SMALL)  # complete, and the same teachers
    assert model.read_bytes() == before
    others = {"teachers": [str(tiny_stages.run_dir(stage, moved)) for stage in ("adapt", "alone")]}
    with pytest.raises(Exception) as error:
        monai.bundle.run(**tiny_stages.job("joint", moved, teachers=moved, **SMALL) | others)
    assert "was begun with another teachers" in str(root_cause(error.value))


def test_a_teacher_of_another_fold_is_refused(tiny_stages, trained: Path, tmp_path: Path) -> None:
    teacher = tiny_stages.run_dir("alone", trained)
    found = failure(tiny_stages, "distill", tmp_path, teacher=str(teacher), seed=1)
    assert f"teacher {teacher} trained on test patient acdc/" in found and "give teachers of the same seed" in found
    for stage in ("alone", "adapt"):
        shutil.copytree(teacher, tiny_stages.run_dir(stage, tmp_path / "taught"))
    found = failure(tiny_stages, "joint", tmp_path, tmp_path / "taught", seed=1)
    assert f"teacher {tiny_stages.run_dir('alone', tmp_path / 'taught')} trained on test patient acdc/" in found


def test_without_target_supervision_the_target_gets_no_head_of_its_own(tiny_stages, trained: Path, tmp_path: Path) -> None:
    group = tmp_path / "cardiac.yaml"
    renamed = "sunnybrook:\n    classes:\n      cavity: [1]"
    group.write_text(Path(GROUP).read_text().replace("sunnybrook:\n    classes:\n      lv: [1]", renamed))
    options = SMALL | {"group_file": str(group)}
    run = tiny_stages.train("adapt", tmp_path, teachers=tmp_path, r=0, **options)
    assert json.loads((run / "network.json").read_text())["heads"] == {"sunnybrook": 2}
    teachers = [str(tiny_stages.run_dir("alone", trained)), str(run)]
    monai.bundle.run(**tiny_stages.job("joint", tmp_path, teachers=tmp_path, **options) | {"teachers": teachers})
    assert (tiny_stages.run_dir("joint", tmp_path) / "model.pt").exists()
    job = {"run_id": "evaluating", "config_file": "bundles/teacher_sunnybrook/configs/evaluate.yaml"}
    with pytest.raises(Exception) as error:
        monai.bundle.run(**job, data_dir=str(tiny_stages.data), run_dir=str(run), dataset="acdc", group_file=str(group))
    assert f"run {run} has no head for acdc, only for sunnybrook" in str(root_cause(error.value))


def test_a_label_budget_holds_for_the_teachers_too(tiny_stages, trained: Path, tmp_path: Path) -> None:
    teacher = tiny_stages.run_dir("alone", trained)
    found = failure(tiny_stages, "distill", tmp_path, teacher=str(teacher), target_cases=4)
    pool = json.loads((teacher / "folds.json").read_text())
    left = len(pool["train"] + pool["val"]) - 4
    assert left and f"teacher {teacher} learned the labels of {left} patients that are unlabelled for this run" in found
    assert "train the teacher with the same target_cases" in found
    few = str(tiny_stages.train("alone", tmp_path, teachers=tmp_path, target_cases=4, **SMALL))
    tiny_stages.train("distill", tmp_path, teachers=tmp_path, teacher=few, target_cases=4, **SMALL)
    # a source teacher that reads no label of the target (r = 0) may see all of its images
    sources = [str(tiny_stages.train("adapt", tmp_path / str(r), teachers=tmp_path, r=r, **SMALL)) for r in (0, 1)]
    job = tiny_stages.job("joint", tmp_path, teachers=tmp_path, target_cases=4, **SMALL)
    monai.bundle.run(**job | {"teachers": [few, sources[0]]})
    with pytest.raises(Exception) as error:
        monai.bundle.run(**job | {"teachers": [few, sources[1]], "variant": "refused"})
    assert f"teacher {sources[1]} learned the labels of {left} patients" in str(root_cause(error.value))


def test_without_target_supervision_the_targets_labels_change_nothing(tiny_stages, tmp_path: Path) -> None:
    """r = 0: whatever the target's masks hold, the source teacher comes out bit-equal; with r = 1 it does not."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "moved": lambda label: np.roll(np.where(label == 3, 0, 3).astype(np.uint8), 7, axis=0),
        "zeroed": np.zeros_like,
        "unknown": lambda label: np.full_like(label, 77),
    }
    for name, change in changes.items():
        for dataset in ("sunnybrook", "acdc"):
            shutil.copytree(tiny_stages.data / dataset, tmp_path / name / dataset)
        for item in load_facts(GROUP, "acdc").reader(tmp_path / name / "acdc"):
            Image.fromarray(change(np.asarray(Image.open(item["label"])))).save(item["label"])

    def train(r: int, data: Path) -> tuple[dict[str, torch.Tensor], dict]:
        folder = tmp_path / f"r{r}_{data.name}"
        options = {"max_epochs": 2, "epoch_length": 3, "select_from": 0, "r": r, "data_dir": str(data)}
        run = tiny_stages.train("adapt", folder, teachers=folder, store_dir=str(tmp_path / "store"), **options)
        assert runs.validated_on(run) == ("acdc" if r else "sunnybrook")
        history = json.loads((run / "history.json").read_text())
        return torch.load(run / "model.pt", weights_only=True), history | {"seconds": 0}

    def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
        return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    weights, history = train(0, tiny_stages.data)
    for name in changes:
        corrupt, corrupt_history = train(0, tmp_path / name)
        assert equal(weights, corrupt) and history == corrupt_history, name
    (supervised, _), (misled, _) = (train(1, d) for d in (tiny_stages.data, tmp_path / "moved"))
    assert not equal(supervised, misled) and not equal(supervised, weights)
