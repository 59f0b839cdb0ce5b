"""The gateway's application: its own few routes on FastAPI, everything else to the data plane."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from services.gateway.configured import upstreams
from services.gateway.control import api
from services.gateway.control.plane import ControlPlane
from services.gateway.dataplane import ClientLeft, DataPlane
from services.gateway.exchange import refuse
from services.gateway.health import Health
from services.gateway.journal import Journal
from services.gateway.keeper import Keeper
from services.gateway.keyring import KeyRing
from services.gateway.metrics import GatewayMetrics
from services.gateway.settings import GatewaySettings
from services.gateway.tap import Tap
from services.gateway.upstream import TransportFactory, UpstreamClient
from services.gateway.writer import RecordWriter
from shared import store
from shared.dialects import Family
from shared.errors import Refused
from shared.ids import ExchangeIds, new_boot
from shared.tasks import Tasks

_FLUSH_SECONDS = 15.0
_OWN_PATHS = ("/", "/healthz", "/readyz")


def create_app(settings: GatewaySettings, redis_url: str, transport: TransportFactory | None = None) -> FastAPI:
    """The ASGI app of one gateway process. `transport` makes another httpx transport than our own."""
    redis = store.connect(redis_url)
    client = UpstreamClient(settings, transport)
    ids = ExchangeIds(new_boot(), settings.shards)
    root = settings.journal_dir or settings.data_dir.expanduser() / "journal"
    journal = Journal(root, ids.boot, limit=settings.journal_bytes, keep=settings.journal_keep)
    writer = RecordWriter(redis, journal, settings.tap_memory)
    metrics = GatewayMetrics()
    tap = Tap(writer, journal, unkept=metrics.unkept if settings.journal_failed == "serve" else None)
    health = Health(journal, tap, needs_journal=settings.journal_failed == "refuse")
    keeper = Keeper(redis, journal, root, writer, ids)
    keyring = KeyRing(redis, settings)
    configured = upstreams(settings)
    control = ControlPlane(settings, redis_url, keyring, frozenset(upstream.provider for upstream in configured))
    plane = DataPlane(
        settings,
        configured,
        client,
        keyring,
        tap,
        ids,
        metrics,
    )
    metrics.show(
        open_streams=lambda: len(plane.open),
        draining_upstreams=lambda: plane.draining,
        tap_backlog_bytes=lambda: writer.pending_bytes,
        tap_backlog_seconds=lambda: time.monotonic() - writer.shipped,
        journal_bytes=lambda: journal.size,
        journal_fill_ratio=lambda: journal.fill,
        journal_failed=lambda: journal.failed,
        redis_up=lambda: writer.available,
        draining=lambda: health.draining,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = Tasks()
        writing = tasks.start(writer.run(), "record writer")
        forever = [
            tasks.start(tap.run(metrics.late), "tap ticker"),
            tasks.start(plane.watch(), "watchdog"),
            tasks.start(keeper.beat(), "heartbeat"),
            tasks.start(keeper.resend(), "journal keeper"),
        ]
        yield
        # uvicorn comes here without waiting for the tasks it has just cancelled; their end records must be queued.
        await plane.drained(_FLUSH_SECONDS)
        for task in forever:
            task.cancel()
        shipped = await writer.close(writing, _FLUSH_SECONDS)
        journal.close(shipped=await keeper.leave(shipped=shipped))  # if not, another gateway will adopt it
        await client.close()
        await control.close()
        await redis.aclose()

    app = _Gateway(
        plane,
        title="arouter",
        lifespan=lifespan,
        openapi_url=api.OPENAPI,
        docs_url=api.DOCS,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    app.state.health, app.state.metrics = health, metrics
    api.include(app, control)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)  # what agents probe before they begin
    @app.api_route("/healthz", methods=["GET", "HEAD"], include_in_schema=False)
    async def healthz() -> dict[str, str]:
        """Alive: the event loop turns."""
        return {"status": "ok"}

    @app.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
    async def readyz() -> JSONResponse:
        """Ready: a new exchange would be taken. Says why not."""
        reasons = health.ready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    return app


def _own(path: str) -> bool:
    return path in _OWN_PATHS or path.startswith(api.PREFIX)


class _Gateway(FastAPI):
    """FastAPI for the gateway's own routes. The data plane's requests go past its middleware and its routing."""

    def __init__(self, plane: DataPlane, **options: Any) -> None:
        super().__init__(**options)
        self._plane = plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif not _own(scope["path"]):
            await self._plane(scope, receive, send)
        else:
            try:
                connection = scope["extensions"]["arouter.connection"]
                body = await self._plane.read_body(dict(scope["headers"]), connection, receive, api.MAX_BODY_BYTES)
            except Refused as refused:
                await refuse(send, Family.OPENAI, refused, unread=True)
            except ClientLeft:
                return
            else:
                await super().__call__(scope, _given(body, receive), send)


def _given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body which was read before; FastAPI would read any size, for any time."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return messages.pop() if messages else await receive()

    return given
