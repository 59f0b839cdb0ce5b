"""Runs `arouter` with one of its defences switched off: the faults must notice. Or with something that befalls it.

`python -m tests.faults.crippled DEFENCE+HARM COMMAND …`
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from services.cli.main import main
from services.gateway.capture.copy_budget import CopyLimits
from services.gateway.capture.journal import Journal
from services.gateway.capture.recovery import JournalRecovery
from services.gateway.capture.room import Room
from services.meter import append_only as rewriting
from services.meter import consumer, host, measure, measuring
from services.meter.consumer import ShardConsumer
from services.meter.measure import Estimator, Measured
from services.meter.meter import Meter
from services.meter.readers import encodings
from services.meter.tails import Tail
from services.sinks import merge, postgres
from services.sinks.sql import SqlSink
from shared.access import keyring
from shared.books import boots
from shared.books.follow import Batch
from shared.contract import scripts
from shared.runtime import append_only
from shared.runtime.store import Store

MEND = "mend"


def dedupe() -> None:
    """The settle script no longer asks whether an exchange is final."""
    script = scripts.SETTLE.replace("call('GETBIT', KEYS[2], n) == 1", "false")
    assert script != scripts.SETTLE
    scripts.SETTLE = script


def compare() -> None:
    """The settle script does not compare the provisional value with the one that its caller expects."""
    script = scripts.SETTLE.replace("call('HGET', KEYS[3], ARGV[3]) or ''", "ARGV[5]")
    assert script != scripts.SETTLE
    scripts.SETTLE = script


def _without(script: str, defence: str, instead: str) -> str:
    assert defence in script
    return script.replace(defence, instead)


def limits_applied() -> None:
    """Entries count for limits each time they are delivered."""
    scripts.LIMIT_APPLY = _without(scripts.LIMIT_APPLY, "ms > at_ms or (ms == at_ms and number > at_number)", "true")


def limits_released() -> None:
    """A settlement does not end its reservation."""
    scripts.LIMIT_APPLY = _without(
        scripts.LIMIT_APPLY, "permit ~= '' and call('HGET', KEYS[1], 'p:' .. permit)", "false"
    )


def limits_cursors() -> None:
    """Shards share a cursor in the scopes of limits."""
    scripts.LIMIT_APPLY = _without(scripts.LIMIT_APPLY, "'cursor:' .. ARGV[1]", "'cursor:0'")


def replay() -> None:
    """Gateways do not send records again."""

    async def nothing(self: JournalRecovery, records: object) -> int:
        return 0

    JournalRecovery._send_again = nothing  # type: ignore[method-assign]


def journal() -> None:
    """Nothing is written to the journal."""

    def forget(self: Journal) -> bool:
        self._pending = []
        return True

    Journal.flush = forget  # type: ignore[method-assign]


def reclaim() -> None:
    """Meters do not read again the records that another meter has read."""

    async def nothing(self: ShardConsumer) -> None:
        return

    ShardConsumer.recover = nothing  # type: ignore[method-assign]

    async def nothing_either(self: ShardConsumer, idle_ms: int) -> None:
        return

    ShardConsumer._reclaim = nothing_either  # type: ignore[method-assign]


def sweep() -> None:
    """Orphans are left alone."""

    async def nothing(self: ShardConsumer, orphans: object) -> None:
        return

    ShardConsumer._settle_lost = nothing  # type: ignore[method-assign]


def emptied() -> None:
    """Gateways do not notice that Redis has forgotten them."""
    beat = boots.heartbeat

    async def always(
        store: Store,
        opened: Mapping[str, Mapping[int, int]],
        state: boots.BootState,
        said: Mapping[str, bytes] | None = None,
    ) -> boots.Heard:
        return (await beat(store, opened, state, said))._replace(known=True)

    boots.heartbeat = always


def patience() -> None:
    """Every caller waits for Redis."""
    keyring._PATIENCE_SECONDS = 60.0
    keyring._SILENCE_SECONDS = 60.0


def room() -> None:
    """The journal knows its limit, and nothing of its disk."""

    def unasked(self: Room, folder: Path, size: int) -> None:
        self.judge(size)

    def forgotten(self: Room, size: int, wanted: int) -> None:
        return

    Room.look = unasked  # type: ignore[method-assign]
    Room.refused = forgotten  # type: ignore[method-assign]


def alone() -> None:
    """A meter waits for arq's Redis."""
    run, pool = Meter.run, host._arq_pool
    pools: list[ArqRedis] = []

    def remembered(url: str) -> ArqRedis:
        pools.append(pool(url))
        return pools[-1]

    async def later(self: Meter) -> None:
        while not self._stopping.is_set():
            with suppress(RedisError, IndexError):
                await pools[-1].ping()
                await run(self)
            await asyncio.sleep(0.5)

    host._arq_pool = remembered
    Meter.run = later  # type: ignore[method-assign]


