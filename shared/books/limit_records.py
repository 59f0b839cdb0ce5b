"""The limits of teams and of everything, as Redis holds them; those of a key are in its record."""

from __future__ import annotations

from typing import NamedTuple

from shared.contract import limits, names, scripts
from shared.contract.limits import Limits
from shared.runtime.store import Store, translated


class Records(NamedTuple):
    """All of them, by scope, and the number of their last change."""

    version: int
    of: dict[str, Limits]


async def version(store: Store) -> int:
    """The number of the last change."""
    with translated():
        return int(await store.hget(names.LIMITS, "version") or 0)  # type: ignore[misc]  # redis-py types it as sync or async


async def read(store: Store) -> Records:
    """All limits of teams and of everything."""
    with translated():
        stored = await store.hgetall(names.LIMITS)  # type: ignore[misc]
    number, _ = int(stored.pop(b"version", 0)), stored.pop(b"over", None)
    return Records(number, {scope.decode(): limits.decode(text) for scope, text in stored.items()})


async def write(store: Store, scope: str, given: Limits | None) -> None:
    """Set the limits of a team or of everything; None for none. Gateways notice within two seconds."""
    text = limits.encode(given) if given is not None and given.any else ""
    with translated():
        await store.eval(scripts.SET_LIMITS, 1, names.LIMITS, scope, text)  # type: ignore[misc]
