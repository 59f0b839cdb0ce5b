"""What callers see of limits: refusals that say when to come back, and what is left. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from services.gateway.client.headers import Header
from services.gateway.limiting.scopes import Scope
from shared.contract import limits
from shared.runtime.errors import Refused

_LONGEST_WAIT = 60  # seconds; SDKs that are told to wait for longer come back at once, so these are told not to
_NO_RETRY = (b"x-should-retry", b"false")

_RATES = ("requests_per_minute", "tokens_per_minute", "requests_per_day")
_NAMES = {
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "requests_per_day": "requests per day",
}
_WINDOW_MS = {"requests_per_minute": limits.MINUTE_MS, "tokens_per_minute": limits.MINUTE_MS}


class Verdict(NamedTuple):
    """What the script `limit_admit` says of one scope; its head says what each number is."""

    verdict: int
    now_ms: int
    why: int = 0
    wait_ms: int = 0
    nanousd: int = 0
    held_nanousd: int = 0
    tokens: int = 0
    held_tokens: int = 0
    left_rpm: int = -1
    left_tpm: int = -1
    left_rpd: int = -1
    left_running: int = -1
    reserve_nanousd: int = 0
    reserve_tokens: int = 0

    @classmethod
    def of(cls, reply: Sequence[Any]) -> Verdict:
        """From the reply of the script."""
        return cls(*map(int, reply))

    @property
    def admitted(self) -> bool:
        return self.verdict > 0

    @property
    def refused(self) -> bool:
        return self.verdict == 0

    def left(self, name: str) -> int:
        """What is left of a rate."""
        lefts = {"requests_per_minute": self.left_rpm, "tokens_per_minute": self.left_tpm}
        return lefts.get(name, self.left_rpd)


def refusal(scope: Scope, verdict: Verdict) -> Refused:
    """The answer to a request that a scope has refused: 402 for a budget that is spent, else 429."""
    given = scope.limits
    if verdict.why == 1 and verdict.wait_ms < 0:
        return _spent_money(scope, verdict)
    if verdict.why == 2 and verdict.wait_ms < 0:
        metadata = {"limit_tokens": given.limit_tokens, "used_tokens": verdict.tokens}
        return _spent(f"Token limit exceeded for {whose(scope)}.", scope, verdict, metadata)
    if verdict.why in (1, 2):
        message = f"The rest of the budget of {whose(scope)} is reserved by requests that run."
        return _later(message, "budget_reserved", verdict)
    if verdict.why == 6:
        message = f"{_Whose(scope)} may run {given.concurrent_requests} requests at once, and runs as many."
        return _later(message, "concurrent_requests", verdict)
    name = {3: "requests_per_minute", 4: "tokens_per_minute"}.get(verdict.why, "requests_per_day")
    message = f"{_Whose(scope)} may use {getattr(given, name)} {_NAMES[name]}, and has used them."
    refused = _later(message, "rate_limit_exceeded", verdict)
    refused.headers += _rate_headers(getattr(given, name), max(0, verdict.left(name)), _seconds(verdict))
    return refused


def whose(scope: Scope) -> str:
    """A scope in a sentence. Callers are told their own team, and no hash."""
    kind, _, name = scope.owner.partition(":")
    models = scope.name[len(scope.owner) + 1 :]
    subject = {"key": "this API key", "team": f"team {name!r}"}.get(kind, "this gateway")
    return f"{subject} and the models {models!r}" if models else subject


def _Whose(scope: Scope) -> str:  # noqa: N802  # the same, at the beginning of a sentence
    text = whose(scope)
    return text[0].upper() + text[1:]


def _spent_money(scope: Scope, verdict: Verdict) -> Refused:
    limit = scope.limits.limit_nanousd or 0
    metadata = {"limit_usd": limit / 1e9, "used_usd": verdict.nanousd / 1e9}
    return _spent(f"Credit limit exceeded for {whose(scope)}.", scope, verdict, metadata)


def _spent(message: str, scope: Scope, verdict: Verdict, metadata: dict[str, Any]) -> Refused:
    again = limits.begins_anew(scope.limits.limit_reset, verdict.now_ms)
    wait = None if again is None else max(1, again - verdict.now_ms // 1000)
    if again is not None:
        metadata["resets_at"] = again
    refused = Refused(402, message, code="budget_exceeded", retry_after=wait, metadata=metadata)
    refused.headers.append(_NO_RETRY)
    return refused


def _later(message: str, code: str, verdict: Verdict) -> Refused:
    wait = max(1, -(-verdict.wait_ms // 1000))
    refused = Refused(429, message, code=code, retry_after=wait)
    if wait > _LONGEST_WAIT:
        refused.headers.append(_NO_RETRY)
    return refused


def _seconds(verdict: Verdict) -> int:
    """When to come back, UTC seconds."""
    return -(-(verdict.now_ms + max(0, verdict.wait_ms)) // 1000)


def _rate_headers(limit: int, left: int, reset: int) -> list[Header]:
    return [
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"x-ratelimit-remaining", b"%d" % left),
        (b"x-ratelimit-reset", b"%d" % reset),
    ]


def left(answers: Sequence[tuple[Scope, Verdict]]) -> list[Header]:
    """What is left, for an answer to a request that was admitted: of each kind of limit, that of the scope with the
    smallest share left."""
    found = _rates_left(answers)
    money = _least(
        (scope.limits.limit_nanousd, verdict.nanousd + verdict.held_nanousd + verdict.reserve_nanousd)
        for scope, verdict in answers
    )
    if money is not None:
        found.append((b"x-arouter-limit-remaining", b"%d.%09d" % divmod(money, 10**9)))
    tokens = _least(
        (scope.limits.limit_tokens, verdict.tokens + verdict.held_tokens + verdict.reserve_tokens)
        for scope, verdict in answers
    )
    if tokens is not None:
        found.append((b"x-arouter-limit-remaining-tokens", b"%d" % tokens))
    if any(verdict.verdict == 2 for _, verdict in answers):
        found.append((b"x-arouter-limit-exceeded", b"soft"))
    return found


def _least(budgets: Any) -> int | None:
    lefts = [max(0, limit - used) for limit, used in budgets if limit is not None]
    return min(lefts) if lefts else None


def _rates_left(answers: Sequence[tuple[Scope, Verdict]]) -> list[Header]:
    """The headers of the rate of which the smallest share is left."""
    tightest: tuple[float, int, int, int] | None = None
    for scope, verdict in answers:
        for name in _RATES:
            limit = getattr(scope.limits, name)
            if limit is None:
                continue
            remains = max(0, verdict.left(name))
            if tightest is None or remains / limit < tightest[0]:
                full_ms = (limit - remains) * _WINDOW_MS.get(name, limits.DAY_MS) // limit
                tightest = (remains / limit, limit, remains, -(-(verdict.now_ms + full_ms) // 1000))
    return _rate_headers(*tightest[1:]) if tightest is not None else []
