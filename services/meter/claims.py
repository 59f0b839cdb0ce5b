"""Claims on the results of work that ends elsewhere: of all the exchanges that fetch one, the first books it.

The claim is made before the exchange is settled, and holds its id. So a meter that dies in between loses nothing: the
exchange's records are pending, whoever reads them again claims again, and finds the exchange's own id.
"""

from __future__ import annotations

from typing import Protocol

from services.meter.measure import Measured
from services.meter.pricing.book import PriceBook
from services.meter.settle import Ledger
from services.meter.work import noted, with_claim
from shared.books import work
from shared.contract.entry import Entry
from shared.contract.ids import ExchangeId
from shared.runtime.store import Store


class Priced(Protocol):
    """Whatever has the price book."""

    @property
    def prices(self) -> PriceBook: ...


class Claims:
    """The claims of one shard's exchanges.

    A result may be metered before the exchange that began its work: another meter reads that one's shard. So a result
    whose start is not known is left in its stream once, and taken when its records are reclaimed.
    """

    def __init__(self, store: Store, ledger: Ledger, priced: Priced) -> None:
        """`priced`: has the price book, which a reload replaces."""
        self._store = store
        self._ledger = ledger
        self._priced = priced
        self._waited: set[str] = set()

    async def entry(self, id: ExchangeId, measured: Measured) -> Entry | None:
        """What to book of an exchange; None where it has to wait for the start of its work. StoreError where Redis
        is away, or refuses."""
        entry, note = measured.entry, measured.note
        if note is None or not note.matters:
            return entry
        waited = entry.exchange_id in self._waited
        self._waited.discard(entry.exchange_id)
        if note.ends and (await self._ledger.final([id]))[0]:
            return entry  # it was settled before; a claim that it does not make now would be booked by nobody
        claim = await work.note(self._store, noted(entry, note, waited=waited))
        if note.ends and not claim.holder and not waited:
            self._waited.add(entry.exchange_id)
            return None
        return with_claim(entry, note, claim, self._priced.prices)
