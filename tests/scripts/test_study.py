# SPDX-License-Identifier: Apache-2.0
"""The study's command line on Snakemake, with a stand-in for `python -m monai.bundle` that only writes the outputs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import study
import study_engine

from common.bundle_files import join_recipe
from common.study import plan

ROOT = Path(study.__file__).parents[1]
BUNDLES = ("student_acdc", "student_sunnybrook", "teacher_acdc", "teacher_sunnybrook", "joint_teacher_cardiac")

GROUP = """
group: cardiac
task: segmentation
datasets:
  acdc: {classes: {lv: [3]}, label_values: [0, 3], percentiles: [1, 99]}
  sunnybrook: {classes: {lv: [1]}, label_values: [0, 1], percentiles: [1, 99]}
"""

# Run by SITE in place of `python -m monai.bundle`. A bundle named in FAKE_SLOW sleeps, one in FAKE_FAIL fails.
FAKE = """
import json, os, sys, time
from pathlib import Path
flags = dict(zip((flag[2:] for flag in sys.orig_argv[5::2]), sys.orig_argv[6::2]))
bundle = Path(flags["config_file"]).parents[1].name
print("threads", os.environ["OMP_NUM_THREADS"], flush=True)
if sys.orig_argv[4] == "training":
    output = Path(flags["runs_dir"], bundle, flags["variant"], flags["seed"], "model.pt")
    (output.parent / "config.json").write_text("{}")
    (output.parent / "folds.json").write_text('{"datasets": {}}')
    (output.parent / "checkpoint").write_text(str(os.getpid()))
    if bundle in os.environ.get("FAKE_SLOW", "").split():
        time.sleep(60)
    if bundle in os.environ.get("FAKE_FAIL", "").split():
        sys.exit("ValueError: the learning rate is purple")
else:
    output = Path(flags["run_dir"], "test", flags["dataset"], "metrics.json")
output.parent.mkdir(parents=True, exist_ok=True)
output.write_text(json.dumps(flags))
if bundle in os.environ.get("FAKE_LATE", "").split():
    sys.exit("Segmentation fault")
"""
SITE = """
import os, runpy, sys
if sys.orig_argv[1:3] == ["-m", "monai.bundle"]:
    try:
        runpy.run_path(os.path.join(os.path.dirname(__file__), "fake.py"))
    except SystemExit as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a group, its bundles' configs, data, and the stand-in on the path."""
    for bundle in BUNDLES:
        configs = tmp_path / "bundles" / bundle / "configs"
        configs.mkdir(parents=True)
        for name in ("train", "adapt", "distill", "evaluate"):
            (configs / f"{name}.yaml").write_text(join_recipe("max_epochs: 1\n", "train_segmentation"))
    (tmp_path / "bundles" / "cardiac.yaml").write_text(GROUP)
    (tmp_path / "data").mkdir()
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "fake.py").write_text(FAKE)
    (tmp_path / "fake" / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def command(place, *more, arms="alone", targets="acdc"):
    flags = {"group": "cardiac", "targets": targets, "arms": arms, "seeds": "0", "data": place / "data", "cores": 2}
    flags |= {"runs": place / "runs", "group-file": place / "bundles" / "cardiac.yaml"}
    pairs = [part for key, value in flags.items() for part in (f"--{key}", str(value))]
    return [sys.executable, str(ROOT / "scripts" / "study.py"), *pairs, "--report=False", *more]


def call(place, *more, **asked):
    return subprocess.run(command(place, *more, **asked), capture_output=True, text=True, timeout=60, check=False)


def start(place, **asked):
    return subprocess.Popen(command(place, **asked), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, what):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}")


def training_process(run: Path) -> int:
    """The process id of the run's training, once it has written its checkpoint."""
    checkpoint = run / "checkpoint"
    wait_for(lambda: checkpoint.exists() and checkpoint.read_text(), checkpoint)
    return int(checkpoint.read_text())


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def contents(runs: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in runs.rglob("*") if path.name in ("model.pt", "metrics.json")}


