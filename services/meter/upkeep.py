"""Duties that one meter does for all, as arq's cron jobs. Nothing billed depends on them."""

from __future__ import annotations

import logging
from typing import Any

from arq.cron import CronJob, cron

from services.meter.settings import MeterSettings
from services.meter.settle import Ledger
from shared.books import boots, followers, streams
from shared.runtime import store
from shared.runtime.errors import StoreRefused
from shared.runtime.store import Store

_HOUR_MS = 3_600_000

log = logging.getLogger(__name__)


def jobs() -> list[CronJob]:
    """Each runs on whichever meter comes first; trimming often, as what is held back for a follower may have to go."""
    return [
        cron(trim_ledger, minute=set(range(0, 60, 5)), keep_result=0),
        cron(keep_marks, minute=15, keep_result=0),
        cron(rewrite_append_only_file, minute=30, keep_result=0),
    ]


async def keep_marks(ctx: dict[Any, Any]) -> None:
    """Keep the marks of boots that are known."""
    ledger: Ledger = ctx["ledger"]
    settings: MeterSettings = ctx["settings"]
    shards = await boots.shards(ctx["store"], settings.shards)
    await ledger.keep_marks(shards, await boots.known(ctx["store"]))


async def trim_ledger(ctx: dict[Any, Any]) -> None:
    """Drop ledger entries older than the settings keep them, unless a follower that lags holds them back."""
    ledger: Ledger = ctx["ledger"]
    settings: MeterSettings = ctx["settings"]
    bounds = await followers.hold(
        ctx["store"],
        await boots.shards(ctx["store"], settings.shards),
        now_ms=await streams.now_ms(ctx["store"]),  # the age of entries is measured by Redis's clock (decision 24)
        keep_ms=settings.ledger_keep * 1000,
        hold_ms=settings.ledger_hold * 1000,
        most_memory=settings.ledger_hold_memory,
    )
    await ledger.trim(bounds)


async def rewrite_append_only_file(ctx: dict[Any, Any]) -> None:
    """Have Redis write its append-only file anew, every `aof_rewrite_hours`: settled text goes from its disk with it.

    By itself Redis does so when the file has doubled, which in a quiet system is never.
    """
    settings: MeterSettings = ctx["settings"]
    redis: Store = ctx["store"]
    hour = await streams.now_ms(redis) // _HOUR_MS
    if not settings.aof_rewrite_hours or hour % settings.aof_rewrite_hours:
        return
    try:
        await store.rewrite_append_only_file(redis)
    except StoreRefused as exc:  # providers of Redis as a service take this command away
        log.info("Redis does not write its append-only file anew when asked (%s): settled text stays in it longer", exc)
