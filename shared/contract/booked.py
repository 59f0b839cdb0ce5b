"""What is booked of an entry, and where: the numbers that totals add up, and the value of what is not final. Pure."""

from __future__ import annotations

from typing import NamedTuple

from shared.contract import names
from shared.contract.entry import Entry
from shared.contract.errors import BadRecord
from shared.contract.usage import COUNTERS, Source

# Values stand in this order in Redis, without their names. New ones are appended; none is moved, removed, or counts
# something else from some day on.
BOOKED: tuple[str, ...] = (
    "requests",
    *COUNTERS,
    "estimated_requests",
    "partial_requests",
    "unpriced_requests",
    "cost_microusd",
    "cost_nanousd",
)

# What meters booked that did not say how many of these they know.
FIRST_BOOKED = BOOKED[: BOOKED.index("cost_nanousd")]


def booked(entry: Entry) -> tuple[int, ...]:
    """The numbers of an entry, in the order of `BOOKED`; what is unknown adds nothing."""
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


def group(provider: str, model: str) -> str:
    """The part of a totals field that names provider and model."""
    clean = model.replace(names.FIELD_SEPARATOR, " ")
    return f"{provider}{names.FIELD_SEPARATOR}{clean}{names.FIELD_SEPARATOR}"


class Provisional(NamedTuple):
    """What is booked so far of an exchange that is not final."""

    revision: int
    values: tuple[int, ...]  # in the order of `BOOKED`, as many as its meter knew
    key: str = ""  # hash of the key it is booked on; "" in values that do not say
    group: str = ""  # and the group, likewise

    @classmethod
    def decode(cls, stored: str) -> Provisional:
        """From what the settle script has written. BadRecord for anything else."""
        numbers, _, place = stored.partition(names.FIELD_SEPARATOR)
        key, _, group_ = place.partition(names.FIELD_SEPARATOR)
        try:
            revision, *values = map(int, numbers.split(" "))
        except ValueError:
            raise BadRecord(f"not a provisional value: {stored[:60]!r}") from None
        return cls(revision, tuple(values), key, group_)

    def encode(self) -> str:
        """As the settle script writes it."""
        numbers = " ".join(map(str, (self.revision, *self.values)))
        return names.FIELD_SEPARATOR.join((numbers, self.key, self.group)) if self.key else numbers
