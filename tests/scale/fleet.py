"""Three gateways behind a real nginx, three meters and a Redis Cluster of three."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from redis.cluster import RedisCluster

from services.cli.processes import Processes, free_port, stop
from shared.contract import names
from shared.runtime import embedded
from shared.runtime.settings import Settings
from tests.scale.callers import Callers
from tests.support.cluster import cluster_url
from tests.support.nginx import nginx, nginx_binary

SHARDS = 8
_BOOK_SECONDS = 120.0


@dataclass(slots=True)
class Line:
    """One line of the time line."""

    at: float
    what: str
    answered: int
    errors: int


class Fleet:
    """The whole fleet, while the block runs."""

    def __init__(self, folder: Path, gateways: int = 3, meters: int = 3) -> None:
        self.timeline: list[Line] = []
        self._folder = folder
        self._urls = [f"http://127.0.0.1:{free_port(0)}" for _ in range(gateways)]
        self._wanted_meters = meters
        self._stack = ExitStack()
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        with self._stack:  # what has been started ends where the rest does not come up, or there is no nginx
            self._begin()
            self._stack = self._stack.pop_all()
        return self

    def _begin(self) -> None:
        nginx_binary()  # before anything is started: it may skip the test
        enter = self._stack.enter_context
        url = enter(cluster_url(self._folder))
        plain = enter(embedded.redis_url(Settings(data_dir=self._folder, redis_url=None)))
        self.redis = RedisCluster.from_url(url.replace("+cluster", ""))
        self._stack.callback(self.redis.close)
        self._processes = enter(Processes())
        provider = f"http://127.0.0.1:{free_port(0)}"
        self.environment = {
            "REDIS_URL": url,
            "AROUTER_ARQ_REDIS_URL": plain,
            "AROUTER_DATA_DIR": str(self._folder),
            "AROUTER_SHARDS": str(SHARDS),
            "AROUTER_KEY_PEPPER": "pepper-of-the-tests",
            "AROUTER_METRICS_PORT": "0",
            "AROUTER_METER_METRICS_PORT": "0",
            "AROUTER_SHUTDOWN_DELAY": "1",
            "AROUTER_SHUTDOWN_TIMEOUT": "20",
        }
        for name, suffix in {"OPENAI": "/v1", "ANTHROPIC": "", "GEMINI": ""}.items():
            self.environment[f"AROUTER_PROVIDERS__{name}__BASE_URL"] = provider + suffix
        self._processes.start("provider", "--port", provider.rpartition(":")[2], "--log", self._log)
        self.gateways = [self._start_gateway(number) for number in range(len(self._urls))]
        self.meters = [self._start_meter() for _ in range(self._wanted_meters)]
        for gateway in self._urls:
            self._processes.wait_for(f"{gateway}/readyz")
        key = self.command("keys", "create", "--name", "tests").strip()
        self.callers = Callers(enter(nginx(self._folder, self._urls)), key)

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def _log(self) -> str:
        return str(self._folder / "emitted.jsonl")

    def say(self, what: str) -> None:
        """Add to the time line."""
        seen = self.callers
        self.timeline.append(Line(time.monotonic() - self._started, what, len(seen.answered), len(seen.errors)))
        print(f"{self.timeline[-1].at:6.1f} s  {len(seen.answered):6} answered  {len(seen.errors):3} errors  {what}")

    def command(self, *arguments: str) -> str:
        return self._processes.command(*arguments, environment=self.environment, expected=(0, 1))

    def roll_gateway(self, number: int) -> None:
        """End one as Kubernetes does, and start its successor."""
        self._end(self.gateways[number])
        self.gateways[number] = self._start_gateway(number)
        self._processes.wait_for(f"{self._urls[number]}/readyz")
        self.say(f"gateway {number} rolled")

    def kill_gateway(self, number: int) -> None:
        """kill -9 of a gateway: the one error that clients see only by their connection."""
        self._processes.forget(self.gateways[number])
        self.gateways[number].kill()
        self.gateways[number].wait()
        self.say(f"gateway {number} killed")
        self.gateways[number] = self._start_gateway(number)
        self._processes.wait_for(f"{self._urls[number]}/readyz")
        self.say(f"gateway {number} is back")

    def roll_meter(self, number: int) -> None:
        self._end(self.meters[number])
        self.meters[number] = self._start_meter()
        self.say(f"meter {number} rolled")

    def add_meter(self) -> None:
        self.meters.append(self._start_meter())
        self.say(f"a meter has come: {len(self.meters)}")

    def remove_meter(self) -> None:
        self._end(self.meters.pop())
        self.say(f"a meter has gone: {len(self.meters)}")

    def leases(self) -> Counter[str]:
        """How many shards each meter reads."""
        held = [self.redis.get(names.lease(shard)) for shard in range(int(self.environment["AROUTER_SHARDS"]))]
        return Counter(str(holder) for holder in held if holder)

    def until_balanced(self, seconds: float = 120) -> Counter[str]:
        """Wait until every shard is read, and no meter reads more than its share."""
        deadline = time.monotonic() + seconds
        shards = int(self.environment["AROUTER_SHARDS"])
        share = -(-shards // len(self.meters))
        while True:
            held = self.leases()
            if held.total() == shards and len(held) == len(self.meters) and max(held.values()) <= share:
                self.say(f"leases: {', '.join(map(str, sorted(held.values())))}")
                return held
            assert time.monotonic() < deadline, f"not balanced: {held}"
            time.sleep(0.2)

    def audited(self) -> dict[str, Any]:
        """Wait until nothing moves. Returns the audit."""
        deadline = time.monotonic() + _BOOK_SECONDS
        while True:
            found: dict[str, Any] = json.loads(self.command("audit", "--json", "--oracle", self._log))
            if not found["differences"] or time.monotonic() > deadline:
                return found
            time.sleep(1)

    def _start_gateway(self, number: int) -> subprocess.Popen[bytes]:
        port = self._urls[number].rpartition(":")[2]
        return self._processes.start("gateway", "--port", port, environment=self.environment)

    def _start_meter(self) -> subprocess.Popen[bytes]:
        return self._processes.start("meter", environment=self.environment)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._processes.forget(process)
        stop(process)
