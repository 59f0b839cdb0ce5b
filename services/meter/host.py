"""The process of a meter: arq hosts it (lifecycle, cron, health check), and we supervise arq.

arq exits when Redis does, so it is built anew until Redis is back, and an outage is not a crash loop. Nothing billed
depends on an arq job.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

import msgspec
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from services.meter.estimate import tokens
from services.meter.meter import Meter
from services.meter.settings import MeterSettings
from services.meter.settle import Ledger
from services.meter.upkeep import jobs
from shared.books import version
from shared.runtime import store
from shared.runtime.admin_server import watched
from shared.runtime.errors import SettingsError

_QUEUE = "ar:arq"
_HEALTH_SECONDS = 10
_MOST_SHARDS = 1024
_RESTART_SECONDS = 2.0

log = logging.getLogger(__name__)


async def run(settings: MeterSettings, redis_url: str) -> None:
    """Meter until SIGTERM or SIGINT. Raises the error of a failed consumer; SettingsError where it cannot start."""
    tokens.load(settings.ranks_dir or settings.data_dir.expanduser() / "ranks")
    # Each shard's consumer holds a connection while it waits for records; there may be more than are configured here.
    redis = store.connect(redis_url, connections=_MOST_SHARDS + 16)
    await version.check(redis)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    meter = Meter(redis, settings)
    watch = watched(
        settings.meter_metrics_host,
        settings.meter_metrics_port,
        meter.metrics.registry,
        healthy=meter.healthy,
        ready=meter.ready,
    )
    metering: asyncio.Future[None] = loop.create_future()
    ended = asyncio.Event()

    def start_metering() -> None:
        nonlocal metering
        if not isinstance(metering, asyncio.Task):
            metering = loop.create_task(meter.run(), name="meter")
            metering.add_done_callback(lambda _: ended.set())
            log.info("the meter runs")

    with watch:
        try:
            while not stopping.is_set() and not metering.done():
                await _host(settings, redis_url, redis, start_metering, stopping, ended)
                if isinstance(metering, asyncio.Task):
                    await _first(stopping, metering, timeout=_RESTART_SECONDS)
                else:
                    await _first(stopping, timeout=_RESTART_SECONDS)
        finally:
            meter.stop()
            if isinstance(metering, asyncio.Task):
                await metering
            await redis.aclose()


async def _host(
    settings: MeterSettings,
    redis_url: str,
    redis: store.Store,
    start_metering: Callable[[], None],
    stopping: asyncio.Event,
    ended: asyncio.Event,
) -> None:
    """One life of an arq worker; it ends with the meter: a consumer that fails takes its process with it.
    Its start-up starts the meter, which outlives it: a Redis that is full ends arq,
    and only the meter can make it less full."""

    async def startup(ctx: dict[Any, Any]) -> None:
        start_metering()

    if settings.arq_redis_url is None and store.is_cluster(redis_url):
        raise SettingsError(
            "AROUTER_ARQ_REDIS_URL: is needed with a cluster, which arq cannot use; any plain Redis will do"
        )
    arq_url = settings.arq_redis_url.get_secret_value() if settings.arq_redis_url else redis_url
    worker = Worker(
        redis_pool=_arq_pool(arq_url),
        queue_name=_QUEUE,
        cron_jobs=jobs(),
        on_startup=startup,
        handle_signals=False,
        health_check_interval=_HEALTH_SECONDS,
        # arq pickles by default: whoever can write to Redis could then run code here (decision 8).
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
        ctx={"ledger": Ledger(redis), "settings": settings, "store": redis},
    )
    hosting = asyncio.get_running_loop().create_task(worker.async_run(), name="arq")
    failed = asyncio.ensure_future(ended.wait())
    await _first(stopping, hosting, failed)
    failed.cancel()
    while not hosting.done():
        # Again and again: on Python 3.11 redis-py's wait_for can swallow a cancel.
        hosting.cancel()
        await asyncio.wait({hosting}, timeout=1)
    error = None if hosting.cancelled() else hosting.exception()
    await _close(worker)
    if isinstance(error, (RedisError, OSError)):
        log.warning("arq has stopped and is started again: %s: %s", type(error).__name__, error)
    elif error is not None:
        raise error


async def _first(stopping: asyncio.Event, *others: asyncio.Future[Any], timeout: float | None = None) -> None:
    """Wait until one of them is done, or for `timeout` seconds."""
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait([stop, *others], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
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
