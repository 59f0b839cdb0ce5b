"""Totals per key, provider and model. The settle script books them per shard; reading adds them up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from shared.books.books import Books
from shared.contract import names
from shared.contract.booked import BOOKED
from shared.runtime.store import translated

Row = dict[str, str | int]


async def read(books: Books, key_hashes: Iterable[str]) -> dict[str, list[Row]]:
    """The rows of each key by its hash, one per provider and model, with every counter of `BOOKED`.

    Counters that no provider reported are 0 here: a sum cannot say "unknown".
    """
    hashes = list(key_hashes)
    with translated():
        pipeline = books.store.pipeline(transaction=False)
        for key_hash in hashes:
            for shard in range(books.shards):
                pipeline.hgetall(names.totals(shard, key_hash))
        replies = await pipeline.execute()
    per_key = zip(hashes, (replies[i : i + books.shards] for i in range(0, len(replies), books.shards)), strict=True)
    return {key_hash: _rows(shard_totals) for key_hash, shard_totals in per_key}


def parsed(fields: Mapping[bytes, bytes]) -> dict[tuple[str, str], dict[str, int]]:
    """The counters of a totals hash, by provider and model. Counters that are 0 or of later versions are left out."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for field, value in fields.items():
        provider, model, counter = field.decode().split(names.FIELD_SEPARATOR)
        if counter in BOOKED:
            found.setdefault((provider, model), {})[counter] = int(value)
    return found


def _rows(shard_totals: Iterable[dict[bytes, bytes]]) -> list[Row]:
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(BOOKED, 0))
    for fields in shard_totals:
        for group_, counters in parsed(fields).items():
            for counter, value in counters.items():
                sums[group_][counter] += value
    return [{"provider": provider, "model": model, **counters} for (provider, model), counters in sorted(sums.items())]
