"""`arouter provider`: the demo provider."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from services.demo import server


def add_commands(commands: Any) -> None:
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
    one.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo provider until SIGTERM."""
    options = server.Options(
        arguments.host,
        arguments.port,
        arguments.log,
        arguments.default,
        arguments.name,
        arguments.control,
        arguments.certificate,
        arguments.expired,
    )
    asyncio.run(server.run(options))
    return 0
