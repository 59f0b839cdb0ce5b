"""`arouter meter`: a meter, with the followers of the ledger beside it."""

from __future__ import annotations

import argparse
import asyncio
from functools import partial
from typing import Any

from services.cli import sinks
from services.cli.serving import begin, reread
from services.meter import host
from services.meter.settings import MeterSettings
from services.sinks.settings import SinkSettings
from shared.runtime import embedded


def add_commands(commands: Any) -> None:
    one = commands.add_parser("meter", help="run a meter")
    one.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Run a meter until SIGTERM."""
    settings = MeterSettings.load()
    beside = sinks.beside_meters(SinkSettings.load())
    begin(settings)
    with embedded.redis_url(settings) as url:
        asyncio.run(host.run(settings, url, partial(reread, MeterSettings.load), beside))
    return 0
