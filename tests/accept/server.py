# SPDX-License-Identifier: Apache-2.0
"""A real MONAI Label server on loopback, and the stock bundle command that its labels are compared with."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from monailabel.client import MONAILabelClient

START = 300  # seconds a server may take until it answers
TRAIN = 600  # seconds a fine-tuning may take


def clean_environment(scratch: Path) -> dict[str, str]:
    """Nothing of the caller's Python or MONAI Label settings; the CPU; temporary files in `scratch`."""
    scratch.mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("MONAI_")}
    return kept | {"CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}


@contextmanager
def label_server(work: Path, bundles: Iterable[Path]) -> Iterator[MONAILabelClient]:
    """Serve copies of `bundles` from `work`; gives the client. The server and its children are killed at the end.

    `work/app/model/<name>` are the served bundles, `work/studies` the annotator's images, `work/server.log` all output. Server
    and client have temporary folders of their own: in a shared one they use the same file names and delete each other's.

    Raises:
        RuntimeError: the server does not start; shows the end of its log.
    """
    studies, clean, log = work / "studies", work / "cwd", work / "server.log"
    for folder in (studies, clean, work / "client"):
        folder.mkdir(parents=True)
    app = work / "app"
    shutil.copytree(Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle", app)
    for bundle in bundles:
        shutil.copytree(bundle, app / "model" / bundle.name)
    names = ",".join(bundle.name for bundle in bundles)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--conf", "models", names, "--conf", "zoo_source", "local", "--conf", "sam2", "false"]
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=clean, env=clean_environment(work / "tmp"), stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        client = MONAILabelClient(f"http://127.0.0.1:{port}", tmpdir=str(work / "client"))
        wait_until_up(server, client, log)
        yield client
    finally:
        kill(server)


def wait_until_up(server: subprocess.Popen[bytes], client: MONAILabelClient, log: Path) -> None:
    """Until the server answers.

    Raises:
        RuntimeError: it ended, or does not answer.
    """
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            client.info()
            return
        except OSError:
            time.sleep(1)
    raise RuntimeError(f"the MONAI Label server did not start:\n{log.read_text()[-4000:]}")


def kill(server: subprocess.Popen[bytes]) -> None:
    """End the server with the training it may have started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(timeout=10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def fine_tune(client: MONAILabelClient, model: str, *, epochs: int) -> None:
    """Press Train in 3D Slicer: every value of the model's options, the first of a list, is sent, `run_id: ""` among them.

    Raises:
        RuntimeError: the task does not end as DONE; shows the end of its output.
    """
    options = client.info()["trainers"][model]["config"]
    request = {key: value[0] if isinstance(value, list) else value for key, value in options.items()}
    assert request["run_id"] == ""
    client.train_start(model, request | {"max_epochs": epochs})
    deadline = time.monotonic() + TRAIN
    while time.monotonic() < deadline and (status := client.train_status())["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(1)
    if status["status"] != "DONE":
        raise RuntimeError(f"training {model} is {status['status']}:\n" + "\n".join(status.get("details", [])))


def run_bundle(bundle: Path, image: Path, scratch: Path) -> Path:
    """`python -m monai.bundle run` in the bundle's folder on one image; the label's file.

    Raises:
        RuntimeError: the command fails; shows the end of its output.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "in").mkdir(parents=True)
    shutil.copy(image, scratch / "in")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--dataset_dir", str(scratch / "in"), "--output_dir", str(scratch / "out")]
    done = subprocess.run(
        command, cwd=bundle, env=clean_environment(scratch / "tmp"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} in {bundle}:\n{done.stdout[-4000:]}")
    (label,) = (scratch / "out").rglob("*.nii.gz")
    return label
