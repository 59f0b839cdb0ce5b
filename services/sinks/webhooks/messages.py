"""Which messages a webhook gets of an event or of an entry of the ledger. Pure: ids and sampling come from what
happened, so that whatever is read twice is the same message."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from services.sinks.webhooks.settings import WebhookSettings
from shared.books.ledger import LedgerEntry
from shared.contract.events import Event, EventType, event_id
from shared.contract.webhooks import Message

# What is sent of an entry: figures and names; not the provider's error, which may quote a request, nor addresses.
FIELDS = (
    *("exchange_id", "key", "team", "user", "session", "tags", "provider", "model", "requested_model", "dialect"),
    *("opened_ms", "duration_ms", "first_byte_ms", "outcome", "ended", "cause", "status", "streamed", "source"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "total_tokens"),
    *("cost_nanousd", "cost_source", "price_version", "marks", "response_id", "request_id", "credential", "tier"),
)
_DRIFT = ("exchange_id", "key", "team", "provider", "model", "input_tokens", "output_tokens")
_OBSERVED = ("observed_input_tokens", "observed_output_tokens")


def of_entry(webhook: WebhookSettings, entry: LedgerEntry) -> Iterator[Message]:
    """The messages of one revision of an exchange."""
    settled_ms = int(entry.id.partition("-")[0])
    about = f"{entry.exchange_id} {entry.revision}"
    if EventType.EXCHANGE_BOOKED in webhook.events and sampled(entry.exchange_id, webhook.sample):
        data = {**_fields(entry, FIELDS), "revision": entry.revision, "final": entry.final}
        yield _message(EventType.EXCHANGE_BOOKED, about, settled_ms, data)
    if EventType.USAGE_DRIFT in webhook.events and entry.entry.drift and not entry.repriced:
        yield _message(EventType.USAGE_DRIFT, about, settled_ms, _fields(entry, (*_DRIFT, *_OBSERVED)))


def of_event(webhook: WebhookSettings, event: Event) -> Iterator[Message]:
    """The message of an event; none where this webhook does not want it."""
    if event.type in webhook.events:
        yield Message(event.id, event.type, event.at_ms, _body(event.type, event.at_ms, event.data))


def sampled(exchange_id: str, share: float) -> bool:
    """Whether an exchange is among this share of all: always the same ones, with every revision."""
    place = int.from_bytes(hashlib.sha256(exchange_id.encode()).digest()[:8], "big")
    return place < share * 2**64


def _message(type: EventType, about: str, at_ms: int, data: Mapping[str, Any]) -> Message:
    return Message(event_id(type, about), type, at_ms, _body(type, at_ms, data))


def _body(type: str, at_ms: int, data: Mapping[str, Any]) -> bytes:
    timestamp = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode({"type": type, "timestamp": timestamp, "data": data})


def _fields(entry: LedgerEntry, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(entry.entry, name) for name in names}
