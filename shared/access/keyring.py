"""Authenticates callers. Records of keys are cached for a second, so that a revoked key is soon refused.

A caller with a known key hardly waits for Redis: where it does not answer at once, what is known holds, and the lookup
goes on (decision 65).
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.access import key_format, keys
from shared.access.keys import KeyRecord
from shared.access.memory import Memory
from shared.access.pepper import Pepper
from shared.runtime.errors import Refused, StoreError
from shared.runtime.settings import Settings
from shared.runtime.store import Store
from shared.runtime.tasks import Tasks

_NO_KEY = "missing API key: send it as Authorization: Bearer, x-api-key, x-goog-api-key or ?key="
_FRESH_SECONDS = 1.0
# While Redis is away, a good key stays good for this long.
_STALE_SECONDS = 300.0
_PATIENCE_SECONDS = 0.03  # of callers with known keys, for Redis to answer any lookup; and of others, once it is away
_SILENCE_SECONDS = 1.0  # without an answer to any lookup; then Redis is away
_TOUCHED_SECONDS = 60


Wait = Callable[[asyncio.Future[Any], float], Awaitable[bool]]
Fetch = Callable[[], Coroutine[Any, Any, KeyRecord | None]]


class Most(NamedTuple):
    """How much a key ring remembers and asks at once."""

    keys: int = 100_000  # that there are
    strangers: int = 10_000  # keys that there are not: anybody can make them up
    lookups: int = 1_000  # at once; beyond them only known keys are looked up


_MOST = Most()


@dataclass(frozen=True, slots=True)
class _Seen:
    record: KeyRecord
    at: float


async def _wait(lookup: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for a lookup; whether it has ended."""
    await asyncio.wait({lookup}, timeout=seconds)
    return lookup.done()


