"""Admission: who may begin an exchange, and its beginning. In this order: key, expiry, lists, journal, limits.

The key is checked before a request's body is read, the rest once the body has named its model. What is admitted gets a
permit, which opens one exchange.
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

_MAX_MODEL_NAME = 256  # totals are kept under it, for ever
_JOURNAL_SECONDS = 5  # until a full journal may have room again


class Asked(NamedTuple):
    """A request as admission sees it."""

    method: str
    matched: Match
    route: Route
    body: bytes


class Permit(NamedTuple):
    """Leave to begin one exchange."""

    key: KeyRecord
    tap: Tap

    def open(self, record: Open) -> ExchangeTap:
        """Mint the exchange's id and make its open durable, in one call. Refused, 503, where it cannot be kept."""
        try:
            return self.tap.open(record)
        except JournalFailed as exc:
            raise _unkept() from exc


class Admission:
    """Decides for one gateway."""

    def __init__(self, keyring: KeyRing, tap: Tap) -> None:
        self._keyring = keyring
        self._tap = tap

    async def identify(self, key: str | None) -> KeyRecord:
        """Whose key this is. Refused: 401 missing or unknown, 403 disabled or expired, 503 where nobody can tell."""
        return await self._keyring.authenticate(key)

    def admit(self, key: KeyRecord, asked: Asked) -> Permit:
        """A permit. Refused: 400 for a name that cannot be booked, 403 for what the key's lists leave out, 503 where
        usage cannot be recorded."""
        if len(asked.route.model) > _MAX_MODEL_NAME:
            raise Refused(400, f"the model name is longer than {_MAX_MODEL_NAME} characters")
        if key.restricted:
            _check_lists(key, asked)
        if not self._tap.takes:
            raise _unkept()
        return Permit(key, self._tap)


def _check_lists(key: KeyRecord, asked: Asked) -> None:
    """Refused, 403, where the key may not use this provider or model. What only reads calls no model, and is free."""
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
