"""Admission: decides which request becomes an exchange, by key, expiry, lists and journal, in this order.

The key is checked before a request's body is read, the rest once the body has named its model. An admitted request gets
a permit, which opens one exchange (decision 29).
"""

from __future__ import annotations

from typing import NamedTuple

from services.gateway.capture.tap import ExchangeTap, Tap
from services.gateway.client import body as request_body
from services.gateway.routing.routes import Match, Route
from shared.access.key_format import Kind
from shared.access.keyring import KeyRing
from shared.access.keys import KeyRecord
from shared.contract.dialects import Dialect
from shared.contract.tail import Open
from shared.runtime.errors import JournalFailed, Refused

_MAX_MODEL_NAME = 256  # characters; totals are kept under the name for ever
_JOURNAL_SECONDS = 5  # Retry-After: a full journal may have room again then


class Asked(NamedTuple):
    """A request as admission sees it."""

    method: str
    matched: Match
    route: Route
    body: bytes


class Permit(NamedTuple):
    """The right to begin one exchange."""

    key: KeyRecord
    tap: Tap

    def open(self, record: Open) -> ExchangeTap:
        """Mint the exchange's id and make its open durable, in one call. Refused with 503 where the journal fails."""
        try:
            return self.tap.open(record)
        except JournalFailed as exc:
            raise _unkept() from exc


class Admission:
    """The admission of one gateway."""

    def __init__(self, keyring: KeyRing, tap: Tap) -> None:
        self._keyring = keyring
        self._tap = tap

    async def identify(self, key: str | None) -> KeyRecord:
        """The record of a caller's key. Refused: 401 missing or unknown, 403 disabled or expired, 503 where it cannot
        be checked."""
        return await self._keyring.authenticate(key)

    def admit(self, key: KeyRecord, asked: Asked) -> Permit:
        """A permit. Refused: 400 where the model's name is too long, 403 where the key may not call it, 503 where
        usage cannot be recorded."""
        if len(asked.route.model) > _MAX_MODEL_NAME:
            raise Refused(400, f"the model name is longer than {_MAX_MODEL_NAME} characters")
        if key.restricted:
            _check_lists(key, asked)
        if not self._tap.takes:
            raise _unkept()
        return Permit(key, self._tap)


def _check_lists(key: KeyRecord, asked: Asked) -> None:
    """Refused with 403 where the key may not use this provider or model. Requests that only read call no model, and the
    list of models does not count for them."""
    matched, provider, model = asked.matched, asked.route.upstream.provider, asked.route.model
    if key.kind is Kind.MANAGEMENT:
        raise Refused(403, "a management key cannot call models", code="management_key")
    if not key.allows_provider(provider):
        raise Refused(403, f"provider '{provider}' is not allowed for this API key", code="provider_not_allowed")
    if key.allowed_models is None or (matched.dialect is Dialect.METADATA and asked.method in ("GET", "HEAD")):
        return
    if not key.allows_model(provider, model):
        raise Refused(403, f"model '{model}' is not allowed for this API key", code="model_not_allowed")
    if matched.path_model is None and not request_body.names_one_model(asked.body):
        raise Refused(403, "this API key may name one model alone, and once", code="model_not_allowed")


def _unkept() -> Refused:
    return Refused(503, "the gateway cannot record usage now", code="usage_not_recorded", retry_after=_JOURNAL_SECONDS)
