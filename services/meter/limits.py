"""The follower that feeds limits: it applies each entry of the ledger to the scopes that it concerns."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from shared.books import limit_scopes, limit_upkeep, streams
from shared.books.books import Books
from shared.books.follow import Batch, InRedis
from shared.books.limit_scopes import Applied
from shared.contract import limits
from shared.contract.events import EventType
from shared.runtime import events
from shared.runtime.store import Store

NAME = "limits"

_TOLD = (50, 80, 100)  # percent of a budget
_ONCE_SECONDS = 400 * 86_400

log = logging.getLogger(__name__)


class LimitSink(InRedis):
    """Applies entries, and tells of budgets that are used to a share, once per period and scope."""

    def __init__(self, store: Store, shards: int, now_ms: Callable[[Store], Awaitable[int]] = streams.now_ms) -> None:
        """`now_ms`: Redis's clock."""
        super().__init__(store, NAME, self._apply)
        self._redis = store
        self._shards = shards
        self._now_ms = now_ms
        self._overshoot = 0  # the worst that this process has seen, in millionths of a budget
        self._begun_on = ""  # the server on which scopes were started anew

    async def tend(self, now_ms: int) -> None:
        books = await self._books()
        released = await limit_upkeep.release_dead(books, NAME, now_ms)
        if released:
            log.info("%d reservations of ended gateways were released", released)
        for scope in await limit_upkeep.scopes(self._redis):
            await limit_upkeep.prune(self._redis, scope, now_ms)

    async def _apply(self, batch: Batch) -> None:
        if batch.before.epoch != batch.after.epoch and batch.before.epoch:
            await self._begin_anew(batch.after.server)
        for applied in await limit_scopes.apply(self._redis, batch.shard, batch.entries):
            await self._tell(applied)
            if applied.overshoot > self._overshoot:
                self._overshoot = applied.overshoot
                await limit_scopes.note_overshoot(self._redis, applied.overshoot)

    async def _begin_anew(self, server: str) -> None:
        """Another server may have lost entries that were applied: what is used is read from the totals again."""
        if server == self._begun_on:
            return
        books, now_ms = await self._books(), await self._now_ms(self._redis)
        for owner, patterns in (await limit_scopes.known(self._redis)).items():
            await limit_scopes.start(books, owner, patterns, now_ms, anew=True)
        self._begun_on = server

    async def _books(self) -> Books:
        return await Books.find(self._redis, self._shards)

    async def _tell(self, applied: Applied) -> None:
        nanousd, tokens = limit_scopes.budgets_of(applied.limits)
        for counter, limit, used, told in (
            ("usd", nanousd, applied.nanousd, applied.told_nanousd),
            ("tok", tokens, applied.tokens, applied.told_tokens),
        ):
            if not limit:
                continue
            for percent in _TOLD:
                if told < percent <= used * 100 // limit:
                    await self._note(applied, counter, percent, used, limit)

    async def _note(self, applied: Applied, counter: str, percent: int, used: int, limit: int) -> None:
        period = limits.named(applied.period)
        unit = "nanousd" if counter == "usd" else "tokens"
        data = {
            "scope": applied.scope,
            "percent": percent,
            "period": period,
            f"used_{unit}": used,
            f"limit_{unit}": limit,
        }
        about = f"{applied.scope} {unit} {percent} {period}"
        if await events.note(self._redis, EventType.BUDGET_THRESHOLD, about, data, once_s=_ONCE_SECONDS):
            log.info("%s has used %d %% of its budget of %s", applied.scope, percent, period)
        await limit_scopes.told(self._redis, applied.scope, counter, applied.period, percent)
