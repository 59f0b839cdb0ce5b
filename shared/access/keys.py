"""Keys of callers. Redis holds their HMAC-SHA256 under a pepper.

The digest is the key's *hash*: its public name, under which usage is booked. The key itself is shown once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from shared.access import key_format
from shared.access import pepper as peppers
from shared.access.key_format import Kind
from shared.contract import limits as limit_records
from shared.contract import names, scripts
from shared.contract.errors import ARouterError
from shared.contract.events import EventType
from shared.contract.limits import Limits
from shared.runtime import events
from shared.runtime.store import Store, translated


class NoSuchKey(ARouterError):
    """No key, or more than one, has this hash."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """The record of a key. Times are UTC seconds since the epoch; None is never, or no limit."""

    hash: str
    name: str
    label: str  # first and last characters, to recognise the key by
    created_at: int
    revoked_at: int | None = None
    kind: Kind = Kind.LIVE
    disabled: bool = False
    updated_at: int | None = None
    expires_at: int | None = None
    last_used_at: int | None = None  # within a minute or so
    allowed_providers: tuple[str, ...] | None = None
    allowed_models: tuple[str, ...] | None = None  # a trailing * stands for any rest
    team: str | None = None  # its name; what is opened from now on is booked with it
    limits: Limits | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"limits": None if self.limits is None else limit_records.as_dict(self.limits)}

    @property
    def restricted(self) -> bool:
        """Whether some requests are forbidden to it."""
        return self.kind is Kind.MANAGEMENT or self.allowed_providers is not None or self.allowed_models is not None

    def allows_provider(self, provider: str) -> bool:
        return self.allowed_providers is None or provider in self.allowed_providers

    def allows_model(self, provider: str, model: str, route: str = "") -> bool:
        """Whether it may call a model, by the name of a `route` or without. Lists name models with or without their
        provider, or the route that leads to them."""
        if self.allowed_models is None:
            return True
        asked = (model, f"{provider}/{model}", route or model)
        return any(
            name.startswith(allowed[:-1]) if allowed.endswith("*") else name == allowed
            for allowed in self.allowed_models
            for name in asked
        )


_FIELDS = [field.name for field in fields(KeyRecord) if field.name != "hash"]
_LISTS = ("allowed_providers", "allowed_models")
_NUMBERS = [name for name, kind in get_type_hints(KeyRecord).items() if kind in (int, int | None)]


async def create(store: Store, pepper: bytes, name: str, kind: Kind = Kind.LIVE, **given: Any) -> tuple[str, KeyRecord]:
    """Make a key; returns `(key, record)`. The key itself is not stored. `given`: more fields of the record."""
    key = key_format.new_key(kind)
    record = KeyRecord(
        key_format.hash_key(pepper, key), name, key_format.label(key), int(time.time()), kind=kind, **given
    )
    with translated():
        pipeline = store.pipeline(transaction=False)
        pipeline.hset(names.key(record.hash), mapping=_stored(asdict(record)))
        pipeline.zadd(names.KEYS, {record.hash: time.time_ns() // 1000})
        await pipeline.execute()
    await peppers.note(store, pepper)
    await events.tell(store, EventType.KEY_CREATED, record.hash, _told(record))
    return key, record


async def find(store: Store, key_hash: str) -> KeyRecord | None:
    """The record of a key, by its hash."""
    with translated():
        stored = await store.hgetall(names.key(key_hash))  # type: ignore[misc]  # redis-py types it as sync or async
    return _record(key_hash, stored) if stored else None


async def find_all(store: Store) -> list[KeyRecord]:
    """Every key ever made, oldest first."""
    with translated():
        hashes = [raw.decode() for raw in await store.zrange(names.KEYS, 0, -1)]
    return await find_each(store, hashes)


async def find_each(store: Store, hashes: Sequence[str]) -> list[KeyRecord]:
    """The records of these keys; keys without one are left out."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        for key_hash in hashes:
            pipeline.hgetall(names.key(key_hash))
        rows = await pipeline.execute() if hashes else []
    return [_record(key_hash, stored) for key_hash, stored in zip(hashes, rows, strict=True) if stored]


async def page(store: Store, start: int, count: int) -> list[KeyRecord | None]:
    """`count` keys in the order of their making, from the `start`-th on; None where the record is gone."""
    with translated():
        hashes = [raw.decode() for raw in await store.zrange(names.KEYS, start, start + count - 1)]
    found = {record.hash: record for record in await find_each(store, hashes)}
    return [found.get(key_hash) for key_hash in hashes]


async def update(store: Store, key_hash: str, changes: Mapping[str, Any]) -> KeyRecord:
    """Change fields of a record; gateways notice within two seconds. NoSuchKey where it does not exist."""
    changed = await _change(store, key_hash, {**changes, "updated_at": int(time.time())})
    record = await find(store, key_hash) if changed else None
    if record is None:
        raise NoSuchKey(f"no key has the hash {key_hash!r}")
    about = f"{key_hash} {time.time_ns()}"  # each change is an event of its own
    await events.tell(store, EventType.KEY_CHANGED, about, {**_told(record), "changed": sorted(changes)})
    return record


async def touch(store: Store, key_hash: str) -> None:
    """Note that a key was used now."""
    await _change(store, key_hash, {"last_used_at": int(time.time())})


async def _change(store: Store, key_hash: str, changes: Mapping[str, Any]) -> bool:
    flat = [part for name, value in changes.items() for part in (name, "" if value is None else _text(value))]
    with translated():
        return bool(await store.eval(scripts.CHANGE_RECORD, 1, names.key(key_hash), *flat))  # type: ignore[misc]


async def find_one(store: Store, hash_prefix: str) -> KeyRecord:
    """The key whose hash starts with this. NoSuchKey unless exactly one does."""
    matches = [record for record in await find_all(store) if hash_prefix and record.hash.startswith(hash_prefix)]
    if len(matches) != 1:
        raise NoSuchKey(f"{len(matches)} keys have a hash that starts with {hash_prefix!r}")
    return matches[0]


async def revoke(store: Store, hash_prefix: str) -> KeyRecord:
    """Revoke the key whose hash starts with this; gateways refuse it within two seconds. NoSuchKey as in `find_one`."""
    record = await find_one(store, hash_prefix)
    return record if record.revoked_at else await update(store, record.hash, {"revoked_at": int(time.time())})


def _told(record: KeyRecord) -> dict[str, Any]:
    """What an event says of a key."""
    shown = ("hash", "name", "label", "kind", "disabled", "revoked_at", "expires_at")
    return {name: getattr(record, name) for name in shown}


def _stored(values: Mapping[str, Any]) -> dict[str, str]:
    """Fields as Redis stores them; those that are None are left out."""
    return {name: _text(value) for name, value in values.items() if name in _FIELDS and value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Limits):
        return limit_records.encode(value)
    return json.dumps(list(value)) if isinstance(value, (list, tuple)) else str(value)


def _record(key_hash: str, stored: Mapping[bytes, bytes]) -> KeyRecord:
    values: dict[str, Any] = {"name": "", "label": "", "created_at": 0}
    for field, raw in stored.items():
        name, text = field.decode(), raw.decode()
        if name in _LISTS:
            values[name] = tuple(json.loads(text))
        elif name in _NUMBERS:
            values[name] = int(text)
        elif name == "disabled":
            values[name] = text == "1"
        elif name == "kind":
            values[name] = Kind(text)
        elif name == "limits":
            values[name] = limit_records.decode(text)
        elif name in _FIELDS:
            values[name] = text
    return KeyRecord(hash=key_hash, **values)
