"""Authenticates callers. Records of keys are cached for a second, so that a revoked key is soon refused."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from shared.access import key_format, keys
from shared.access.keys import KeyRecord
from shared.runtime.errors import Refused, StoreError
from shared.runtime.settings import Settings
from shared.runtime.store import Store
from shared.runtime.tasks import Tasks

_NO_KEY = "missing API key: send it as Authorization: Bearer, x-api-key, x-goog-api-key or ?key="
_FRESH_SECONDS = 1.0
# While Redis is away, a good key stays good for this long.
_STALE_SECONDS = 300.0
_REMEMBERED = 100_000
_TOUCHED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _Seen:
    record: KeyRecord | None
    at: float


class KeyRing:
    """The keys that this process has seen. Concurrent lookups of one key share one answer."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`monotonic` says for how long an answer is remembered, `clock` what time it is: both in seconds."""
        self._store = store
        self._settings = settings
        self._monotonic = monotonic
        self._clock = clock
        self._pepper: bytes | None = None
        self._seen: dict[str, _Seen] = {}
        self._touched: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[KeyRecord | None]] = {}
        self._tasks = Tasks()

    async def authenticate(self, key: str | None) -> KeyRecord:
        """The record of a good key.

        Refused: 401 missing, unknown or revoked; 403 disabled or expired; 503 where Redis is away.
        """
        if key is None:
            raise Refused(401, _NO_KEY, code="missing_api_key")
        if not key_format.well_formed(key):
            raise Refused(401, "invalid api key", code="invalid_api_key")
        return self._good(await self._find(key_format.hash_key(await self._ready_pepper(), key)))

    async def authenticate_upload(self, ticket: str, target: bytes) -> KeyRecord:
        """The record of the key that a ticket was made for. Refused as `authenticate`; 401 where it is for another
        target."""
        pepper = await self._ready_pepper()
        key_hash = ticket.partition(".")[0]
        if not hmac.compare_digest(key_format.ticket(pepper, key_hash, target).encode(), ticket.encode()):
            raise Refused(401, "this upload URL is not valid", code="invalid_api_key")
        return self._good(await self._find(key_hash))

    def ticket(self, key_hash: str, target: bytes) -> str:
        """A ticket for an upload to a target, path and query, by a key that was authenticated here."""
        assert self._pepper is not None
        return key_format.ticket(self._pepper, key_hash, target)

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
            return self._pepper or await self._load_pepper()
        except StoreError as exc:
            raise Refused(503, "the gateway is not ready", code="not_ready") from exc

    async def _find(self, key_hash: str) -> KeyRecord | None:
        seen = self._seen.get(key_hash)
        now = self._monotonic()
        if seen is not None and now - seen.at < _FRESH_SECONDS:
            return seen.record
        try:
            return await self._ask(key_hash)
        except StoreError as exc:
            if seen is not None and seen.record is not None and now - seen.at < _STALE_SECONDS:
                return seen.record
            raise Refused(503, "the gateway cannot check the API key now", code="not_ready") from exc

    async def _ask(self, key_hash: str) -> KeyRecord | None:
        task = self._asking.get(key_hash)
        if task is None:
            task = self._asking[key_hash] = self._tasks.start(self._fetch(key_hash), "key lookup")
        # Shielded: others wait for it, and a cancelled call of redis-py may leave its connection out of step.
        return await asyncio.shield(task)

    async def _fetch(self, key_hash: str) -> KeyRecord | None:
        try:
            record = await keys.find(self._store, key_hash)
        finally:
            del self._asking[key_hash]
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[key_hash] = _Seen(record, self._monotonic())
        return record

    def _note_use(self, record: KeyRecord) -> None:
        now = self._clock()
        if now - max(record.last_used_at or 0, self._touched.get(record.hash, 0)) < _TOUCHED_SECONDS:
            return
        if len(self._touched) >= _REMEMBERED:
            self._touched.clear()
        self._touched[record.hash] = now
        self._tasks.start(self._touch(record.hash), "key in use")

    async def _touch(self, key_hash: str) -> None:
        with suppress(StoreError):  # the time of last use is coarse anyway
            await keys.touch(self._store, key_hash)

    async def _load_pepper(self) -> bytes:
        self._pepper = await keys.load_pepper(self._store, self._settings)
        return self._pepper
