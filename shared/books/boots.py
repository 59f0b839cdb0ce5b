"""The boots of gateways: which of them live, which are accounted for, and how many exchanges each has opened.

A gateway sends a heartbeat every second, which brings back what is asked of it. Meters book its open exchanges as lost
once the boot is gone (decision 16).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from shared.contract import names, scripts
from shared.runtime.store import Store, translated


class BootState(StrEnum):
    """The state of a boot and of its records."""

    LIVE = "live"  # its process sends heartbeats
    LEFT = "left"  # it has ended, and Redis has all its records
    ADOPTED = "adopted"  # it has died, and Redis has all the records of its journal
    GONE = "gone"  # its heartbeat stopped; its journal may still turn up


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot as Redis knows it. `opened`: how many ids it has minted, by shard."""

    state: BootState
    opened: Mapping[int, int]

    @property
    def accounted(self) -> bool:
        """Whether no further record of it can come, except replays. Age is not enough: clocks step (decision 24)."""
        return self.state in (BootState.LEFT, BootState.ADOPTED)


class Heard(NamedTuple):
    """What a heartbeat brings back."""

    known: bool  # Redis has heard of all these boots before
    reload: int  # the number of the last reload that was asked for
    asked_ms: int = 0  # when somebody last asked what runs, by Redis's clock; 0: not lately
    cancels: tuple[str, ...] = ()  # ids of exchanges of these boots that are to be cancelled


async def heartbeat(
    store: Store, opened: Mapping[str, Mapping[int, int]], state: BootState, said: Mapping[str, bytes] | None = None
) -> Heard:
    """Write the state of these boots, with the exchanges that each has opened, by shard. `said`: by boot, what its
    gateway says of itself where that is new."""
    known, reload, asked_ms = True, 0, 0
    cancels: list[bytes] = []
    with translated():
        for boot, counts in opened.items():
            arguments: list[str | bytes] = [boot, state, str(names.FINAL_TTL_S), str(max(counts, default=-1) + 1)]
            arguments += [(said or {}).get(boot, b""), str(names.BOOT_TTL_MS)]
            for shard, count in counts.items():
                arguments += [str(shard), str(count)]
            keys = [names.BOOTS, names.boot(boot), names.SHARDS, names.gateway(boot), names.RELOAD]
            keys += [names.ASKED, names.cancel(boot), names.running(boot)]
            answer = await store.eval(scripts.HEARTBEAT, len(keys), *keys, *arguments)  # type: ignore[misc,arg-type]
            heard, reload, asked_ms, ids = answer
            known &= bool(heard)
            cancels += ids
    return Heard(known, reload, asked_ms, tuple(id.decode() for id in cancels))


async def shards(store: Store, configured: int) -> int:
    """The number of shards: the configured one, or more where a gateway has used more (decision 18)."""
    with translated():
        return max(configured, int(await store.get(names.SHARDS) or 0))


async def known(store: Store) -> dict[str, Boot]:
    """Every boot of the last 35 days."""
    with translated():
        heard = await store.zrange(names.BOOTS, 0, -1)
    return await find(store, [boot.decode() for boot in heard])


async def find(store: Store, boots: Iterable[str]) -> dict[str, Boot]:
    """These boots; one that Redis has never heard of is gone."""
    wanted = list(boots)
    with translated():
        seconds, _ = await store.time()
        pipeline = store.pipeline(transaction=False)
        for boot in wanted:
            pipeline.zscore(names.BOOTS, boot)
            pipeline.hgetall(names.boot(boot))
        replies = await pipeline.execute()
    pairs = zip(replies[::2], replies[1::2], strict=True)
    return {boot: _boot(int(seconds) * 1000, at, fields) for boot, (at, fields) in zip(wanted, pairs, strict=True)}


def _boot(now_ms: int, at: float | None, fields: dict[bytes, bytes]) -> Boot:
    opened = {int(shard): int(count) for shard, count in fields.items() if shard.isdigit()}
    state = BootState(fields.get(b"state", b"gone").decode())
    if state is BootState.LIVE and (at is None or at < now_ms - names.BOOT_TTL_MS):
        state = BootState.GONE
    return Boot(state, opened)
