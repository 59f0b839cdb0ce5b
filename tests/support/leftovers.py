"""A pytest plugin: a session that leaves a process running fails, and the process is ended.

A process belongs to the session by its parent; where that has ended first, by a variable in its environment, or by its
working directory (Valkey writes its title over its environment). Under pytest-xdist each worker is a session of its own
and tells the controller, which also ends what a worker has left that was killed. SIGTERM ends a session as Ctrl-C does,
with its fixtures.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

VARIABLE = "TEST_RUN_ID"
_PATIENCE = 30.0  # seconds for what has been told to end, on a busy machine


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that outlives the session that started it."""

    pid: int
    command: str
    test: str  # that ran when it was started; empty where nobody can tell

    def __str__(self) -> str:
        return f"{self.pid}: {self.command}" + (f" (started by {self.test})" if self.test else "")


@dataclass(frozen=True, slots=True)
class Session:
    """The id by which a session knows its processes. A worker's is its controller's, a dot, and its own name."""

    run: str
    folder: Path
    others: frozenset[int] = frozenset()  # processes that are none of it, though they are this process's children

    def has(self, parent: int, run: str, working: Path) -> bool:
        """Whether such a process is this session's: a child of this process, or another's that has ended."""
        mine = run == self.run or run.startswith(f"{self.run}.")
        return parent == os.getpid() or mine or working.is_relative_to(self.folder)


def leftovers(session: Session) -> list[Leftover]:
    """The living processes of the session but for this one."""
    folders = (folder for folder in Path("/proc").glob("[0-9]*") if int(folder.name) not in session.others)
    return [found for folder in folders if (found := _leftover(folder, session)) is not None]


def end(found: list[Leftover]) -> None:
    """Kill them, and reap those that are children of this process."""
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    for process in found:
        with suppress(ChildProcessError):
            os.waitpid(process.pid, 0)


def remaining(session: Session, patience: float) -> list[Leftover]:
    """The leftovers after `patience` seconds, in which ending processes may end."""
    deadline = time.monotonic() + patience
    while (found := leftovers(session)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _leftover(folder: Path, session: Session) -> Leftover | None:
    pid = int(folder.name)
    try:
        state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        if pid == os.getpid() or state in "ZX":
            return None
        environment = dict(_variables((folder / "environ").read_bytes()))
        if not session.has(int(parent), environment.get(VARIABLE, ""), (folder / "cwd").readlink()):
            return None
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:  # it has ended meanwhile, or is somebody else's
        return None
    return Leftover(pid, command, environment.get("PYTEST_CURRENT_TEST", ""))


def _variables(environment: bytes) -> Iterator[tuple[str, str]]:
    for line in environment.decode(errors="replace").split("\0"):
        name, equals, value = line.partition("=")
        if equals:
            yield name, value


class Watch:
    """Marks whatever this session starts, and looks for it at the end."""

    def __init__(self, run: str, patience: float) -> None:
        self.run = run
        self.found: list[str] = []
        self._patience = patience
        self._outer = os.environ.get(VARIABLE)  # noqa: TID251  # the children's environment is the subject

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        os.environ[VARIABLE] = self.run  # noqa: TID251  # the children's environment is the subject

    @pytest.hookimpl(trylast=True)  # when the fixtures of the session are gone
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        temporary = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # noqa: SLF001  # as xdist
        patience = self._patience if exitstatus != pytest.ExitCode.INTERRUPTED else 0
        found = remaining(Session(self.run, temporary), patience)
        self.found += map(str, found)
        end(found)
        worker: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if worker is not None:
            worker["leftovers"] = self.found
        elif self.found and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.found += getattr(node, "workeroutput", {}).get("leftovers", [])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            terminalreporter.section("processes left behind (killed now)", red=True)
            for line in self.found:
                terminalreporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        if self._outer is None:
            os.environ.pop(VARIABLE, None)  # noqa: TID251  # the children's environment is the subject
        else:
            os.environ[VARIABLE] = self._outer  # noqa: TID251  # the children's environment is the subject


def pytest_addoption(parser: pytest.Parser) -> None:
    says = "seconds for what has been told to end; then it counts as left behind"
    parser.addoption("--leftovers-patience", type=float, default=_PATIENCE, help=says)


def pytest_configure(config: pytest.Config) -> None:
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    run = f"{os.environ[VARIABLE]}.{worker['workerid']}" if worker else uuid4().hex  # noqa: TID251  # as above
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.pluginmanager.register(Watch(run, config.getoption("leftovers_patience")), "leftovers")
