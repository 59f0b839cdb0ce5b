"""Noting events in Redis, each once, whoever sees it, and reading them. Webhooks send them on (docs/webhooks.md)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from shared.contract import events, names, scripts
from shared.contract.errors import BadRecord
from shared.contract.events import Event, EventType, event_id
from shared.runtime.errors import StoreError
from shared.runtime.store import Store, translated

log = logging.getLogger(__name__)


async def note(
    store: Store, type: EventType, about: str, data: Mapping[str, Any], *, once_s: int = names.EVENT_TTL_S
) -> bool:
    """Note an event. `about` names it among those of its type, as `key HASH 80 2026-11`: whoever notes the same again
    within `once_s` seconds changes nothing. Returns whether it is new; StoreError where Redis is away or full."""
    event = Event(event_id(type, about), type, time.time_ns() // 1_000_000, data)
    arguments = events.encode(event), names.MOST_EVENTS, once_s
    with translated():
        noted = store.eval(scripts.NOTE_EVENT, 2, names.EVENTS, names.event(event.id), *arguments)  # type: ignore[arg-type]
        return bool(await noted)  # type: ignore[misc]


async def tell(
    store: Store, type: EventType, about: str, data: Mapping[str, Any], *, once_s: int = names.EVENT_TTL_S
) -> None:
    """The same where what has happened must not fail for it: an event that Redis does not take is lost, with a line in
    the log."""
    try:
        await note(store, type, about, data, once_s=once_s)
    except StoreError as exc:
        log.warning("the event %s is lost: %s", type, exc)


class Noted(NamedTuple):
    """A page of the stream. `last`: the id of its last entry, "" for an empty one; what cannot be read is left out."""

    events: list[Event]
    last: str


async def read(store: Store, after: str, count: int) -> Noted:
    """The events behind a place in the stream, the oldest first."""
    with translated():
        page = await store.xrange(names.EVENTS, f"({after}", "+", count=count)
    found = []
    for id, fields in page:
        try:
            found.append(events.decode(fields[b"event"]))
        except (BadRecord, KeyError):
            log.exception("the event %s cannot be read", id.decode())
    return Noted(found, page[-1][0].decode() if page else "")


async def newest(store: Store) -> str:
    """The id of the newest entry of the stream; "0-0" where it is empty."""
    with translated():
        page = await store.xrevrange(names.EVENTS, count=1)
    return page[0][0].decode() if page else "0-0"
