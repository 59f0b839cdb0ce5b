"""`arouter gateway`: a gateway, composed and run in this process, or several beside each other."""

from __future__ import annotations

import argparse
import socket
from functools import partial
from typing import Any

from services.cli import sinks, workers
from services.cli.serving import begin, given, reread
from services.control.app import ControlApp
from services.gateway import server
from services.gateway.settings import GatewaySettings
from services.sinks.settings import SinkSettings
from shared.runtime import embedded


def add_commands(commands: Any) -> None:
    one = commands.add_parser("gateway", help="run a gateway")
    one.add_argument("--host", help="address to listen on; AROUTER_HOST by default")
    one.add_argument("--port", type=int, help="port to listen on; AROUTER_PORT by default")
    one.add_argument(
        "--workers", type=_several, default=0, metavar="N", help="as so many processes on the port, one a core"
    )
    one.add_argument("--worker", help=argparse.SUPPRESS)  # number, admin socket and parent's pipe, from `workers`
    one.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run a gateway until SIGTERM, with the control plane on its port unless `AROUTER_CONTROL` is off."""
    load = partial(GatewaySettings.load, **given(arguments, host="host", port="port"))
    settings = load()
    begin(settings)
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
        server.serve(settings, url, plane, partial(reread, load), admin)
    return 0


def _several(text: str) -> int:
    """A number of workers."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count
