"""Limits while Redis is away: what each scope had left when it last answered, for a bounded time.

What is served meanwhile is settled like everything else, and counted once Redis is back. Each gateway may use up what a
scope had left, so that a fleet of n exceeds a budget by at most n - 1 times that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.gateway.limiting.answers import Verdict, refusal
from services.gateway.limiting.scopes import Scope, Size
from shared.access.memory import Memory
from shared.contract import limits
from shared.runtime.errors import Refused

_MOST = 100_000  # scopes that are remembered


@dataclass(slots=True)
class _Last:
    """The last answer of a scope, less what was served since."""

    at: float  # monotonic
    verdict: Verdict
    since: float | None = None  # since when it is served from
    nanousd: int = 0
    tokens: int = 0
    requests: int = 0


class Away:
    """What is known of scopes without asking."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds`: for how long it is served from; None: not at all."""
        self._seconds = seconds
        self._clock = clock
        self._known: Memory[str, _Last] = Memory(_MOST)
        self.served = 0  # requests so far

    def note(self, scope: Scope, verdict: Verdict) -> None:
        """Remember an answer."""
        self._known[scope.name] = _Last(self._clock(), verdict)
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def admit(self, scopes: Sequence[Scope], size: Size, since: float) -> None:
        """Take from what these scopes had left, where Redis has been away for `since` seconds. Refused with 503 where
        they are not known, or it has been away for too long; as ever where nothing is left."""
        found = [self._known.get(scope.name) for scope in scopes]
        lasts = [last for last in found if last is not None]
        now = self._clock()
        # A Redis that answers, and only with errors, as a full one does, is away for its scopes alone.
        longest = max([since, *(now - last.since for last in lasts if last.since is not None)])
        if self._seconds is None or longest > self._seconds or len(lasts) < len(scopes):
            raise Refused(503, "the gateway cannot check limits now", code="limits_not_checked")
        for scope, last in zip(scopes, lasts, strict=True):
            self._check(scope, last, size)
        for last in lasts:
            last.since = now if last.since is None else last.since
            last.requests += 1
            if size.calls:
                last.nanousd += last.verdict.reserve_nanousd or size.nanousd
                last.tokens += last.verdict.reserve_tokens or size.tokens
        self.served += 1

    def _check(self, scope: Scope, last: _Last, size: Size) -> None:
        given, was = scope.limits, last.verdict
        if given.soft:
            return
        now_ms = was.now_ms + int((self._clock() - last.at) * 1000)
        nanousd = was.nanousd + was.held_nanousd + was.reserve_nanousd + last.nanousd
        tokens = was.tokens + was.held_tokens + was.reserve_tokens + last.tokens
        why = 0
        if size.calls and given.limit_nanousd is not None and nanousd >= given.limit_nanousd:
            why = 1
        elif size.calls and given.limit_tokens is not None and tokens >= given.limit_tokens:
            why = 2
        else:
            why = self._rate(scope, last, now_ms)
        if why:
            raise refusal(scope, was._replace(verdict=0, why=why, wait_ms=1000, now_ms=now_ms))

    def _rate(self, scope: Scope, last: _Last, now_ms: int) -> int:
        """The number of a rate that has nothing left, 0 for none. Concurrent requests are not known here."""
        for why, name, taken, window in (
            (3, "requests_per_minute", last.requests + 1, limits.MINUTE_MS),
            (4, "tokens_per_minute", last.tokens + 1, limits.MINUTE_MS),
            (5, "requests_per_day", last.requests + 1, limits.DAY_MS),
        ):
            limit = getattr(scope.limits, name)
            if limit is not None:
                flowed = (now_ms - last.verdict.now_ms) * limit // window
                if min(limit, last.verdict.left(name) + flowed) < taken:
                    return why
        return 0
