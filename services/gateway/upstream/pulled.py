"""The pulled path: any httpx transport, read in the ordinary way. It is used through a proxy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx

from services.gateway.upstream.connection import Body, Origin, Sink, Source, Timeouts
from services.gateway.upstream.errors import TRANSPORT_ERRORS, translate
from services.gateway.upstream.parser import Header
from shared.runtime.sockets import keep_alive_options
from shared.runtime.tasks import Tasks


class PulledAnswer:
    """An `Answer` of a httpx response."""

    def __init__(self, response: httpx.Response, timeouts: Timeouts, path: PulledPath) -> None:
        self.status = response.status_code
        self.headers: list[Header] = response.headers.raw
        self._response = response
        self._timeouts = timeouts
        self._path: PulledPath | None = path
        self.ended = False
        self._wanted = asyncio.Event()
        self._wanted.set()

    def whole(self) -> bytes | None:
        return None

    async def beginning(self, most: int, seconds: float) -> bytes:
        return b""  # to give up waiting for a response of httpx's closes it

    async def relay(self, sink: Sink, idle_timeout: float) -> None:
        self._timeouts["read"] = idle_timeout  # the transport reads it when the body begins
        try:
            async for chunk in self._response.aiter_raw():
                sink(chunk)
                await self._wanted.wait()
        except TRANSPORT_ERRORS as exc:
            raise translate(exc, begun=True) from exc
        self.ended = True

    def pause(self) -> None:
        self._wanted.clear()

    def resume(self) -> None:
        self._wanted.set()

    def close(self) -> None:
        path, self._path = self._path, None
        if path is not None:
            path.done(self._response)


class PulledPath:
    """Requests over one httpx transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._tasks = Tasks()
        self._used = 0  # requests that are not over
        self._retired = False

    async def send(
        self,
        origin: Origin,
        method: str,
        target: bytes,
        headers: list[Header],
        body: Body,
        timeouts: Timeouts,
        *,
        fresh: bool = False,  # a transport chooses its connections itself, and no error of it asks for another try
        switch: bool = False,
    ) -> PulledAnswer:
        """As `Path.send`. httpx.UnsupportedProtocol where protocols are to be switched."""
        if switch:
            raise httpx.UnsupportedProtocol("no WebSocket goes through a proxy")
        stream = httpx.ByteStream(body) if isinstance(body, bytes) else _Stream(body)
        timeouts = {**timeouts}  # the answer changes its own
        request = httpx.Request(method, "", headers=headers, stream=stream, extensions={"timeout": timeouts})
        request.url = _ExactURL(origin, target)
        self._used += 1
        try:
            return PulledAnswer(await self._transport.handle_async_request(request), timeouts, self)
        except BaseException:
            self._over()
            raise

    def done(self, response: httpx.Response) -> None:
        """Nobody reads an answer any more. Not awaited: the reader may be being cancelled."""
        self._tasks.start(self._close(response), "upstream close")

    @property
    def idle(self) -> bool:
        """Whether no request is on its way."""
        return not self._used

    def retire(self) -> None:
        """Keep no connection from now on."""
        self._retired = True
        if self.idle:
            self._tasks.start(self._transport.aclose(), "upstream close")

    async def close(self) -> None:
        """Close every connection."""
        await self._tasks.wait()
        await self._transport.aclose()

    async def _close(self, response: httpx.Response) -> None:
        with suppress(httpx.HTTPError, OSError):  # the connection is gone either way
            await response.aclose()
        self._over()

    def _over(self) -> None:
        self._used -= 1
        if self._retired:
            self.retire()


class _Stream(httpx.AsyncByteStream):
    """A body that comes bit by bit."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while part := await self._source.read():
            yield part


class _ExactURL(httpx.URL):
    """A URL whose path and query are sent as they are; httpx would normalise them.

    httpcore's `target` extension would do, but it replaces the target of CONNECT and of forwarded requests, too.
    """

    def __init__(self, origin: Origin, target: bytes) -> None:
        scheme, host, port = origin
        super().__init__(scheme=scheme, host=host, port=port)
        self._target = target

    @property
    def raw_path(self) -> bytes:
        return self._target


def through_proxy(
    url: str, tls: ssl.SSLContext, proxy_tls: ssl.SSLContext, connections: int, keep_alive: float
) -> httpx.AsyncHTTPTransport:
    """A transport through an http:// or https:// proxy: https providers by CONNECT, http ones forwarded.

    `tls` is for the provider, which may be shown a certificate; `proxy_tls` for an https:// proxy. `keep_alive` in
    seconds.
    """
    secure = url.startswith("https:")
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=keep_alive
    )
    return httpx.AsyncHTTPTransport(
        verify=tls,
        limits=limits,
        trust_env=False,
        proxy=httpx.Proxy(url, ssl_context=proxy_tls if secure else None),
        socket_options=keep_alive_options(),
    )
