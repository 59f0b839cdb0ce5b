"""A gateway that starts before its Redis: it is ready once Redis has answered, and ends where Redis is unfit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.cli.processes import Processes, free_port
from shared.runtime import embedded
from shared.runtime.settings import Settings, own_environment
from tests.support import web
from tests.support.children import ending

PEPPER = "a pepper of the tests"


def environment(folder: Path, pepper: str) -> dict[str, str]:
    url = f"unix://{folder}/valkey/valkey.sock"
    return own_environment({"REDIS_URL": url, "AROUTER_DATA_DIR": str(folder), "AROUTER_KEY_PEPPER": pepper})


@contextmanager
def gateway(folder: Path, port: int, pepper: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "gateway", "--port", str(port)],
        env=environment(folder, pepper),
        stderr=subprocess.PIPE,
        text=True,
    )
    with ending(process):
        yield process


def make_key(folder: Path) -> None:
    with embedded.redis_url(Settings(data_dir=folder, redis_url=None)), Processes() as processes:
        processes.command("keys", "create", "--name", "x", environment=environment(folder, PEPPER))


def test_it_is_ready_once_redis_has_answered(tmp_path: Path) -> None:
    port = free_port(0)
    url = f"http://127.0.0.1:{port}"
    with gateway(tmp_path, port, PEPPER) as process:
        Processes().wait_for(f"{url}/healthz")
        answer = web.get(f"{url}/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["Redis has not answered since the start"])
        with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)):
            Processes().wait_for(f"{url}/readyz")
        assert web.get(f"{url}/readyz").is_success  # away again: requests go on
        assert process.poll() is None


def test_it_ends_where_redis_turns_out_to_have_keys_of_another_pepper(tmp_path: Path) -> None:
    make_key(tmp_path)
    port = free_port(0)
    with gateway(tmp_path, port, "another pepper than theirs") as process:
        Processes().wait_for(f"http://127.0.0.1:{port}/healthz")
        with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)):
            _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("arouter: AROUTER_KEY_PEPPER: this is not the pepper of these keys")
    assert "another pepper than theirs" not in said


def test_it_does_not_start_with_another_pepper(tmp_path: Path) -> None:
    make_key(tmp_path)
    with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)):
        for service in ("gateway", "control"):
            done = subprocess.run(
                [sys.executable, "-m", "services.cli", service, "--port", str(free_port(0))],
                env=environment(tmp_path, "another pepper than theirs"),
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1].startswith("arouter: AROUTER_KEY_PEPPER: ")
