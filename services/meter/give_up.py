"""Giving up what is booked provisionally because it cannot be read: what is booked stands, for good."""

from __future__ import annotations

from services.meter.settle import Ledger, Settlement, Verdict
from shared.books import ledger as books
from shared.contract.ids import ExchangeId
from shared.runtime.errors import StoreError, StoreUnavailable
from shared.runtime.store import Store

_TRIES = 5


async def give_up(store: Store, id: ExchangeId) -> bool:
    """Append a final revision of what is booked; False where nothing is, or where it is final already.

    StoreUnavailable where somebody else amends it again and again.
    """
    ledger = Ledger(store)
    for _ in range(_TRIES):
        latest = await books.find(store, id)
        [so_far] = await ledger.provisional(id.shard, [id])
        if latest is None or latest.final or not so_far:
            return False
        [verdict] = await ledger.settle([Settlement(id, latest.entry, (), so_far=so_far)])
        if isinstance(verdict, StoreError):
            raise verdict
        if verdict is not Verdict.CONFLICT:
            return verdict is Verdict.AMENDED
    raise StoreUnavailable(f"exchange {id} is amended by a meter again and again")
