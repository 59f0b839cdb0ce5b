"""Has a Redis that started anew write its append-only file anew (decision 64).

Where most servers cut off the torn end of their file inside a script's writes, the beginning of that script stays in
the file, and is run by the next load. What is in memory is right; a file that is written anew from it is right, too.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from shared.runtime.errors import StoreError, StoreRefused
from shared.runtime.store import Store, info, mends, rewrite_append_only_file

_AGAIN_SECONDS = 1.0
_QUIET_SECONDS = 60.0

log = logging.getLogger(__name__)


async def watch(store: Store, until: asyncio.Future[None]) -> None:
    """Look at the files of Redis every second, until that is done."""
    told = ""
    while not until.done():
        pause = _AGAIN_SECONDS
        try:
            if await rewrite(store):
                pause = _QUIET_SECONDS  # where it fails it is asked for again, and not at once
        except StoreRefused as exc:  # a managed Redis keeps this command for itself
            if str(exc) != told:
                log.warning("Redis does not write its append-only file anew for us (decision 64): %s", exc)
            told = str(exc)
            pause = _QUIET_SECONDS
        except StoreError:
            log.debug("Redis is away")
        await asyncio.wait({until}, timeout=pause)


async def rewrite(store: Store) -> bool:
    """Ask the servers that have not written their file anew since they started. Returns whether there was one."""
    servers = zip(await info(store, "server"), await info(store, "persistence"), strict=False)
    waiting = [server for server, persistence in servers if not mends(server) and _waits(persistence)]
    if waiting:
        await rewrite_append_only_file(store)
        log.info("Redis has started anew: it writes its append-only file anew")
    return bool(waiting)


def _waits(persistence: dict[str, Any]) -> bool:
    """Whether a server keeps a file that it has not written anew since it started, and is not about to."""
    if not persistence.get("aof_enabled") or persistence.get("loading"):
        return False
    if persistence.get("aof_rewrite_in_progress") or persistence.get("aof_rewrite_scheduled"):
        return False
    return not persistence.get("aof_rewrites", 1) or persistence.get("aof_last_bgrewrite_status", "ok") != "ok"
