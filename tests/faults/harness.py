"""A system to break: two gateways, two meters, load, and what must be true of the books afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from services.cli.processes import ProcessFailed, free_port
from shared.access import keys, teams
from shared.access.key_format import hash_key
from shared.books import limit_records
from shared.contract import limits
from shared.contract.limits import Limits, Reset
from shared.runtime import embedded, store
from shared.runtime.settings import Settings
from tests.support.requests import ASKS
from tests.support.system import System

# More than any fault uses: nobody is refused, and everything is counted.
_LIMITS = Limits(
    limit_nanousd=10**15,
    limit_tokens=10**12,
    tokens_per_minute=10**9,
    concurrent_requests=10**4,
    limit_reset=Reset.DAILY,
)
T = TypeVar("T")
_CLIENTS = 6
_MISHAPS = ["", "", "", "", "split=50", "no-usage", "error", "truncate", "cut", "reset", "status=429", "refuse", "gzip"]
# What a client may hold and the books not: one tick of the journal, on a machine that is busy.
BOUND_BYTES = 32 * 1024


class Unmet(AssertionError):
    """The books are wrong after a fault."""


class NotHere(Exception):
    """A fault cannot be tried on this machine."""


@dataclass(slots=True)
class Expectation:
    """The traces that a fault may leave in the books."""

    provisional: bool = False  # orphans whose journal is lost
    quarantined: int = 0  # cases that belong to no exchange
    unbooked: int = 0  # exchanges whose open had not left a gateway that is gone with its disk
    bound: int | None = BOUND_BYTES  # bytes a client has and the books have not; None: the journal was damaged


class Broken(System):
    """Two of everything, with load on it."""

    def __init__(self, folder: Path, seed: int, cripple: str = "", patience: float = 120) -> None:
        super().__init__(folder, AROUTER_SHUTDOWN_TIMEOUT="5", AROUTER_UPSTREAM_KEEP_ALIVE="3")
        self.extra["AROUTER_LOG_LEVEL"] = "error"
        self.rng = random.Random(seed)
        self.received: dict[str, int] = {}  # body bytes a client has got, by exchange
        self.served = 0
        self._second = f"http://127.0.0.1:{free_port(0)}"
        self._redis = ExitStack()
        self.teams: dict[str, str] = {}  # key to the team it belongs to
        self._cripple = cripple
        self.harm = ""  # what befalls the processes that are started from now on, see `crippled`
        self._patience = patience
        self._stopping = threading.Event()

    def _begin(self) -> None:
        super()._begin()
        self._stack.callback(self._redis.close)
        self.gateways = [self.gateway, self.start_gateway(self._second)]
        self.meters = [self.meter, self.start_meter()]
        self.processes.wait_for(f"{self._second}/readyz")
        asyncio.run(self.make_teams())

    async def make_teams(self) -> None:
        """A key of each of two teams beside the one that belongs to none."""
        redis = store.connect(self.redis_url)
        for name in ("red", "blue"):
            await teams.create(redis, name)
            key, _ = await keys.create(redis, self._pepper, name, team=name, limits=_LIMITS)
            self.teams[key] = name
        for scope in (limits.team_scope("red"), limits.EVERYTHING):
            await limit_records.write(redis, scope, _LIMITS)
        await redis.aclose()

    @property
    def _pepper(self) -> bytes:
        return self.environment["AROUTER_KEY_PEPPER"].encode()

    @property
    def urls(self) -> list[str]:
        return [self.url, self._second]

    def start_gateway(self, url: str) -> subprocess.Popen[bytes]:
        return self._start("gateway", "--port", url.rpartition(":")[2])

    def start_follower(self) -> subprocess.Popen[bytes]:
        return self._start("follow", "sql")

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter this, until the system ends."""
        return self._stack.enter_context(context)

    def start_meter(self) -> subprocess.Popen[bytes]:
        return self._start("meter")

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        changes = "+".join(filter(None, (self._cripple, self.harm)))
        module = ("tests.faults.crippled", changes) if changes else ("services.cli",)
        return self.processes.start(*command, environment=self.environment, module=module)

    def kill_gateway(self, number: int) -> None:
        self.kill(self.gateways[number])

    def restart_gateway(self, number: int) -> None:
        self.gateways[number] = self.start_gateway(self.urls[number])

    def kill_meter(self, number: int) -> None:
        self.kill(self.meters[number])
        self.meters[number] = self.start_meter()

    @contextmanager
    def frozen(self, *pids: int) -> Iterator[None]:
        """Stop these processes while the block runs."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @property
    def redis_pid(self) -> int:
        return int(self.redis.info("server")["process_id"])  # type: ignore[index]

    def kill_redis(self) -> None:
        pid = self.redis_pid
        os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                time.sleep(0.01)

    def restart_redis(self) -> None:
        self._redis.enter_context(embedded.redis_url(Settings(data_dir=self.folder, redis_url=None)))
        self.until(self.redis.ping)

    @contextmanager
    def load(self) -> Iterator[None]:
        """Run clients while the block runs. They accept any error of a gateway."""
        self._stopping.clear()
        clients = [
            threading.Thread(target=self._client, args=(self.rng.random(),), daemon=True) for _ in range(_CLIENTS)
        ]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._stopping.set()
            for client in clients:
                client.join(60)

    def _client(self, seed: float) -> None:
        rng = random.Random(seed)
        with httpx.Client(timeout=20, trust_env=False) as client:
            while not self._stopping.is_set():
                try:
                    self._ask(client, rng)
                except httpx.HTTPError:
                    time.sleep(0.02)

    def _ask(self, client: httpx.Client, rng: random.Random) -> None:
        ask = ASKS[rng.choice(list(ASKS))]
        directives = f"tokens={rng.randint(0, 80)}, pace={rng.choice([0, 5, 20])}, seed={rng.randint(0, 99)}, "
        leave = rng.randint(0, 5000) if rng.random() < 0.1 else None
        headers = ask.headers(rng.choice([self.key, *list(self.teams)[-2:]]), directives + rng.choice(_MISHAPS))
        with client.stream("POST", rng.choice(self.urls) + ask.path, headers=headers, json=ask.body) as response:
            id = response.headers.get("x-generation-id")
            if id is None:
                return
            self.served += 1
            self.received[id] = 0
            for part in response.iter_raw():
                self.received[id] += len(part)
                if leave is not None and self.received[id] > leave:
                    return

    def settle(self, expected: Expectation) -> dict[str, Any]:
        """Wait until nothing moves, and check the books. Returns the audit; Unmet where the books are wrong."""
        deadline = time.monotonic() + self._patience
        while True:
            found = self._audit()
            differences = [line for line in found["differences"] if not self._allowed(line, expected)]
            unbooked = [line for line in differences if line.endswith(("it is not booked", "nowhere to be found"))]
            if len(unbooked) <= expected.unbooked + 1 and 0 <= found["conservation"]["gap"] <= expected.unbooked:
                differences = [line for line in differences if line not in unbooked]
            behind = (found["database"] or {"behind": 0})["behind"]
            # An exchange that was lost with its disk never settles: its reservation goes once its boot is long gone.
            reserved = [] if expected.provisional or expected.unbooked else self._reserved()
            settled = not differences and not behind and not reserved
            if settled and (expected.provisional or not self.backlog()):
                break
            if time.monotonic() > deadline:
                left = f"{behind} entries not followed, backlog {self.backlog()}, reserved in {reserved}"
                raise Unmet(f"{len(differences)} differences, {left}: {differences[:5]}")
            time.sleep(1)
        self._check_received(expected)
        cases = json.loads(self.command("quarantine", "list", "--json"))
        # A provider that broke off before it had said anything is booked provisionally, and held beside.
        held = [case for case in cases if case["reason"] != "its answer cannot be read"]
        if len(held) != expected.quarantined:
            raise Unmet(f"{len(held)} cases are quarantined, {expected.quarantined} were expected: {held[:2]}")
        return found

    def _reserved(self) -> list[str]:
        """The scopes of limits in which something is reserved."""
        found = json.loads(self.command("limits", "status", "--json"))
        return [one["scope"] for one in found if one["reserved"] or one["reserved_tokens"] or one["running"]]

    def _audit(self) -> dict[str, Any]:
        try:
            text = self.command("audit", "--json", "--oracle", str(self.emit_log), expected=(0, 1))
        except ProcessFailed as exc:
            raise Unmet(str(exc)) from exc
        found: dict[str, Any] = json.loads(text)
        return found

    def _allowed(self, difference: str, expected: Expectation) -> bool:
        return expected.provisional and difference.endswith("is booked provisionally only")

    def _check_received(self, expected: Expectation) -> None:
        book = {line["exchange_id"]: line for line in map(json.loads, self.command("ledger", "export").splitlines())}
        missing = [id for id in self.received if id not in book]
        if len(missing) > expected.unbooked:
            raise Unmet(f"{len(missing)} exchanges that a client has seen are not booked: {missing[:3]}")
        team_of = {hash_key(self._pepper, key): team for key, team in self.teams.items()}
        strayed = [id for id, line in book.items() if line["team"] != team_of.get(line["key"], "")]
        if strayed:
            raise Unmet(f"{len(strayed)} exchanges are not booked on the team of their key: {strayed[:3]}")
        if expected.bound is None:
            return
        short = {id: size - book[id]["response_bytes"] for id, size in self.received.items() if id in book}
        worst = max(short, key=short.__getitem__, default=None)
        if worst is not None and short[worst] > expected.bound:
            raise Unmet(f"{worst}: the client got {short[worst]} bytes that are not in the books")
        wrong = [id for id, missed in short.items() if missed > 0 and book[id]["source"] != "partial"]
        if wrong:
            raise Unmet(f"{len(wrong)} exchanges miss bytes and are not marked partial: {wrong[:3]}")
