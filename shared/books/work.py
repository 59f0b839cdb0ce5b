"""Work that ends elsewhere, in Redis: who began it, which exchange books its result, and what is still open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from shared.contract import names, scripts, work
from shared.contract.work import Claim, Noted, WorkKind, WorkStart
from shared.runtime.store import Store, translated

_PAGE = 500
_EXPIRED_AT_ONCE = 500


class OpenWork(NamedTuple):
    """Work whose result nobody has booked."""

    provider: str
    id: str
    since_ms: int  # when its start was metered, by Redis's clock
    start: WorkStart | None  # None where its record is gone


class Summary(NamedTuple):
    """How much work is open, and how much has expired since there are books."""

    open: int
    oldest_ms: int | None
    expired: int


async def note(store: Store, noted: Noted) -> Claim:
    """Note what an exchange says, in one step. Noting it again changes nothing, and has the same answer."""
    first = noted.names[0]
    if noted.kind is WorkKind.BATCH and len(noted.names) == 1 and noted.start is None:
        first = await _work_of(store, noted.provider, first) or first
    ids = dict.fromkeys((first, *noted.names))
    arguments = (
        noted.exchange_id,
        "book" if noted.books else "look",
        "1" if noted.unbegun else "0",
        b"" if noted.start is None else work.encode(noted.start),
        f"{noted.provider}:{first}",
        names.BATCH_TTL_S if noted.kind is WorkKind.BATCH else names.WORK_TTL_S,
    )
    records = [names.work(noted.provider, id) for id in ids]
    with translated():
        holder, start = await store.eval(  # type: ignore[misc]
            scripts.NOTE_WORK,
            1 + len(records),
            names.OPEN_WORK,
            *records,
            *arguments,  # type: ignore[arg-type]
        )
    return Claim(holder.decode(), work.decode(start) if start else None)


async def _work_of(store: Store, provider: str, file: str) -> str:
    """The batch whose result is in a file, as far as somebody has seen that batch name it; "" for none."""
    with translated():
        name = await store.hget(names.work(provider, file), "name")  # type: ignore[misc]
    return (name or b"").decode().removeprefix(f"{provider}:")


async def open_work(store: Store) -> AsyncIterator[OpenWork]:
    """All open work, the oldest first. BadRecord where a start cannot be read."""
    at = 0
    while True:
        with translated():
            page = await store.zrange(names.OPEN_WORK, at, at + _PAGE - 1, withscores=True)
            pipeline = store.pipeline(transaction=False)
            listed = [(name.decode().partition(":"), int(score)) for name, score in page]
            for (provider, _, id), _ in listed:
                pipeline.hget(names.work(provider, id), "start")
            starts = await pipeline.execute() if listed else []
        for ((provider, _, id), since_ms), start in zip(listed, starts, strict=True):
            yield OpenWork(provider, id, since_ms, work.decode(start) if start else None)
        if len(page) < _PAGE:
            return
        at += _PAGE


async def expire(store: Store, age_ms: int = names.WORK_TTL_S * 1000) -> list[str]:
    """Take what nobody has fetched for `age_ms` off the list; what it was, as provider:id."""
    with translated():
        expired = await store.eval(  # type: ignore[misc]
            scripts.EXPIRE_WORK,
            2,
            names.OPEN_WORK,
            names.WORK_STATS,
            age_ms,  # type: ignore[arg-type]
            _EXPIRED_AT_ONCE,  # type: ignore[arg-type]
        )
    return [name.decode() for name in expired]


async def summary(store: Store) -> Summary:
    """The counts, without the work itself."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        pipeline.zcard(names.OPEN_WORK)
        pipeline.zrange(names.OPEN_WORK, 0, 0, withscores=True)
        pipeline.hget(names.WORK_STATS, "expired")
        count, oldest, expired = await pipeline.execute()
    return Summary(int(count), int(oldest[0][1]) if oldest else None, int(expired or 0))
