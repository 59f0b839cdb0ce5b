"""The relay against its peers, in one run on one core: the gateway (metering on), nginx, a plain proxy, LiteLLM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.cli.processes import free_port
from shared.runtime import embedded
from shared.runtime.settings import Settings, own_environment

_TICK = os.sysconf("SC_CLK_TCK")
_NGINX = """daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 16384; }}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; client_max_body_size 64m;
 upstream provider {{ server 127.0.0.1:{upstream}; keepalive 512; }}
 server {{ listen 127.0.0.1:{port} backlog=4096; keepalive_requests 100000000;
  location / {{ proxy_pass http://provider; proxy_http_version 1.1;
  proxy_set_header Connection ""; proxy_buffering off; }} }} }}
"""
_LITELLM = """model_list:
 - model_name: gpt-4o
   litellm_params: {{model: openai/gpt-4o, api_base: "http://127.0.0.1:{upstream}/v1", api_key: x}}
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """The load of one comparison."""

    title: str
    connections: int
    events: int  # 0: a plain JSON answer
    gap: int = 0  # milliseconds
    body: int = 100
    seconds: float = 5
    memory: bool = False


_LIMITED = "gateway, a key with limits"
# More than is ever used. What limits cost a request is the difference to the gateway's own row.
_LIMITS = ("--limit-usd", "1000000", "--limit-tokens", "1000000000000", "--rpm", "100000000", "--tpm", "1000000000")
_JSON = Scenario("plain JSON, 32 connections", 32, 0)
SCENARIOS = (
    Scenario("2,000 open streams, 2 events/s each", 2000, 1000, 500, memory=True),  # first: memory is not given back
    Scenario("200 streams, 50 events/s each", 200, 100, 20),
    Scenario("50 streams, events back to back", 50, 200),
    _JSON,
    Scenario("JSON with 10 MB requests, 1 connection", 1, 0, body=10_000_000),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One peer in one scenario."""

    scenario: str
    peer: str
    unit: str  # what `cpu_us` is per
    cpu_us: float
    rate: float  # of that unit, per second
    delay_p50: int
    delay_p99: int
    first_p50: int
    kib_per_stream: float | None
    errors: int


def rows(folder: Path) -> list[Row]:
    """Measure every peer that is installed here."""
    with ExitStack() as stack:
        upstream = free_port(0)
        stack.enter_context(process([sys.executable, "-m", "bench.upstream", str(upstream)], core=1))
        peers = dict(stack.enter_context(started(name, folder, upstream)) for name in available())
        return [
            measure(scenario, name, *peer)
            for scenario in SCENARIOS
            for name, peer in peers.items()
            if name != _LIMITED or scenario is _JSON
        ]


def available() -> list[str]:
    names = ["gateway", _LIMITED, "plain proxy"]
    if shutil.which("nginx"):
        names.insert(2, "nginx")
    if shutil.which("litellm"):
        names.append("LiteLLM")
    return names


@contextmanager
def started(name: str, folder: Path, upstream: int) -> Iterator[tuple[str, tuple[int, int, str]]]:
    """A peer, up and pinned to core 0: its name, and its process id, port and key."""
    port = free_port(0)
    with ExitStack() as stack:
        key = "none"
        environment: dict[str, str] = {}
        if name in ("gateway", _LIMITED):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
            url = stack.enter_context(embedded.redis_url(Settings(data_dir=folder, redis_url=None)))
            environment = {
                "REDIS_URL": url,
                "AROUTER_DATA_DIR": str(folder),
                "AROUTER_KEY_PEPPER": "pepper-of-the-bench",
                "AROUTER_LOG_LEVEL": "error",
                "AROUTER_METRICS_PORT": "0",
                "AROUTER_METER_METRICS_PORT": "0",
                "AROUTER_PROVIDERS__OPENAI__BASE_URL": f"http://127.0.0.1:{upstream}/v1",
            }
            cli = [sys.executable, "-m", "services.cli"]
            stack.enter_context(process([*cli, "meter"], core=1, environment=environment))
            key = subprocess.run(
                [*cli, "keys", "create", "--name", "bench", *(_LIMITS if name == _LIMITED else ())],
                env=own_environment(environment),
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            command = [*cli, "gateway", "--port", str(port)]
        elif name == "nginx":
            config = folder / "nginx.conf"
            config.write_text(_NGINX.format(folder=folder, upstream=upstream, port=port))
            command = ["nginx", "-c", str(config)]
        elif name == "LiteLLM":
            config = folder / "litellm.yaml"
            config.write_text(_LITELLM.format(upstream=upstream))
            command = ["litellm", "--config", str(config), "--port", str(port)]
        else:
            command = [sys.executable, "-m", "bench.plain", str(port), f"http://127.0.0.1:{upstream}"]
        pid = stack.enter_context(process(command, core=0, environment=environment))
        _wait_for(port, key)
        yield name, (pid, port, key)


@contextmanager
def process(command: list[str], *, core: int, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """A process on one core, ended with the block."""
    running = subprocess.Popen(
        command,
        env=own_environment(environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _pin(running.pid, core)
    try:
        yield running.pid
    finally:
        running.terminate()
        running.wait(60)


def measure(scenario: Scenario, peer: str, pid: int, port: int, key: str) -> Row:
    """Run one scenario against one peer."""
    empty = _resident_kib(pid)
    seconds = scenario.seconds
    arguments = [port, key, scenario.connections, seconds, scenario.events, scenario.gap, scenario.body]
    before = cpu_seconds(pid)
    load = subprocess.Popen(
        [sys.executable, "-m", "bench.load", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )
    _pin(load.pid, 1)
    time.sleep(seconds)
    held = _resident_kib(pid) - empty
    out, _ = load.communicate(timeout=60)
    cpu = cpu_seconds(pid) - before
    found = json.loads(out)
    count = found["events"] if scenario.events else found["requests"]
    time.sleep(1)  # for connections that were cut off to end
    return Row(
        scenario=scenario.title,
        peer=peer,
        unit="event" if scenario.events else "request",
        cpu_us=cpu / max(1, count) * 1e6,
        rate=count / seconds,
        delay_p50=found["delay_p50"],
        delay_p99=found["delay_p99"],
        first_p50=found["first_p50"],
        kib_per_stream=held / scenario.connections if scenario.memory else None,
        errors=found["errors"],
    )


def _pin(pid: int, core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, {cores[core % len(cores)]})


def _wait_for(port: int, key: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                headers={"authorization": f"Bearer {key}"},
                json={"model": "gpt-4o", "messages": []},
                trust_env=False,
            )
            if answer.status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"nothing answers on port {port}")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
