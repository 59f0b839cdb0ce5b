"""The check that no test leaves a process behind, on sessions that do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.runtime.settings import own_environment
from tests.support import leftovers

ROOT = Path(__file__).parents[2]
SESSION = """
import subprocess, sys
SLEEP = "import time; time.sleep(600)"
def test_a_child_is_left(): subprocess.Popen([sys.executable, "-c", SLEEP])
def test_a_grandchild_is_left(): subprocess.run(f"{sys.executable} -c '{SLEEP}' >/dev/null 2>&1 &", shell=True)
def test_an_environment_is_forgotten(): subprocess.Popen([sys.executable, "-c", SLEEP, "forgotten"], env={})
"""
CLEAN = """
import subprocess, sys
def test_it():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.communicate(b"x")
"""


def session(folder: Path, text: str, workers: str) -> subprocess.CompletedProcess[str]:
    """A test session of its own, with the plugin and pytest-xdist alone."""
    (folder / "test_it.py").write_text(text)
    command = ["-m", "pytest", "-q", "-p", "tests.support.leftovers", "-p", "xdist", "-n", workers]
    return subprocess.run(
        [sys.executable, *command, "--leftovers-patience", "0.2", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        env=own_environment({"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
        capture_output=True,
        text=True,
        check=False,
    )


def runs(pid: str) -> bool:
    """Whether it does; whoever waits for it may be slow to do so."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_session_that_leaves_processes_fails_and_ends_them(tmp_path: Path, workers: str) -> None:
    done = session(tmp_path, SESSION, workers)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    named = dict(re.findall(r"^(\d+): (.*)$", done.stdout, re.MULTILINE))
    assert len(named) == 3
    for test in ("test_a_child_is_left", "test_a_grandchild_is_left"):
        [line] = [line for line in named.values() if f"(started by test_it.py::{test} (call))" in line]
        assert "time.sleep(600)" in line
    assert any(line.endswith("time.sleep(600) forgotten") for line in named.values())
    assert not any(map(runs, named))


def test_a_session_that_leaves_none_passes(tmp_path: Path) -> None:
    done = session(tmp_path, CLEAN, "0")
    assert (done.returncode, "left behind" in done.stdout) == (0, False), done.stdout + done.stderr


def test_what_is_about_to_end_is_waited_for() -> None:
    run = "a run of its own"
    environment = own_environment({leftovers.VARIABLE: run})
    ends = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment)
    try:
        assert ends.pid in [found.pid for found in leftovers.remaining(run, patience=0)]
        ends.communicate(b"\n")
        assert ends.pid not in [found.pid for found in leftovers.remaining(run, patience=0)]
    finally:
        ends.kill()
        ends.wait()
