"""Running a follower in a process: under a lease per shard, until it is stopped. A sink that is away is waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from shared.books import boots, followers, streams
from shared.books.follow import Follower, Sink
from shared.books.leases import Leases
from shared.contract import names
from shared.contract.ids import new_boot
from shared.runtime.errors import Overtaken, SinkError, SinkUnavailable, StoreError
from shared.runtime.store import Store

log = logging.getLogger(__name__)


class Timing(NamedTuple):
    """Seconds: between two renewals of the leases, two reads where nothing was found, two times a sink is tended, and
    after a failure, at first and at most."""

    leases: float = names.LEASE_TTL_MS / 3000
    idle: float = 0.5
    tend: float = 3600.0
    again: float = 1.0
    most: float = 30.0
    last: float = 5.0  # for what is unread at the end


TIMING = Timing()


class Following:
    """Follows the ledger for one sink, in the shards whose leases this process holds."""

    def __init__(
        self, store: Store, sink: Sink, *, shards: int, journal_keep: float, count: int = 200, timing: Timing = TIMING
    ) -> None:
        """`journal_keep`: seconds that gateways keep what Redis has taken."""
        self._store = store
        self._sink = sink
        self._shards = shards
        self._timing = timing
        self._follower = Follower(store, sink, back_ms=int(journal_keep * 1000) + 60_000, count=count)
        self._leases = Leases(
            store,
            new_boot(),
            shards,
            holders=names.following(sink.name),
            lease=partial(names.follow_lease, name=sink.name),
        )
        self._renewed: float | None = None
        self._tended: float | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow until `stopping`, and then read what is there. Nothing is cancelled: a batch that is being written is
        written."""
        pause = self._timing.again
        try:
            while not stopping.is_set():
                try:
                    busy = await self._round()
                    pause = self._timing.again
                    if not busy:
                        await _pause(stopping, self._timing.idle)
                except Overtaken as exc:  # our lease had ended, and somebody else goes on
                    log.info("%s", exc)
                    self._follower.forget()
                    await _pause(stopping, self._timing.again)
                except Exception as exc:  # a bug in a sink must not stop the meter that it runs beside
                    if isinstance(exc, (StoreError, SinkError)):
                        log.warning("the follower %s waits: %s", self._sink.name, exc)
                    else:
                        log.exception("the follower %s waits", self._sink.name)
                    self._follower.forget()
                    await self._failed(exc)
                    await _pause(stopping, max(pause, exc.after if isinstance(exc, SinkUnavailable) else 0.0))
                    pause = min(2 * pause, self._timing.most)
            await self._last_rounds()
        finally:
            with suppress(StoreError):  # leases end by themselves
                await self._leases.leave()
            await self._sink.close()

    async def _round(self) -> int:
        now = time.monotonic()
        if self._renewed is None or now - self._renewed >= self._timing.leases:
            await self._renew()
            self._renewed = now
        read = await self._follower.round(sorted(self._leases.held))
        if 0 in self._leases.held and (self._tended is None or now - self._tended >= self._timing.tend):
            self._tended = now  # where it fails, following goes on, and it is tried again in its time
            await self._sink.tend(await streams.now_ms(self._store))
        return read

    async def _last_rounds(self) -> None:
        """Read what was settled since the last round, so that a sink is complete where a process ends in good order.
        Nobody waits for a sink that is away."""
        if self._renewed is None:
            return
        until = time.monotonic() + self._timing.last
        try:
            while await self._follower.round(sorted(self._leases.held)) and time.monotonic() < until:
                pass
        except (StoreError, SinkError, Overtaken) as exc:
            log.warning("the follower %s has not read all that is there: %s", self._sink.name, exc)
        except Exception:  # a bug in a sink: the process ends in good order all the same
            log.exception("the follower %s has not read all that is there", self._sink.name)

    async def _renew(self) -> None:
        await followers.register(self._store, self._sink.name)
        await self._leases.renew()
        self._leases.shards = await boots.shards(self._store, self._shards)
        share = await self._leases.share()
        for shard in sorted(self._leases.held)[share:]:
            await self._leases.release(shard)
        await self._leases.take(share)

    async def _failed(self, error: Exception) -> None:
        self._renewed = None  # a lease may have ended meanwhile
        with suppress(StoreError):
            now_ms = await streams.now_ms(self._store)
            held = self._leases.held or {0}
            await followers.failed(
                self._store, self._sink.name, sorted(held), f"{type(error).__name__}: {error}", now_ms
            )


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
