"""What an entry of the ledger changes for limits: which scopes, by how much, in which period. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shared.books.ledger import LedgerEntry
from shared.contract import booked, limits, names
from shared.contract.booked import BOOKED

_LONGEST = 200  # characters of a provider and model by which calls are learned


class Change(NamedTuple):
    """Amounts that are added to a key, team, provider and model; negative ones are taken away."""

    key: str  # hash
    team: str  # "" for none
    provider: str
    model: str
    nanousd: int
    tokens: int
    requests: int


def changes(entry: LedgerEntry) -> list[Change]:
    """What an entry changes: one place, or two where it moves to another key, team, provider or model."""
    key, team, provider, model = entry.entry.key, entry.entry.team, entry.entry.provider, entry.entry.model
    if entry.moved is None:
        return [Change(key, team, provider, model, *amounts(entry.delta or {}))]
    before = amounts(dict(zip(BOOKED, entry.moved.values, strict=False)))
    was_provider, was_model, *_ = (*entry.moved.group.split(names.FIELD_SEPARATOR), "", "")
    return [
        Change(entry.moved.key or key, entry.moved.team, was_provider, was_model, *(-amount for amount in before)),
        Change(key, team, provider, model, *amounts(entry.counted)),
    ]


def amounts(counted: Mapping[str, int]) -> tuple[int, int, int]:
    """Nano-dollars, tokens and requests. Meters of 1.0 count micro-dollars alone."""
    nano = counted["cost_nanousd"] if "cost_nanousd" in counted else counted.get("cost_microusd", 0) * 1000
    return nano, counted.get("total_tokens", 0), counted.get("requests", 0)


def owners(entry: LedgerEntry) -> set[str]:
    """The scopes that an entry may concern, without those of patterns: where it is booked, where it was, and where its
    permit may be, which is with the key that fetched a result."""
    found = {limits.EVERYTHING, limits.key_scope(entry.entry.key)}
    for team in (entry.entry.team, entry.moved.team if entry.moved else ""):
        if team:
            found.add(limits.team_scope(team))
    for key in (entry.entry.fetched_by, entry.moved.key if entry.moved else ""):
        if key:
            found.add(limits.key_scope(key))
    return found


def learned_by(provider: str, model: str) -> str:
    """The name under which the usual cost of calls is learned."""
    return booked.group(provider, model)[:_LONGEST]


def arguments(entry: LedgerEntry, owner: str, pattern: str) -> list[str | int]:
    """An entry as the script `limit_apply` takes it, for the scope of an owner and a pattern."""
    mine = _of(entry, owner, pattern)
    nanousd, tokens = adds(entry, owner, pattern)
    teaches = entry.revision == 1 and tokens > 0
    milliseconds, _, number = entry.id.partition("-")
    return [
        milliseconds,
        number,
        *limits.period(entry.entry.opened_ms),
        nanousd,
        tokens,
        sum(change.requests for change in mine),
        entry.entry.permit,
        learned_by(entry.entry.provider, entry.entry.model) if teaches else "",
    ]


def adds(entry: LedgerEntry, owner: str, pattern: str) -> tuple[int, int]:
    """Nano-dollars and tokens that an entry adds to the scope of an owner and a pattern."""
    mine = _of(entry, owner, pattern)
    return sum(change.nanousd for change in mine), sum(change.tokens for change in mine)


def _of(entry: LedgerEntry, owner: str, pattern: str) -> list[Change]:
    return [
        change
        for change in changes(entry)
        if _is_of(change, owner) and limits.matches(pattern, change.provider, change.model)
    ]


def _is_of(change: Change, owner: str) -> bool:
    return owner in (limits.EVERYTHING, limits.key_scope(change.key), limits.team_scope(change.team))
