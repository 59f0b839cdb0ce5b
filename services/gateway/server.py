"""Runs the gateway: uvicorn, with our protocol and our logging."""

from __future__ import annotations

import asyncio
import gc
import logging
from types import FrameType

import uvicorn

from services.gateway.app import create_app
from services.gateway.protocol import limited_protocol
from services.gateway.settings import GatewaySettings
from services.gateway.upstream import TransportFactory
from shared import store

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Stops once. On a second Ctrl-C uvicorn would skip the shutdown that writes the running exchanges' ends."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            log.warning("still waiting for streams to end, for at most %s s", self.config.timeout_graceful_shutdown)
        else:
            super().handle_exit(sig, frame)


def serve(settings: GatewaySettings, redis_url: str) -> None:
    """Serve until SIGTERM or SIGINT; running streams may end first. SettingsError where this Redis will not do."""
    asyncio.run(_verify(redis_url))
    server = configured(settings, redis_url)
    # What is there now stays; the collector need not go through it again and again while streams wait.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    server.run()


def configured(settings: GatewaySettings, redis_url: str, transport: TransportFactory | None = None) -> uvicorn.Server:
    """The server of one gateway, not running yet. `transport` makes another httpx transport than our own."""
    config = uvicorn.Config(
        create_app(settings, redis_url, transport),
        host=settings.host,
        port=settings.port,
        http=limited_protocol(settings),
        loop="uvloop",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(settings.keep_alive_timeout),
        timeout_graceful_shutdown=settings.shutdown_timeout,
        backlog=4096,
    )
    return _Server(config)


async def _verify(redis_url: str) -> None:
    redis = store.connect(redis_url)
    try:
        await store.verify(redis)
    finally:
        await redis.aclose()
