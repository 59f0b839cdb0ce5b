"""The tail streams in Redis. Gateways append; meters read, claim and drop. No other module speaks their commands.

A record stays pending in the group until its exchange is settled. So pending entries are the meters' recovery log: the
next holder of a shard reads all of them again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from redis.exceptions import ResponseError

from shared.contract import names, scripts
from shared.contract.ids import ExchangeId
from shared.contract.tail import Fields, StreamEntry
from shared.runtime.errors import StoreError
from shared.runtime.store import Store, info, translate, translated

# Every meter reads under one name, so that pending entries belong to the shard's lease, not to a meter (decision 6).
_CONSUMER = names.GROUP
_PAGE = 1000
_LOOK = 200  # entries that a script reads at once with their bodies, while Redis serves nobody else


async def append(store: Store, batch: Sequence[tuple[int, Fields]]) -> list[StoreError | None]:
    """Append `(shard, fields)` records in one round trip. Returns for each record None, or why Redis did not take it.

    StoreUnavailable where no reply came: Redis may have taken any part of the batch.
    """
    by_shard: dict[int, list[bytes]] = {}
    for shard, fields in batch:
        by_shard.setdefault(shard, []).extend((fields[b"x"], fields[b"s"], fields[b"r"]))
    with translated():
        pipeline = store.pipeline(transaction=False)
        for shard, arguments in by_shard.items():
            pipeline.execute_command("EVAL", scripts.APPEND, 2, names.tail(shard), names.opened(shard), *arguments)
        replies = await pipeline.execute(raise_on_error=False)
    errors = {
        shard: translate(reply) if isinstance(reply, Exception) else None
        for shard, reply in zip(by_shard, replies, strict=True)
    }
    return [errors[shard] for shard, _ in batch]


async def create_group(store: Store, shard: int) -> None:
    """Make the shard's stream and group where they are missing."""
    with translated():
        try:
            await store.eval(scripts.CREATE_GROUP, 1, names.tail(shard), names.GROUP)  # type: ignore[misc]
        except ResponseError as exc:
            if "BUSYGROUP" not in str(exc):
                raise


async def read(store: Store, shard: int, *, count: int, block_ms: int) -> list[StreamEntry]:
    """The next unread records, at most `count`; empty after `block_ms` without any."""
    return await _read(store, shard, b">", count, block_ms)


async def read_pending(store: Store, shard: int, after: bytes, *, count: int) -> list[StreamEntry]:
    """Records that were read before and not dropped, with ids behind `after` (b"0" for all)."""
    return await _read(store, shard, after, count, None)


async def _read(store: Store, shard: int, start: bytes, count: int, block_ms: int | None) -> list[StreamEntry]:
    with translated():
        reply = await store.xreadgroup(names.GROUP, _CONSUMER, {names.tail(shard): start}, count=count, block=block_ms)
    # An entry that was deleted while pending is listed without fields.
    return [StreamEntry(entry_id, fields or {}) for _, entries in reply for entry_id, fields in entries]


async def deliveries(store: Store, shard: int, after: bytes, *, count: int) -> list[tuple[bytes, int]]:
    """Pending records with ids behind `after`, and how often each was read: by `read`, and by each `read_pending`."""
    start = b"-" if after == b"0" else b"(" + after
    with translated():
        rows = await store.xpending_range(names.tail(shard), names.GROUP, start, "+", count)
    return [(row["message_id"], row["times_delivered"]) for row in rows]


async def begin_try(store: Store, shard: int, id: ExchangeId) -> int:
    """Note that an exchange is about to be measured alone. Returns how often it was, this time included."""
    with translated():
        return int(await store.eval(scripts.BEGIN_TRY, 1, names.tries(shard), str(id)))  # type: ignore[misc]


async def end_tries(store: Store, shard: int, id: ExchangeId) -> None:
    """Note that measuring it has killed nobody, or that it is not tried any more."""
    with translated():
        await store.hdel(names.tries(shard), str(id))  # type: ignore[misc]


async def idle_pending(store: Store, shard: int, *, idle_ms: int) -> AsyncIterator[bytes]:
    """Ids that were delivered at least `idle_ms` ago and are pending: a paused former holder may have read them."""
    start = "-"
    while True:
        with translated():
            rows = await store.xpending_range(names.tail(shard), names.GROUP, start, "+", _PAGE, idle=idle_ms)
        for row in rows:
            yield row["message_id"]
        if len(rows) < _PAGE:
            return
        start = f"({rows[-1]['message_id'].decode()}"


async def fetch(store: Store, shard: int, ids: Sequence[bytes]) -> list[StreamEntry]:
    """The records with these ids that still exist."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        for entry_id in ids:
            pipeline.xrange(names.tail(shard), entry_id, entry_id)
        replies = await pipeline.execute()
    return [StreamEntry(entry_id, fields) for reply in replies for entry_id, fields in reply]


async def exchanges(store: Store, shard: int, key_hash: str = "") -> set[str]:
    """Ids of the exchanges that have records in the shard's stream; with a key's hash, only of that key."""
    found: set[str] = set()
    start = b"-"
    while start:
        with translated():
            arguments = (names.tail(shard), start, _LOOK, key_hash)
            start, *page = await store.eval(scripts.EXCHANGES, 1, *arguments)  # type: ignore[misc,arg-type]
        found.update(id.decode("latin-1") for id in page)
    return found


async def open_record(store: Store, id: ExchangeId) -> bytes | None:
    """The open record of an exchange that is not settled, packed."""
    start = b"-"
    while start:
        with translated():
            arguments = (names.tail(id.shard), start, _LOOK, str(id))
            start, *record = await store.eval(scripts.OPEN_RECORD, 1, *arguments)  # type: ignore[misc,arg-type]
        if record:
            return bytes(record[0])
    return None


async def opened(store: Store, shard: int, boot: str) -> int:
    """How many exchanges of a boot have sent their open record to the shard."""
    with translated():
        return int(await store.hget(names.opened(shard), boot) or 0)  # type: ignore[misc]


async def last_id(store: Store, shard: int) -> bytes:
    """The id of the newest record the shard's stream ever had."""
    with translated():
        return bytes((await store.xinfo_stream(names.tail(shard)))["last-generated-id"])


async def drop(store: Store, shard: int, ids: Sequence[bytes]) -> None:
    """Delete records that are accounted for."""
    with translated():
        await store.eval(scripts.DROP, 1, names.tail(shard), names.GROUP, *ids)  # type: ignore[misc,arg-type]


async def lengths(store: Store, shards: Iterable[int]) -> dict[int, int]:
    """The number of records in each shard's tail stream: of open exchanges, and of those that wait to be settled."""
    wanted = list(shards)
    if not wanted:
        return {}
    with translated():
        pipeline = store.pipeline(transaction=False)
        for shard in wanted:
            pipeline.xlen(names.tail(shard))
        return dict(zip(wanted, await pipeline.execute(), strict=True))


async def now_ms(store: Store) -> int:
    """Redis's clock in UTC milliseconds; stream ids are made of it."""
    with translated():
        seconds, micros = await store.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def server_id(store: Store) -> str:
    """The run ids of all servers. After a change they may have lost records that they acknowledged (decision 20)."""
    return " ".join(sorted(str(server["run_id"]) for server in await info(store, "server")))
