"""The books as one thing: a Redis, and into how many shards what it holds is divided."""

from __future__ import annotations

from dataclasses import dataclass

from shared.books import boots
from shared.runtime.store import Store


@dataclass(frozen=True, slots=True)
class Books:
    """What everything that reads across shards takes."""

    store: Store
    shards: int

    @classmethod
    async def find(cls, store: Store, configured: int) -> Books:
        """The books in this Redis: `configured` shards, or more where a gateway has used more."""
        return cls(store, await boots.shards(store, configured))