def test_a_study_works_from_the_repositorys_root_wherever_it_is_started(tmp_path, monkeypatch):
    """Configurations name group files from there, which the report reads too."""
    monkeypatch.chdir(tmp_path)
    assert study_engine._supervise([sys.executable, "-c", "import os; print(os.getcwd())"], tmp_path / "log", [], str) == 0
    assert (tmp_path / "log").read_text().strip() == str(ROOT)


def test_study_runs_what_is_missing_and_then_nothing(place):
    first = call(place, "--threads", "2")
    assert first.returncode == 0, first.stderr
    assert "[2/2 done" in first.stdout
    run = place / "runs" / "student_acdc" / "alone" / "0"
    assert json.loads((run / "model.pt").read_text())["data_dir"] == str(place / "data")
    log = (run / "log.txt").read_text()
    assert "python -m monai.bundle run training" in log
    assert "threads 2" in log
    assert (run / "test" / "acdc" / "log.txt").exists()
    before = contents(place / "runs")
    os.utime(run / "model.pt")  # a timestamp retrains and evaluates nothing
    before[str(run / "model.pt")] = (run / "model.pt").stat().st_mtime_ns
    again = call(place)
    assert (again.returncode, again.stdout) == (0, "nothing to do: all 2 jobs are done\n")
    more = call(place, arms="alone,source_only")
    assert "all 4 jobs done, 2 of them now" in more.stdout
    assert {path: stamp for path, stamp in contents(place / "runs").items() if path in before} == before


def test_a_failed_job_is_named_with_its_log_and_others_go_on(place, monkeypatch):
    monkeypatch.setenv("FAKE_FAIL", "teacher_acdc")
    result = call(place, arms="alone,distill")
    run = place / "runs" / "teacher_acdc" / "alone" / "0"
    assert result.returncode == 1
    assert "FAILED: train teacher_acdc/alone/0: ValueError: the learning rate is purple" in result.stderr
    assert f"see {run / 'log.txt'}" in result.stderr
    assert "1 of 10 jobs failed; 5 more wait for them" in result.stderr
    assert (place / "runs" / "teacher_sunnybrook" / "for_acdc" / "0" / "test" / "acdc" / "metrics.json").exists()
    assert (run / "checkpoint").exists()


def test_a_job_that_dies_when_all_is_written_is_done(place, monkeypatch):
    """Snakemake deletes the outputs of a failed job: the weights, of a run whose checkpoints are gone by then."""
    monkeypatch.setenv("FAKE_LATE", "student_acdc")
    result = call(place)
    assert result.returncode == 0, result.stderr
    run = place / "runs/student_acdc/alone/0"
    assert (run / "model.pt").is_file()
    assert "ended with 1 after it had written everything" in (run / "log.txt").read_text()


def test_ctrl_c_stops_everything_and_the_study_goes_on_later(place, monkeypatch):
    monkeypatch.setenv("FAKE_SLOW", "student_acdc")
    first = start(place)
    pid = training_process(place / "runs" / "student_acdc" / "alone" / "0")
    second = call(place)
    assert second.returncode == 1
    assert f"another study (process {first.pid} on " in second.stderr
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=40)
    assert first.returncode == 130, output
    assert "stopped with 0 of 2 jobs done; the same command goes on from here" in output
    assert ended(pid)
    assert (place / "runs" / "student_acdc" / "alone" / "0" / "checkpoint").exists()
    monkeypatch.delenv("FAKE_SLOW")
    assert "all 2 jobs done, 2 of them now" in call(place).stdout


def test_killed_study_leaves_no_training_and_goes_on_at_once(place, monkeypatch):
    monkeypatch.setenv("FAKE_SLOW", "student_acdc")
    first = start(place, targets="acdc,sunnybrook")
    pid = training_process(place / "runs" / "student_acdc" / "alone" / "0")
    done = place / "runs" / "student_sunnybrook" / "alone" / "0" / "test" / "sunnybrook" / "metrics.json"
    wait_for(done.exists, done)
    first.kill()
    first.wait()
    monkeypatch.delenv("FAKE_SLOW")
    result = call(place, targets="acdc,sunnybrook")
    assert result.returncode == 0, result.stderr
    assert "all 4 jobs done" in result.stdout
    assert ended(pid)


