"""Runs the gateway: uvicorn, with our protocol and our logging."""

from __future__ import annotations

import uvicorn

from services.gateway.app import create_app
from services.gateway.protocol import limited_protocol
from services.gateway.settings import GatewaySettings


def serve(settings: GatewaySettings, redis_url: str) -> None:
    """Serve until SIGTERM or SIGINT; running streams may end first."""
    config = uvicorn.Config(
        create_app(settings, redis_url),
        host=settings.host,
        port=settings.port,
        http=limited_protocol(settings),
        loop="uvloop",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(settings.keep_alive_timeout),
        timeout_graceful_shutdown=settings.shutdown_timeout,
        backlog=4096,
    )
    uvicorn.Server(config).run()
