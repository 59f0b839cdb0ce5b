"""One shard's consumer: reads its tail stream, and settles each exchange that is whole.

Everything that it holds in memory is also pending in Redis, so it may start over after any error: a record is deleted
only once it is settled, quarantined or known to be a replay. Pending records belong to the shard, not to the meter that
read them (decision 6). No decision trusts a clock that may step (decision 24).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from services.meter.assembly import Assembled, Assembler, BadExchange
from services.meter.claims import Claims
from services.meter.estimator import TokenEstimator
from services.meter.measuring import DELIVERIES, Measuring
from services.meter.metrics import MeterMetrics
from services.meter.read_size import ReadSize
from services.meter.settle import Ledger, Settlement, Verdict
from shared.books import boots, quarantine, streams
from shared.books.boots import Boot, BootState
from shared.contract import booked
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.tail import StreamEntry
from shared.runtime.errors import StoreError, StoreRefused, StoreUnavailable
from shared.runtime.seal_keys import NO_KEYS, SealKeys
from shared.runtime.store import Store

_STEP_MS = 2000.0
# An orphan is booked provisionally at once, and for good after this if its journal never turns up (decision 16).
_ORPHAN_MS = 24 * 3_600_000
_AMENDMENTS = 5  # tries to settle while others amend the same exchange
_RETRY_SECONDS = 1.0
_FEW = 32  # records that are read at once where one of them may have been too much

log = logging.getLogger(__name__)


class Timing(NamedTuple):
    """When a consumer does what, and by which clock."""

    block_ms: int = 500  # a read waits this long for records
    tidy: float = 10.0  # seconds between two looks at what is left, and for an exchange to count as left
    # A record delivered this long ago that we do not hold went to a worker that was paused, or a reply was lost.
    reclaim_idle_ms: int = 30_000
    now_ms: Callable[[Store], Awaitable[int]] = streams.now_ms  # Redis's clock


TIMING = Timing()


class ShardConsumer:
    """Meters one shard until `stop`: `run` calls the other public methods in turn."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        shard: int,
        batch: int,
        estimator: TokenEstimator,
        metrics: MeterMetrics,
        timing: Timing = TIMING,
        keys: SealKeys = NO_KEYS,
    ) -> None:
        """`keys`: open what gateways have sealed."""
        self.shard = shard
        self._store = store
        self._ledger = ledger
        self._reads = ReadSize(batch)
        self._metrics = metrics
        self._timing = timing
        self._assembler = Assembler(shard)
        self._measuring = Measuring(store, shard, estimator, keys)
        self._claims = Claims(store, ledger, estimator)
        self._provisional: dict[ExchangeId, int] = {}  # orphans that are booked, and from how many records
        self._ahead_ms: float | None = None  # how far Redis's clock is ahead of our monotonic one
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the current batch. Nothing is cancelled: a cancelled Redis call leaves its connection unusable."""
        self._stopping.set()

    async def run(self) -> None:
        """Read and settle until `stop`. While Redis is away, wait for it."""
        while not self._stopping.is_set():
            try:
                await self._serve()
            except StoreError as exc:
                log.warning("shard %d: %s", self.shard, exc)
                try:
                    async with asyncio.timeout(_RETRY_SECONDS):
                        await self._stopping.wait()
                except TimeoutError:
                    continue

    async def _serve(self) -> None:
        self._assembler = Assembler(self.shard)
        self._measuring.clear()
        self._claims = Claims(self._store, self._ledger, self._measuring)
        self._provisional.clear()
        await streams.create_group(self._store, self.shard)
        await self._stepped_back()  # steps are noticed from here on
        await self.recover()
        tidied = time.monotonic()
        while not self._stopping.is_set():
            await self.take(await self._read(self._timing.block_ms))
            if time.monotonic() - tidied > self._timing.tidy:
                # By Redis's clock, records from before it stepped back are not idle until it has caught up.
                await self._reclaim(0 if await self._stepped_back() else self._timing.reclaim_idle_ms)
                await self.sweep()
                tidied = time.monotonic()

    async def _read(self, block_ms: int) -> list[StreamEntry]:
        """The next unread records; empty after `block_ms` without any."""
        entries = await streams.read(self._store, self.shard, count=self._reads.count, block_ms=block_ms)
        self._reads.saw(entries)
        return entries

    async def _stepped_back(self) -> bool:
        """Whether Redis's clock has stepped back since the last call."""
        now_ms, own_ms = await self._timing.now_ms(self._store), time.monotonic() * 1000
        ahead, self._ahead_ms = self._ahead_ms, now_ms - own_ms
        return ahead is not None and self._ahead_ms < ahead - _STEP_MS

    async def recover(self) -> None:
        """Read again the pending records, whichever meter had read them. StoreError where Redis is away.

        Reading them counts as a delivery, so that records become suspects which meters have read and never settled.
        """
        after, few = b"0", False
        while not self._stopping.is_set():
            count = min(_FEW, self._reads.count) if few else self._reads.count
            page = await streams.deliveries(self._store, self.shard, after, count=count)
            suspects = [id for id, times in page if times >= DELIVERIES]
            self._measuring.add(suspects)
            few = bool(suspects)
            entries = await streams.read_pending(
                self._store, self.shard, after, count=min(_FEW, count) if few else count
            )
            self._reads.saw(entries)
            if not entries:
                return
            after = entries[-1].id
            await self.take(entries)

    async def _reclaim(self, idle_ms: int) -> None:
        idle = streams.idle_pending(self._store, self.shard, idle_ms=idle_ms)
        unknown = [id async for id in idle if not self._assembler.knows(id)]
        start = 0
        while start < len(unknown):
            ids = unknown[start : start + self._reads.count]
            start += len(ids)
            entries = await streams.fetch(self._store, self.shard, ids)
            self._reads.saw(entries)
            gone = set(ids).difference(entry.id for entry in entries)
            if gone:  # somebody deleted them; only the mark that they are pending is left
                await streams.drop(self._store, self.shard, list(gone))
            await self.take(entries)

    async def sweep(self) -> None:
        """Handle exchanges that wait for records in vain: drop replays of settled ones, and book orphans."""
        idle = self._assembler.idle(time.monotonic() - self._timing.tidy)
        if not idle:
            return
        orphans: list[ExchangeId] = []
        for id, final in zip(idle, await self._ledger.final(idle), strict=True):
            if final:
                await streams.drop(self._store, self.shard, self._assembler.forget(id))
            else:
                orphans.append(id)
        states = await boots.find(self._store, {id.boot for id in orphans})
        lost = [(id, states[id.boot]) for id in orphans if states[id.boot].state is not BootState.LIVE]
        if lost:
            # Redis has all records of a boot that is accounted for, but we need not have read them.
            await self._read_up()
            await self._settle_lost([(id, boot) for id, boot in lost if self._assembler.holds(id)])

    async def _read_up(self) -> None:
        """Read everything that is in the stream now, including the records that a former holder had read."""
        last = _order(await streams.last_id(self._store, self.shard))
        while entries := await self._read(block_ms=1):
            await self.take(entries)
            if _order(entries[-1].id) >= last:
                break
        await self._reclaim(0)

    async def _settle_lost(self, orphans: Sequence[tuple[ExchangeId, Boot]]) -> None:
        if not orphans:
            return
        booked = await self._ledger.provisional(self.shard, [id for id, _ in orphans])
        now_ms = await self._timing.now_ms(self._store)
        batch: list[Settlement] = []
        given_up: list[Settlement] = []
        for (id, boot), so_far in zip(orphans, booked, strict=True):
            stream_ids = self._assembler.stream_ids(id)
            # Age counts at the second sight only: when Redis's clock jumps, boots look gone until their next heartbeat.
            aged = id in self._provisional and now_ms - max(map(_order, stream_ids))[0] > _ORPHAN_MS
            over = boot.accounted or aged
            if not over and self._provisional.get(id) == len(stream_ids):
                continue  # no new records; a newer calibration is not a reason to book again
            settlement = await self._measured_rest(id, final=over, so_far=so_far)
            if settlement is None:
                continue
            self._provisional[id] = len(stream_ids)
            if over and settlement.held:
                given_up.append(settlement)
            if settlement.changes:
                batch.append(settlement)
                log.warning("shard %d: exchange %s has lost its gateway", self.shard, id, extra={"exchange_id": id})
        gone = await self._book(batch)
        for settlement in batch:
            if settlement.final or settlement.id in gone:
                self._provisional.pop(settlement.id, None)
                self._assembler.forget(settlement.id)
        given_up = [settlement for settlement in given_up if settlement.id not in gone]
        for settlement in given_up:
            self._provisional.pop(settlement.id, None)
            self._assembler.forget(settlement.id)
        await self._hold(given_up)

    async def _measured_rest(self, id: ExchangeId, *, final: bool, so_far: str) -> Settlement | None:
        """The settlement of an exchange from the records that came; None where there is nothing to settle."""
        try:
            rest = self._assembler.rest(id)
        except BadRecord as exc:
            await self._quarantine(self._assembler.forget(id), str(exc))
            return None
        if rest is None:
            if final:
                await self._quarantine(self._assembler.forget(id), "its gateway died, and its open never came")
            return None
        settlement = await self._measured(rest, final=final, so_far=so_far)
        if settlement is None:
            self._assembler.forget(id)
        return settlement

    async def take(self, entries: Sequence[StreamEntry]) -> None:
        """Settle what these records complete; keep the others."""
        whole: list[Assembled] = []
        for entry in entries:
            try:
                assembled = self._assembler.add(entry, time.monotonic())
            except BadExchange as exc:
                await self._quarantine(exc.stream_ids, str(exc))
                continue
            except BadRecord as exc:
                await self._quarantine([entry.id], str(exc))
                continue
            if assembled is not None:
                whole.append(assembled)
        suspected = [self._measuring.are(assembled.stream_ids) for assembled in whole]
        await self._settle([one for one, suspect in zip(whole, suspected, strict=True) if not suspect])
        for one, suspect in zip(whole, suspected, strict=True):
            if suspect:  # so that one that kills this meter leaves the others settled
                await self._settle([one])

    async def _settle(self, whole: Sequence[Assembled]) -> None:
        settlements = [await self._measured(assembled) for assembled in whole]
        batch = [settlement for settlement in settlements if settlement is not None]
        gone = await self._book(batch)
        await self._hold([one for one in batch if one.held and one.id not in gone])

    async def _hold(self, unreadable: Sequence[Settlement]) -> None:
        """Quarantine what is booked as unreadable: `retry` amends it, `drop` makes it final."""
        for settlement in unreadable:
            self._metrics.unreadable(settlement.entry)
            await self._quarantine(settlement.stream_ids, settlement.held)

    async def _measured(self, whole: Assembled, *, final: bool = True, so_far: str = "") -> Settlement | None:
        """The settlement of an exchange. None where it cannot be read, which quarantines it, and where it has to wait
        for the start of its work: then its records stay as they are, and are reclaimed."""
        tail, stream_ids = whole
        try:
            found = await self._measuring.measured(tail, stream_ids)
            entry = await self._claims.entry(tail.id, found)
            if entry is None:
                return None
            first = (tail.open.key, booked.group(tail.open.provider, tail.open.model))
            known = final and not found.held
            settlement = Settlement(
                tail.id, entry, stream_ids, final=known, so_far=so_far, first=first, held=found.held
            )
        except (BadRecord, StoreRefused) as exc:
            await self._quarantine(stream_ids, str(exc))
        except StoreError:
            raise
        except Exception as exc:  # a bug in a reader must cost one exchange, not the whole shard
            log.exception("shard %d: exchange %s cannot be read", self.shard, tail.id, extra={"exchange_id": tail.id})
            await self._quarantine(stream_ids, f"{type(exc).__name__}: {exc}")
        else:
            self._measuring.learn(found)
            return settlement
        finally:
            await asyncio.sleep(0)  # counting takes long, and leases must be renewed meanwhile
        return None

    async def _book(self, batch: Sequence[Settlement]) -> set[ExchangeId]:
        """Settle a batch. Returns the exchanges that are done with, and not by a settlement: the script has refused
        them, and they are quarantined; or they were final before, and what came again of them is dropped."""
        gone: set[ExchangeId] = set()
        for _ in range(_AMENDMENTS):
            if not batch:
                return gone
            conflicts: list[Settlement] = []
            for settlement, verdict in zip(batch, await self._ledger.settle(batch), strict=True):
                if isinstance(verdict, StoreRefused):
                    await self._quarantine(settlement.stream_ids, f"the settle script refuses it: {verdict}")
                    gone.add(settlement.id)
                elif isinstance(verdict, StoreError):
                    raise verdict
                elif verdict is Verdict.CONFLICT:
                    conflicts.append(settlement)
                elif verdict is Verdict.DUPLICATE:
                    gone.add(settlement.id)
                    await self._forgo(settlement)
                else:
                    lag = time.time() - _order(settlement.stream_ids[-1])[0] / 1000
                    self._metrics.settled(settlement.entry, lag, final=settlement.final)
            booked = await self._ledger.provisional(self.shard, [settlement.id for settlement in conflicts])
            batch = []
            for settlement, so_far in zip(conflicts, booked, strict=True):
                try:
                    replacing = settlement.replacing(so_far)
                    if replacing.changes:
                        batch.append(replacing)
                except BadRecord as exc:
                    await self._quarantine(settlement.stream_ids, str(exc))
                    gone.add(settlement.id)
        if batch:
            raise StoreUnavailable(f"exchange {batch[0].id} is amended by another worker again and again")
        return gone

    async def _forgo(self, duplicate: Settlement) -> None:
        """Drop the records of an exchange that was final before."""
        self._metrics.duplicate()
        if not duplicate.final:  # the script has dropped the others'
            await streams.drop(self._store, self.shard, duplicate.stream_ids)

    async def _quarantine(self, stream_ids: Sequence[bytes], reason: str) -> None:
        log.error("shard %d: quarantined %d records: %s", self.shard, len(stream_ids), reason)
        self._metrics.quarantined(len(stream_ids))
        entries = await streams.fetch(self._store, self.shard, stream_ids)
        await quarantine.hold(self._store, self.shard, entries, reason)


def _order(id: bytes) -> tuple[int, int]:
    """A stream id as numbers: milliseconds of Redis's clock, and a count."""
    milliseconds, _, number = id.partition(b"-")
    return int(milliseconds), int(number)
