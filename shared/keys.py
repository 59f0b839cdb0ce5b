"""Keys of callers, kept in Redis as HMAC-SHA256 under a pepper.

The digest is the key's *hash*: its public name, under which usage is booked. The key itself is shown once.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import asdict, dataclass

from shared import key_format, names
from shared.errors import ARouterError
from shared.settings import Settings
from shared.store import Store, translated

log = logging.getLogger(__name__)


class NoSuchKey(ARouterError):
    """No key, or more than one, has this hash."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of a key. Times are UTC seconds since the epoch."""

    hash: str
    name: str
    label: str  # first and last characters, to recognise the key by
    created_at: int
    revoked_at: int | None = None

    def as_dict(self) -> dict[str, str | int | None]:
        return asdict(self)


async def load_pepper(store: Store, settings: Settings) -> bytes:
    """The pepper of the settings, or else the one kept in Redis, made on first use."""
    if settings.key_pepper is not None:
        return settings.key_pepper.get_secret_value().encode()
    with translated():
        if await store.set(names.PEPPER, secrets.token_hex(32), nx=True):
            log.warning("AROUTER_KEY_PEPPER is not set: one was made and is kept in Redis beside the keys it protects")
        pepper = await store.get(names.PEPPER)
    return bytes(pepper)


async def create(store: Store, pepper: bytes, name: str) -> tuple[str, KeyRecord]:
    """Make a key: `(key, record)`. The key is returned here and nowhere else."""
    key = key_format.new_key()
    record = KeyRecord(key_format.hash_key(pepper, key), name, key_format.label(key), int(time.time()))
    mapping = {"name": name, "label": record.label, "created_at": str(record.created_at)}
    with translated():
        pipeline = store.pipeline(transaction=False)
        pipeline.hset(names.key(record.hash), mapping=mapping)
        pipeline.zadd(names.KEYS, {record.hash: record.created_at})
        await pipeline.execute()
    return key, record


async def find(store: Store, key_hash: str) -> KeyRecord | None:
    """The record of a key, by its hash."""
    with translated():
        fields = await store.hgetall(names.key(key_hash))  # type: ignore[misc]  # redis-py types it as sync or async
    return _record(key_hash, fields) if fields else None


async def find_all(store: Store) -> list[KeyRecord]:
    """Every key ever made, oldest first."""
    with translated():
        hashes = [raw.decode() for raw in await store.zrange(names.KEYS, 0, -1)]
        pipeline = store.pipeline(transaction=False)
        for key_hash in hashes:
            pipeline.hgetall(names.key(key_hash))
        rows = await pipeline.execute()
    return [_record(key_hash, fields) for key_hash, fields in zip(hashes, rows, strict=True) if fields]


async def revoke(store: Store, hash_prefix: str) -> KeyRecord:
    """Revoke the key whose hash starts so; gateways refuse it within two seconds. NoSuchKey unless exactly one does."""
    matches = [record for record in await find_all(store) if hash_prefix and record.hash.startswith(hash_prefix)]
    if len(matches) != 1:
        raise NoSuchKey(f"{len(matches)} keys have a hash that starts with {hash_prefix!r}")
    with translated():
        await store.hsetnx(names.key(matches[0].hash), "revoked_at", str(int(time.time())))  # type: ignore[misc]
    record = await find(store, matches[0].hash)
    assert record is not None
    return record


def _record(key_hash: str, fields: dict[bytes, bytes]) -> KeyRecord:
    revoked = fields.get(b"revoked_at")
    return KeyRecord(
        hash=key_hash,
        name=fields.get(b"name", b"").decode(),
        label=fields.get(b"label", b"").decode(),
        created_at=int(fields.get(b"created_at", 0)),
        revoked_at=int(revoked) if revoked else None,
    )
