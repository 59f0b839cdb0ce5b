"""Which limits a request is under, and what it may cost at most. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from shared.contract import limits
from shared.contract.dialects import TOKENLESS, Dialect
from shared.contract.limits import Limits, ModelLimits

_READS = ("GET", "HEAD", "DELETE")
_NANOUSD_PER_TOKEN = 10_000  # ten dollars a million, of a model of which nothing is learned yet
_USUAL_OUTPUT = 500  # tokens, likewise
_BYTES_PER_TOKEN = 4


class Scope(NamedTuple):
    """A scope that a request is asked for, with its limits as they are now."""

    name: str
    owner: str  # the scope without its pattern of models
    limits: ModelLimits


class Size(NamedTuple):
    """What is known of a request's cost before it is made."""

    calls: bool  # whether it can cost anything; reading a list cannot
    request_bytes: int = 0
    most_output: int | None = None  # tokens, as it asks for; None where it does not say

    @property
    def tokens(self) -> int:
        """A guess, while nothing is learned."""
        most = _USUAL_OUTPUT if self.most_output is None else min(self.most_output, _USUAL_OUTPUT)
        return self.request_bytes // _BYTES_PER_TOKEN + most

    @property
    def nanousd(self) -> int:
        """Likewise."""
        return self.tokens * _NANOUSD_PER_TOKEN

    @property
    def most_tokens(self) -> int | None:
        """More it cannot be: a token of text has at least a byte."""
        return None if self.most_output is None else self.request_bytes + self.most_output


def calls(method: str, dialect: Dialect) -> bool:
    """Whether a request can cost anything. Only its number counts where it cannot."""
    return dialect not in TOKENLESS or (dialect is not Dialect.COUNT_TOKENS and method not in _READS)


def asked(
    key_hash: str,
    own: Limits | None,
    team: str,
    others: Mapping[str, Limits],
    models: Sequence[tuple[str, str]],
    now: float,
) -> list[Scope]:
    """The scopes of a request, the narrowest first. `own`: limits of its key; `others`: of teams and everything, by
    scope; `models`: providers and models that it may call, of which patterns are asked; `now`: UTC seconds."""
    found: list[Scope] = []
    if own is not None:
        found += _parts(limits.key_scope(key_hash), own, models, now)
    if others:
        for owner in (limits.team_scope(team), limits.EVERYTHING) if team else (limits.EVERYTHING,):
            if owner in others:
                found += _parts(owner, others[owner], models, now)
    return found


def _parts(owner: str, given: Limits, models: Sequence[tuple[str, str]], now: float) -> Iterable[Scope]:
    for pattern, some in given.parts():
        if any(limits.matches(pattern, provider, model) for provider, model in models):
            yield Scope(limits.part(owner, pattern), owner, limits.effective(some, now))
