"""Totals per key, provider and model, as the settle script books them: kept per shard, added up when read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from shared.contract import names
from shared.contract.usage import COUNTERS
from shared.runtime.store import Store, translated

# The order is the order of the values the settle script is given.
BOOKED: tuple[str, ...] = (
    "requests",
    *COUNTERS,
    "estimated_requests",
    "partial_requests",
    "unpriced_requests",
    "cost_microusd",
)

Row = dict[str, str | int]


def group(provider: str, model: str) -> str:
    """The part of a totals field that names provider and model."""
    clean = model.replace(names.FIELD_SEPARATOR, " ")
    return f"{provider}{names.FIELD_SEPARATOR}{clean}{names.FIELD_SEPARATOR}"


async def read(store: Store, key_hashes: Iterable[str], shards: int) -> dict[str, list[Row]]:
    """Per key hash its rows, one per provider and model, with every counter of `BOOKED`.

    Counters that no provider reported are 0 here: a sum cannot say "unknown".
    """
    hashes = list(key_hashes)
    with translated():
        pipeline = store.pipeline(transaction=False)
        for key_hash in hashes:
            for shard in range(shards):
                pipeline.hgetall(names.totals(shard, key_hash))
        replies = await pipeline.execute()
    per_key = zip(hashes, (replies[i : i + shards] for i in range(0, len(replies), shards)), strict=True)
    return {key_hash: _rows(shard_totals) for key_hash, shard_totals in per_key}


def parsed(fields: Mapping[bytes, bytes]) -> dict[tuple[str, str], dict[str, int]]:
    """A totals hash: by provider and model, the counters that are not 0."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for field, value in fields.items():
        provider, model, counter = field.decode().split(names.FIELD_SEPARATOR)
        found.setdefault((provider, model), {})[counter] = int(value)
    return found


def _rows(shard_totals: Iterable[dict[bytes, bytes]]) -> list[Row]:
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(BOOKED, 0))
    for fields in shard_totals:
        for group_, counters in parsed(fields).items():
            for counter, value in counters.items():
                sums[group_][counter] += value
    return [{"provider": provider, "model": model, **counters} for (provider, model), counters in sorted(sums.items())]
