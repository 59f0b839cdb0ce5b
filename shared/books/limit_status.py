"""What is used and reserved of limits, for people and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.books import limit_records, limit_scopes
from shared.contract import limits
from shared.contract.limits import Limits, ModelLimits
from shared.runtime.store import Store


@dataclass(frozen=True, slots=True)
class Status:
    """One scope, in the period of its budget. `resets_at`: UTC seconds, None for never."""

    owner: str
    pattern: str
    limits: ModelLimits  # as they are now, with what is raised
    started: bool
    nanousd: int
    reserved_nanousd: int
    tokens: int
    reserved_tokens: int
    running: int
    resets_at: int | None

    @property
    def scope(self) -> str:
        return limits.part(self.owner, self.pattern)

    @property
    def left_nanousd(self) -> int | None:
        """What is left of the budget; None where there is none."""
        limit = self.limits.limit_nanousd
        return None if limit is None else max(0, limit - self.nanousd - self.reserved_nanousd)

    @property
    def left_tokens(self) -> int | None:
        limit = self.limits.limit_tokens
        return None if limit is None else max(0, limit - self.tokens - self.reserved_tokens)

    def as_dict(self) -> dict[str, Any]:
        """As JSON: money in US dollars."""
        given = self.limits
        resets = None if self.resets_at is None else datetime.fromtimestamp(self.resets_at, UTC)
        return {
            "scope": self.owner,
            "models": self.pattern or None,
            "started": self.started,
            "used": self.nanousd / 10**9,
            "reserved": self.reserved_nanousd / 10**9,
            "limit": None if given.limit_nanousd is None else given.limit_nanousd / 10**9,
            "used_tokens": self.tokens,
            "reserved_tokens": self.reserved_tokens,
            "limit_tokens": given.limit_tokens,
            "limit_reset": given.limit_reset.value,
            "resets_at": None if resets is None else resets.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "requests_per_minute": given.requests_per_minute,
            "tokens_per_minute": given.tokens_per_minute,
            "requests_per_day": given.requests_per_day,
            "concurrent_requests": given.concurrent_requests,
            "running": self.running,
            "soft": given.soft,
        }


async def read(store: Store, own: Mapping[str, Limits], now_ms: int) -> list[Status]:
    """Of every scope with limits. `own`: the limits of keys, by scope."""
    shared = (await limit_records.read(store)).of
    return await of(store, {**shared, **own}, now_ms)


async def of(store: Store, given: Mapping[str, Limits], now_ms: int) -> list[Status]:
    """Of these scopes."""
    parts = [
        (owner, pattern, limits.effective(some, now_ms / 1000))
        for owner, found in given.items()
        for pattern, some in found.parts()
    ]
    scopes = [limits.part(owner, pattern) for owner, pattern, _ in parts]
    states = await limit_scopes.states(store, scopes, limits.period(now_ms), [some.limit_reset for *_, some in parts])
    return [
        Status(
            owner,
            pattern,
            some,
            state.started,
            state.nanousd,
            state.reserved_nanousd,
            state.tokens,
            state.reserved_tokens,
            state.running,
            limits.begins_anew(some.limit_reset, now_ms),
        )
        for (owner, pattern, some), state in zip(parts, states, strict=True)
    ]