def mend() -> None:
    """Nobody removes half a script from an append-only file."""

    def untouched(folder: Path) -> int:
        return 0

    async def unasked(store: Store) -> bool:
        return False

    append_only.mend = untouched
    rewriting.rewrite = unasked


def bounds() -> None:
    """Whatever a body decodes to is decoded at once."""
    encodings.MAX_DECODED = encodings._ANY_RATIO = 1 << 40  # type: ignore[misc]
    encodings._PIECE = encodings._STEP = 1 << 30  # type: ignore[misc]


def suspects() -> None:
    """Records may be delivered as often as it takes."""
    consumer.DELIVERIES = 1 << 60  # type: ignore[attr-defined]


def budget() -> None:
    """Every answer is copied whole."""
    CopyLimits.of = lambda self, dialect: 1 << 60  # type: ignore[method-assign]


def transaction() -> None:
    """The database sink moves its cursors in a transaction of their own, before it writes the rows."""
    write = SqlSink._write

    def apart(self: SqlSink, batches: Sequence[Batch]) -> None:
        write(self, [batch._replace(entries=[]) for batch in batches])
        time.sleep(0.5)
        again = [batch._replace(before=batch.after) for batch in batches]
        write(self, again)

    SqlSink._write = apart  # type: ignore[method-assign]


def difference() -> None:
    """Usage in the database grows by every row that comes, whether it was there before or not."""
    plain = postgres._USAGE
    first, _, rest = plain.partition("UNION ALL")
    postgres._USAGE = (
        first.replace(f'WHERE o."exchange_id" IS NULL OR {merge._NOT_LOWER}', "") + rest[rest.index(") d ") :]
    )
    assert len(postgres._USAGE) < len(plain)


def greedy() -> None:
    """Measuring an exchange of the model `poison` takes all the memory there is."""
    plain = measure.measure

    def greedily(tail: Tail, estimator: Estimator) -> Measured:
        hoard = []
        while tail.model == "poison":
            hoard.append(b"x" * (16 << 20))
            time.sleep(0.01)
            if len(hoard) > 64:  # nobody limits it
                os.kill(os.getpid(), signal.SIGKILL)
        return plain(tail, estimator)

    measuring.measure = greedily  # type: ignore[attr-defined]


# Each with a fault that must fail without it.
DEFENCES: dict[str, tuple[Callable[[], None], str]] = {
    "dedupe": (dedupe, "duplicates"),
    "compare": (compare, "gateway_frozen"),
    "replay": (replay, "redis_failed_over"),
    "journal": (journal, "gateway_gone_without_redis"),
    "reclaim": (reclaim, "meter_killed"),
    "sweep": (sweep, "gateway_gone"),
    "emptied": (emptied, "redis_emptied"),
    "patience": (patience, "redis_silent"),
    "room": (room, "disk_full"),
    "alone": (alone, "arq_away"),
    "bounds": (bounds, "bomb"),
    "suspects": (suspects, "meter_poisoned"),
    "budget": (budget, "giant_download"),
    "transaction": (transaction, "follower_killed"),
    "difference": (difference, "cursor_lost"),
    "limits_applied": (limits_applied, "redis_failed_over"),
    "limits_released": (limits_released, "meter_killed"),
    "limits_cursors": (limits_cursors, "meter_killed"),
    MEND: (mend, "redis_power_lost"),  # the last one: this process starts Redis, and is crippled itself
}
HARMS: dict[str, Callable[[], None]] = {"greedy": greedy}

if __name__ == "__main__":
    for change in sys.argv.pop(1).split("+"):
        (HARMS[change] if change in HARMS else DEFENCES[change][0])()
    main()
