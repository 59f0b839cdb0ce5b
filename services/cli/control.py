"""`arouter control`: the control API in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import logging
from functools import partial
from typing import Any

from services.cli import sinks
from services.cli.serving import begin, given
from services.control import server
from services.control.settings import ControlSettings
from services.gateway.client import asgi
from services.gateway.client.protocol import protocol_class
from services.gateway.client.request import below
from services.gateway.client.waiting import Limits
from services.gateway.settings import GatewaySettings
from services.sinks.settings import SinkSettings
from shared.runtime import embedded

log = logging.getLogger(__name__)


def add_commands(commands: Any) -> None:
    one = commands.add_parser("control", help="run the control API in a process of its own")
    one.add_argument("--host", help="address to listen on; AROUTER_CONTROL_HOST by default")
    one.add_argument("--port", type=int, help="port to listen on; AROUTER_CONTROL_PORT by default")
    one.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the control plane alone until SIGTERM."""
    settings = ControlSettings.load(**given(arguments, control_host="host", control_port="port"))
    providers = settings.provider_names(frozenset(GatewaySettings.load().providers))
    begin(settings)
    if not providers:
        log.warning(
            "no provider is configured here, so that no key can be restricted to one: AROUTER_CONTROL_PROVIDERS"
        )
    with embedded.redis_url(settings) as url:
        archive = sinks.archive(SinkSettings.load())
        server.serve(settings, url, providers, partial(_http, settings.control_base_path), archive)
    return 0


def _http(base_path: str, app: asgi.Application, drain: server.Drain) -> type[asyncio.Protocol]:
    """The gateway's side of HTTP for a control plane alone: heads are limited in size and time, and a refusal arrives
    though its client still sends."""
    limits = Limits(max_header_bytes=32 * 1024, max_header_lines=100, header_timeout=10, keep_alive_timeout=75)
    return protocol_class(below(base_path, lambda request: asgi.run(app, request)), limits, drain, lambda: None)
