"""From an exchange and the price book to what its entry says of its cost. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from services.meter.pricing.book import Cost, PriceBook
from services.meter.pricing.conditions import BATCH, TIERS
from services.meter.pricing.items import Bill
from shared.contract.dialects import SOCKETS
from shared.contract.entry import CostSource, Entry, Mark, Unpriced
from shared.contract.usage import COUNTERS, Usage

_MAX_NAME: Final = 256
_NOWHERE: Final = ("", "global", "not_available")
_LOCATION: Final = re.compile(r"/locations/([a-z0-9-]{1,40})/")
# Marks that a price decides about.
_OF_PRICES: Final = frozenset({Mark.UNPRICED, Mark.COST_DIFFERS, Mark.PRICE_INCOMPLETE})

_UNMARKED: Final[frozenset[Mark]] = frozenset()
_INCOMPLETE: Final = frozenset({Mark.PRICE_INCOMPLETE})


class Priced(NamedTuple):
    """The fields of an entry that its cost decides, and its marks of prices."""

    cost_nanousd: int | None
    cost_source: CostSource
    price_version: str
    price_line: str
    unpriced_reason: str
    book_cost_nanousd: int | None
    marks: frozenset[Mark]

    @property
    def fields(self) -> dict[str, Any]:
        """For an entry, without its marks. The micro-dollars are rounded half up."""
        nano = self.cost_nanousd
        return {
            "cost_nanousd": nano,
            "cost_microusd": None if nano is None else (nano + 500) // 1000,
            "cost_source": self.cost_source,
            "price_version": self.price_version,
            "price_line": self.price_line,
            "unpriced_reason": self.unpriced_reason,
            "book_cost_nanousd": self.book_cost_nanousd,
        }


def tier_of(service_tier: str, usage: Mapping[str, Any] | None) -> str:
    """The tier an answer was billed at, in our words; "" where it does not say."""
    said = service_tier.lower()
    if said == BATCH:
        return BATCH
    if usage is not None and usage.get("speed") == "fast":
        return "fast"
    if not said and usage is not None and isinstance(usage.get("trafficType"), str):
        said = usage["trafficType"].lower()[:_MAX_NAME]
    return TIERS.get(said, said)


def region_of(usage: Mapping[str, Any] | None, path: str) -> str:
    """Where a model ran, as the provider's answer says it, else its path; "" where neither does."""
    said = usage.get("inference_geo") if usage is not None else None
    if isinstance(said, str) and said not in _NOWHERE:
        return said.lower()[:_MAX_NAME]
    found = _LOCATION.search(path) if "/locations/" in path else None
    return found[1] if found and found[1] not in _NOWHERE else ""


def search_context_of(usage: Mapping[str, Any] | None) -> str:
    """How much a search has read, as Perplexity's answer says it; "" where none does."""
    said = usage.get("search_context_size") if usage is not None else None
    return said.lower()[:_MAX_NAME] if isinstance(said, str) else ""


def bill_of(entry: Entry) -> Bill:
    """What an entry says that has to do with its price."""
    return Bill(
        entry.provider,
        entry.model,
        entry.response_model,
        entry.opened_ms,
        Usage(**{name: getattr(entry, name) for name in COUNTERS}),
        entry.modalities,
        entry.units,
        entry.tier or tier_of(entry.service_tier, entry.raw_usage),  # meters of before have not noted it
        entry.region or region_of(entry.raw_usage, ""),
        search_context_of(entry.raw_usage),
        summed=entry.dialect in SOCKETS,
    )


def provider_cost(reported: int | None, usage: Mapping[str, Any] | None) -> int | None:
    """The provider's own figure, where it is all that the exchange costs: with a key of one's own at the provider
    (`is_byok`) OpenRouter states its fee alone."""
    return None if usage is not None and usage.get("is_byok") is True else reported


def price(bill: Bill, book: PriceBook, stated: int | None, *, several: bool = False) -> Priced:
    """The cost of an exchange. `stated`: the provider's own figure. `several`: it is of several models."""
    if several:
        cost = Cost(None, reason=Unpriced.SEVERAL)
    elif not book.sheets and (bill.usage.any or not bill.known):
        cost = Cost(None, reason=Unpriced.NO_BOOK if bill.usage.any_known else Unpriced.UNKNOWN)
    else:
        cost = book.cost(bill)
    version = cost.version or book.version
    if stated is not None and (cost.nano is None or cost.prefers_provider or (stated and not cost.label)):
        own = cost.nano if cost.label else None
        marks = frozenset({Mark.COST_DIFFERS} if own is not None and _differs(own, stated, book.difference) else ())
        # That it is of several models is kept: whoever prices it anew must not take it for one of the first.
        return Priced(stated, CostSource.PROVIDER, version, cost.label, cost.reason if several else "", own, marks)
    if cost.nano is None:
        unpriced = bool(book.sheets) or not bill.usage.any_known
        marks = frozenset({Mark.UNPRICED} if unpriced else ())
        return Priced(None, CostSource.UNPRICED, version, cost.label, cost.reason, None, marks)
    found = _INCOMPLETE if cost.incomplete else _UNMARKED
    if stated is not None and cost.label and _differs(cost.nano, stated, book.difference):
        found |= {Mark.COST_DIFFERS}
    return Priced(cost.nano, CostSource.BOOK, version, cost.label, "", None, found)


def _differs(ours: int, stated: int, share: float) -> bool:
    """Further apart than the share of the larger one, and than a micro-dollar, which is rounding."""
    return abs(ours - stated) > max(share * max(ours, stated), 1000)


def with_cost(entry: Entry, book: PriceBook, *, several: bool = False) -> Entry:
    """The same entry, priced anew."""
    stated = provider_cost(entry.reported_cost_nanousd, entry.raw_usage)
    found = price(bill_of(entry), book, stated, several=several)
    return replace(entry, marks=with_marks(entry.marks, found), **found.fields)


def with_marks(marks: tuple[str, ...], found: Priced) -> tuple[str, ...]:
    """Marks of an entry, with those that its price decides about."""
    return tuple(sorted({*marks} - _OF_PRICES | found.marks))
