"""One exchange by its id, whether it runs, waits to be booked, or is booked; and cancelling it."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import NamedTuple

from shared.books import boots, ledger, quarantine, running, streams
from shared.books.audit import unsettled
from shared.books.boots import BootState
from shared.books.ledger import LedgerEntry
from shared.contract import tail
from shared.contract.errors import ARouterError, BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.running import Cancelled
from shared.contract.tail import Outcome
from shared.runtime.store import Store

# A caller may ask before the record of its exchange is in Redis: a gateway writes every 25 ms. An exchange that is
# settled between two looks is found by the next one.
_PAUSES = (0.05, 0.1, 0.2)


class NoSuchExchange(ARouterError):
    """No exchange has this id; or whoever asks may not know of it."""

    def __init__(self, id: str) -> None:
        super().__init__(f"{id[:60]!r} is not the id of an exchange that is kept")


class Found(NamedTuple):
    """An exchange. `entry`: its latest; None where it is not booked yet."""

    key: str  # hash of the caller's key
    entry: LedgerEntry | None


class State(StrEnum):
    """What has become of an exchange that is to be cancelled."""

    CANCELLED = "cancelled"
    ENDED = "ended"  # it had ended before
    ASKED = "asked"  # its gateway has not answered yet


class Cancel(NamedTuple):
    """The answer to a cancel. `outcome`: of an exchange that had ended; "" where that is not booked yet."""

    state: State
    outcome: str = ""


async def find(store: Store, id: ExchangeId) -> Found | None:
    """The exchange of this id; None where there is none, or it is no longer kept."""
    for pause in _PAUSES:
        entry = await ledger.find(store, id)
        if entry is not None:
            return Found(entry.entry.key, entry)
        key = await _open_key(store, id)
        if key is not None:
            return Found(key, None)
        if not await _lives(store, id):
            return None
        await asyncio.sleep(pause)
    return None


async def cancel(store: Store, id: str, owner: str | None = None, patience: float = running.PATIENCE) -> Cancel:
    """Cancel an exchange that runs, and wait for its gateway's answer for at most `patience` seconds. `owner`: hash of
    the only key that may; None: any.

    NoSuchExchange where there is none of this id, or it is another key's.
    """
    try:
        wanted = ExchangeId.parse(id)
    except BadRecord:
        raise NoSuchExchange(id) from None
    found, lives = await find(store, wanted), await _lives(store, wanted)
    if owner is not None and (found is None or found.key != owner):
        raise NoSuchExchange(id)
    if not lives and found is None:
        raise NoSuchExchange(id)
    if found is not None and found.entry is not None and (found.entry.final or not lives):
        return Cancel(State.ENDED, found.entry.entry.outcome)
    if not lives:
        return Cancel(State.ENDED, Outcome.GATEWAY_LOST)
    answer = await running.cancel(store, wanted, patience)
    if answer is Cancelled.UNKNOWN:
        raise NoSuchExchange(id)
    if answer is Cancelled.ENDED:
        entry = await ledger.find(store, wanted)
        return Cancel(State.ENDED, entry.entry.outcome if entry is not None else "")
    return Cancel(State.ASKED if answer is None else State.CANCELLED)


async def _lives(store: Store, id: ExchangeId) -> bool:
    """Whether its gateway lives, so that it may run, and a record may be on its way."""
    return (await boots.find(store, [id.boot]))[id.boot].state is BootState.LIVE


async def _open_key(store: Store, id: ExchangeId) -> str | None:
    """The key of an exchange that waits in its stream or in quarantine."""
    minted = id.n < await streams.opened(store, id.shard, id.boot)
    if not minted or not await unsettled(store, [str(id)]):
        return None  # so that no stream has to be searched
    packed = await streams.open_record(store, id) or await quarantine.open_record(store, id)
    try:
        return tail.decode_open(packed).key if packed is not None else None
    except BadRecord:
        return None
