"""The data plane: admits a request, routes it, and runs its exchange. It uses no framework: response objects would put
a task and a queue between a provider's bytes and the client."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache, partial
from typing import NamedTuple

from services.gateway.admission import Admission, Asked, Permit, checks_model
from services.gateway.attempts import Candidate, Upstream
from services.gateway.client import headers
from services.gateway.client.cors import Cors
from services.gateway.client.flags import Flags
from services.gateway.client.intake import Intake, Wanted
from services.gateway.client.received import Received
from services.gateway.client.request import ClientLeft, ClientRequest
from services.gateway.client.upload import Upload
from services.gateway.client.way_back import WayBack
from services.gateway.exchange import Call, Exchange, Limits
from services.gateway.observers import Observer
from services.gateway.refusal import refuse
from services.gateway.routing.inward import inward
from services.gateway.routing.readings import understood
from services.gateway.routing.routes import LONGEST_REMEMBERED, REMEMBERED, Match, Route, choose, family_of, match
from services.gateway.routing.upstreams import Upstreams
from services.gateway.settings import GatewaySettings
from shared.access.credentials import without_key
from shared.access.keys import KeyRecord
from shared.contract.dialects import TOKENLESS, Dialect, Family
from shared.contract.tail import Open, Outcome
from shared.runtime.errors import Refused

_WATCHDOG_SECONDS = 0.5
_STREAMED_UP = (Dialect.METADATA, Dialect.PASSTHROUGH)  # their bodies may go upstream as they arrive
_CHATS = (Dialect.OPENAI_CHAT, Dialect.OPENAI_COMPLETIONS)


class _Routed(NamedTuple):
    """A request with its route."""

    matched: Match
    route: Route
    flags: Flags
    body: Received


class DataPlane:
    """Answers every request that is neither a probe nor the control plane's."""

    def __init__(
        self,
        settings: GatewaySettings,
        upstreams: Upstreams,
        upstream: Upstream,
        admission: Admission,
        observer: Observer,
    ) -> None:
        self.open: set[Exchange] = set()
        self.observer = observer
        self.upstream = upstream
        self.send_generation_id = settings.send_generation_id
        self.limits = Limits(
            settings.total_timeout, settings.idle_timeout, settings.read_on_seconds, settings.read_on_bytes
        )
        self._admission = admission
        self._cors = Cors(settings.cors_origins)
        self._intake = Intake(
            settings.max_body_bytes, settings.max_upload_bytes, settings.body_timeout, settings.body_total_timeout
        )
        self._match = lru_cache(REMEMBERED)(
            lambda method, path, family, dated: understood(
                method, path, partial(match, family=family, upstreams=upstreams, dated=dated)
            )
        )
        self._settings = settings
        self._upstreams = upstreams

    async def handle(self, client: ClientRequest) -> None:
        """Answer a request."""
        arrived = time.monotonic()
        path = client.target.decode("latin-1")
        given = dict(client.headers)
        family = family_of(path, given, client.query)
        if client.method == "OPTIONS":
            client.respond(204, [(b"allow", b"GET, HEAD, POST"), *self._cors.preflight(given)], b"")
            return
        unread = _has_body(given)
        try:
            if b"upgrade" in given and _is_handshake(client.method, given):
                raise _no_websockets()
            key = await self._admission.identify(client, given)
            remembered = self._match if len(path) <= LONGEST_REMEMBERED else self._match.__wrapped__
            matched = remembered(client.method, path, family, b"api-version=" in client.query)
            family = matched.family
            body = self._intake.at_once(client, given) if key.allowed_models is None else None
            if body is None:
                body = await self._intake.receive(client, given, _wanted(key, client.method, matched))
            unread = body.rest is not None
            routed = self._routed(matched, body)
            permit = self._admission.admit(key, Asked(client.method, matched, routed.route, body))
            await self._run(client, permit, routed, arrived)
        except Refused as refused:
            self.observer.refused(refused.status)
            refuse(client, family, refused, unread=unread, extra=self._cors.answer(given))
        except ClientLeft:
            return

    async def watch(self) -> None:
        """End exchanges that exceed a limit, for as long as the process lives."""
        while True:
            await asyncio.sleep(_WATCHDOG_SECONDS)
            self.end_late(time.monotonic())

    def end_late(self, now: float) -> None:
        """End exchanges that exceed a limit at `now`, a monotonic time."""
        slow = now - self._settings.slow_reader_timeout
        for exchange in list(self.open):
            if now > exchange.deadline:
                exchange.end_early(Outcome.TIMED_OUT, "total_timeout")
            elif exchange.relay.takes_nothing(slow):
                exchange.end_early(Outcome.TIMED_OUT, "slow_reader")

    def may_read_on(self) -> bool:
        """Whether one more upstream may be read on after its client has left."""
        return self.read_on < self._settings.read_on_streams

    def inward(self, provider: str, url: str) -> str | None:
        """The path at the gateway that leads to a URL of a provider; None where none does."""
        upstream = self._upstreams.get(provider)
        return inward(url, upstream, self._upstreams) if upstream is not None else None

    @property
    def read_on(self) -> int:
        """How many upstreams are read on though their client has left."""
        return sum(exchange.relay.client_left for exchange in list(self.open))

    async def drained(self, timeout: float) -> None:
        """Wait until every exchange has ended, for at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.open and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    def _routed(self, matched: Match, body: Received) -> _Routed:
        if matched.lists and body.sent:
            raise Refused(400, "a request that reads what is stored must not have a body")
        in_path = matched.path_model is not None and matched.family is Family.GEMINI
        flags = Flags() if matched.dialect is Dialect.METADATA or in_path else body.flags()
        route = choose(matched, flags.model, self._upstreams)
        if body.rest is not None and route.upstream.whole_bodies:
            # It stands at the root, and its model has come with its first part.
            raise Refused(400, f"provider {route.upstream.provider!r} signs bodies: send this one below its own path")
        return _Routed(matched, route, flags, body)

    async def _run(self, client: ClientRequest, permit: Permit, routed: _Routed, arrived: float) -> None:
        call = self._call(client, routed, permit)
        tap = permit.open(_open_record(permit, routed, call))
        exchange = Exchange(call, tap, client, self, arrived)
        self.open.add(exchange)
        try:
            await exchange.run()
        finally:
            self.open.discard(exchange)

    def _call(self, client: ClientRequest, routed: _Routed, permit: Permit) -> Call:
        matched, route, upstream = routed.matched, routed.route, routed.route.upstream
        asks = matched.dialect in _CHATS and routed.flags.stream and routed.flags.usage_asked is None
        outgoing = routed.body.outgoing(
            route.model if route.prefixed else None,
            ask_usage=asks and upstream.ask_usage,
            decode=upstream.decode_requests,
        )
        candidate = Candidate(
            provider=upstream.provider,
            model=route.model,
            credential="",
            method=client.method,
            url=route.url,
            query=without_key(client.query),
            headers=headers.upstream_request(client.headers, upstream.passes, encoded=not outgoing.decoded),
            body=outgoing.body,
            authenticator=upstream.authenticators[matched.family],
            plain=outgoing.plain,
            late_model=outgoing.late_model,
        )
        return Call(
            plan=(candidate,),
            family=matched.family,
            streamed=matched.streamed or routed.flags.stream,
            keep_body=matched.dialect not in TOKENLESS and matched.family is not Family.ANTHROPIC,
            read_on=upstream.read_on,
            cors=self._cors.answer(dict(client.headers)) if self._settings.cors_origins else [],
            way_back=WayBack(partial(self._admission.ticket, permit.key), self._settings.base_path.encode()),
        )


def _is_handshake(method: str, given: dict[bytes, bytes]) -> bool:
    """Whether a client wants to speak WebSocket. Other upgrades may be ignored (RFC 9110, 7.8)."""
    return method == "GET" and b"websocket" in given[b"upgrade"].lower()


def _no_websockets() -> Refused:
    """Codex tries this for sixteen seconds where it gets anything else, and plain HTTP at once after a 426."""
    refused = Refused(426, "this gateway does not serve WebSockets: use HTTP", code="no_websockets")
    refused.headers += [(b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade")]
    return refused


def _has_body(given: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in given or given.get(b"content-length", b"0") != b"0"


def _wanted(key: KeyRecord, method: str, matched: Match) -> Wanted:
    """What has to be known of a body: a list of models needs it whole, and a route at the root its model."""
    checked = key.allowed_models is not None and matched.path_model is None and checks_model(key, method, matched)
    signed = matched.upstream is not None and matched.upstream.whole_bodies
    up = matched.dialect in _STREAMED_UP and not signed
    return Wanted(checked or not up, checked or not (up or matched.upstream or matched.path_model), checked)


def _open_record(permit: Permit, routed: _Routed, call: Call) -> Open:
    first = call.plan[0]
    return Open(
        key=permit.key.hash,
        dialect=routed.matched.dialect,
        provider=first.provider,
        model=first.model,
        opened_ms=time.time_ns() // 1_000_000,
        streamed=call.streamed,
        path=first.url.partition("://")[2].partition("/")[2],
        request_bytes=first.body.length or 0 if isinstance(first.body, Upload) else first.request_bytes,
    )
