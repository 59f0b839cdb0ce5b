"""The books: a Redis, and its number of shards."""

from __future__ import annotations

from dataclasses import dataclass

from shared.books import boots
from shared.runtime.store import Store


@dataclass(frozen=True, slots=True)
class Books:
    """A Redis with its number of shards, for everything that reads across shards."""

    store: Store
    shards: int

    @classmethod
    async def find(cls, store: Store, configured: int) -> Books:
        """The books in a Redis: `configured` shards, or more where a gateway has used more (decision 18)."""
        return cls(store, await boots.shards(store, configured))
