"""Runs an ASGI application on a client's request: the control plane is one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from services.gateway.client.request import ClientLeft, ClientRequest

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_DISCONNECT = "http.disconnect"


def path(target: bytes) -> str:
    """A target's path, decoded."""
    return unquote(target.decode("ascii"))


def scope(request: ClientRequest) -> dict[str, Any]:
    """A request as an ASGI scope."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version,
        "method": request.method,
        "scheme": "http",
        "path": path(request.target),
        "raw_path": request.target,
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": request.client,
        "server": request.server,
    }


async def run(app: Application, request: ClientRequest) -> None:
    """Let an application answer a request. Raises what the application raises."""
    exchange = _Exchange(request)
    request.attach(exchange)
    try:
        await app(scope(request), exchange.receive, exchange.send)
    finally:
        request.detach()


class _Exchange:
    """ASGI's two callables for one request."""

    def __init__(self, request: ClientRequest) -> None:
        self._request = request
        self._body_read = False
        self._over = asyncio.Event()  # the client has left, or has its answer

    async def receive(self) -> Message:
        if not self._body_read and not self._over.is_set():
            try:
                return await self._body()
            except ClientLeft:
                return {"type": _DISCONNECT}
        await self._over.wait()
        return {"type": _DISCONNECT}

    async def send(self, message: Message) -> None:
        """Write a message at once."""
        if message["type"] == "http.response.start":
            given = [(name.lower(), value) for name, value in message.get("headers", ())]
            self._request.start(message["status"], [one for one in given if one[0] != b"transfer-encoding"])
            return
        await self._request.writable()
        if self._over.is_set():
            return
        self._request.write(message.get("body", b""))
        if not message.get("more_body", False):
            self._over.set()
            self._request.finish()

    async def _body(self) -> Message:
        body = self._request.whole_body()
        self._body_read = body is not None
        if body is None:
            body = await self._request.read()
            self._body_read = not body
        return {"type": "http.request", "body": body, "more_body": not self._body_read}

    def client_gone(self) -> None:
        self._over.set()

    def client_full(self) -> None:
        """Nothing to do: `send` waits."""

    def client_ready(self) -> None:
        """Likewise."""
