"""What running processes say of themselves: the state of gateways, what they run, and how reloads went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

import msgspec

from shared.contract import names, running, scripts
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.running import Cancelled, GatewayState, Reloaded, RunningExchange, RunningExchanges, Service
from shared.runtime.store import Store, translated

T = TypeVar("T", bound=msgspec.Struct)

PATIENCE = 3.0  # seconds for a gateway to answer: it hears a question within one, and acts within two
_POLL_SECONDS = 0.05


class Answers(NamedTuple):
    """What runs, by the boots of the gateways. `silent`: those that live and have not answered, with their hosts."""

    gateways: dict[str, RunningExchanges]
    silent: dict[str, str]

    def oldest_first(self) -> list[tuple[str, RunningExchange]]:
        """Every exchange, with the boot of its gateway."""
        found = [(boot, one) for boot, said in self.gateways.items() for one in said.exchanges]
        return sorted(found, key=lambda pair: (pair[1].opened_ms, pair[1].id))


async def gateways(store: Store) -> dict[str, GatewayState]:
    """The state of every living gateway that tells it, by boot."""
    alive = await _alive(store, names.BOOTS, names.BOOT_TTL_MS)
    with translated():
        pipeline = store.pipeline(transaction=False)
        for boot in alive:
            pipeline.get(names.gateway(boot))
        said = await pipeline.execute() if alive else []
    return _decoded(alive, said, GatewayState)


async def exchanges(store: Store, patience: float = PATIENCE) -> Answers:
    """Ask every living gateway what it runs, and wait for the answers for at most `patience` seconds."""
    with translated():
        asked_ms = int(await store.eval(scripts.ASK_RUNNING, 1, names.ASKED, str(names.RUNNING_TTL_MS)))  # type: ignore[misc]
    silent = {boot: state.host for boot, state in (await gateways(store)).items()}
    found: dict[str, RunningExchanges] = {}
    deadline = time.monotonic() + patience
    while True:
        found |= await _answered(store, list(silent), asked_ms)
        silent = {boot: host for boot, host in silent.items() if boot not in found}
        if not silent or time.monotonic() > deadline:
            return Answers(dict(sorted(found.items())), silent)
        await asyncio.sleep(_POLL_SECONDS)


async def tell_running(store: Store, boot: str, asked_ms: int, said: bytes) -> None:
    """Say what a gateway runs, encoded, to whoever asked."""
    arguments = str(asked_ms), said, str(names.RUNNING_TTL_MS)
    with translated():
        await store.eval(scripts.TELL_RUNNING, 1, names.running(boot), *arguments)  # type: ignore[misc,arg-type]


async def cancel(store: Store, id: ExchangeId, patience: float = PATIENCE) -> Cancelled | None:
    """Ask the gateway of an exchange to cancel it. Returns its answer; None where it has not answered in time: it
    cancels where it comes back within CANCEL_TTL_S."""
    keys = names.cancel(id.boot), names.cancelled(id.boot)
    deadline = time.monotonic() + patience
    with translated():
        await store.eval(scripts.CANCEL, 2, *keys, str(id), str(names.CANCEL_TTL_S))  # type: ignore[misc]
        while (answer := await store.hget(keys[1], str(id))) is None:  # type: ignore[misc]
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(_POLL_SECONDS)
    return Cancelled(answer.decode())


async def note_cancelled(store: Store, boot: str, answers: Mapping[str, Cancelled]) -> None:
    """Answer cancels of exchanges of a boot, by exchange id."""
    arguments = [part for pair in answers.items() for part in pair]
    keys = names.cancel(boot), names.cancelled(boot)
    with translated():
        await store.eval(scripts.NOTE_CANCELLED, 2, *keys, str(names.CANCEL_TTL_S), *arguments)  # type: ignore[misc]


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


async def _answered(store: Store, boots: list[str], asked_ms: int) -> dict[str, RunningExchanges]:
    """What those of these gateways run that have answered this question, or a later one."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        for boot in boots:
            pipeline.hget(names.running(boot), "asked")
        answered = await pipeline.execute() if boots else []
        there = [boot for boot, at in zip(boots, answered, strict=True) if at is not None and int(at) >= asked_ms]
        for boot in there:
            pipeline.hget(names.running(boot), "said")
        said = await pipeline.execute() if there else []
    return _decoded(there, said, RunningExchanges)


def _decoded(boots: Sequence[str], said: Sequence[bytes | None], kind: type[T]) -> dict[str, T]:
    """By boot, what its gateway says; without what nobody here can read."""
    found = {}
    for boot, stored in zip(boots, said, strict=True):
        with suppress(BadRecord):  # of a later version
            if stored:
                found[boot] = running.decode(stored, kind)
    return found
