"""The data plane: admits a request, routes it, and runs its exchange. Raw ASGI, because a framework's response
objects put a task and a queue between a provider's bytes and the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

from services.gateway.capture.tap import Tap
from services.gateway.client import body as request_body
from services.gateway.client import headers
from services.gateway.client.body import Flags
from services.gateway.client.cors import Cors
from services.gateway.client.protocol import Connection
from services.gateway.exchange import Exchange, Receive, Request, Send, refuse
from services.gateway.metrics import GatewayMetrics
from services.gateway.routing.routes import Match, Route, choose, family_of, match
from services.gateway.routing.upstreams import Upstreams
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import UpstreamClient
from shared.access.credentials import caller_key, without_key
from shared.access.key_format import Kind
from shared.access.keyring import KeyRing
from shared.access.keys import KeyRecord
from shared.contract.dialects import TOKENLESS, Dialect, Family
from shared.contract.ids import ExchangeIds
from shared.contract.tail import Open, Outcome
from shared.runtime.errors import JournalFailed, Refused

_WATCHDOG_SECONDS = 0.5
_MAX_MODEL_NAME = 256  # totals are kept under it, for ever

_PATHS = 4096  # matches remembered: clients ask the same few over and over

Scope = MutableMapping[str, Any]


class ClientLeft(Exception):
    """The client disconnected before its request was complete."""


class DataPlane:
    """The ASGI app behind every path that is not the gateway's own."""

    def __init__(
        self,
        settings: GatewaySettings,
        upstreams: Upstreams,
        client: UpstreamClient,
        keyring: KeyRing,
        tap: Tap,
        ids: ExchangeIds,
        metrics: GatewayMetrics,
    ) -> None:
        self.open: set[Exchange] = set()
        self._match = lru_cache(_PATHS)(lambda method, path, family: match(method, path, family, upstreams))
        self.settings = settings
        self._upstreams = upstreams
        self.client = client
        self._keyring = keyring
        self._tap = tap
        self._ids = ids
        self.metrics = metrics
        self._cors = Cors(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no WebSocket dialect is served
        arrived = time.monotonic()
        path = scope["raw_path"].decode("latin-1")
        query: bytes = scope["query_string"]
        given = dict(scope["headers"])
        family = family_of(path, given, query)
        if scope["method"] == "OPTIONS":
            allowed = [(b"allow", b"GET, HEAD, POST"), *self._cors.preflight(given)]
            await send({"type": "http.response.start", "status": 204, "headers": allowed})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        unread = _has_body(given)
        try:
            key = await self._keyring.authenticate(caller_key(given, query))
            matched = self._match(scope["method"], path, family)
            family = matched.family
            connection: Connection = scope["extensions"]["arouter.connection"]
            body = await self.read_body(given, connection, receive, self.settings.max_body_bytes)
            unread = False
            flags = _flags(matched, body, given)
            route = choose(matched, flags.model, self._upstreams)
            if key.restricted:
                _check_allowed(key, scope["method"], matched, route, body)
            await self._run(scope, connection, send, key, matched, route, flags, body, arrived)
        except Refused as refused:
            self.metrics.refused(refused.status)
            await refuse(send, family, refused, unread=unread, extra=self._cors.answer(given))
        except ClientLeft:
            return

    async def watch(self) -> None:
        """Cut exchanges that exceed a limit, for as long as the process lives."""
        while True:
            await asyncio.sleep(_WATCHDOG_SECONDS)
            now = time.monotonic()
            slow = now - self.settings.slow_reader_timeout
            for exchange in list(self.open):
                blocked = exchange.blocked_since
                if now > exchange.deadline or (blocked is not None and blocked < slow):
                    exchange.cut(Outcome.TIMED_OUT)

    def may_drain(self) -> bool:
        """Whether one more upstream may be read on after its client has left."""
        return self.draining < self.settings.read_on_streams

    @property
    def draining(self) -> int:
        """Upstreams that are read on though their client has left."""
        return sum(exchange.client_left for exchange in list(self.open))

    async def drained(self, timeout: float) -> None:
        """Wait until every exchange has ended, for at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.open and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _run(
        self,
        scope: Scope,
        connection: Connection,
        send: Send,
        key: KeyRecord,
        matched: Match,
        route: Route,
        flags: Flags,
        body: bytes,
        arrived: float,
    ) -> None:
        if len(route.model) > _MAX_MODEL_NAME:
            raise Refused(400, f"the model name is longer than {_MAX_MODEL_NAME} characters")
        streamed = matched.streamed or bool(flags.stream)
        outgoing = _outgoing(body, matched, route, flags)
        exchange_id = self._ids.next()  # from here to the open nothing may fail but the open
        request = Request(
            method=scope["method"],
            provider=route.upstream.provider,
            url=route.url,
            query=without_key(scope["query_string"]),
            headers=headers.upstream_request(
                scope["headers"],
                route.upstream.credential(matched.family),
                str(exchange_id) if self.settings.send_generation_id else None,
            ),
            body=outgoing,
            streamed=streamed,
            keep_body=matched.dialect not in TOKENLESS and matched.family is not Family.ANTHROPIC,
            drain=route.upstream.drain,
            cors=self._cors.answer(dict(scope["headers"])) if self.settings.cors_origins else [],
        )
        record = Open(
            key=key.hash,
            dialect=matched.dialect,
            provider=route.upstream.provider,
            model=route.model,
            opened_ms=time.time_ns() // 1_000_000,
            streamed=streamed,
            path=route.url.partition("://")[2].partition("/")[2],
            request_bytes=len(request.body),
        )
        try:
            tap = self._tap.open(exchange_id, record)
        except JournalFailed as exc:
            self._ids.give_back()
            raise Refused(503, "the gateway cannot record usage now") from exc
        exchange = Exchange(exchange_id, request, matched.family, tap, connection, self, arrived)
        self.open.add(exchange)
        try:
            await exchange.run(send)
        finally:
            self.open.discard(exchange)

    async def read_body(self, given: dict[bytes, bytes], connection: Connection, receive: Receive, limit: int) -> bytes:
        """The body of a request. Refused: 413 where it is larger than `limit`, 408 where it does not come in time."""
        too_large = Refused(413, f"the request body is larger than {limit} bytes")
        declared = given.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise too_large
        whole = connection.whole_body()
        if whole is not None:
            if len(whole) > limit:
                raise too_large
            return whole
        parts: list[bytes] = []
        size = 0
        while True:
            try:
                async with asyncio.timeout(self.settings.body_timeout):
                    message = await receive()
            except TimeoutError:
                raise Refused(408, "the request body did not arrive in time") from None
            if message["type"] == "http.disconnect":
                raise ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise too_large
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)


def _has_body(given: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in given or given.get(b"content-length", b"0") != b"0"


def _flags(matched: Match, body: bytes, given: dict[bytes, bytes]) -> Flags:
    """What the body says of model and streaming. A path of one provider is passed on whatever its body is."""
    in_path = matched.family is Family.GEMINI and matched.path_model is not None
    if matched.dialect in (Dialect.METADATA, Dialect.PASSTHROUGH) or in_path:
        return Flags()
    lenient = matched.upstream is not None
    if given.get(b"content-encoding", b"identity") != b"identity":
        if lenient:
            return Flags()
        raise Refused(400, "a compressed request body cannot be routed by its model; send it uncompressed")
    try:
        return request_body.read_flags(body)
    except Refused:
        if lenient:
            return Flags()
        raise


def _check_allowed(key: KeyRecord, method: str, matched: Match, route: Route, body: bytes) -> None:
    """Refused, 403, where the key may not use this provider or model. What only reads calls no model, and is free."""
    provider = route.upstream.provider
    if key.kind is Kind.MANAGEMENT:
        raise Refused(403, "a management key cannot call models")
    if not key.allows_provider(provider):
        raise Refused(403, f"provider '{provider}' is not allowed for this API key")
    if key.allowed_models is None or (matched.dialect is Dialect.METADATA and method in ("GET", "HEAD")):
        return
    if not key.allows_model(provider, route.model):
        raise Refused(403, f"model '{route.model}' is not allowed for this API key")
    if matched.path_model is None and not request_body.names_one_model(body):
        raise Refused(403, "this API key may name one model alone, and once")


def _outgoing(body: bytes, matched: Match, route: Route, flags: Flags) -> bytes:
    if route.prefixed:
        body = request_body.with_model(body, route.model)
    chat = matched.dialect in (Dialect.OPENAI_CHAT, Dialect.OPENAI_COMPLETIONS)
    if chat and flags.stream and flags.usage_asked is None and route.upstream.ask_usage:
        body = request_body.with_usage_asked(body)
    return body
