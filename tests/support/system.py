"""The whole system as real processes, and the two books that must agree: the emit log and the ledger."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis

from services.cli.processes import Processes, free_port, stop
from shared.contract import names
from shared.runtime import embedded
from shared.runtime.settings import Settings
from tests.support import web

SHARDS = 4
_SETTLE_SECONDS = 120.0  # on a machine that is busy with other things
# Gemini has none: what has no price is counted as such.
PRICES = """
version = "tests-1"
[[prices]]
provider = "openai"
model = "*"
input = 2_500_000
cached_input = 1_250_000
output = 10_000_000
[[prices]]
provider = "anthropic"
model = "claude*"
input = 3_000_000
cached_input = 300_000
cache_write = 3_750_000
output = 15_000_000
"""

Book = dict[str, dict[str, Any]]


class System:
    """Redis, demo provider, one gateway, one meter, one key. More of each on request."""

    def __init__(self, folder: Path, **gateway_settings: str) -> None:
        self.folder = folder
        self.emit_log = folder / "emitted.jsonl"
        self.provider = f"http://127.0.0.1:{free_port(0)}"
        self.url = f"http://127.0.0.1:{free_port(0)}"
        self._stack = ExitStack()
        self.extra = dict(gateway_settings)  # environment of what is started from now on

    def __enter__(self) -> Self:
        with self._stack:  # what has been started ends where the rest does not come up
            self._begin()
            self._stack = self._stack.pop_all()
        return self

    def _begin(self) -> None:
        """Start everything. Subclasses start their own processes here, too."""
        (self.folder / "prices.toml").write_text(PRICES)
        settings = Settings(data_dir=self.folder, redis_url=None)
        self.redis_url = self._stack.enter_context(embedded.redis_url(settings))
        self.processes = self._stack.enter_context(Processes())
        self.redis = redis.Redis.from_url(self.redis_url)
        self._stack.callback(self.redis.close)
        self.processes.start("provider", "--port", self.provider.rpartition(":")[2], "--log", str(self.emit_log))
        self.gateway = self.start_gateway(self.url)
        self.meter = self.start_meter()
        self.processes.wait_for(f"{self.provider}/v1/models")
        self.processes.wait_for(f"{self.url}/readyz")
        self.key = self.command("keys", "create", "--name", "tests").strip()

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def start_gateway(self, url: str) -> subprocess.Popen[bytes]:
        return self.processes.start("gateway", "--port", url.rpartition(":")[2], environment=self.environment)

    def start_meter(self) -> subprocess.Popen[bytes]:
        return self.processes.start("meter", environment=self.environment)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """kill -9."""
        self.processes.forget(process)
        process.kill()
        process.wait()

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM, and wait."""
        self.processes.forget(process)
        stop(process)

    @property
    def environment(self) -> Mapping[str, str]:
        environment = {
            "REDIS_URL": self.redis_url,
            "AROUTER_SHARDS": str(SHARDS),
            "AROUTER_DATA_DIR": str(self.folder),
            "AROUTER_KEY_PEPPER": "pepper-of-the-tests",
            "AROUTER_LOG_LEVEL": "warning",
            "AROUTER_PRICES": str(self.folder / "prices.toml"),
            "AROUTER_METRICS_PORT": "0",
            "AROUTER_METER_METRICS_PORT": "0",
            "AROUTER_NO_PROXY": "*",  # whatever this machine has
            "AROUTER_PROVIDERS__ASKING__BASE_URL": f"{self.provider}/v1",
            "AROUTER_PROVIDERS__ASKING__ASK_USAGE": "true",
            "AROUTER_PROVIDERS__DEAD__BASE_URL": "http://127.0.0.1:9/v1",
            **self.extra,
        }
        for provider, suffix in {
            "OPENAI": "/v1",
            "DEEPSEEK": "/v1",
            "ANTHROPIC": "",
            "GEMINI": "",
            "AZURE": "",
        }.items():
            environment[f"AROUTER_PROVIDERS__{provider}__BASE_URL"] = self.provider + suffix
            if f"AROUTER_PROVIDERS__{provider}__AUTH" not in self.extra:
                environment[f"AROUTER_PROVIDERS__{provider}__API_KEY"] = f"sk-{provider.lower()}-credential"
        return environment

    def command(self, *arguments: str, expected: Collection[int] = (0,)) -> str:
        """Run `arouter ARGUMENTS` in this system; its standard output."""
        return self.processes.command(*arguments, environment=self.environment, expected=expected)

    def emitted(self) -> Book:
        """The provider's book: emit log lines by exchange id."""
        whole = self.emit_log.read_text().rpartition("\n")[0]  # the last line may be half written
        lines = map(json.loads, whole.splitlines())
        return {line["exchange_id"]: line for line in lines if line["exchange_id"]}

    def ledger(self) -> Book:
        """Our book: ledger entries by exchange id. AssertionError where one exchange has two."""
        book: Book = {}
        for shard in range(SHARDS):
            for _, fields in self.redis.xrange(names.ledger(shard)):  # type: ignore[union-attr]
                entry = json.loads(fields[b"entry"])
                assert entry["exchange_id"] not in book, "settled twice"
                book[entry["exchange_id"]] = entry
        return book

    def settled(self, exchange_ids: Iterable[str]) -> Book:
        """Wait until all of these are settled; their ledger entries."""
        wanted = set(exchange_ids)
        book = self.until(lambda: (book := self.ledger()).keys() >= wanted and book)
        return {exchange_id: book[exchange_id] for exchange_id in wanted}

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until the condition holds; its value. AssertionError where it does not within two minutes."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not (value := condition()):
            assert time.monotonic() < deadline, "it does not come true"
            time.sleep(0.05)
        return value

    def usage(self) -> list[dict[str, Any]]:
        """`arouter usage --json`."""
        rows: list[dict[str, Any]] = json.loads(self.command("usage", "--json"))
        return rows

    def pending(self, key: str | None = None) -> int:
        """How many exchanges of this key are open, as the control API says."""
        summary = web.get(f"{self.url}/api/usage/summary", headers={"x-api-key": key or self.key}).json()
        return int(summary["pending_requests"])

    def backlog(self) -> int:
        """Records that wait in the tail streams."""
        return sum(int(str(self.redis.xlen(names.tail(shard)))) for shard in range(SHARDS))
