"""The data plane: admits a request, routes it, and runs its exchange. It uses no framework: response objects would put
a task and a queue between a provider's bytes and the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from services.gateway.admission import Admission, Asked, Permit, checks_model
from services.gateway.attempts import Candidate
from services.gateway.client import headers
from services.gateway.client.attribution import Attribution
from services.gateway.client.cors import Cors
from services.gateway.client.flags import Flags
from services.gateway.client.intake import Intake, Wanted
from services.gateway.client.received import Received
from services.gateway.client.request import ClientLeft, ClientRequest
from services.gateway.client.upload import Upload
from services.gateway.client.way_back import WayBack
from services.gateway.configured import Configured
from services.gateway.ending import path_of
from services.gateway.exchange import Call, Exchange, Limits
from services.gateway.limiting.limiter import Limiter
from services.gateway.observers import Observer
from services.gateway.planning import plan_of
from services.gateway.refusal import refuse
from services.gateway.routing.plans import passed_on, plan
from services.gateway.routing.pools import Credential
from services.gateway.routing.routes import Match, Route, family_of
from services.gateway.routing.sockets import Socket, socket_of
from services.gateway.routing.states import states
from services.gateway.routing.upstreams import FAMILIES
from services.gateway.settings import GatewaySettings
from services.gateway.websocket import handshake
from services.gateway.websocket.exchange import SocketExchange
from services.gateway.websocket.guard import Guard
from shared.access.credentials import without_key
from shared.access.keys import KeyRecord
from shared.contract.dialects import TOKENLESS, Dialect, Family
from shared.contract.provider_state import ProviderState
from shared.contract.tail import Open
from shared.runtime.errors import Refused

_WATCHDOG_SECONDS = 0.5
_STREAMED_UP = (Dialect.METADATA, Dialect.PASSTHROUGH)  # their bodies may go upstream as they arrive
_CALLS = tuple(FAMILIES)  # no set: members of enums are slow to hash
_NO_BODY = Received(b"", b"")
_CHATS = (Dialect.OPENAI_CHAT, Dialect.OPENAI_COMPLETIONS)


class _Routed(NamedTuple):
    """A request with its routes, in the order in which they are tried, and with what was configured as it came."""

    configured: Configured
    matched: Match
    routes: tuple[Route, ...]
    flags: Flags
    body: Received


class DataPlane:
    """Answers every request that is neither a probe nor the control plane's. A reload replaces `configured`."""

    def __init__(
        self,
        settings: GatewaySettings,
        configured: Configured,
        admission: Admission,
        observer: Observer,
    ) -> None:
        self.configured = configured
        self.open: set[Exchange] = set()
        self.observer = observer
        self.socket_room = settings.tap_bytes // 2  # the other half is for reports beyond it
        self.send_generation_id = settings.send_generation_id
        self.limits = Limits(
            settings.total_timeout, settings.idle_timeout, settings.read_on_seconds, settings.read_on_bytes
        )
        self._admission = admission
        self._attributing = settings.attributing
        self._cors = Cors(settings.cors_origins)
        self._intake = Intake(
            settings.max_body_bytes, settings.max_upload_bytes, settings.body_timeout, settings.body_total_timeout
        )
        self._settings = settings

    async def handle(self, client: ClientRequest) -> None:
        """Answer a request."""
        arrived = time.monotonic()
        configured = self.configured
        path = client.target.decode("latin-1")
        given = dict(client.headers)
        family = family_of(path, given, client.query)
        if client.method == "OPTIONS":
            client.respond(204, [(b"allow", b"GET, HEAD, POST"), *self._cors.preflight(given)], b"")
            return
        unread = _has_body(given)
        try:
            if b"upgrade" in given and handshake.is_handshake(client.method, given):
                await self._tunnel(client, given, family, arrived)
                return
            key = await self._admission.identify(client, given)
            matched = configured.match(client.method, path, family, b"api-version=" in client.query)
            family = matched.family
            body = self._intake.at_once(client, given) if key.allowed_models is None else None
            if body is None:
                body = await self._intake.receive(client, given, _wanted(key, client.method, matched))
            unread = body.rest is not None
            routed = _routed(configured, matched, body, key)
            asked = Asked(client.method, matched, routed.routes, body)
            permit = self._admission.admit(key, asked)
            asker = self._asker(client, given, routed.flags.user)
            if self._admission.limited(key):
                permit = await self._admission.reserve(permit, asked)
            await self._run(client, permit, routed, asker, arrived)
        except Refused as refused:
            self.observer.refused(refused.status)
            refuse(client, family, refused, unread=unread, extra=self._cors.answer(given))
        except ClientLeft:
            return

    @property
    def limiter(self) -> Limiter:
        """The limits of callers."""
        return self._admission.limiter

    async def watch(self) -> None:
        """End exchanges that exceed a limit, for as long as the process lives."""
        while True:
            await asyncio.sleep(_WATCHDOG_SECONDS)
            now = time.monotonic()
            self.end_late(now)
            self.note(now)

    def note(self, now: float) -> None:
        """Note the counts of which the last minutes are asked for."""
        self.configured.retries.note(now)
        for upstream in self.configured.upstreams:
            for credential in upstream.pool:
                credential.health.note(now)

    def providers(self) -> tuple[ProviderState, ...]:
        """The state of every provider and credential."""
        return states(self.configured.upstreams, time.monotonic(), time.time_ns() // 1_000_000)

    def end_late(self, now: float) -> None:
        """End exchanges that exceed a limit at `now`, a monotonic time."""
        slow = now - self._settings.slow_reader_timeout
        for exchange in list(self.open):
            exchange.end_late(now, slow)

    def may_read_on(self) -> bool:
        """Whether one more upstream may be read on after its client has left."""
        return self.read_on < self._settings.read_on_streams

    @property
    def read_on(self) -> int:
        """How many upstreams are read on though their client has left."""
        return sum(exchange.relay.client_left for exchange in list(self.open))

    async def drained(self, timeout: float) -> None:
        """Wait until every exchange has ended, for at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.open and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _tunnel(self, client: ClientRequest, given: dict[bytes, bytes], family: Family, arrived: float) -> None:
        """Serve a WebSocket. Refused as other requests are; with 426 where its path is none for it."""
        configured = self.configured
        path, dated = client.target.decode("latin-1"), b"api-version=" in client.query
        found = socket_of(path, lambda path: configured.match("POST", path, family, dated), configured.upstreams)
        if found is None:
            raise handshake.not_served()
        if _has_body(given):
            raise Refused(400, "a handshake has no body")
        key = await self._admission.identify(client, handshake.with_key(given, client.query))
        matched = replace(found.match, path_model=handshake.model_of(client.query, found.model_in))
        possible = configured.tunnels.upstream.possible
        routes = plan(matched, Flags(), configured.upstreams, key.hash, lists=False)
        routes = tuple(route for route in routes if possible(route.upstream.provider, route.url))
        if not routes:
            raise handshake.not_served()
        asked = Asked(client.method, matched, routes, _NO_BODY)
        permit = self._admission.admit(key, asked)
        guard = None
        if key.allowed_models is not None:
            guard = Guard(partial(_allows, key, permit.routes), matched.dialect, self._settings.max_body_bytes)
        asker = self._asker(client, given)
        chosen = plan_of(permit.routes, key.hash, partial(_handshake, client, found, matched, key.hash))
        call = Call(chosen, matched.family, True, False, configured.tunnels, self._cors.answer(given))
        if self._admission.limited(key):
            permit = await self._admission.reserve(permit, asked)

        def begin() -> Exchange:
            tap = permit.open(_socket_record(permit, matched, chosen.first, asker))
            return SocketExchange(call, tap, client, self, arrived, guard)

        await self._follow(permit, begin)

    def _asker(self, client: ClientRequest, given: dict[bytes, bytes], said: str = "") -> Attribution:
        """Who asks. Headers that say so to us alone are taken out of the request."""
        asker = self._attributing.of(given, client.client[0] if client.client else "", said)
        if not self._attributing.taken_out.isdisjoint(given):
            client.headers = [header for header in client.headers if header[0] not in self._attributing.taken_out]
        return asker

    async def _run(
        self, client: ClientRequest, permit: Permit, routed: _Routed, asker: Attribution, arrived: float
    ) -> None:
        def begin() -> Exchange:
            call = self._call(client, routed, permit)
            return Exchange(call, permit.open(_open_record(permit, routed, call, asker)), client, self, arrived)

        await self._follow(permit, begin)

    async def _follow(self, permit: Permit, begin: Callable[[], Exchange]) -> None:
        """Begin an exchange, and follow it to its end. What was reserved for it is given back where it cannot begin."""
        exchange = None
        try:
            exchange = begin()
            self.open.add(exchange)
            await exchange.run()
        finally:
            self._admission.ended(permit, begun=exchange is not None)
            if exchange is not None:
                self.open.discard(exchange)

    def _call(self, client: ClientRequest, routed: _Routed, permit: Permit) -> Call:
        matched, routes, caller = routed.matched, permit.routes, permit.key.hash
        if len(routes) > 1 and routes is routed.routes:
            routes = passed_on(routes)
        return Call(
            plan=plan_of(routes, caller, partial(_candidate, client, routed, caller)),
            family=matched.family,
            streamed=matched.streamed or routed.flags.stream,
            keep_body=matched.dialect not in TOKENLESS and matched.family is not Family.ANTHROPIC,
            configured=routed.configured,
            cors=self._cors.answer(dict(client.headers)) if self._settings.cors_origins else [],
            left=permit.left,
            way_back=WayBack(partial(self._admission.ticket, permit.key), self._settings.base_path.encode()),
        )


def _routed(configured: Configured, matched: Match, body: Received, key: KeyRecord) -> _Routed:
    if matched.lists and body.sent:
        raise Refused(400, "a request that reads what is stored must not have a body")
    in_path = matched.path_model is not None and matched.family is Family.GEMINI
    flags = Flags() if matched.dialect is Dialect.METADATA or in_path else body.flags()
    routes = plan(matched, flags, configured.upstreams, key.hash, lists=configured.lists)
    return _Routed(configured, matched, routes if body.rest is None else _unsigned(routes), flags, body)


def _unsigned(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The routes of a body whose rest goes upstream as it arrives: it stands at the root, and its model has come with
    its first part. Refused with 400 where all of them must see the whole of it."""
    left = tuple(route for route in routes if not route.upstream.whole_bodies)
    if not left:
        provider = routes[0].upstream.provider
        raise Refused(400, f"provider {provider!r} signs bodies: send this one below its own path")
    return left


def _candidate(client: ClientRequest, routed: _Routed, caller: str, route: Route, credential: Credential) -> Candidate:
    matched, upstream = routed.matched, route.upstream
    asks = matched.dialect in _CHATS and routed.flags.stream and routed.flags.usage_asked is None
    outgoing = routed.body.outgoing(
        route.model if route.renamed else None,
        ask_usage=asks and upstream.ask_usage,
        decode=upstream.decode_requests,
        unlisted=route.unlisted,
    )
    return Candidate(
        upstream.provider,  # by place as far as it goes: sixteen names take six times as long
        route.model,
        credential.name,
        client.method,
        route.url,
        without_key(client.query),
        headers.upstream_request(client.headers, upstream.passes, encoded=not outgoing.decoded),
        outgoing.body,
        credential.authenticators[matched.family],
        plain=outgoing.plain,
        late_model=outgoing.late_model,
        read_on=upstream.read_on,
        health=credential.health,
        caller=caller,
        trusted=upstream.trusted and matched.dialect in _CALLS,
        shown=upstream.shown,
    )


def _has_body(given: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in given or given.get(b"content-length", b"0") != b"0"


def _wanted(key: KeyRecord, method: str, matched: Match) -> Wanted:
    """What has to be known of a body: a list of models needs it whole, and a route at the root its model."""
    checked = key.allowed_models is not None and matched.path_model is None and checks_model(key, method, matched)
    signed = matched.upstream is not None and matched.upstream.whole_bodies
    up = matched.dialect in _STREAMED_UP and not signed
    return Wanted(checked or not up, checked or not (up or matched.upstream or matched.path_model), checked)


def _handshake(
    client: ClientRequest, found: Socket, matched: Match, caller: str, route: Route, credential: Credential
) -> Candidate:
    """A handshake for a provider: as it came, but for the key, for extensions, and for the name of the model."""
    upstream = route.upstream
    query = without_key(client.query)
    if matched.path_model is not None and route.model != matched.path_model:
        query = handshake.with_model(query, found.model_in, route.model)
    given = headers.upstream_request(handshake.cleaned(client.headers, upstream.passes), upstream.passes)
    return Candidate(
        upstream.provider,
        route.model,
        credential.name,
        client.method,
        route.url,
        query,
        [*given, *handshake.UPGRADE],
        b"",
        credential.authenticators[matched.family],
        health=credential.health,
        caller=caller,
        shown=upstream.shown,
    )


def _allows(key: KeyRecord, routes: tuple[Route, ...], model: str) -> bool:
    """Whether a message may name a model, whichever candidate its socket leads to."""
    return all(key.allows_model(route.upstream.provider, model) for route in routes)


def _socket_record(permit: Permit, matched: Match, candidate: Candidate, asker: Attribution) -> Open:
    return Open(
        key=permit.key.hash,
        dialect=matched.dialect,
        provider=candidate.provider,
        model=candidate.model,
        opened_ms=time.time_ns() // 1_000_000,
        streamed=True,
        path=path_of(candidate),
        team=permit.key.team or "",
        user=asker.user,
        session=asker.session,
        tags=asker.tags,
        client_address=asker.client_address,
        user_agent=asker.user_agent,
        traceparent=asker.traceparent,
        permit=permit.name,
        requested_model=permit.routes[0].asked and (matched.path_model or ""),
        app=asker.app,
    )


def _open_record(permit: Permit, routed: _Routed, call: Call, asker: Attribution) -> Open:
    first = call.plan.first
    return Open(
        key=permit.key.hash,
        dialect=routed.matched.dialect,
        provider=first.provider,
        model=first.model,
        opened_ms=time.time_ns() // 1_000_000,
        streamed=call.streamed,
        path=path_of(first),
        request_bytes=first.body.length or 0 if isinstance(first.body, Upload) else first.request_bytes,
        team=permit.key.team or "",
        user=asker.user,
        session=asker.session,
        tags=asker.tags,
        client_address=asker.client_address,
        user_agent=asker.user_agent,
        traceparent=asker.traceparent,
        permit=permit.name,
        requested_model=permit.routes[0].asked and (routed.matched.path_model or routed.flags.model or ""),
        app=asker.app,
    )
