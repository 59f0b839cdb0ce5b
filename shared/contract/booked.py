"""The amounts that are booked of an entry, their place in the totals, and provisional values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shared.contract import names
from shared.contract.entry import Entry
from shared.contract.errors import BadRecord
from shared.contract.usage import COUNTERS, Source

# Amounts stand in this order in Redis, without their names. New ones are appended; none is moved, removed, or ever
# counts something else.
BOOKED: tuple[str, ...] = (
    "requests",
    *COUNTERS,
    "estimated_requests",
    "partial_requests",
    "unpriced_requests",
    "cost_microusd",
    "cost_nanousd",
)

# The amounts of meters that do not say how many they know.
FIRST_BOOKED = BOOKED[: BOOKED.index("cost_nanousd")]


def booked(entry: Entry) -> tuple[int, ...]:
    """The amounts of an entry, in the order of `BOOKED`; an unknown one is 0."""
    priced_at_all = entry.price_version is not None
    return (
        1,
        *(getattr(entry, name) or 0 for name in COUNTERS),
        int(entry.source == Source.ESTIMATED),
        int(entry.source == Source.PARTIAL),
        int(priced_at_all and entry.cost_microusd is None),
        entry.cost_microusd or 0,
        entry.cost_nanousd or 0,
    )


def cost_nanousd(amounts: Mapping[str, int]) -> int:
    """The cost of a sum of exchanges, by booked name. Meters of 1.0 book micro-dollars alone: where the nano-dollars
    are further from these than rounding can be, some of them are missing."""
    micro, nano = amounts["cost_microusd"] * 1000, amounts["cost_nanousd"]
    return nano if abs(micro - nano) <= 500 * amounts["requests"] else micro


def group(provider: str, model: str) -> str:
    """The part of a totals field that names provider and model."""
    clean = model.replace(names.FIELD_SEPARATOR, " ")
    return f"{provider}{names.FIELD_SEPARATOR}{clean}{names.FIELD_SEPARATOR}"


class Provisional(NamedTuple):
    """The amounts that are booked so far of an exchange that is not final."""

    revision: int
    values: tuple[int, ...]  # in the order of `BOOKED`, as many as the meter knew
    key: str = ""  # hash of the key it is booked on; "" in values of contract 1.0
    group: str = ""  # as `group` makes it; "" likewise
    team: str = ""  # on which it is booked as well; "" for none

    @classmethod
    def decode(cls, stored: str) -> Provisional:
        """The inverse of `encode`. BadRecord for anything else."""
        numbers, _, place = stored.partition(names.FIELD_SEPARATOR)
        key, *words = place.split(names.FIELD_SEPARATOR)
        group_ = group(*words[:2]) if len(words) > 2 else ""
        team = words[2] if len(words) > 3 else ""  # what is behind it is a later version's
        try:
            revision, *values = map(int, numbers.split(" "))
        except ValueError:
            raise BadRecord(f"not a provisional value: {stored[:60]!r}") from None
        return cls(revision, tuple(values), key, group_, team)

    def encode(self) -> str:
        """As the settle script writes it."""
        numbers = " ".join(map(str, (self.revision, *self.values)))
        place = f"{self.group}{self.team}{names.FIELD_SEPARATOR}" if self.team else self.group
        return names.FIELD_SEPARATOR.join((numbers, self.key, place)) if self.key else numbers
