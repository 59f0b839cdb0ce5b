"""The process of a meter: arq hosts it (lifecycle, cron, health check), and we supervise arq.

arq exits when Redis does, so it is built anew until Redis is back: an outage is no crash loop. Nothing that is billed
depends on an arq job existing.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import Any

import msgspec
from arq import cron
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from services.meter import tokens
from services.meter.ledger import Ledger
from services.meter.meter import Meter
from services.meter.settings import MeterSettings
from shared import store
from shared.errors import SettingsError, StoreError

_QUEUE = "ar:arq"
_HEALTH_SECONDS = 10
_RESTART_SECONDS = 2.0

log = logging.getLogger(__name__)


async def run(settings: MeterSettings, redis_url: str) -> None:
    """Meter until SIGTERM or SIGINT. Raises what a consumer failed with; SettingsError where it cannot start."""
    tokens.load(settings.ranks_dir or settings.data_dir.expanduser() / "ranks")
    redis = store.connect(redis_url)
    await store.verify(redis)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    while not stopping.is_set():
        try:
            await _host(settings, redis_url, redis, stopping)
        except (RedisError, StoreError, OSError) as exc:
            log.warning("arq has stopped and is started again: %s: %s", type(exc).__name__, exc)
            try:
                async with asyncio.timeout(_RESTART_SECONDS):
                    await stopping.wait()
            except TimeoutError:
                continue
    await redis.aclose()


async def _host(settings: MeterSettings, redis_url: str, redis: store.Store, stopping: asyncio.Event) -> None:
    """One life of an arq worker, which starts the meter and ends it."""
    meter = Meter(redis, settings)
    metering: list[asyncio.Task[None]] = []

    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(ctx: dict[Any, Any]) -> None:  # arq passes it by this name
        task = asyncio.get_running_loop().create_task(meter.run(), name="meter")
        task.add_done_callback(lambda _: ended.set_result(None))
        metering.append(task)
        log.info("the meter runs")

    arq_url = settings.arq_redis_url.get_secret_value() if settings.arq_redis_url else redis_url
    worker = Worker(
        redis_pool=_arq_pool(arq_url),
        queue_name=_QUEUE,
        cron_jobs=[cron(trim_ledger, minute=0, keep_result=0)],
        on_startup=start,
        handle_signals=False,
        health_check_interval=_HEALTH_SECONDS,
        # arq pickles by default: whoever can write to Redis could then run code here.
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
        ctx={"ledger": Ledger(redis), "settings": settings},
    )
    hosting = asyncio.get_running_loop().create_task(worker.async_run(), name="arq")
    stop = asyncio.ensure_future(stopping.wait())
    try:
        until: list[asyncio.Future[Any]] = [hosting, stop, ended]
        await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        meter.stop()
        hosting.cancel()
        results = await asyncio.gather(hosting, *metering, return_exceptions=True)
        await _close(worker)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _arq_pool(url: str) -> ArqRedis:
    try:
        # arq's own pool has no socket timeout: a Redis that does not answer would hang it for ever.
        pool = BlockingConnectionPool.from_url(url, socket_timeout=5, socket_connect_timeout=5)
    except ValueError:
        raise SettingsError("AROUTER_ARQ_REDIS_URL: is no redis://, rediss:// or unix:// URL") from None
    return ArqRedis(
        pool,
        default_queue_name=_QUEUE,
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
    )


async def _close(worker: Worker) -> None:
    try:
        await worker.close()
    except (RedisError, OSError):
        log.debug("arq could not say goodbye to Redis")


async def trim_ledger(ctx: dict[Any, Any]) -> None:
    """arq cron: drop ledger entries older than the settings keep them."""
    ledger: Ledger = ctx["ledger"]
    settings: MeterSettings = ctx["settings"]
    await ledger.trim(settings.shards, int((time.time() - settings.ledger_keep) * 1000))
