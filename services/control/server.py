"""Runs the control plane in a process of its own: uvicorn, with probes and our logging."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress

import uvicorn
from starlette.types import Receive, Scope, Send

from services.control.app import ControlApp
from services.control.plane import ControlPlane
from services.control.settings import ControlSettings
from shared.contract import paths
from shared.runtime.errors import SettingsError, StoreError

_SHUTDOWN_SECONDS = 35  # a report may take thirty
_HEAD_BYTES = 32 * 1024
_BACKLOG = 1024


class Alone:
    """The control plane as the only application of a process: it answers the probes, and ends with the server."""

    def __init__(self, control: ControlApp) -> None:
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"] in paths.PROBES:
            await self._probe(scope["path"], send)
        else:
            await self._control(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._control.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _probe(self, path: str, send: Send) -> None:
        """Alive: the event loop turns. Ready: Redis answers, without which nothing here can be answered."""
        reasons = await self._control.not_ready() if path == "/readyz" else []
        answer = {"ready": not reasons, "reasons": reasons} if path == "/readyz" else {"status": "ok"}
        body = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 503 if reasons else 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def serve(settings: ControlSettings, redis_url: str, providers: frozenset[str]) -> None:
    """Serve until SIGTERM or SIGINT; running answers may end first.

    SettingsError where the port is taken, or where this Redis must not hold usage.
    """
    asyncio.run(_check(settings, redis_url))
    listener = _listen(settings.control_host, settings.control_port)
    uvicorn.Server(_config(Alone(ControlApp(settings, redis_url, providers)))).run(sockets=[listener])


async def _check(settings: ControlSettings, redis_url: str) -> None:
    """SettingsError where this Redis is unfit. One that is away passes."""
    plane = ControlPlane(settings, redis_url, frozenset())
    try:
        with suppress(StoreError):
            await plane.check()
    finally:
        await plane.close()


def _config(app: Alone) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",  # it bounds a request head, which httptools does not
        h11_max_incomplete_event_size=_HEAD_BYTES,
        loop="uvloop",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        reason = str(exc.strerror).partition(" (while")[0]  # `create_server` adds the address
        raise SettingsError(f"AROUTER_CONTROL_PORT: cannot listen on {host}:{port}: {reason}") from None
