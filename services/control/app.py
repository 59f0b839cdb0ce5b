"""The control plane: an ASGI application of its own, beside a gateway on its port or alone in a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.control import api
from services.control.plane import ControlPlane
from shared.access.credentials import caller_key
from shared.access.envelopes import error_body
from shared.books.archive import Archive
from shared.contract.dialects import Family
from shared.runtime.errors import Refused, SettingsError, StoreError
from shared.runtime.settings import Settings

MAX_BODY_BYTES = 256 * 1024  # no request of this API is larger


class ControlApp:
    """Reads request bodies before FastAPI does, which would read any size for any time, and from anybody."""

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        providers: frozenset[str],
        *,
        body_timeout: float = 60.0,
        base_path: str = "",
        archive: Callable[[], Archive] | None = None,
    ) -> None:
        """`providers`: names a key may be restricted to. `body_timeout`: seconds for a whole body to arrive.
        `base_path`: what a proxy in front has before the paths of this API; its documents link to it.
        `archive` makes what answers for exchanges and usage beyond Redis."""
        self._plane = ControlPlane(settings, redis_url, providers, archive)
        self._timeout = body_timeout
        self._base_path = base_path
        self._app: ASGIApp = _application(self._plane)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            body = await self._body(scope, receive)
        except Refused as refused:
            await _refuse(send, refused)
            return
        if body is not None:
            scope["root_path"] = self._base_path
            await self._app(scope, _replay(body, receive), send)

    async def not_ready(self) -> list[str]:
        """Nothing, or why no request can be answered now."""
        try:
            await self._plane.check()
        except StoreError:
            return ["Redis does not answer"]
        except SettingsError as exc:
            return [str(exc)]
        return []

    async def close(self) -> None:
        """Leave Redis."""
        await self._plane.close()

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None where the client left. Refused: 413 too large, 408 too slow, and 401, 403 or 503 where
        its sender has no good key."""
        headers = dict(scope["headers"])
        if _has_body(headers):
            await self._plane.keyring.authenticate(caller_key(headers, scope["query_string"]))
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            raise _too_large()
        try:
            async with asyncio.timeout(self._timeout):
                return await _read(receive)
        except TimeoutError:
            raise Refused(408, "the request body did not arrive in time") from None


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _too_large() -> Refused:
    return Refused(413, f"the request body is larger than {MAX_BODY_BYTES} bytes")


async def _read(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return b"".join(parts)


def _application(plane: ControlPlane) -> FastAPI:
    app = FastAPI(
        title="arouter",
        openapi_url=api.OPENAPI,
        docs_url=api.DOCS,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    api.include(app, plane)
    return app


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body again."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


async def _refuse(send: Send, refused: Refused) -> None:
    body = error_body(Family.OPENAI, refused.status, refused.message, refused.code)
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *refused.headers,
        (b"connection", b"close"),  # the rest of the body is not read
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
