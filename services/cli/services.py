"""`arouter gateway`, `meter`, `control` and `provider`: the services, each composed and run in this process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from services.cli import sinks, workers
from services.control import server as control_server
from services.control.app import ControlApp
from services.control.settings import ControlSettings
from services.demo import server as demo_server
from services.gateway import server as gateway_server
from services.gateway.client import asgi
from services.gateway.client.protocol import protocol_class
from services.gateway.client.request import below
from services.gateway.client.waiting import Limits
from services.gateway.settings import GatewaySettings
from services.meter import host as meter_host
from services.meter.settings import MeterSettings
from services.sinks.settings import SinkSettings
from shared.runtime import embedded, logs
from shared.runtime.settings import Settings, old_variables, unknown_variables

T = TypeVar("T", bound=Settings)

log = logging.getLogger(__name__)

SETTINGS: tuple[type[Settings], ...] = (GatewaySettings, MeterSettings, ControlSettings, SinkSettings)


def add_commands(commands: Any) -> None:
    """Add the commands that run until SIGTERM."""
    one = commands.add_parser("gateway", help="run a gateway")
    one.add_argument("--host", help="address to listen on; AROUTER_HOST by default")
    one.add_argument("--port", type=int, help="port to listen on; AROUTER_PORT by default")
    one.add_argument(
        "--workers", type=_several, default=0, metavar="N", help="as so many processes on the port, one a core"
    )
    one.add_argument("--worker", help=argparse.SUPPRESS)  # number, admin socket and parent's pipe, from `workers`
    one.set_defaults(run=gateway)

    one = commands.add_parser("meter", help="run a meter")
    one.set_defaults(run=meter)

    one = commands.add_parser("control", help="run the control API in a process of its own")
    one.add_argument("--host", help="address to listen on; AROUTER_CONTROL_HOST by default")
    one.add_argument("--port", type=int, help="port to listen on; AROUTER_CONTROL_PORT by default")
    one.set_defaults(run=control)

    one = commands.add_parser("provider", help="run the demo provider")
    one.add_argument("--host", default="127.0.0.1")
    one.add_argument("--port", type=int, default=8090)
    one.add_argument("--log", type=Path, metavar="FILE", help="append a JSON line for every answer")
    one.add_argument(
        "--default", default="", metavar="DIRECTIVES", help="for requests that name none: docs/demo-provider.md"
    )
    one.add_argument("--name", default="", help="what its answers give as x-demo-provider")
    one.add_argument("--control", type=int, metavar="PORT", help="take orders for outages here: docs/demo-provider.md")
    one.add_argument("--certificate", type=Path, metavar="PEM", help="speak TLS with this key and certificate")
    one.add_argument("--expired", type=Path, metavar="PEM", help="another certificate, for an outage that shows it")
    one.set_defaults(run=provider)


def gateway(arguments: argparse.Namespace) -> int:
    """Run a gateway until SIGTERM, with the control plane on its port unless `AROUTER_CONTROL` is off."""
    load = partial(GatewaySettings.load, **_given(arguments, host="host", port="port"))
    settings = load()
    _begin(settings)
    if arguments.workers:
        with embedded.redis_url(settings):  # an embedded server outlives each worker
            return workers.run(settings, arguments.workers)
    admin = None
    if arguments.worker is not None:
        _, listening, pipe = map(int, arguments.worker.split(","))
        admin = socket.socket(fileno=listening)
        workers.follow_parent(pipe)
    with embedded.redis_url(settings) as url:
        plane = None
        if settings.control == "gateway":
            plane = ControlApp(
                settings,
                url,
                frozenset(settings.providers),
                body_timeout=settings.body_timeout,
                base_path=settings.base_path,
                archive=sinks.archive(SinkSettings.load()),
            )
        gateway_server.serve(settings, url, plane, partial(_reread, load), admin)
    return 0


def _reread(load: Callable[[], T]) -> T:
    """Settings for a reload, with a warning for each that does nothing."""
    settings = load()
    for sentence in odd_settings(settings):
        log.warning(sentence)
    return settings


def meter(_: argparse.Namespace) -> int:
    """Run a meter until SIGTERM."""
    settings = MeterSettings.load()
    beside = sinks.beside_meters(SinkSettings.load())
    _begin(settings)
    with embedded.redis_url(settings) as url:
        asyncio.run(meter_host.run(settings, url, partial(_reread, MeterSettings.load), beside))
    return 0


def control(arguments: argparse.Namespace) -> int:
    """Run the control plane alone until SIGTERM."""
    settings = ControlSettings.load(**_given(arguments, control_host="host", control_port="port"))
    providers = settings.provider_names(frozenset(GatewaySettings.load().providers))
    _begin(settings)
    if not providers:
        log.warning(
            "no provider is configured here, so that no key can be restricted to one: AROUTER_CONTROL_PROVIDERS"
        )
    with embedded.redis_url(settings) as url:
        archive = sinks.archive(SinkSettings.load())
        control_server.serve(settings, url, providers, partial(_http, settings.control_base_path), archive)
    return 0


def _http(base_path: str, app: asgi.Application, drain: control_server.Drain) -> type[asyncio.Protocol]:
    """The gateway's side of HTTP for a control plane alone: heads are limited in size and time, and a refusal arrives
    though its client still sends."""
    limits = Limits(max_header_bytes=32 * 1024, max_header_lines=100, header_timeout=10, keep_alive_timeout=75)
    return protocol_class(below(base_path, lambda request: asgi.run(app, request)), limits, drain, lambda: None)


def provider(arguments: argparse.Namespace) -> int:
    """Run the demo provider until SIGTERM."""
    options = demo_server.Options(
        arguments.host,
        arguments.port,
        arguments.log,
        arguments.default,
        arguments.name,
        arguments.control,
        arguments.certificate,
        arguments.expired,
    )
    asyncio.run(demo_server.run(options))
    return 0


def _several(text: str) -> int:
    """A number of workers."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


def _given(arguments: argparse.Namespace, **fields: str) -> dict[str, object]:
    """The settings that the command line names, by field."""
    values = {field: getattr(arguments, name) for field, name in fields.items()}
    return {field: value for field, value in values.items() if value is not None}


def odd_settings(settings: Settings) -> list[str]:
    """A sentence for every variable that does nothing, or that has another name now."""
    unknown = [f"{name} is not a setting of any service; it does nothing" for name in unknown_variables(*SETTINGS)]
    renamed = old_variables(*SETTINGS) | (settings.old_values() if isinstance(settings, GatewaySettings) else {})
    return [*unknown, *(f"{old} is now {new}; the old name will go" for old, new in renamed.items())]


def _begin(settings: Settings) -> None:
    logs.configure(settings.log_level, settings.log_format)
    signal.signal(signal.SIGHUP, _hung_up)
    for sentence in odd_settings(settings):
        log.warning(sentence)


def _hung_up(signum: int, frame: FrameType | None) -> None:
    """Before there is anything to reload, and in a control plane, which reloads nothing."""
    log.warning("SIGHUP changes nothing here: gateways and meters reload once they run")
