"""The meter of one process: a consumer for each shard it holds the lease of."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from services.meter.access_log import AccessLog
from services.meter.books_monitor import BooksMonitor
from services.meter.consumer import ShardConsumer
from services.meter.estimator import TokenEstimator
from services.meter.metrics import MeterMetrics
from services.meter.pricing.book import PriceBook
from services.meter.settings import MeterSettings
from services.meter.settle import Ledger
from shared.books import boots, version
from shared.books.leases import Leases
from shared.contract import names
from shared.contract.ids import new_boot
from shared.runtime import seal_keys
from shared.runtime.errors import StoreError
from shared.runtime.store import Store

_LATE_SECONDS = names.LEASE_TTL_MS / 1000
_HUNG_SECONDS = 120.0  # a round waits for batches that are being settled

log = logging.getLogger(__name__)


class Meter:
    """Holds leases and runs their consumers until `stop`. A consumer that fails takes the meter with it."""

    def __init__(
        self, store: Store, settings: MeterSettings, *, round_seconds: float = names.LEASE_TTL_MS / 3000
    ) -> None:
        """`round_seconds`: between two renewals of its leases."""
        self._store = store
        self._settings = settings
        self._round_seconds = round_seconds
        self._estimator = TokenEstimator(settings)
        if self._estimator.prices.list_prices:
            log.info("prices: %s, which are list prices", self._estimator.prices.version)
        self._leases = Leases(store, new_boot(), settings.shards)
        self.metrics = (AccessLog if settings.access_log else MeterMetrics)(settings.metrics_usage_series)
        ledger, keys = Ledger(store, settings.ledger_keep), seal_keys.load(settings.seal_keys_file)
        if keys.ids:
            log.info("tails that are sealed are opened with the keys %s", ", ".join(keys.ids))
        self._consumer: Callable[[int], ShardConsumer] = lambda shard: ShardConsumer(
            store, ledger, shard, settings.batch, self._estimator, self.metrics, keys=keys
        )
        self._monitor = BooksMonitor(store, self.metrics.books, self._leases.held, settings.shards)
        self._renewed: float | None = None  # never
        begun = time.monotonic()
        self._turned: float | None = None  # not begun
        self.metrics.leases.show(
            shards=lambda: len(self._leases.held), last_round=lambda: time.monotonic() - (self._renewed or begun)
        )
        self._running: dict[int, tuple[ShardConsumer, asyncio.Task[None]]] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def name(self) -> str:
        """By which other processes know it."""
        return self._leases.holder

    def reprice(self, book: PriceBook) -> None:
        """Settle at other prices from now on."""
        self._estimator.prices = book

    def healthy(self) -> list[str]:
        """Nothing, or that the event loop hangs. A Redis that is away is not a reason to start anew."""
        silent = 0.0 if self._turned is None else time.monotonic() - self._turned
        return [f"the event loop has not turned for {silent:.0f} s"] if silent > _HUNG_SECONDS else []

    def ready(self) -> list[str]:
        """Nothing, or why this meter reads no shard now."""
        if self._stopping.is_set():
            return ["the process is shutting down"]
        if self._renewed is None:
            return ["Redis has not answered since the start"]
        since = time.monotonic() - self._renewed
        return [f"no lease was renewed for {since:.0f} s: Redis is away"] if since > _LATE_SECONDS else []

    async def run(self) -> None:
        """Meter; returns after `stop`, when every batch is settled and every lease given up."""
        monitoring = asyncio.get_running_loop().create_task(self._monitor.run(self._stopping), name="monitor")
        try:
            while not self._stopping.is_set():
                self._turned = time.monotonic()
                try:
                    await self._round()
                    self._renewed = time.monotonic()
                except StoreError as exc:
                    log.warning("leases: %s", exc)
                await self._pause()
        finally:
            self._stopping.set()
            try:
                await self._halt(list(self._running))
            finally:
                await self._leave()
                await monitoring

    async def _leave(self) -> None:
        try:
            await self._leases.leave()
        except StoreError as exc:
            log.warning("leases end by themselves: %s", exc)

    async def _round(self) -> None:
        if self._renewed is None:
            await version.check(self._store)
        await self._halt(list(await self._leases.renew()))
        self._leases.shards = await boots.shards(self._store, self._settings.shards)
        share = await self._leases.share()
        for shard in sorted(self._leases.held)[share:]:
            await self._halt([shard])
            await self._leases.release(shard)
        try:
            await self._leases.take(share)
        finally:  # leases that were taken before a failure are held, so that their shards must be read
            for shard in self._leases.held - self._running.keys():
                self._start(shard)
        await self._estimator.sync(self._store)

    def _start(self, shard: int) -> None:
        consumer = self._consumer(shard)
        task = asyncio.get_running_loop().create_task(consumer.run(), name=f"shard {shard}")
        self._running[shard] = consumer, task
        log.info("metering shard %d", shard)

    async def _halt(self, shards: list[int]) -> None:
        stopped = [self._running.pop(shard) for shard in shards if shard in self._running]
        for consumer, _ in stopped:
            consumer.stop()
        results = await asyncio.gather(*(task for _, task in stopped), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _pause(self) -> None:
        """Until the next round; ends early on `stop`, and with the error of a consumer that failed."""
        stopping = asyncio.get_running_loop().create_task(self._stopping.wait())
        tasks = {task for _, task in self._running.values()}
        done, _ = await asyncio.wait(
            {stopping, *tasks}, timeout=self._round_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        stopping.cancel()
        for task in done - {stopping}:
            task.result()
