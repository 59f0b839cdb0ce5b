"""Events: what somebody outside may want to hear of, beside what is booked. Stored as JSON, in a stream of bounded
length. A field is appended, with a default; a type is never renamed or used for something else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from shared.contract.errors import BadRecord


class EventType(StrEnum):
    """Everything that may have happened."""

    EXCHANGE_BOOKED = "exchange.booked"  # made from the ledger, and not in the stream
    USAGE_DRIFT = "usage.drift"  # likewise: a report is further from our own count than its spread explains
    EXCHANGE_QUARANTINED = "exchange.quarantined"  # records that cannot be read are held
    KEY_CREATED = "key.created"
    KEY_CHANGED = "key.changed"  # a field of its record, or it was revoked
    PROVIDER_OUT = "provider.out"  # a provider refuses a credential
    BUDGET_THRESHOLD = "budget.threshold"  # a scope has used a share of its limit


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event."""

    id: str  # the same for whoever says the same thing
    type: str  # an `EventType`; a reader passes over one that it does not know
    at_ms: int  # UTC, milliseconds since the epoch
    data: Mapping[str, Any]  # by type, see docs/webhooks.md; never a secret, never a caller's text


def event_id(type: str, about: str) -> str:
    """The id of an event: `about` names what happened among the events of its type. It holds no full stop, because
    signatures of webhooks put one behind it."""
    return f"evt_{hashlib.sha256(f'{type} {about}'.encode()).hexdigest()[:32]}"


def encode(event: Event) -> bytes:
    """As it is stored."""
    return msgspec.json.encode(event)


def decode(stored: bytes) -> Event:
    """The inverse of `encode`. BadRecord for anything else."""
    try:
        return msgspec.json.decode(stored, type=Event)
    except msgspec.MsgspecError as exc:
        raise BadRecord(f"not an event: {exc}") from exc