class KeyRing:
    """The keys that this process has seen. Concurrent lookups of one key share one answer."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        wait: Wait = _wait,
        most: Most = _MOST,
    ) -> None:
        """`monotonic` says for how long an answer is remembered, `clock` what time it is: both in seconds. `wait` waits
        for a lookup, for at most so many seconds."""
        self._store = store
        self._monotonic = monotonic
        self._clock = clock
        self._wait = wait
        self._pepper = Pepper(store, settings, monotonic, most.keys)
        self._seen: Memory[str, _Seen] = Memory(most.keys)
        self._strangers: Memory[str, float] = Memory(most.strangers)  # when they were looked up
        self._touched: Memory[str, float] = Memory(most.keys)
        self._asking: dict[str, asyncio.Task[KeyRecord | None]] = {}
        self._lookups = most.lookups
        self._silent: float | None = None  # since when Redis owes an answer, monotonic
        self._tasks = Tasks()

    async def authenticate(self, key: str | None) -> KeyRecord:
        """The record of a good key.

        Refused: 401 missing, unknown or revoked; 403 disabled or expired; 503 where Redis is away.
        """
        if key is None:
            raise Refused(401, _NO_KEY, code="missing_api_key")
        if not key_format.well_formed(key):
            raise Refused(401, "invalid api key", code="invalid_api_key")
        known = self._pepper.value
        key_hash = key_format.hash_key(known, key) if known else None
        return self._good(await self._find(key, key_hash, lambda: self._fetch(key)))

    def recall(self, key: str) -> KeyRecord | None:
        """The record of a good key that was looked up a moment ago; None where it has to be looked up. Refused as
        `authenticate`."""
        pepper = self._pepper.value
        if pepper is None:
            return None
        known = self._pepper.hashes.find(pepper, key)
        key_hash = known or key_format.hash_key(pepper, key)
        seen = self._seen.get(key_hash)
        if seen is None or self._monotonic() - seen.at >= _FRESH_SECONDS:
            return None
        if known is None:
            self._pepper.hashes.note(pepper, key, key_hash)
        return self._good(seen.record)

    async def authenticate_upload(self, ticket: str, target: bytes) -> KeyRecord:
        """The record of the key that a ticket was made for. Refused as `authenticate`; 401 where it is for another
        target."""
        pepper = await self._ready_pepper()
        key_hash = ticket.partition(".")[0]
        if not hmac.compare_digest(key_format.ticket(pepper, key_hash, target).encode(), ticket.encode()):
            raise Refused(401, "this upload URL is not valid", code="invalid_api_key")
        return self._good(await self._find(key_hash, key_hash, lambda: self._read(key_hash)))

    def ticket(self, key_hash: str, target: bytes) -> str:
        """A ticket for an upload to a target, path and query, by a key that was authenticated here."""
        assert self._pepper.value is not None
        return key_format.ticket(self._pepper.value, key_hash, target)

    def _good(self, record: KeyRecord | None) -> KeyRecord:
        if record is None or record.revoked_at is not None:
            raise Refused(401, "invalid api key", code="invalid_api_key")
        if record.disabled:
            raise Refused(403, "this API key is disabled", code="api_key_disabled")
        if record.expires_at is not None and record.expires_at <= self._clock():
            raise Refused(403, "this API key has expired", code="api_key_expired")
        self._note_use(record)
        return record

    async def _ready_pepper(self) -> bytes:
        try:
            return self._pepper.value or await self._pepper.load()
        except StoreError as exc:
            raise Refused(503, "the gateway is not ready", code="not_ready") from exc

    async def _find(self, name: str, key_hash: str | None, fetch: Fetch) -> KeyRecord | None:
        """The record of a key. Concurrent lookups of one `name` share an answer; `key_hash`: None while it is not
        known."""
        seen = self._seen.get(key_hash) if key_hash else None
        now = self._monotonic()
        if seen is not None and now - seen.at < _FRESH_SECONDS:
            return seen.record
        if key_hash and now - self._strangers.get(key_hash, -math.inf) < _FRESH_SECONDS:
            return None
        lookup = self._asking.get(name)
        if lookup is None:
            if seen is None and len(self._asking) >= self._lookups:
                raise _unchecked()
            lookup = self._asking[name] = self._tasks.start(self._look_up(name, fetch), "key lookup")
        good = seen is not None and now - seen.at < _STALE_SECONDS
        # Not cancelled: others wait for it, and a cancelled call of redis-py may leave its connection out of step.
        silent = 0.0 if self._silent is None else now - self._silent
        patience = max(0.0, _PATIENCE_SECONDS - silent) if good else max(_PATIENCE_SECONDS, _SILENCE_SECONDS - silent)
        answered = await self._wait(lookup, patience)
        error = lookup.exception() if answered else None
        if answered and error is None:
            return lookup.result()
        if error is not None and not isinstance(error, StoreError):
            raise error
        if seen is not None and good:
            return seen.record
        raise _unchecked() from error

    async def _look_up(self, name: str, fetch: Fetch) -> KeyRecord | None:
        if self._silent is None:
            self._silent = self._monotonic()
        try:
            record = await fetch()
            self._silent = None
        finally:
            del self._asking[name]
        return record

    async def _fetch(self, key: str) -> KeyRecord | None:
        pepper = await self._pepper.load()
        record = await self._read(key_format.hash_key(pepper, key))
        if record is None:  # or it was made under another pepper, after Redis was emptied
            now = await self._pepper.load(again=True)
            record = await self._read(key_format.hash_key(now, key)) if now != pepper else None
        if record is not None:
            await self._pepper.prove()
        return record

    async def _read(self, key_hash: str) -> KeyRecord | None:
        record = await keys.find(self._store, key_hash)
        self._remember(key_hash, record)
        return record

    def _remember(self, key_hash: str, record: KeyRecord | None) -> None:
        if record is None:
            self._seen.pop(key_hash, None)
            self._strangers.note(key_hash, self._monotonic())
        else:
            self._strangers.pop(key_hash, None)
            self._seen.note(key_hash, _Seen(record, self._monotonic()))

    def _note_use(self, record: KeyRecord) -> None:
        now = self._clock()
        if now - max(record.last_used_at or 0, self._touched.get(record.hash, 0)) < _TOUCHED_SECONDS:
            return
        self._touched.note(record.hash, now)
        self._tasks.start(self._touch(record.hash), "key in use")

    async def _touch(self, key_hash: str) -> None:
        with suppress(StoreError):  # the time of last use is coarse anyway
            await keys.touch(self._store, key_hash)


def _unchecked() -> Refused:
    return Refused(503, "the gateway cannot check the API key now", code="not_ready")
