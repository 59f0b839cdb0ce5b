"""A real nginx with the configuration that is shipped for docker compose, on free ports of this machine."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from services.cli.processes import free_port, stop

SHIPPED = Path(__file__).parents[2] / "deploy" / "compose" / "nginx.conf"


@contextmanager
def nginx(folder: Path, gateways: Sequence[str], changes: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of an nginx before these gateways. `changes`: text of the configuration, and what to put in its place.

    Skips the test where there is no nginx.
    """
    binary = nginx_binary()
    port = free_port(0)
    servers = "\n".join(f"    server {url.removeprefix('http://')} max_fails=1 fail_timeout=1s;" for url in gateways)
    text = SHIPPED.read_text()
    for old, new in {
        "    server gateway:8080 resolve;": servers,  # older versions cannot look names up again
        "  resolver 127.0.0.11 valid=2s;": "",
        "listen 8080;": f"listen 127.0.0.1:{port};",
        **(changes or {}),
    }.items():
        assert old in text, f"nginx.conf does not say {old!r} any more"
        text = text.replace(old, new)
    configuration = folder / "nginx.conf"
    configuration.write_text(f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n{text}")
    process = subprocess.Popen([binary, "-p", str(folder), "-c", str(configuration)], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process)
        yield url
    finally:
        stop(process)


def nginx_binary() -> str:
    """The path of nginx. Skips the test where there is none."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        pytest.skip("nginx is not installed")
    return binary


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/healthz", trust_env=False, timeout=20)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nginx does not start: {(SHIPPED).name}")
