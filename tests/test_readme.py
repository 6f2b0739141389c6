# SPDX-License-Identifier: Apache-2.0
"""What the README says is true: the tree, the commands' files and keys, the make targets; and docs/losses.md is whole."""

import re
from pathlib import Path

import yaml

from common import losses

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# what other scripts import or start
NO_COMMANDS = {"bench_classification", "bench_deploy", "bench_timing", "federated_client"}
NO_COMMANDS |= {"study_engine", "study_job", "study_runs"}


def tree() -> list[str]:
    block = README.split("## The tree", 1)[1].split("```")[1]
    paths, parent = [], ""
    for line in block.strip().splitlines():
        name = line.split()[0]
        parent = "" if not line.startswith(" ") else parent
        paths.append(parent + name)
        parent = name if not line.startswith(" ") else parent
    return paths


def test_the_tree_is_the_repositorys() -> None:
    named = tree()
    assert all((ROOT / path).is_dir() for path in named)
    top = {p.name + "/" for p in ROOT.iterdir() if p.is_dir() and (ROOT / p.name / "").exists()}
    ours = {"bundles/", "common/", "scripts/", "tests/", "docs/"}
    assert ours <= top and ours <= set(named)
    packages = {f"common/{p.parent.name}/" for p in (ROOT / "common").glob("*/__init__.py")} | {"common/recipes/"}
    assert packages == {path for path in named if path.startswith("common/") and path != "common/"}


def test_every_script_is_named() -> None:
    line = next(line for line in README.splitlines() if line.startswith("scripts/ "))
    named = re.findall(r"[a-z_]+", line.split("command lines:")[1])
    assert set(named) == {path.stem for path in (ROOT / "scripts").glob("*.py")} - NO_COMMANDS
    assert all((ROOT / "scripts" / f"{name}.py").is_file() for name in NO_COMMANDS)


def test_every_loss_is_named_with_its_equation() -> None:
    """Each class of the package in a row of docs/losses.md, by its file; and no row of a file that is not there."""
    rows = [line.split("|")[1:-1] for line in (ROOT / "docs" / "losses.md").read_text().splitlines() if line.startswith("| ")]
    told = {row[-1].strip(" `"): row[1].strip() for row in rows}
    for name in losses.__all__:
        file = getattr(losses, name).__module__.replace(".", "/") + ".py"
        assert told.get(file), f"{name}: {file}"
    assert all((ROOT / file).is_file() for file in told if file.startswith("common/"))


def test_every_group_is_named_with_its_datasets() -> None:
    text = " ".join(README.split())
    for path in (ROOT / "bundles").glob("*.yaml"):
        datasets = yaml.safe_load(path.read_text()).get("datasets")
        assert datasets is None or f"`{path.stem}` ({', '.join(datasets)})" in text, path.stem


def test_every_document_is_named() -> None:
    line = next(line for line in README.splitlines() if line.startswith("docs/ "))
    assert set(line.removeprefix("docs/").replace(",", " ").split()) == {path.stem for path in (ROOT / "docs").glob("*.md")}


def test_the_commands_name_files_and_keys_that_exist() -> None:
    commands = re.findall(r"^python -m monai.bundle run (\w+) --config_file (\S+)(.*)$", README, flags=re.MULTILINE)
    assert len(commands) >= 13
    for run_id, file, flags in commands:
        config = yaml.safe_load((ROOT / file).read_text())
        assert run_id in config
        for key in re.findall(r"--(\w+)", flags):
            assert key in config, f"{key} in {file}"


def test_the_runs_that_it_names_are_of_datasets_that_it_names() -> None:
    own = set(re.findall(r"--dataset (\w+)=", README))
    shipped = {path.name.split("_", 1)[1] for path in (ROOT / "bundles").glob("student_*")}
    runs = re.findall(r"runs/student_(\w+)/", README + (ROOT / "docs" / "monai_label.md").read_text())
    assert len(own) == 4 and not own & shipped and runs and set(runs) <= own | shipped
    assert set(re.findall(r"--targets (\w+)", README)) <= own | shipped


def test_links_and_make_targets_exist() -> None:
    for target in re.findall(r"\]\((docs/[^)#]+)\)", README):
        assert (ROOT / target).is_file(), target
    makefile = (ROOT / "Makefile").read_text()
    for name in re.findall(r"make (demo|test|accept|lint|sync|bench)\b", README):
        assert re.search(rf"^{name}:", makefile, flags=re.MULTILINE), name
