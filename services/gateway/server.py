"""Runs the gateway: uvicorn's server with our protocol and our logging (decision 30)."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from types import FrameType

import uvicorn

from services.gateway.assembly import Control, Gateway
from services.gateway.client.asgi import Application, Message, Receive, Send
from services.gateway.client.protocol import protocol_class
from services.gateway.client.request import below
from services.gateway.client.waiting import Limits
from services.gateway.configuration import Load
from services.gateway.redis_check import look_once
from services.gateway.settings import GatewaySettings
from shared.runtime.admin_server import watched
from shared.runtime.sockets import claimed

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Shuts down once, and is not ready before it stops listening (decision 23).

    On a second Ctrl-C uvicorn would skip the shutdown that records the running exchanges' ends.
    """

    def __init__(self, config: uvicorn.Config, gateway: Gateway, delay: float) -> None:
        super().__init__(config)
        self._health = gateway.health
        self._delay = delay
        self._leaving: tuple[float, int, FrameType | None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._health.draining:
            log.warning("still waiting for streams to end, for at most %s s", self.config.timeout_graceful_shutdown)
            return
        self._health.draining = True
        self._leaving = time.monotonic() + self._delay, sig, frame

    async def on_tick(self, counter: int) -> bool:
        self.should_exit |= self._health.check.unfit is not None
        if self._leaving is not None and time.monotonic() >= self._leaving[0]:
            super().handle_exit(*self._leaving[1:])
            self._leaving = None
        return await super().on_tick(counter)


def serve(
    settings: GatewaySettings,
    redis_url: str,
    control: Control | None = None,
    load: Load | None = None,
    admin: socket.socket | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; running streams may end first. `load`: reads the settings again, for reloads;
    `admin`: bound for the admin server, in place of a socket of its own.

    SettingsError where the port is taken, or where this Redis is unsuitable.
    """
    asyncio.run(look_once(redis_url, settings))
    listeners = claimed("AROUTER_PORT", settings.host, settings.port, shared=settings.reuse_port)
    gateway = Gateway(settings, redis_url, control, load=load)
    signal.signal(signal.SIGHUP, lambda *_: gateway.reloading.ask())
    server = configured(settings, gateway)
    # The objects of now stay: the collector must not go through them again while streams wait.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    with watched(
        settings.metrics_host,
        settings.metrics_port,
        gateway.metrics.registry,
        healthy=gateway.health.healthy,
        ready=gateway.health.ready,
        listener=admin,
    ):
        log.info("bound to %s", ", ".join(_shown(one) for one in listeners))
        server.run(sockets=listeners)
    if gateway.health.check.unfit is not None:
        raise gateway.health.check.unfit


def configured(settings: GatewaySettings, gateway: Gateway) -> uvicorn.Server:
    """The server of one gateway, not started."""
    limits = Limits(
        settings.max_header_bytes,
        settings.max_header_lines,
        settings.header_timeout,
        settings.keep_alive_timeout,
        settings.slow_reader_timeout,
    )
    config = uvicorn.Config(
        _lifespan(gateway),
        http=protocol_class(below(settings.base_path, gateway.handle), limits, gateway.health, gateway.metrics.unread),
        loop="uvloop",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=settings.shutdown_timeout,
        backlog=4096,
    )
    server = _Server(config, gateway, settings.shutdown_delay)
    gateway.metrics.show(client_connections=lambda: len(server.server_state.connections))
    return server


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _lifespan(gateway: Gateway) -> Application:
    """An ASGI application for uvicorn's lifespan; requests go past it."""

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await gateway.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await gateway.stop()
        await send({"type": "lifespan.shutdown.complete"})

    return application
