"""How many exchanges a meter settles per second and core, and how long one waits for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.relay import cpu_seconds, process
from shared.books import ledger, streams
from shared.contract import names, tail
from shared.contract.dialects import Dialect
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Open, Outcome, Packed
from shared.runtime import embedded, store
from shared.runtime.settings import Settings
from shared.runtime.store import Store

_SHARDS = 4


@dataclass(frozen=True, slots=True)
class Metered:
    """One kind of exchange."""

    title: str
    kib: float  # of each answer
    per_cpu_second: float
    per_second: float


def metered(folder: Path) -> list[Metered]:
    """Fill the streams while the meter sleeps, wake it up, and see how long it takes."""
    with embedded.redis_url(Settings(data_dir=folder, redis_url=None)) as url:
        return [
            asyncio.run(_drain(url, folder, "usage reported, ~60 KB", 6000, 180, reported=True)),
            asyncio.run(_drain(url, folder, "no usage reported, ~60 KB: counted by us", 300, 180, reported=False)),
            asyncio.run(_drain(url, folder, "usage reported, one event", 15000, 1, reported=True)),
        ]


async def _drain(url: str, folder: Path, title: str, exchanges: int, events: int, *, reported: bool) -> Metered:
    redis = store.connect(url)
    with process([sys.executable, "-m", "services.cli", "meter"], core=0, environment=_environment(url, folder)) as pid:
        while await redis.exists(*map(names.lease, range(_SHARDS))) < _SHARDS:
            await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGSTOP)
        size = await _fill(redis, exchanges, events, reported=reported)
        cpu, started = cpu_seconds(pid), time.monotonic()
        os.kill(pid, signal.SIGCONT)
        while any((await streams.lengths(redis, range(_SHARDS))).values()):
            await asyncio.sleep(0.02)
        took, used = time.monotonic() - started, cpu_seconds(pid) - cpu
    await redis.aclose()
    return Metered(title, size / 1024, exchanges / max(used, 0.01), exchanges / took)


@dataclass(frozen=True, slots=True)
class Lag:
    """Milliseconds from an exchange's records to its ledger entry, while exchanges keep coming."""

    per_second: int
    p50_ms: int
    p99_ms: int


def lag(folder: Path, per_second: int = 1000, seconds: int = 5) -> Lag:
    """Send whole exchanges at a steady rate, and see when each is booked. Both ends read one machine's clock."""
    with embedded.redis_url(Settings(data_dir=folder, redis_url=None)) as url:
        return asyncio.run(_lag(url, folder, per_second, seconds))


async def _lag(url: str, folder: Path, per_second: int, seconds: int) -> Lag:
    redis = store.connect(url)
    with process([sys.executable, "-m", "services.cli", "meter"], core=0, environment=_environment(url, folder)):
        while await redis.exists(*map(names.lease, range(_SHARDS))) < _SHARDS:
            await asyncio.sleep(0.05)
        due = time.monotonic()
        for _ in range(seconds * 20):
            await _fill(redis, per_second // 20, 1, reported=True)
            due += 0.05
            await asyncio.sleep(max(0, due - time.monotonic()))
        while any((await streams.lengths(redis, range(_SHARDS))).values()):
            await asyncio.sleep(0.02)
    waits = sorted(
        [
            int(entry.id.partition("-")[0]) - entry.entry.opened_ms
            for shard in range(_SHARDS)
            async for entry in ledger.read(redis, shard)
        ]
    )
    await redis.aclose()
    return Lag(per_second, waits[len(waits) // 2], waits[int(len(waits) * 0.99)])


def _environment(url: str, folder: Path) -> dict[str, str]:
    return {
        "REDIS_URL": url,
        "AROUTER_DATA_DIR": str(folder),
        "AROUTER_SHARDS": str(_SHARDS),
        "AROUTER_LOG_LEVEL": "error",
        "AROUTER_SAMPLE": "0",
        "AROUTER_METER_METRICS_PORT": "0",
    }


async def _fill(redis: Store, exchanges: int, events: int, *, reported: bool) -> int:
    """Put whole exchanges into the streams, two records each; the bytes of one answer."""
    boot = new_boot()
    opened = Open("b" * 64, Dialect.OPENAI_CHAT, "openai", "gpt-4o", time.time_ns() // 1_000_000, True, "v1/x")
    chunk = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-4o"}
    said = [
        {**chunk, "choices": [{"index": 0, "delta": {"content": f" word{number}"}, "finish_reason": None}]}
        for number in range(events)
    ]
    usage = {"prompt_tokens": 17, "completion_tokens": events, "total_tokens": events + 17}
    last = [{**chunk, "choices": [], "usage": usage}] if reported else []
    pad = [{**one, "pad": "x" * 150} for one in said] if events > 1 else said
    body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in [*pad, *last]) + b"data: [DONE]\n\n"
    end = End(
        Outcome.COMPLETED, 200, "text/event-stream", "", len(body), 100, 5, 900, "req", Packed.pack(body), None, 0
    )
    for first in range(0, exchanges, 250):
        batch = []
        for number in range(first, min(first + 250, exchanges)):
            id = ExchangeId(boot, number % _SHARDS, number // _SHARDS)
            batch += [(id.shard, tail.encode(id, 0, opened)), (id.shard, tail.encode(id, 1, end))]
        errors = await streams.append(redis, batch)
        assert not any(errors)
    return len(body)
