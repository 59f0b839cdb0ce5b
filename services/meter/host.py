"""The process of a meter: the meter, and beside it arq with its cron and health check, which we supervise.

arq exits when its Redis does, so it is built anew until that is back, and an outage is not a crash loop. Nothing billed
depends on an arq job, nor on arq's Redis.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from services.meter import append_only
from services.meter.estimate import tokens
from services.meter.meter import Meter
from services.meter.repricing import Repricing, listen
from services.meter.settings import MeterSettings
from services.meter.settle import Ledger
from services.meter.upkeep import jobs
from shared.runtime import store
from shared.runtime.admin_server import watched
from shared.runtime.errors import SettingsError
from shared.runtime.reloading import Reloading
from shared.runtime.tasks import Tasks

_QUEUE = "ar:arq"
_HEALTH_SECONDS = 10
_MOST_SHARDS = 1024
_RESTART_SECONDS = 2.0

log = logging.getLogger(__name__)


class Beside(Protocol):
    """A loop that runs beside the meter: a follower of the ledger."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping`."""


async def run(
    settings: MeterSettings,
    redis_url: str,
    load: Callable[[], MeterSettings],
    followers: Callable[[store.Store], Sequence[Beside]] = lambda _: (),
) -> None:
    """Meter until SIGTERM or SIGINT. `load`: reads the settings again, for reloads; `followers`: run beside it.

    Raises the error of a failed consumer; SettingsError where it cannot start.
    """
    tokens.load(settings.ranks_dir or settings.data_dir.expanduser() / "ranks")
    arq_url = _arq_url(settings, redis_url)
    # Each shard's consumer holds a connection while it waits for records; there may be more than are configured here.
    redis = store.connect(redis_url, connections=_MOST_SHARDS + 16)
    loop = asyncio.get_running_loop()
    stopping, settled = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    meter = Meter(redis, settings)
    repricing = Repricing(settings, load, meter)
    reloading = Reloading(repricing.reload, repricing.files, meter.metrics.reloads, repricing.digest)
    loop.add_signal_handler(signal.SIGHUP, reloading.ask)
    watch = watched(
        settings.meter_metrics_host,
        settings.meter_metrics_port,
        meter.metrics.registry,
        healthy=meter.healthy,
        ready=meter.ready,
    )
    with watch:
        metering = loop.create_task(meter.run(), name="meter")
        hosting = loop.create_task(_host(lambda: _worker(settings, arq_url, redis), metering), name="arq")
        rewriting = loop.create_task(append_only.watch(redis, metering), name="append-only file")
        beside = Tasks()
        beside.start(reloading.run(), "reloads")
        beside.start(listen(redis, reloading, meter.name), "asked reloads")
        following = [loop.create_task(one.run(settled), name="follower") for one in followers(redis)]
        tasks = (metering, hosting, rewriting, *following)
        log.info("the meter runs")
        try:
            await _first(stopping, *tasks)
        finally:
            meter.stop()
            try:
                await asyncio.wait((metering,))
                settled.set()  # followers read what the meter has settled last
                await asyncio.wait(tasks)
                await beside.cancel()
                for task in tasks:
                    task.result()
            finally:
                await redis.aclose()


async def _host(worker: Callable[[], Worker], metering: asyncio.Future[None]) -> None:
    """Run arq for as long as the meter runs, again and again: arq ends where its Redis is away, or full, and the meter
    needs neither."""
    told = ""
    while not metering.done():
        error = await _life(worker(), metering)
        said = f"{type(error).__name__}: {error}"
        if error is not None and said != told:
            log.warning("arq has stopped and is started again: %s", said)
        told = said
        await asyncio.wait({metering}, timeout=_RESTART_SECONDS)


async def _life(worker: Worker, metering: asyncio.Future[None]) -> Exception | None:
    """One life of an arq worker, which ends with the meter at the latest. Returns why its Redis has ended it."""
    hosting = asyncio.get_running_loop().create_task(worker.async_run(), name="arq worker")
    await asyncio.wait({metering, hosting}, return_when=asyncio.FIRST_COMPLETED)
    while not hosting.done():
        # Again and again: on Python 3.11 redis-py's wait_for can swallow a cancel.
        hosting.cancel()
        await asyncio.wait({hosting}, timeout=1)
    error = None if hosting.cancelled() else hosting.exception()
    await _close(worker)
    if error is None or isinstance(error, (RedisError, OSError)):
        return error
    raise error


def _worker(settings: MeterSettings, arq_url: str, redis: store.Store) -> Worker:
    return Worker(
        redis_pool=_arq_pool(arq_url),
        queue_name=_QUEUE,
        cron_jobs=jobs(),
        handle_signals=False,
        health_check_interval=_HEALTH_SECONDS,
        # arq pickles by default: whoever can write to Redis could then run code here (decision 8).
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
        ctx={"ledger": Ledger(redis), "settings": settings, "store": redis},
    )


def _arq_url(settings: MeterSettings, redis_url: str) -> str:
    if settings.arq_redis_url is not None:
        return settings.arq_redis_url.get_secret_value()
    if store.is_cluster(redis_url):
        raise SettingsError(
            "AROUTER_ARQ_REDIS_URL: is needed with a cluster, which arq cannot use; any plain Redis will do"
        )
    return redis_url


async def _first(stopping: asyncio.Event, *others: asyncio.Future[None]) -> None:
    """Wait until one of them is done."""
    stop: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
    await asyncio.wait([stop, *others], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()


def _arq_pool(url: str) -> ArqRedis:
    try:
        # arq's own pool has no socket timeout: a Redis that does not answer would hang it for ever.
        pool = BlockingConnectionPool.from_url(url, socket_timeout=5, socket_connect_timeout=5)
    except ValueError:
        raise SettingsError("AROUTER_ARQ_REDIS_URL: not a redis://, rediss:// or unix:// URL") from None
    return ArqRedis(
        pool,
        default_queue_name=_QUEUE,
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
    )


async def _close(worker: Worker) -> None:
    try:
        await worker.close()
    except (RedisError, OSError, asyncio.CancelledError):  # cancelled jobs come out of its gather
        log.debug("arq could not close its connection to Redis")
