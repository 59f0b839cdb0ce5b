"""What is asked of a database that keeps the books. `services/sinks` answers; who asks knows no database."""

from __future__ import annotations

from typing import Protocol

from shared.books.exchanges import Page, Place, Wanted
from shared.books.exporting import Exports
from shared.books.summing import Sums

FOLLOWER = "sql"  # the name of the follower that writes it


class Archive(Sums, Exports, Protocol):
    """The books as a database has them. Its methods raise SinkError; none of them looks through more than a bounded
    number of rows, or for longer than some seconds."""

    async def ready(self) -> bool:
        """Whether a follower has made its tables: before that there is nothing to read."""

    async def find(self, wanted: Wanted, *, after: Place | None, limit: int) -> Page:
        """Exchanges from the newest back, behind `after`."""

    async def close(self) -> None:
        """Leave the database."""
