# SPDX-License-Identifier: Apache-2.0
"""The environment of `make accept`: kept while its pins stay, and one clear message where a package cannot be had."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parent / "accept" / "environment.py"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module with pins that nobody can meet, and no package registry."""
    spec = importlib.util.spec_from_file_location("accept_environment", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pins = tmp_path / "requirements.txt"
    pins.write_text("no-such-wheel-of-ours==1.0\n")
    monkeypatch.setattr(module, "PINS", pins)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return module


def test_a_missing_wheel_is_named_and_what_was_half_built_is_not_reused(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "venv"
    real = subprocess.run

    def run(command: list[str], **keywords: Any) -> subprocess.CompletedProcess[bytes]:
        if command[1:3] != ["-m", "venv"]:
            return real([sys.executable, *command[1:]], **keywords)  # pip refuses before it would install anything
        return fake_venv(command)

    monkeypatch.setattr(environment.subprocess, "run", run)
    with pytest.raises(OSError, match=r"no-such-wheel-of-ours==1\.0.*requirements\.txt.*venv\.log") as error:
        environment.accept_env(folder)
    assert "\n" not in str(error.value)
    assert (folder / "bin" / "python").exists() and not (folder / "pins.sha256").exists()


def test_it_is_rebuilt_when_the_pins_change_and_only_then(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment.subprocess, "run", lambda command, **_: fake_venv(command))
    folder = tmp_path / "venv"
    python = environment.accept_env(folder)
    kept = folder / "kept"
    kept.touch()
    assert environment.accept_env(folder) == python and kept.exists()
    environment.PINS.write_text("another-wheel==2.0\n")
    environment.accept_env(folder)
    assert not kept.exists()


def fake_venv(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """What `python -m venv FOLDER` leaves, as far as it matters here."""
    if command[1:3] == ["-m", "venv"]:
        python = Path(command[3], "bin", "python")
        python.parent.mkdir(parents=True)
        python.touch()
    return subprocess.CompletedProcess(command, 0)


def test_another_python_is_refused(environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.sys, "version_info", (3, 13, 0))
    with pytest.raises(OSError, match=r"Python 3\.11"):
        environment.accept_env(tmp_path / "venv")
