"""The border to the providers: httpx at the transport level, and its errors as ours.

A transparent relay wants no redirects, cookies, retries or added headers, so requests go to an httpx *transport*. Our
own one pushes; any other one (a proxy's, a mock) is read in the ordinary way. Both end in the same sink.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import httpx

from services.gateway.client.headers import Header
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.tls import client_context
from services.gateway.upstream.transport import Connection, Origin, PooledTransport, Timeouts, request_head
from shared.runtime.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from shared.runtime.tasks import Tasks

Sink = Callable[[bytes], None]
TransportFactory = Callable[[], httpx.AsyncBaseTransport]

_TRANSPORT_ERRORS = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError, OSError)


class Answer(Protocol):
    """A provider's answer whose headers are here."""

    status: int
    headers: list[Header]

    @property
    def ended(self) -> bool:
        """Whether the body has come to its proper end."""

    def whole(self) -> bytes | None:
        """The body, if all of it has come with the headers; then there is nothing to relay."""

    async def relay(self, sink: Sink, idle_timeout: float) -> None:
        """Call `sink` with the body's bytes as they come, undecoded, until it ends.

        UpstreamTimeout after `idle_timeout` seconds without any, UpstreamBroken where the body breaks off.
        """

    def pause(self) -> None:
        """Read no more until `resume`."""

    def resume(self) -> None:
        """Go on reading."""

    def close(self) -> None:
        """Give the connection back, or close it where the body was not read to its end."""


class _PushedAnswer:
    """From our own transport: the sink is called in the turn of the loop that has read the bytes."""

    def __init__(self, connection: Connection) -> None:
        self.status = connection.status
        self.headers = connection.headers
        self._connection: Connection | None = connection

    @property
    def ended(self) -> bool:
        return self._connection is None or self._connection.complete

    def whole(self) -> bytes | None:
        return self._connection.take() if self._connection is not None and self._connection.complete else None

    async def relay(self, sink: Sink, idle_timeout: float) -> None:
        assert self._connection is not None
        try:
            await self._connection.push(sink, idle_timeout)
        except _TRANSPORT_ERRORS as exc:
            raise _translate(exc, begun=True) from exc

    def pause(self) -> None:
        if self._connection is not None:  # else it may be another exchange's already
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()


class _PulledAnswer:
    """From any httpx transport."""

    def __init__(self, response: httpx.Response, timeouts: Timeouts, tasks: Tasks) -> None:
        self.status = response.status_code
        self.headers: list[Header] = response.headers.raw
        self._response = response
        self._timeouts = timeouts
        self._tasks = tasks
        self.ended = False
        self._wanted = asyncio.Event()
        self._wanted.set()

    def whole(self) -> bytes | None:
        return None

    async def relay(self, sink: Sink, idle_timeout: float) -> None:
        self._timeouts["read"] = idle_timeout  # the transport looks it up for every read
        try:
            async for chunk in self._response.aiter_raw():
                sink(chunk)
                await self._wanted.wait()
        except _TRANSPORT_ERRORS as exc:
            raise _translate(exc, begun=True) from exc
        self.ended = True

    def pause(self) -> None:
        self._wanted.clear()

    def resume(self) -> None:
        self._wanted.set()

    def close(self) -> None:
        # Not awaited: its reader may be under cancellation.
        self._tasks.start(self._close(), "upstream close")

    async def _close(self) -> None:
        with suppress(httpx.HTTPError, OSError):  # it is gone either way
            await self._response.aclose()


class UpstreamClient:
    """Connections to all providers, pooled."""

    def __init__(self, settings: GatewaySettings, transport: TransportFactory | None = None) -> None:
        """`transport` makes the httpx transport of each provider; by default it is our own."""
        self._settings = settings
        self._tls = client_context()
        self._factory = transport or self._pooled
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}
        self._places: dict[str, tuple[Origin, bytes]] = {}
        self._tasks = Tasks()

    async def close(self) -> None:
        """Close every connection."""
        for transport in self._transports.values():
            await transport.aclose()

    async def send(
        self, provider: str, method: str, url: str, query: bytes, headers: list[Header], body: bytes
    ) -> Answer:
        """Send a request to a provider and wait for the answer's headers; UpstreamUnreachable or UpstreamTimeout
        where none come. May be cancelled: the connection is then closed."""
        timeouts = {
            "connect": self._settings.connect_timeout,
            "pool": self._settings.connect_timeout,
            "read": self._settings.first_byte_timeout,
            "write": self._settings.idle_timeout,
        }
        # httpx would escape, unescape and normalise; the provider gets the path and query as the client wrote them.
        scheme, _, rest = url.partition("://")
        place, _, path = rest.partition("/")
        target = b"/" + path.encode() + (b"?" + query if query else b"")
        transport = self._transport(provider)
        answer: Answer
        try:
            origin, host = self._place(scheme, place)
            given = [(b"host", host), *headers]
            if body or method not in ("GET", "HEAD", "DELETE"):
                given.append((b"content-length", b"%d" % len(body)))
            if isinstance(transport, PooledTransport):
                verb = method.encode()
                head = request_head(verb, target, given)
                answer = _PushedAnswer(await transport.open(origin, verb, head, body, timeouts))
            else:
                request = httpx.Request(
                    method,
                    f"{scheme}://{place}/",
                    headers=given,
                    stream=httpx.ByteStream(body),
                    extensions={"timeout": timeouts, "target": target},
                )
                answer = _PulledAnswer(await transport.handle_async_request(request), timeouts, self._tasks)
        except _TRANSPORT_ERRORS as exc:
            raise _translate(exc, begun=False) from exc
        if not 200 <= answer.status <= 599:
            answer.close()
            raise UpstreamUnreachable(f"status {answer.status}")
        return answer

    def _transport(self, provider: str) -> httpx.AsyncBaseTransport:
        """The provider's own pool: one that hangs must not take the others' connections."""
        transport = self._transports.get(provider)
        if transport is None:
            transport = self._transports[provider] = self._factory()
        return transport

    def _pooled(self) -> httpx.AsyncBaseTransport:
        return PooledTransport(self._tls, self._settings.upstream_connections, self._settings.upstream_keep_alive)

    def _place(self, scheme: str, place: str) -> tuple[Origin, bytes]:
        """Where to connect to, and the Host header. Places come from the settings alone, so that they are few."""
        found = self._places.get(scheme + place)
        if found is None:
            url = httpx.URL(f"{scheme}://{place}/")
            origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
            found = self._places[scheme + place] = (origin, url.netloc)
        return found


def _translate(error: Exception, *, begun: bool) -> UpstreamError:
    if isinstance(error, httpx.TimeoutException):
        return UpstreamTimeout(type(error).__name__)
    kind = UpstreamBroken if begun else UpstreamUnreachable
    return kind(type(error).__name__)
