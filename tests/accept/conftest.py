# SPDX-License-Identifier: Apache-2.0
"""One server for all tests of `make accept`, ended also when they fail or are interrupted."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from environment import WORK
from monailabel.client import MONAILabelClient
from server import label_server
from students import EXPORTED, STUDENTS


@pytest.fixture(scope="session")
def office() -> Path:
    """Folder of the server (log, app, studies) and of this run's images and labels, empty at the start."""
    folder = WORK / "monai_label"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def client(office: Path) -> Iterator[MONAILabelClient]:
    """A client of a server with the two students."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("accept: terminated"))  # ends the server too
    with label_server(office, [EXPORTED / name for name in STUDENTS]) as client:
        yield client


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus:
        print(f"\naccept: failed; the server's and the federation's logs are in {WORK}")
