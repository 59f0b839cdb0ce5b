"""Runs the control plane in a process of its own: uvicorn, with probes and our logging."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from services.control.app import ControlApp
from services.control.plane import ControlPlane
from services.control.settings import ControlSettings
from shared.books.archive import Archive
from shared.contract import paths
from shared.runtime.errors import StoreError
from shared.runtime.sockets import claimed

_SHUTDOWN_SECONDS = 35  # a report may take thirty
_BACKLOG = 1024


class Drain:
    """Says whether the process is shutting down."""

    def __init__(self) -> None:
        self.draining = False


Http = Callable[[ASGIApp, Drain], type[asyncio.Protocol]]
"""Makes the server side of HTTP for an application: a class for `uvicorn.Config(http=…)`."""


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
        if reasons:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": 503 if reasons else 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


class _Server(uvicorn.Server):
    """Tells its connections when it shuts down."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain.draining = True
        super().handle_exit(sig, frame)


def serve(
    settings: ControlSettings,
    redis_url: str,
    providers: frozenset[str],
    http: Http,
    archive: Callable[[], Archive] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; running answers may end first. `archive` as in `ControlApp`.

    SettingsError where the port is taken, or where this Redis must not hold usage.
    """
    asyncio.run(_check(settings, redis_url))
    listeners = claimed("AROUTER_CONTROL_PORT", settings.control_host, settings.control_port)
    control = ControlApp(settings, redis_url, providers, base_path=settings.control_base_path, archive=archive)
    app, drain = Alone(control), Drain()
    _Server(_config(app, http(app, drain)), drain).run(sockets=listeners)


async def _check(settings: ControlSettings, redis_url: str) -> None:
    """SettingsError where this Redis is unfit. One that is away passes."""
    plane = ControlPlane(settings, redis_url, frozenset())
    try:
        with suppress(StoreError):
            await plane.check()
    finally:
        await plane.close()


def _config(app: Alone, http: type[asyncio.Protocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=http,
        loop="uvloop",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        backlog=_BACKLOG,
    )
