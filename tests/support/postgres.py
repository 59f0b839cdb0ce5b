"""A PostgreSQL server for tests: this machine's own binaries, on a port and in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.cli.processes import free_port
from shared.contract.errors import ARouterError

_START_SECONDS = 60.0


class NoPostgres(ARouterError):
    """This machine has no PostgreSQL: apt-get install postgresql."""


def binaries() -> Path:
    """The folder of the newest server's binaries. NoPostgres where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("postgres")
    if found or on_path:
        return found[-1].parent if found else Path(str(on_path)).resolve().parent
    raise NoPostgres("there is no PostgreSQL here: apt-get install postgresql")


class Postgres:
    """A running server. `url` names an empty database."""

    def __init__(self, folder: Path, *, safe: bool = False) -> None:
        """`safe`: it syncs to the disk as servers do."""
        self.port = free_port(0)
        self.url = f"postgresql://arouter@127.0.0.1:{self.port}/postgres"
        self._data = folder / "data"
        self._safe = safe
        self._bin = binaries()
        # It refuses to run as root.
        self._user = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(folder, self._user, -1)
        self._run("initdb", "-D", str(self._data), "-U", "arouter", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it answers."""
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        if not self._safe:
            options |= {"fsync": "off", "synchronous_commit": "off"}
        self.process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._data, *(p for k, v in options.items() for p in ("-c", f"{k}={v}"))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user,
            cwd="/",
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), check=False):
            assert self.process.poll() is None, "PostgreSQL does not start"
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)
        return self.process

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it; SIGQUIT is a crash, after which it recovers."""
        self.process.send_signal(number)
        self.process.wait()

    def pids(self) -> list[int]:
        """The server and all its processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            [self._bin / program, *arguments], capture_output=True, text=True, check=False, user=self._user, cwd="/"
        )
        assert not check or done.returncode == 0, done.stderr
        return done.returncode


@contextmanager
def running(*, safe: bool = False) -> Iterator[Postgres]:
    """A server while the block runs. NoPostgres where this machine has none."""
    binaries()
    with tempfile.TemporaryDirectory(prefix="arpg") as folder:
        server = Postgres(Path(folder), safe=safe)
        try:
            yield server
        finally:
            server.stop()
