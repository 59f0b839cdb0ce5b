"""The border to the providers: httpx at the transport level, and its errors as ours.

A transparent relay wants no redirects, cookies, retries or added headers, so requests go to an httpx *transport*.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import httpx

from services.gateway.headers import Header
from services.gateway.settings import GatewaySettings
from services.gateway.transport import PooledTransport
from shared.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from shared.tasks import Tasks


class Answer:
    """A provider's answer whose headers are here; the body comes by iterating `chunks`."""

    def __init__(self, response: httpx.Response, timeouts: dict[str, float]) -> None:
        self.status = response.status_code
        self.headers: list[Header] = response.headers.raw
        self._response = response
        self._timeouts = timeouts

    async def chunks(self, idle_timeout: float) -> AsyncIterator[bytes]:
        """Body bytes as they come, undecoded. UpstreamTimeout after `idle_timeout` seconds without any,
        UpstreamBroken where the body breaks off."""
        self._timeouts["read"] = idle_timeout  # the transport looks it up for every read
        with _translated(begun=True):
            async for chunk in self._response.aiter_raw():
                yield chunk

    async def close(self) -> None:
        """Give the connection back, or close it where the body was not read to its end."""
        with suppress(httpx.HTTPError, OSError):  # it is gone either way
            await self._response.aclose()


class UpstreamClient:
    """Connections to all providers, pooled."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._tls = ssl.create_default_context()
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}
        self._tasks = Tasks()

    def close_later(self, answer: Answer) -> None:
        """Close an answer without waiting for it: its reader may be under cancellation."""
        self._tasks.start(answer.close(), "upstream close")

    async def close(self) -> None:
        """Close every connection."""
        for transport in self._transports.values():
            await transport.aclose()

    def _transport(self, provider: str) -> httpx.AsyncBaseTransport:
        """The provider's own pool: one that hangs must not take the others' connections."""
        transport = self._transports.get(provider)
        if transport is None:
            settings = self._settings
            transport = self._transports[provider] = PooledTransport(
                self._tls, settings.upstream_connections, settings.upstream_keep_alive
            )
        return transport

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
        target = ("/" + url.partition("://")[2].partition("/")[2]).encode() + (b"?" + query if query else b"")
        with _translated(begun=False):
            request = httpx.Request(
                method, url, headers=headers, content=body, extensions={"timeout": timeouts, "target": target}
            )
            if not body and method in ("GET", "HEAD", "DELETE"):
                request.headers.pop("content-length", None)
            response = await self._transport(provider).handle_async_request(request)
        if not 200 <= response.status_code <= 599:
            self._tasks.start(response.aclose(), "upstream close")
            raise UpstreamUnreachable(f"status {response.status_code}")
        return Answer(response, timeouts)


@contextmanager
def _translated(*, begun: bool) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as exc:
        raise UpstreamTimeout(type(exc).__name__) from exc
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError, OSError) as exc:
        kind = UpstreamBroken if begun else UpstreamUnreachable
        raise kind(type(exc).__name__) from exc
