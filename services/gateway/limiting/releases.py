"""What a gateway tells scopes behind a request: that it has ended, or that it has not begun. Told until it is heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from shared.books import limit_scopes
from shared.runtime.errors import StoreError, StoreUnavailable
from shared.runtime.store import Store

_AGAIN = 1.0  # seconds to the next try while Redis is away
_LATE = 1.5  # seconds until a question that was not answered in time can no longer be heard
_MOST = (
    100_000  # releases that wait; beyond them a reservation stays until its exchange is settled, or its boot is gone
)

log = logging.getLogger(__name__)


class Releases:
    """Releases of this process, in the order in which they are due."""

    def __init__(self, store: Store, most: int = _MOST) -> None:
        """`most`: that wait at once; what is beyond is not released."""
        self._store = store
        self._most = most
        self._waiting: dict[tuple[str, str], list[str]] = {}  # how and scope to permits
        self._count = 0
        self._due = asyncio.Event()

    def __len__(self) -> int:
        return self._count

    def add(self, how: str, scopes: Collection[str], permit: str) -> None:
        """Release a permit in these scopes soon; `how` as the script takes it."""
        if self._count >= self._most:
            log.warning("releases of limits wait for Redis, and there are too many of them")
            return
        for scope in scopes:
            self._waiting.setdefault((how, scope), []).append(permit)
        self._count += len(scopes)
        self._due.set()

    def add_late(self, scopes: Collection[str], permit: str) -> None:
        """The same for a question that was not answered: it may still be heard until its time is over."""
        asyncio.get_running_loop().call_later(_LATE, self.add, "undo", scopes, permit)

    async def run(self) -> None:
        """Send them, for as long as the process lives."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.flush()
            except StoreUnavailable:
                await asyncio.sleep(_AGAIN)
                self._due.set()
            except StoreError:
                log.exception("releases of limits were refused")

    async def flush(self) -> None:
        """Send what waits now. StoreError where it is not heard; then it waits again."""
        sent, self._waiting, self._count = self._waiting, {}, 0
        try:
            for how in {how for how, _ in sent}:
                permits = {scope: some for (kind, scope), some in sent.items() if kind == how}
                await limit_scopes.release(self._store, how, permits)
        except StoreUnavailable:
            for place, some in sent.items():
                self._waiting.setdefault(place, []).extend(some)
                self._count += len(some)
            raise
