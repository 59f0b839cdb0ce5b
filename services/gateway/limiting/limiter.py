"""The limits of a gateway: asks every scope of a request at once, and reserves for it (decision 138).

A request of a key without limits never comes here. The permit under which is reserved goes into the open record, so
that the reservation ends with the exchange's settlement, whatever becomes of this process.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from services.gateway.client.headers import Header
from services.gateway.limiting import answers
from services.gateway.limiting.answers import Verdict
from services.gateway.limiting.asking import Asking
from services.gateway.limiting.away import Away
from services.gateway.limiting.releases import Releases
from services.gateway.limiting.scopes import Scope, Size
from shared.books import limit_changes, limit_records, limit_scopes, streams
from shared.books.books import Books
from shared.books.scripted import Call
from shared.contract import limits, names, scripts
from shared.contract.errors import BadRecord
from shared.contract.limits import Limits, Period
from shared.runtime.errors import Refused, StoreError, StoreUnavailable
from shared.runtime.store import Store
from shared.runtime.tasks import Tasks

_REFRESH_SECONDS = 1.0

log = logging.getLogger(__name__)


class Reservation(NamedTuple):
    """What was reserved for one request."""

    permit: str
    scopes: tuple[Scope, ...]
    headers: list[Header]  # for its answer: what is left

    @property
    def counted(self) -> list[str]:
        """The scopes in which it counts as running."""
        return [scope.name for scope in self.scopes if scope.limits.concurrent_requests is not None]


class Limiter:
    """Reserves for requests, and tells scopes when they have ended."""

    def __init__(
        self,
        store: Store,
        boot: Callable[[], str],
        shards: int,
        serve_seconds: float | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`boot`: of this process, now. `serve_seconds`: for how long requests are served without Redis; None: they are
        refused."""
        self._store = store
        self._boot = boot
        self._shards = shards
        self._clock = clock
        self._numbers = itertools.count()
        self._asking = Asking(store)
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._tasks = Tasks()
        self._version: int | None = None
        self.away = Away(serve_seconds)
        self.releases = Releases(store)
        self.shared: Mapping[str, Limits] = {}  # of teams and everything, by scope

    async def refresh(self) -> None:
        """Learn of changed limits, for as long as the process lives."""
        while True:
            try:
                await self.load()
            except StoreError as exc:
                log.debug("limits cannot be read: %s", exc)
            except BadRecord:
                log.exception("limits of teams and everything stay as they were")
            await asyncio.sleep(_REFRESH_SECONDS)

    async def load(self) -> None:
        """Read the limits of teams and of everything, where they have changed. StoreError."""
        if self._version is not None and await limit_records.version(self._store) == self._version:
            return
        found = await limit_records.read(self._store)
        self._version, self.shared = found.version, found.of

    async def ready(self) -> None:
        """Wait until limits were read once. Refused with 503 where Redis is away."""
        if self._version is None:
            try:
                await self.load()
            except (StoreError, BadRecord) as exc:
                raise Refused(503, "the gateway cannot read limits now", code="limits_not_checked") from exc

    @property
    def loaded(self) -> bool:
        return self._version is not None

    async def reserve(self, scopes: Sequence[Scope], group: str, size: Size) -> Reservation:
        """Reserve for a request in all of its scopes. `group`: what such calls are learned by.

        Refused: 402 where a budget is spent, 429 where another limit is reached, 503 where that is not known.
        """
        permit = f"{self._boot()}.{next(self._numbers)}"
        at = limits.period(int(self._clock() * 1000))
        if self._asking.silent:
            return self._without_redis(permit, scopes, size)
        try:
            verdicts = await self._ask(permit, scopes, group, size, at)
        except StoreError as exc:
            try:
                return self._without_redis(permit, scopes, size)
            except Refused as unserved:
                self.releases.add_late([scope.name for scope in scopes], permit)
                raise unserved from exc
        except BaseException:
            self.releases.add_late([scope.name for scope in scopes], permit)
            raise
        refused = [(scope, one) for scope, one in zip(scopes, verdicts, strict=True) if one.refused]
        if refused:
            taken = [scope.name for scope, one in zip(scopes, verdicts, strict=True) if one.admitted]
            self.releases.add("undo", taken, permit)
            for scope, verdict in refused:
                self.away.note(scope, verdict)
            raise answers.refusal(*max(refused, key=lambda pair: (pair[1].wait_ms < 0, pair[1].wait_ms)))
        answered = list(zip(scopes, verdicts, strict=True))
        for scope, verdict in answered:
            self.away.note(scope, verdict)
        return Reservation(permit, tuple(scopes), answers.left(answered))

    def ended(self, reservation: Reservation) -> None:
        """A request runs no longer. What it costs stays reserved until it is settled."""
        if counted := reservation.counted:
            self.releases.add("ended", counted, reservation.permit)

    def undo(self, reservation: Reservation) -> None:
        """A request has not become an exchange."""
        self.releases.add("undo", [scope.name for scope in reservation.scopes], reservation.permit)

    def _without_redis(self, permit: str, scopes: Sequence[Scope], size: Size) -> Reservation:
        self.away.admit(scopes, size, self._asking.away or 0.0)
        return Reservation(permit, tuple(scopes), [])

    async def _ask(self, permit: str, scopes: Sequence[Scope], group: str, size: Size, at: Period) -> list[Verdict]:
        for _ in range(3):
            verdicts = await self._asked(permit, scopes, group, size, at)
            late = [one for one in verdicts if one.verdict == -1]
            unknown = [scope for scope, one in zip(scopes, verdicts, strict=True) if one.verdict == -2]
            if late:
                self._asking.heard(None)
            for scope in unknown:
                await self._start(scope.owner, [one for one in scopes if one.owner == scope.owner])
            if not late and not unknown:
                self._asking.heard(verdicts[0].now_ms)
                return verdicts
        raise StoreUnavailable("the limits of a request could not be started, or Redis was too late")

    async def _asked(self, permit: str, scopes: Sequence[Scope], group: str, size: Size, at: Period) -> list[Verdict]:
        most = "-" if size.most_tokens is None else size.most_tokens
        guess = f"{size.nanousd} {size.tokens} {most} {int(size.calls)}"
        period = f"{at.day} {at.week} {at.month}"
        asked = [
            ((names.limit(scope.name),), f"{guess} {limit_scopes.spelled(scope.limits)} {period}") for scope in scopes
        ]

        def calls(until: int) -> list[Call]:
            return [(scripts.LIMIT_ADMIT, keys, (permit, until, group, words)) for keys, words in asked]

        replies = await self._asking.ask(calls)
        for reply in replies:
            if isinstance(reply, StoreError):
                self.releases.add_late([scope.name for scope in scopes], permit)
                raise reply if isinstance(reply, StoreUnavailable) else StoreUnavailable(str(reply))
        return [Verdict.of(reply) for reply in replies]

    async def _start(self, owner: str, scopes: Sequence[Scope]) -> None:
        """Have a scope counted of which Redis knows nothing: its limit is new, or Redis has lost it."""
        starting = self._starting.get(owner)
        if starting is None:
            patterns = [scope.name[len(owner) + 1 :] for scope in scopes]
            starting = self._starting[owner] = self._tasks.start(self._started(owner, patterns), "limits start")
        await asyncio.shield(starting)

    async def _started(self, owner: str, patterns: Sequence[str]) -> None:
        try:
            books = await Books.find(self._store, self._shards)
            await limit_scopes.start(books, owner, patterns, await streams.now_ms(self._store))
        finally:
            del self._starting[owner]


def group(provider: str, model: str) -> str:
    """What calls of a model are learned by."""
    return limit_changes.learned_by(provider, model)
