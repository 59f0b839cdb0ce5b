"""Admission: decides which request becomes an exchange, by key, expiry, lists, journal and limits, in this
order.

The key is checked before a request's body is read, the rest once the body has named its model. An admitted request gets
a permit, which opens one exchange (decision 29).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from services.gateway.capture.tap import ExchangeTap, Tap
from services.gateway.client.headers import Header
from services.gateway.client.received import Received
from services.gateway.client.request import ClientRequest
from services.gateway.limiting import scopes
from services.gateway.limiting.limiter import Limiter, Reservation, group
from services.gateway.routing.routes import Match, Route
from shared.access.credentials import caller_key, ticket_of, without_key
from shared.access.key_format import Kind
from shared.access.keyring import KeyRing
from shared.access.keys import KeyRecord
from shared.contract.dialects import LATE_MODELS, Dialect
from shared.contract.tail import Open
from shared.runtime.errors import JournalFailed, Refused

_MAX_MODEL_NAME = 256  # characters; totals are kept under the name for ever
_JOURNAL_SECONDS = 5  # Retry-After: a full journal may have room again then


class Asked(NamedTuple):
    """A request as admission sees it."""

    method: str
    matched: Match
    routes: tuple[Route, ...]  # in the order of trying
    body: Received


class Permit(NamedTuple):
    """The right to begin one exchange, on routes that its key may use."""

    key: KeyRecord
    tap: Tap
    routes: tuple[Route, ...]
    reserved: Reservation | None = None  # None: it is under no limit

    @property
    def name(self) -> str:
        """As the open record has it; "" where nothing was reserved."""
        return "" if self.reserved is None else self.reserved.permit

    @property
    def left(self) -> list[Header]:
        """Headers of the answer: what is left of the limits."""
        return [] if self.reserved is None else self.reserved.headers

    def open(self, record: Open) -> ExchangeTap:
        """Mint the exchange's id and make its open durable, in one call. Refused with 503 where the journal fails."""
        try:
            return self.tap.open(record)
        except JournalFailed as exc:
            raise _unkept() from exc


class Admission:
    """The admission of one gateway."""

    def __init__(self, keyring: KeyRing, tap: Tap, limiter: Limiter) -> None:
        self._keyring = keyring
        self._tap = tap
        self.limiter = limiter

    async def identify(self, client: ClientRequest, given: Mapping[bytes, bytes]) -> KeyRecord:
        """The record of a caller's key, or of the ticket in an upload's URL. `given`: the request's header fields.

        Refused: 401 missing or unknown, 403 disabled or expired, 503 where it cannot be checked.
        """
        key = caller_key(given, client.query)
        if key is not None:
            return self._keyring.recall(key) or await self._keyring.authenticate(key)
        ticket = ticket_of(client.query)
        if ticket is not None:
            query = without_key(client.query)
            return await self._keyring.authenticate_upload(ticket, client.target + b"?" + query)
        return await self._keyring.authenticate(None)

    def ticket(self, key: KeyRecord, target: bytes) -> str:
        """A ticket for an upload to a target, path and query, by this key."""
        return self._keyring.ticket(key.hash, target)

    def admit(self, key: KeyRecord, asked: Asked) -> Permit:
        """A permit. Refused: 400 where the model's name is too long, 403 where the key may not call it, 503 where
        usage cannot be recorded."""
        for route in asked.routes:
            if len(route.model) > _MAX_MODEL_NAME:
                raise Refused(400, f"the model name is longer than {_MAX_MODEL_NAME} characters")
        routes = _allowed(key, asked) if key.restricted else asked.routes
        if not self._tap.takes:
            raise _unkept()
        return Permit(key, self._tap, routes)

    def limited(self, key: KeyRecord) -> bool:
        """Whether a key's requests may be under limits."""
        return key.limits is not None or bool(self.limiter.shared) or not self.limiter.loaded

    async def reserve(self, permit: Permit, asked: Asked) -> Permit:
        """The permit with what is reserved for the request under limits. Whoever gets it opens it in the same turn of
        the loop. Refused: 402 where a budget is spent, 429 where another limit is reached, 503 where nobody knows."""
        await self.limiter.ready()
        key, route, dialect = permit.key, permit.routes[0], asked.matched.dialect
        provider, model = route.upstream.provider, route.model
        models = limited_models(permit.routes)
        found = scopes.asked(key.hash, key.limits, key.team or "", self.limiter.shared, models, time.time())
        if not found:
            return permit
        size = scopes.Size(False)
        if scopes.calls(asked.method, dialect):
            size = scopes.Size(True, asked.body.size, asked.body.most_output())
        return permit._replace(reserved=await self.limiter.reserve(found, group(provider, model), size))

    def ended(self, permit: Permit, *, begun: bool) -> None:
        """The request of a permit runs no longer; `begun`: it has become an exchange."""
        if permit.reserved is not None:
            (self.limiter.ended if begun else self.limiter.undo)(permit.reserved)


def limited_models(routes: tuple[Route, ...]) -> list[tuple[str, str]]:
    """Providers and models whose limits a request is under: the first candidate's, and of a list that it brings itself
    all, since whoever writes it may put one first that fails."""
    possible = routes if routes[0].unlisted else routes[:1]
    return [(route.upstream.provider, route.model) for route in possible]


def checks_model(key: KeyRecord, method: str, matched: Match) -> bool:
    """Whether a request must name a model that its key may call."""
    if key.allowed_models is None or matched.dialect in LATE_MODELS:
        return False  # of a socket each message is checked
    return matched.dialect is not Dialect.METADATA or method not in ("GET", "HEAD")


def _allowed(key: KeyRecord, asked: Asked) -> tuple[Route, ...]:
    """The routes that a key may use: the same tuple where it may use all of them. Refused with 403 where there are
    none, for the reason that the first one has."""
    if key.kind is Kind.MANAGEMENT:
        raise Refused(403, "a management key cannot call models", code="management_key")
    checked = checks_model(key, asked.method, asked.matched)
    refusals = [_refusal(key, route, checked=checked) for route in asked.routes]
    if None not in refusals:
        assert refusals[0] is not None
        raise refusals[0]
    listed = asked.routes[0].unlisted
    if checked and asked.matched.path_model is None and not asked.body.names_one_model(listed=listed):
        raise Refused(403, "this API key may name one model alone, and once", code="model_not_allowed")
    if not any(refusals):
        return asked.routes
    return tuple(route for route, refused in zip(asked.routes, refusals, strict=True) if refused is None)


def _refusal(key: KeyRecord, route: Route, *, checked: bool) -> Refused | None:
    """Why a key may not use a route; None where it may. `checked`: the list of models holds; it does not for requests
    that only read, which call no model."""
    provider, model = route.upstream.provider, route.model
    if not key.allows_provider(provider):
        return Refused(403, f"provider '{provider}' is not allowed for this API key", code="provider_not_allowed")
    if checked and not model:
        message = "this API key may call certain models alone, and the request does not say which one it calls"
        return Refused(403, message, code="model_not_allowed")
    if checked and not key.allows_model(provider, model, route.asked):
        named = route.asked or model
        return Refused(403, f"model '{named}' is not allowed for this API key", code="model_not_allowed")
    return None


def _unkept() -> Refused:
    return Refused(503, "the gateway cannot record usage now", code="usage_not_recorded", retry_after=_JOURNAL_SECONDS)
