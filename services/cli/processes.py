"""This program's commands as processes of their own, for the demo and for tests."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Self

import httpx

from shared.contract.errors import ARouterError
from shared.runtime.settings import own_environment

_START_SECONDS = 60.0  # on a machine that is busy with other things
_STOP_SECONDS = 60.0
_COMMAND_SECONDS = 300.0


class ProcessFailed(ARouterError):
    """A process did not start, or ended by itself."""


def free_port(wanted: int) -> int:
    """The wanted port, or any free one where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Processes:
    """The demo's processes: started as commands of this program, stopped in the opposite order, awaited."""

    def __init__(self) -> None:
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of them behind
        for _, process in reversed(self._running):
            stop(process)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(
        self,
        command: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        module: Sequence[str] = ("services.cli",),
    ) -> subprocess.Popen[bytes]:
        """Start `arouter COMMAND ARGUMENTS` with this environment and changes. `module` runs it, with its arguments."""
        # A session of its own: Ctrl-C reaches the demo alone, which ends the others in order.
        process = subprocess.Popen(
            [sys.executable, "-m", *module, command, *arguments],
            env=own_environment({"AROUTER_LOG_LEVEL": "error", **(environment or {})}),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._running.append((command, process))
        return process

    def command(self, *arguments: str, environment: Mapping[str, str], expected: Collection[int] = (0,)) -> str:
        """Run `arouter ARGUMENTS` to its end; its standard output.

        ProcessFailed, with its standard error, for a status that is not `expected`, and where it does not end.
        """
        try:
            done = subprocess.run(
                [sys.executable, "-m", "services.cli", *arguments],
                env=own_environment(environment),
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"arouter {arguments[0]} does not end") from None
        if done.returncode not in expected:
            raise ProcessFailed(done.stderr.strip())
        return done.stdout

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """Leave a process to the caller, who ends it."""
        self._running = [(command, running) for command, running in self._running if running is not process]

    def wait_for(self, url: str) -> None:
        """Wait until `url` answers with 200. ProcessFailed where it does not in time, or a process has ended."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self._check()
            try:
                if httpx.get(url, trust_env=False, timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise ProcessFailed(f"{url} did not answer in time")

    def wait(self) -> None:
        """Wait for ever. ProcessFailed when a process ends by itself."""
        while True:
            self._check()
            time.sleep(0.5)

    def _check(self) -> None:
        for command, process in self._running:
            if process.poll() is not None:
                raise ProcessFailed(f"the {command} has ended with status {process.returncode}")


def stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Ask a process to end; kill it where it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
