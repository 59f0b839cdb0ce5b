"""What running processes say of themselves: the state of gateways, and how reloads went."""

from __future__ import annotations

from collections.abc import Mapping

from shared.contract import names, running, scripts
from shared.contract.errors import BadRecord
from shared.contract.running import GatewayState, Reloaded, Service
from shared.runtime.store import Store, translated


async def gateways(store: Store) -> dict[str, GatewayState]:
    """The state of every living gateway that tells it, by boot."""
    alive = await _alive(store, names.BOOTS, names.BOOT_TTL_MS)
    with translated():
        pipeline = store.pipeline(transaction=False)
        for boot in alive:
            pipeline.get(names.gateway(boot))
        said = await pipeline.execute() if alive else []
    found = {boot: _decoded(stored) for boot, stored in zip(alive, said, strict=True)}
    return {boot: state for boot, state in found.items() if state is not None}


async def processes(store: Store) -> dict[str, Service]:
    """Every living process that reloads: gateways by their boots, meters by their names."""
    gateways = await _alive(store, names.BOOTS, names.BOOT_TTL_MS, live=True)
    meters = await _alive(store, names.METERS, names.METER_TTL_MS)
    return dict.fromkeys(gateways, Service.GATEWAY) | dict.fromkeys(meters, Service.METER)


async def ask_reload(store: Store) -> int:
    """Ask every process for a reload. Returns its number."""
    with translated():
        return int(await store.eval(scripts.ASK_RELOAD, 1, names.RELOAD))  # type: ignore[misc]


async def last_reload(store: Store) -> int:
    """The number of the last reload that was asked for; 0 for none."""
    with translated():
        return int(await store.get(names.RELOAD) or 0)


async def note_reload(store: Store, number: int, process: str, reloaded: Reloaded) -> None:
    """Say how a reload went in one process."""
    arguments = process, running.encode(reloaded), str(names.RELOADED_TTL_S)
    with translated():
        await store.eval(scripts.NOTE_RELOAD, 1, names.reloaded(number), *arguments)  # type: ignore[misc,arg-type]


async def reloaded(store: Store, number: int) -> Mapping[str, Reloaded]:
    """How a reload went, by process; those that have not answered are missing."""
    with translated():
        found = await store.hgetall(names.reloaded(number))  # type: ignore[misc]
    return {process.decode(): running.decode(stored, Reloaded) for process, stored in found.items()}


async def _alive(store: Store, key: str, ttl_ms: int, *, live: bool = False) -> list[str]:
    """The members of a set of heartbeats that are not silent. `live`: but those that have left."""
    with translated():
        seconds, _ = await store.time()
        found = [name.decode() for name in await store.zrangebyscore(key, int(seconds) * 1000 - ttl_ms, "+inf")]
        if not live:
            return found
        pipeline = store.pipeline(transaction=False)
        for boot in found:
            pipeline.hget(names.boot(boot), "state")
        states = await pipeline.execute() if found else []
    return [boot for boot, state in zip(found, states, strict=True) if state == b"live"]


def _decoded(stored: bytes | None) -> GatewayState | None:
    try:
        return running.decode(stored, GatewayState) if stored else None
    except BadRecord:  # of a later version
        return None