def test_dry_run_prints_the_commands_and_accepts_a_cluster_profile(place):
    profile = str(ROOT / "scripts" / "profiles" / "slurm")
    result = call(place, "--dry-run", "--profile", profile, arms="distill")
    assert result.returncode == 0, result.stderr
    assert "# train teacher_sunnybrook/for_acdc/0\npython -m monai.bundle run training --config_file" in result.stdout
    assert "8 of 8 jobs to do" in result.stdout
    assert f"Snakemake accepts the plan and the profile {profile}" in result.stdout
    assert not (place / "runs").exists()


def test_a_run_trained_again_is_evaluated_again():
    train = {"kind": "train", "inputs": [], "outputs": ["no/such/model.pt"]}
    evaluate = {"kind": "evaluate", "inputs": ["no/such/model.pt"], "outputs": [__file__]}
    student = {"kind": "train", "inputs": ["no/such/model.pt"], "outputs": [__file__]}
    assert study_engine.to_do([train, evaluate, student]) == [train, evaluate]
    train["outputs"] = [__file__]
    assert study_engine.to_do([train, {**evaluate, "inputs": [__file__]}]) == []


def test_the_report_is_written_once_for_the_same_figures(tmp_path, capsys):
    figure = tmp_path / "metrics.json"
    figure.write_text("{}")
    plan = {"state": str(tmp_path / "state"), "jobs": [], "endpoints": [{"metrics": str(figure)}], "settings": {}}
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).mkdir(exist_ok=True)"
    maker = [sys.executable, "-c", script, str(tmp_path / "report")]
    assert study_engine.execute(plan, cores=1, profile=None, report=maker) == 0
    assert capsys.readouterr().out == f"writing the report ...\nreport: {tmp_path / 'report'}\n"
    assert study_engine.execute(plan, cores=1, profile=None, report=maker) == 0
    assert capsys.readouterr().out == "nothing to do: all 0 jobs are done\n"
    figure.write_text("[]")
    broken = [sys.executable, "-c", "raise ValueError('no figure')", str(tmp_path / "report")]
    assert study_engine.execute(plan, cores=1, profile=None, report=broken) == 1
    assert "the report failed: ValueError: no figure" in capsys.readouterr().err


def test_lists_and_pairs_of_the_command_line():
    assert study.split("acdc, b") == ["acdc", "b"]
    assert study.split("w=[1,2],b") == ["w=[1,2]", "b"]
    assert study.parse_pairs("", "--vary") == {}
    assert study.parse_pairs("r=0,1,levels=a,b+c", "--vary") == {"r": ["0", "1"], "levels": ["a", "b+c"]}
    assert study.parse_pairs("w=[1,2],lr=1e-3", "--set") == {"w": ["[1,2]"], "lr": ["1e-3"]}


@pytest.fixture
def asked(place, monkeypatch, capsys):
    """Run the command line in this process: exit code and message."""

    def ask(*more, **changed):
        monkeypatch.setattr(sys, "argv", command(place, *more, **changed)[1:])
        return study.main(), capsys.readouterr().err

    return ask


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--arms", "alone,destill"], "study: unknown arm 'destill'; choose from alone, alone_double, pooled"),
        (["--targets", "lits"], "study: unknown target 'lits'; choose from acdc, sunnybrook"),
        (["--seeds", "zero"], "study: bad seed 'zero'; seeds are whole numbers"),
        (["--seeds=-1"], "study: bad seed '-1'"),
        (["--target-cases", "5,few"], "study: bad target_cases 'few'"),
        (["--vary", "sources=acdc"], "study: target 'acdc' equals a source"),
        (["--vary", "r"], "study: --vary 'r': write key=value"),
        (["--vary", "r=0,r=1"], "study: --vary names 'r' twice"),
        (["--set", "widths=1,2"], "study: --set widths: one value expected, not 1, 2"),
        (["--set", "seed=3"], "study: --set must not set 'seed'"),
        (["--group", "mri"], "is the file of group 'cardiac', not of 'mri'"),
        (["--group-file", "nowhere.yaml"], "study: unknown group 'cardiac': no file "),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--arms", "multi_head"], "multi_head_cardiac/configs/train.yaml"),
        (["--profile", "nowhere"], "study: --profile nowhere: there is no file nowhere/config.yaml"),
    ],
)
def test_a_bad_argument_is_named(asked, place, flags, message):
    code, error = asked(*flags)
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (place / "runs").exists()


