"""A key ring with a store in memory and clocks that the tests turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

from redis.exceptions import ConnectionError as RedisAway

from shared.access import key_format
from shared.access.keyring import KeyRing, Most
from shared.access.keys import KeyRecord
from shared.contract import names
from shared.runtime.errors import Refused
from shared.runtime.settings import Settings

PEPPER = "a pepper of the tests"
NOW = 1_800_000_000
KEY = f"lr_live_{'0f' * 24}"
HASH = key_format.hash_key(PEPPER.encode(), KEY)


class MemoryStore:
    """What a keyring asks of Redis. A lookup waits while `blocked`, and fails while `away`."""

    def __init__(self) -> None:
        self.strings: dict[str, bytes] = {}
        self.rows: dict[str, dict[bytes, bytes]] = {names.key(HASH): {b"name": b"me"}}
        self.calls: Counter[str] = Counter()
        self.away = False
        self.blocked: asyncio.Event | None = None

    def put(self, **fields: object) -> None:
        self.rows[names.key(HASH)] = {b"name": b"me"} | {
            name.encode(): str(value).encode() for name, value in fields.items()
        }

    async def hgetall(self, name: str) -> dict[bytes, bytes]:
        self.calls["lookup"] += 1
        if self.blocked is not None:
            await self.blocked.wait()
        self._answer()
        return self.rows.get(name, {})

    async def get(self, name: str) -> bytes | None:
        self.calls["get"] += 1
        self._answer()
        return self.strings.get(name)

    async def set(self, name: str, value: str | bytes, *, nx: bool) -> None:
        assert nx
        self._answer()
        self.strings.setdefault(name, value.encode() if isinstance(value, str) else value)

    async def eval(self, script: str, count: int, name: str, *fields: str) -> int:
        self.calls["touch"] += 1
        self._answer()
        return 1

    def _answer(self) -> None:
        if self.away:
            raise RedisAway("away")


class Turned:
    """A keyring whose clocks stand still until they are turned."""

    def __init__(self, pepper: str | None = PEPPER, most: Most | None = None) -> None:
        self.store = MemoryStore()
        self.seconds = 0.0
        self.waits: list[float] = []  # the seconds that callers were ready to wait for a lookup
        self.ring = KeyRing(
            cast("Any", self.store),
            Settings.model_validate({"key_pepper": pepper}),
            monotonic=lambda: self.seconds,
            clock=lambda: NOW + self.seconds,
            wait=self._wait,
            most=most or Most(),
        )

    async def _wait(self, lookup: asyncio.Future[Any], seconds: float) -> bool:
        """Wait for as long as it takes, or for as long as the caller would, where the store does not answer."""
        self.waits.append(seconds)
        for _ in range(10):
            await asyncio.sleep(0)
        if not lookup.done() and self.frozen:
            self.seconds += seconds
        elif not lookup.done():
            await asyncio.wait({lookup})
        return lookup.done()

    frozen = False

    def freeze(self) -> None:
        self.frozen, self.store.blocked = True, asyncio.Event()

    def thaw(self) -> None:
        assert self.store.blocked is not None
        self.frozen = False
        self.store.blocked.set()

    async def says(self, key: str | None = KEY) -> int:
        """200, or the status with which a caller is refused."""
        try:
            if key is None or self.ring.recall(key) is None:
                await self.ring.authenticate(key)
        except Refused as refused:
            return refused.status
        return 200

    def asking(self) -> asyncio.Task[KeyRecord]:
        return asyncio.get_running_loop().create_task(self.ring.authenticate(KEY))
