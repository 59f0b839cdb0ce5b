"""What an exchange costs by the price book. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from services.meter.pricing.conditions import BATCH
from services.meter.pricing.items import BILLED, Bill, tokens_of, units_of
from services.meter.pricing.price import Price, Sheet
from services.meter.pricing.rates import MOST, Line, NoRate, nano_dollars, token_lines
from shared.contract.entry import Unpriced


class Cost(NamedTuple):
    """A cost by the book, with what it is made of."""

    nano: int | None  # dollars; None: it has no price
    version: str = ""  # of the sheet
    label: str = ""  # of the price, with the conditions that held; "" where none was needed
    lines: Sequence[Line] = ()
    reason: str = ""  # why it has none
    dollars: Fraction = Fraction(1)  # of one unit of the sheet's currency
    incomplete: bool = False  # something is billed of which the price says nothing
    prefers_provider: bool = False


_NOTHING = Cost(0)


class PriceBook:
    """All prices, in the order of their files: the first sheet that has a price for a model decides."""

    def __init__(self, *sheets: Sheet, difference: float = 0.05) -> None:
        """`difference`: the share by which a cost may differ from the provider's own figure without a mark."""
        self.sheets = sheets
        self.difference = difference
        self.version = "+".join(sheet.version for sheet in sheets)

    @property
    def list_prices(self) -> bool:
        """Whether some of it are list prices, which nobody has confirmed."""
        return any(sheet.list_prices for sheet in self.sheets)

    def find(self, bill: Bill) -> tuple[Sheet, Price] | None:
        """The price of an exchange."""
        for sheet in self.sheets:
            price = sheet.find(bill)
            if price is not None:
                return sheet, price
        return None

    def cost(self, bill: Bill) -> Cost:
        """What an exchange costs. One that has used nothing costs nothing."""
        used = bill.usage.any or bool(bill.units)
        if bill.known and not used:
            return _NOTHING
        found = self.find(bill)
        if found is None:
            return Cost(None, reason=Unpriced.NO_PRICE if bill.known or bill.units else Unpriced.UNKNOWN)
        return _cost(bill, *found)


def _cost(bill: Bill, sheet: Sheet, price: Price) -> Cost:
    whole = bill.usage.input_tokens or 0
    rates, label = price.at(bill, -1 if bill.tier == BATCH or bill.summed else whole)  # limits hold for each request
    units = units_of(bill) if bill.units else {}
    priced = [name for name in units if name in rates.each]
    incomplete = price.incomplete(bill, whole)
    prefers = (price.prefer or sheet.prefer) == "provider"

    def without(reason: str) -> Cost:
        return Cost(None, sheet.version, label, reason=reason, incomplete=incomplete, prefers_provider=prefers)

    if price.counts_tokens:
        if not bill.known:
            return without(Unpriced.UNKNOWN)
    elif not priced and "request" not in rates.each:
        return without(Unpriced.UNKNOWN if price.each else Unpriced.NO_PRICE)
    try:
        counted = tokens_of(bill, reasoning_beside=price.reasoning_beside) if price.counts_tokens else {}
        lines = token_lines(counted, rates)
    except NoRate as exc:
        return without(f"{Unpriced.NO_RATE}: {exc}")
    if rates.each:
        lines += [Line(name, units[name], rates.each[name]) for name in priced]
        if "request" in rates.each:
            lines.append(Line("request", 1, rates.each["request"]))
    dollars = sheet.dollars(bill.opened_ms)
    if dollars is None:
        return without(f"{Unpriced.NO_CURRENCY}: {sheet.currency}")
    nano = nano_dollars(lines, dollars)
    if nano > MOST:
        return without(Unpriced.TOO_LARGE)
    if units:
        incomplete = incomplete or any(name in BILLED and _by(name, rates.each) is None for name in units)
    return Cost(nano, sheet.version, label, lines, "", dollars, incomplete, prefers)


def _by(unit: str, each: Mapping[str, object]) -> str | None:
    """The name of the price that a billed unit has; None where it has none."""
    names = (unit, "grounded_request") if unit == "web_search" else (unit,)
    return next((name for name in names if name in each), None)
