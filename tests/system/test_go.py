"""Our Go client. Skipped where there is no toolchain."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from shared.runtime.settings import own_environment
from tests.support.system import System

ROOT = Path(__file__).parents[2]
GO = ROOT / "sdk" / "go"


def run(command: list[str], folder: Path, changes: dict[str, str], timeout: float = 1200) -> str:
    done = subprocess.run(
        command, cwd=folder, env=own_environment(changes), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture
def go() -> str:
    found = shutil.which("go")
    if found is None:
        pytest.skip("go is not installed")
    return found


def test_the_go_client(system: System, go: str) -> None:
    manager = system.command("keys", "create", "--name", "go", "--management").strip()
    live = {
        "AROUTER_TEST_URL": system.url,
        "AROUTER_TEST_KEY": system.key,
        "AROUTER_TEST_MANAGEMENT_KEY": manager,
    }
    run([go, "vet", "./..."], GO, {})
    assert run([go, "test", "-count=1", "-timeout=600s", "./..."], GO, live).startswith("ok")
    formatted = Path(go).with_name("gofmt")
    if formatted.exists():
        assert run([str(formatted), "-l", "."], GO, {}) == ""


def test_the_go_client_under_the_race_detector_and_the_fuzzer(go: str) -> None:
    if shutil.which("gcc") is not None:  # cgo
        run([go, "test", "-count=1", "-race", "-timeout=600s", "./..."], GO, {"CGO_ENABLED": "1"})
    run([go, "test", "-run=NONE", "-fuzz=FuzzEvents", "-fuzztime=5s", "."], GO, {})
