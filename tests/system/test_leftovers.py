"""The check that no test leaves a process behind, on sessions that do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.runtime.settings import own_environment
from tests.support import leftovers
from tests.support.children import ending

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


LONG = """
import pathlib, subprocess, sys, time
def test_it():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    pathlib.Path("child.new").write_text(str(child.pid))
    pathlib.Path("child.new").rename("child")
    time.sleep(600)
"""


@contextmanager
def session(folder: Path, text: str, workers: str) -> Iterator[subprocess.Popen[str]]:
    """A test session of its own, with the plugin and pytest-xdist alone."""
    (folder / "test_it.py").write_text(text)
    command = ["-m", "pytest", "-q", "-p", "tests.support.leftovers", "-p", "xdist", "-n", workers]
    process = subprocess.Popen(
        [sys.executable, *command, "--leftovers-patience", "1", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        env=own_environment({"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with ending(process):
        yield process


def runs(pid: str) -> bool:
    """Whether it does; whoever waits for it may be slow to do so."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_session_that_leaves_processes_fails_and_ends_them(tmp_path: Path, workers: str) -> None:
    with session(tmp_path, SESSION, workers) as running:
        said, _ = running.communicate(timeout=120)
    assert "3 passed" in said, said
    assert running.returncode == 1
    named = dict(re.findall(r"^(\d+): (.*)$", said, re.MULTILINE))
    assert len(named) == 3
    for test in ("test_a_child_is_left", "test_a_grandchild_is_left"):
        [line] = [line for line in named.values() if f"(started by test_it.py::{test} (call))" in line]
        assert "time.sleep(600)" in line
    assert any(line.endswith("time.sleep(600) forgotten") for line in named.values())
    assert not any(map(runs, named))


def test_a_session_that_leaves_none_passes(tmp_path: Path) -> None:
    with session(tmp_path, CLEAN, "0") as running:
        said, _ = running.communicate(timeout=120)
    assert (running.returncode, "left behind" in said) == (0, False), said


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_session_that_is_told_to_end_ends_what_it_has_started(tmp_path: Path, workers: str) -> None:
    with session(tmp_path, LONG, workers) as running:
        child = tmp_path / "child"
        while not child.exists():
            assert running.poll() is None
            time.sleep(0.02)
        assert runs(child.read_text())
        running.terminate()
        running.communicate(timeout=120)
    assert running.returncode == pytest.ExitCode.INTERRUPTED
    assert not runs(child.read_text())


@pytest.mark.parametrize(
    ("parent", "run", "folder", "expected"),
    [
        (os.getpid(), "", "/", True),
        (1, "mine", "/", True),
        (1, "mine.gw0", "/", True),
        (1, "mine2", "/", False),
        (1, "", "/tmp/mine/gw0", True),
        (1, "", "/tmp/mine2", False),
        (1, "another", "/", False),
    ],
    ids=["child", "its id", "a worker's id", "another id like it", "its folder", "another folder like it", "stranger"],
)
def test_a_process_belongs_to_a_session_by_any_of_three(parent: int, run: str, folder: str, expected: bool) -> None:
    session = leftovers.Session("mine", Path("/tmp/mine"))
    assert session.has(parent, run, Path(folder)) is expected


def test_who_has_ended_is_not_left(tmp_path: Path) -> None:
    session = leftovers.Session("a run of its own", tmp_path)
    command = ["sh", "-c", "read line"]
    with ending(subprocess.Popen(command, stdin=subprocess.PIPE, cwd=tmp_path, text=True)) as process:
        assert process.pid in [found.pid for found in leftovers.remaining(session, patience=0)]
        process.communicate("\n")
        assert process.pid not in [found.pid for found in leftovers.remaining(session, patience=0)]
