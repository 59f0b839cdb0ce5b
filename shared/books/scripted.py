"""Calls of one script, several at once: the script is sent only to a server that does not have it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from redis.exceptions import NoScriptError

from shared.runtime.errors import StoreError
from shared.runtime.store import Store, translate, translated

Call = tuple[str, Sequence[str], Sequence[str | int | bytes]]  # a script, its keys, its arguments


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


async def evaluate(store: Store, calls: Sequence[Call]) -> list[Any]:
    """Run each of these in one pipeline. StoreError where one fails; then any others may have run."""
    replies = await try_each(store, calls)
    for reply in replies:
        if isinstance(reply, StoreError):
            raise reply
    return replies


async def try_each(store: Store, calls: Sequence[Call]) -> list[Any]:
    """The same; a failure is the reply of its call. StoreError where there is no connection."""
    with translated():
        replies = await _run(store, calls)
        again = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if again:  # the first time, SCRIPT FLUSH, or a restarted server
            for script in {calls[at][0] for at in again}:
                await store.script_load(script)
            for at, reply in zip(again, await _run(store, [calls[at] for at in again]), strict=True):
                replies[at] = reply
    return [translate(reply) if isinstance(reply, Exception) else reply for reply in replies]


async def _run(store: Store, calls: Sequence[Call]) -> list[Any]:
    pipeline = store.pipeline(transaction=False)
    for script, keys, arguments in calls:
        # Not `evalsha`, which redis-py keeps out of a cluster's pipelines; all keys of a call are in one slot.
        pipeline.execute_command("EVALSHA", _sha(script), len(keys), *keys, *arguments)
    found: list[Any] = await pipeline.execute(raise_on_error=False)
    return found
