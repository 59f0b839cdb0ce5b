"""The border to the providers: it sends requests, and translates failures into our errors.

A transparent relay follows no redirect, keeps no cookie and adds no header. Our own connections push the bytes that
they read (`pushed.py`; decisions 14 and 19). Through a proxy, httpx's connections are read in the ordinary way
(`pulled.py`). Both call the same sink, and the same tests hold both.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx

from services.gateway.client.headers import Header
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.connection import Body, Origin, Timeouts
from services.gateway.upstream.errors import TRANSPORT_ERRORS, translate
from services.gateway.upstream.pool import Ages, Pool
from services.gateway.upstream.proxies import proxy_of
from services.gateway.upstream.pulled import PulledPath, through_proxy
from services.gateway.upstream.pushed import PushedPath
from services.gateway.upstream.tls import ResumingContext
from services.gateway.upstream.ways import Answer, Path, Ways
from shared.runtime.errors import UpstreamUnreachable

TransportFactory = Callable[[], httpx.AsyncBaseTransport]


class UpstreamClient:
    """The connections to all providers, as one configuration has them."""

    def __init__(
        self,
        settings: GatewaySettings,
        transport: TransportFactory | None = None,
        before: UpstreamClient | None = None,
    ) -> None:
        """`transport`: makes an httpx transport for each provider, in place of our own connections. `before`: the
        client whose place this one is to take; they share the connections that nothing has changed for.

        SettingsError names a file that is no use.
        """
        self.ways: Ways = Ways(settings.providers, before.ways if before is not None else None)
        self._settings = settings
        self._transport = transport
        self._timeouts: Timeouts = {
            "connect": settings.connect_timeout,
            "pool": settings.connect_timeout,
            "read": settings.first_byte_timeout,
            "write": settings.idle_timeout,
        }
        self._places: dict[str, tuple[Origin, bytes]] = {}

    async def close(self) -> None:
        """Close every connection."""
        await self.ways.close()

    async def send(
        self,
        provider: str,
        method: str,
        url: str,
        query: bytes,
        headers: list[Header],
        body: Body,
        *,
        fresh: bool = False,
    ) -> Answer:
        """Send a request to a provider and wait for the answer's headers. UpstreamUnreachable or UpstreamTimeout where
        none come. May be cancelled, which closes the connection. `fresh`: on a new connection."""
        # The provider gets path and query as the client wrote them; httpx would normalise them.
        scheme, _, rest = url.partition("://")
        place, _, path = rest.partition("/")
        target = b"/" + path.encode() + (b"?" + query if query else b"")
        try:
            origin, host = self._place(scheme, place)
            given = [(b"host", host), *headers]
            if framing := _framing(method, body):
                given.append(framing)
            path_ = self.ways.get(provider).path or self._path(provider, origin)
            answer = await path_.send(origin, method, target, given, body, self._timeouts, fresh=fresh)
        except TRANSPORT_ERRORS as exc:
            raise translate(exc, begun=False) from exc
        if not 200 <= answer.status <= 599:
            answer.close()
            raise UpstreamUnreachable(f"its status is {answer.status}", cause="bad_status")
        return answer

    def proxy(self, provider: str, url: str) -> str:
        """Host and port of the proxy by which a provider's URL is reached; "" for none."""
        scheme, _, rest = url.partition("://")
        found = proxy_of(self._settings, provider, self._place(scheme, rest.partition("/")[0])[0])
        return found.rpartition("://")[2].rpartition("@")[2].rstrip("/") if found is not None else ""

    def _path(self, provider: str, origin: Origin) -> Path:
        """The path of one provider. Each has its own pool: one that hangs must not take the others' connections."""
        way = self.ways.get(provider)
        return way.path or way.begin(self._made(provider, origin, way.tls))

    def _made(self, provider: str, origin: Origin, tls: ResumingContext) -> Path:
        settings = self._settings
        connections, keep_alive = settings.upstream_connections, settings.upstream_keep_alive
        if self._transport is not None:
            return PulledPath(self._transport())
        proxy = proxy_of(settings, provider, origin)
        if proxy is not None:
            return PulledPath(through_proxy(proxy, tls, self.ways.tls, connections, keep_alive))
        return PushedPath(Pool(tls, connections, Ages(keep_alive, settings.upstream_name_age)))

    def _place(self, scheme: str, place: str) -> tuple[Origin, bytes]:
        """The origin, and the Host header. Places come from the settings alone, so they are few and can be cached."""
        found = self._places.get(scheme + place)
        if found is None:
            url = httpx.URL(f"{scheme}://{place}/")
            origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
            found = self._places[scheme + place] = (origin, url.netloc)
        return found


def _framing(method: str, body: Body) -> Header | None:
    """The header that frames a request's body; None where there is no body."""
    length = len(body) if isinstance(body, bytes) else body.length
    if length is None:
        return b"transfer-encoding", b"chunked"
    if not length and method in ("GET", "HEAD", "DELETE"):
        return None
    return b"content-length", b"%d" % length