def test_a_setting_reaches_the_configurations_that_have_it():
    """`kappa` is the distilled students' and `joint_ch` the joint teacher's; the others would refuse them in mid-study."""
    settings = {"kappa": "0.5", "joint_ch": "8", "optimizer::weight_decay": "0.1", "tracking": "mlflow"}
    planned = plan(
        group="pneumonia",
        datasets=["kermany", "nih"],
        targets=["kermany"],
        seeds=[0],
        arms=["alone", "distill"],
        settings=settings,
        data="data",
        runs="runs",
        task="classification",
    )
    jobs = {job.run_id: job for job in study.fit_settings(planned.jobs, settings) if job.kind == "train"}
    given = {run: {key for key in job.overrides if key in settings} for run, job in jobs.items()}
    everywhere = {"optimizer::weight_decay", "tracking"}
    assert given == {
        "teacher_kermany/alone/0": everywhere,
        "teacher_nih/for_kermany/0": everywhere,
        "joint_teacher_pneumonia/for_kermany/0": {*everywhere, "joint_ch"},
        "student_kermany/alone/0": everywhere,
        "student_kermany/distill/0": {*everywhere, "kappa"},
    }
    assert len(planned.jobs) == len(study.fit_settings(planned.jobs, settings))


def test_a_group_file_without_datasets_is_named(asked, place):
    (place / "bundles" / "cardiac.yaml").write_text("group: cardiac\n")
    code, error = asked()
    assert code == 2
    assert "cardiac.yaml needs the keys group, task and datasets" in error


def test_runs_of_other_settings_are_not_mixed(asked, place):
    run = place / "runs" / "student_acdc" / "alone" / "0"
    run.mkdir(parents=True)
    record = place / "runs" / ".study" / "jobs" / "train__student_acdc__alone__0.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"name": "train student_acdc/alone/0", "settings": {"max_epochs": "3", "lr": "1e-3"}}))
    assert "--profile nowhere" in asked("--set", "max_epochs=4", "--profile", "nowhere")[1]  # it failed before its first epoch
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.pt").touch()
    for other in (["--set", "max_epochs=4"], [], ["--seeds", "1"], ["--arms", "distill"]):  # what is new would stand beside it
        code, error = asked(*other)
        assert code == 2
        assert f"{run} was trained with --set max_epochs=3,lr=1e-3: give the same, another --runs, or delete it" in error
    for same in ("max_epochs=3,lr=1e-3", "lr=0.001,max_epochs=3,workers=1"):  # past that, to the next error
        assert "--profile nowhere" in asked("--set", same, "--profile", "nowhere")[1]


def test_records_are_not_trained_over(asked, place):
    run = place / "runs" / "teacher_acdc" / "alone" / "0"
    run.mkdir(parents=True)
    (run / "history.json").write_text("{}")
    code, error = asked(arms="distill")
    assert code == 2
    assert f"{run} is a record without weights, and training it again would replace its figures" in error
    (run / "checkpoints").mkdir()  # of a training that was stopped
    code, error = asked("--profile", "nowhere", arms="distill")
    assert "--profile nowhere" in error


@pytest.mark.parametrize("arm", ["pooled", "source_only"])
def test_sources_of_other_classes_are_refused_before_anything_runs(asked, place, arm):
    (place / "bundles" / "cardiac.yaml").write_text(GROUP.replace("{lv: [1]}", "{ventricle: [1]}"))
    code, error = asked(arms=f"alone,{arm}")
    assert code == 2
    assert f"arm '{arm}' has one head for target 'acdc' (lv)" in error and "sunnybrook (ventricle)" in error
    assert not (place / "runs").exists()
