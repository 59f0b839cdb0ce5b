"""Teams of keys. A key belongs to at most one, and the team it has when a request is opened is booked with it.

A team is known by its name, which never changes: entries hold it, and people group by it. Its label may change.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from shared.contract import names, scripts
from shared.contract.errors import ARouterError
from shared.runtime.store import Store, translated

NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class NoSuchTeam(ARouterError):
    """No team has this name."""


class TeamExists(ARouterError):
    """There is a team of this name."""


class BadTeamName(ARouterError):
    """A team cannot have this name."""


@dataclass(frozen=True, slots=True)
class TeamRecord:
    """The record of a team. Times are UTC seconds since the epoch; None is never."""

    name: str
    label: str  # for people
    created_at: int
    updated_at: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_FIELDS = {field.name: field.type for field in fields(TeamRecord) if field.name != "name"}


async def create(store: Store, name: str, label: str = "") -> TeamRecord:
    """Make a team. BadTeamName, or TeamExists where there is one of this name."""
    if not re.fullmatch(NAME, name):
        raise BadTeamName(f"{name[:80]!r} cannot name a team: 1 to 64 letters, digits, '.', '_' and '-', no sign first")
    record = TeamRecord(name, label, int(time.time()))
    with translated():
        made = await store.hsetnx(names.team(name), "created_at", str(record.created_at))  # type: ignore[misc]
        if made and label:
            await store.hset(names.team(name), "label", label)  # type: ignore[misc]
        # In either case: who made it may have died before this.
        await store.zadd(names.TEAMS, {name: time.time_ns() // 1000}, nx=True)
    if not made:
        raise TeamExists(f"there is a team {name!r}")
    return record


async def find(store: Store, name: str) -> TeamRecord:
    """The record of a team; NoSuchTeam where there is none."""
    with translated():
        stored = await store.hgetall(names.team(name))  # type: ignore[misc]  # redis-py types it as sync or async
    if not stored:
        raise NoSuchTeam(f"there is no team {name[:80]!r}")
    return _record(name, stored)


async def page(store: Store, start: int, count: int) -> list[TeamRecord]:
    """`count` teams in the order of their making, from the `start`-th on."""
    with translated():
        found = [raw.decode() for raw in await store.zrange(names.TEAMS, start, start + count - 1)]
    return await _find_each(store, found)


async def find_all(store: Store) -> list[TeamRecord]:
    """Every team, oldest first."""
    with translated():
        found = [raw.decode() for raw in await store.zrange(names.TEAMS, 0, -1)]
    return await _find_each(store, found)


async def update(store: Store, name: str, changes: Mapping[str, Any]) -> TeamRecord:
    """Change fields of a record. NoSuchTeam where it does not exist."""
    given = {**changes, "updated_at": int(time.time())}
    flat = [part for field, value in given.items() for part in (field, "" if value is None else str(value))]
    with translated():
        await store.eval(scripts.CHANGE_RECORD, 1, names.team(name), *flat)  # type: ignore[misc]
    return await find(store, name)


async def _find_each(store: Store, found: Sequence[str]) -> list[TeamRecord]:
    with translated():
        pipeline = store.pipeline(transaction=False)
        for name in found:
            pipeline.hgetall(names.team(name))
        rows = await pipeline.execute() if found else []
    return [_record(name, stored) for name, stored in zip(found, rows, strict=True)]


def _record(name: str, stored: Mapping[bytes, bytes]) -> TeamRecord:
    values: dict[str, Any] = {"label": "", "created_at": 0}
    for field, raw in stored.items():
        kind = _FIELDS.get(field.decode())
        if kind is not None:
            values[field.decode()] = raw.decode() if kind == "str" else int(raw)
    return TeamRecord(name=name, **values)
