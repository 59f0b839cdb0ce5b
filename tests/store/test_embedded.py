"""The embedded server: shared by its users, ended by the last, adopted after a kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.runtime import embedded
from shared.runtime.errors import SettingsError
from shared.runtime.settings import Settings, own_environment
from tests.support.children import ending

USER = """
import sys
from pathlib import Path
from typing import Any
from shared.runtime import embedded
from shared.runtime.settings import Settings
with embedded.redis_url(Settings(data_dir=Path(sys.argv[1]), redis_url=None)) as url:
    print(url, flush=True)
    sys.stdin.read()
"""

SLOW_SERVER = """#!/bin/sh
[ "$1" = --version ] && echo "Valkey server v=8.0.0" && exit
echo $$ > pid.new && mv pid.new pid
exec sleep 600
"""
INTERRUPTED = """
import signal
def end(*signal): raise SystemExit(0)
signal.signal(signal.SIGTERM, end)
"""


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that uses the server of this folder. Whatever the test leaves of them is ended."""
    with ExitStack() as stack:

        def start() -> subprocess.Popen[str]:
            process = stack.enter_context(ending(_started(tmp_path, USER)))
            assert process.stdout is not None
            assert process.stdout.readline().startswith("unix://")
            return process

        yield start
    if alive(tmp_path):
        with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)):
            pass  # the last to leave ends it


def _started(folder: Path, program: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=own_environment({}) | variables,
    )


def alive(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(folder / "valkey/valkey.sock")) == 0


def test_it_holds_usage_as_it_must(tmp_path: Path) -> None:
    with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)) as url:
        client = redis.Redis.from_url(url)
        names = ("appendonly", "appendfsync", "maxmemory-policy")
        options: Any = client.config_get("*")
        assert [options[name] for name in names] == ["yes", "everysec", "noeviction"]
        client.set("kept", "yes")
        client.close()
    assert not alive(tmp_path)
    with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)) as url:
        client = redis.Redis.from_url(url)
        assert client.get("kept") == b"yes"
        client.close()


def test_the_last_user_ends_it(tmp_path: Path, user: Callable[[], subprocess.Popen[str]]) -> None:
    first, second = user(), user()
    first.communicate("")
    assert alive(tmp_path)
    second.communicate("")
    assert not alive(tmp_path)


def test_one_whose_user_was_killed_is_adopted(tmp_path: Path, user: Callable[[], subprocess.Popen[str]]) -> None:
    killed = user()
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert alive(tmp_path)
    user().communicate("")
    assert not alive(tmp_path)


def test_one_that_is_still_starting_ends_with_a_user_that_is_told_to_end(tmp_path: Path) -> None:
    binary, written = tmp_path / "server", tmp_path / "data/valkey/pid"
    binary.write_text(SLOW_SERVER)
    binary.chmod(0o700)
    with ending(_started(tmp_path / "data", INTERRUPTED + USER, AROUTER_EMBEDDED_SERVER=str(binary))) as process:
        while not written.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    with pytest.raises(ProcessLookupError):
        os.kill(int(written.read_text()), 0)


def test_a_given_redis_goes_first(tmp_path: Path) -> None:
    settings = Settings.model_validate({"redis_url": "redis://elsewhere:1", "data_dir": tmp_path})
    with embedded.redis_url(settings) as url:
        assert url == "redis://elsewhere:1"
    assert list(tmp_path.iterdir()) == []


def test_a_path_no_socket_can_have_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="AROUTER_DATA_DIR"):
        with embedded.redis_url(Settings(data_dir=tmp_path / ("x" * 120), redis_url=None)):
            pass
