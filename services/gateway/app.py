"""The gateway's application: its own few routes on FastAPI, everything else to the data plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from services.gateway.configured import upstreams
from services.gateway.dataplane import DataPlane
from services.gateway.keyring import KeyRing
from services.gateway.settings import GatewaySettings
from services.gateway.tap import Tap
from services.gateway.upstream import TransportFactory, UpstreamClient
from services.gateway.writer import RecordWriter
from shared import store
from shared.ids import ExchangeIds, new_boot
from shared.tasks import Tasks

_FLUSH_SECONDS = 15.0
_OWN_PATHS = ("/healthz", "/readyz")


def create_app(settings: GatewaySettings, redis_url: str, transport: TransportFactory | None = None) -> FastAPI:
    """The ASGI app of one gateway process. `transport` makes another httpx transport than our own."""
    redis = store.connect(redis_url)
    client = UpstreamClient(settings, transport)
    writer = RecordWriter(redis)
    tap = Tap(writer, settings.tap_memory)
    plane = DataPlane(
        settings,
        upstreams(settings),
        client,
        KeyRing(redis, settings),
        tap,
        ExchangeIds(new_boot(), settings.shards),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = Tasks()
        writing = tasks.start(writer.run(), "record writer")
        forever = [tasks.start(tap.run(), "tap ticker"), tasks.start(plane.watch(), "watchdog")]
        yield
        # uvicorn comes here without waiting for the tasks it has just cancelled; their end records must be queued.
        await plane.drained(_FLUSH_SECONDS)
        for task in forever:
            task.cancel()
        await writer.close(writing, _FLUSH_SECONDS)
        await client.close()
        await redis.aclose()

    app = _Gateway(plane, title="arouter", lifespan=lifespan, openapi_url=None, redirect_slashes=False)

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> dict[str, str]:
        """Alive: the event loop turns."""
        return {"status": "ok"}

    @app.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> JSONResponse:
        """Ready: a new exchange would be taken. Says why not."""
        reasons = [] if writer.available else ["Redis takes no records"]
        if tap.full:
            reasons.append("tails fill their memory")
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    return app


class _Gateway(FastAPI):
    """FastAPI for the gateway's own routes. The data plane's requests go past its middleware and its routing."""

    def __init__(self, plane: DataPlane, **options: Any) -> None:
        super().__init__(**options)
        self._plane = plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OWN_PATHS:
            await self._plane(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
