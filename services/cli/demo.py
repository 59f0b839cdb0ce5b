"""`arouter demo`: the whole system on this machine as real processes, one round through it, and a comparison.

Each dialect is streamed once with a fresh key, and one stream breaks off. What was booked is then set beside what the
demo provider says it has sent: the exit status is 0 only if they agree, count by count.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from services.cli import demo_requests, demo_table, totals
from services.cli.demo_requests import DemoRequest
from services.cli.demo_table import Emitted
from services.cli.processes import Processes, free_port
from services.gateway.settings import GatewaySettings
from services.meter import prices
from services.meter.settings import MeterSettings
from services.sinks.settings import SinkSettings
from shared.access import keys, pepper
from shared.access.keys import KeyRecord
from shared.books.books import Books
from shared.books.totals import Row
from shared.runtime import embedded, store

_BOOK_SECONDS = 30.0
_DEMO_CREDENTIAL = "demo-provider-needs-none"
# Which provider each demo request is sent to, and what its base URL looks like at the demo provider.
_SAYS = ("--default", demo_requests.DEFAULT)
_BASES = {"openai": "{url}/v1", "anthropic": "{url}", "gemini": "{url}"}


def add_commands(commands: Any) -> None:
    one = commands.add_parser("demo", help="stream through a gateway on this machine and show what was booked")
    one.add_argument("--once", action="store_true", help="one round, then stop; exit 0 only if every count is right")
    one.set_defaults(run=lambda arguments: run(once=arguments.once))


def run(*, once: bool) -> int:
    """Start everything, do a round, and serve until Ctrl-C unless `once`. 0 if every count agrees."""
    settings = GatewaySettings.load()
    logging.basicConfig(level=logging.ERROR)
    with embedded.redis_url(settings) as redis_url, Processes() as processes, tempfile.TemporaryDirectory() as folder:
        emit_log = Path(folder) / "emitted.jsonl"
        provider_port, gateway_port = free_port(8090), free_port(settings.port)
        demo_url = f"http://127.0.0.1:{provider_port}"
        environment = {
            "AROUTER_SHUTDOWN_TIMEOUT": "5",
            "AROUTER_METRICS_PORT": "0",
            "AROUTER_METER_METRICS_PORT": "0",
            "REDIS_URL": redis_url,
            "AROUTER_DATABASE_URL": SinkSettings.load().database or "off",
            **_providers(settings, demo_url),
        }
        real = sorted(name for name in _BASES if name in settings.providers)
        processes.start("provider", "--port", str(provider_port), "--log", str(emit_log), *_SAYS)
        processes.start("gateway", "--port", str(gateway_port), environment=environment)
        processes.start("meter", environment=environment)
        gateway = f"http://127.0.0.1:{gateway_port}"
        processes.wait_for(f"{gateway}/readyz")
        processes.wait_for(f"{demo_url}/v1/models")
        agreed = asyncio.run(_round(redis_url, settings, gateway, emit_log, real))
        if not once:
            try:
                print(f"\nServing on {gateway} until Ctrl-C.", flush=True)
                processes.wait()
            except KeyboardInterrupt:
                print("\nStopping.")
    return 0 if agreed else 1


async def _round(redis_url: str, settings: GatewaySettings, gateway: str, emit_log: Path, real: Sequence[str]) -> bool:
    asked = demo_requests.all_requests(real)
    redis = store.connect(redis_url)
    try:
        key, record = await keys.create(redis, await pepper.load(redis, settings), "demo")
        print(f"gateway {gateway}   key {key}\n")
        streamed = [await _stream(gateway, key, request) for request in asked]
        booked = await _booked(Books(redis, settings.shards), record, len(asked))
    finally:
        await redis.aclose()
    agreed = _compare(booked, demo_table.emitted(_lines(emit_log), asked), real)
    print(demo_requests.snippets(gateway, key))
    return agreed and all(streamed)


def _compare(booked: Sequence[Row], emitted: Emitted, real: Sequence[str]) -> bool:
    lines, agreed = demo_table.compare(booked, emitted, real)
    print("", *lines, "Every count agrees." if agreed else "THE COUNTS DIFFER.", sep="\n")
    print(demo_table.cost(booked, prices.load(MeterSettings.load().prices)))
    return agreed


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


async def _stream(gateway: str, key: str, request: DemoRequest) -> bool:
    """Stream one request and print its text as it arrives; whether it came in pieces, and ended as it should."""
    print(f"{request.title:<20} ", end="", flush=True)
    pieces, broken_off = 0, False
    async with (
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
        client.stream("POST", gateway + request.path, headers=request.headers(key), json=request.body) as response,
    ):
        if response.status_code != 200:
            await response.aread()
            print(f"HTTP {response.status_code}: {response.text[:300]}")
            return False
        try:
            async for text in request.texts(response.aiter_bytes()):
                print(text, end="", flush=True)
                pieces += bool(text)
        except httpx.RemoteProtocolError:  # the body has no end, as every SDK notices
            broken_off = True
    print("[broken off]" if broken_off else "")
    return pieces > 1 and broken_off == request.cut


async def _booked(books: Books, record: KeyRecord, requests: int) -> list[Row]:
    """The key's totals, once every request is in them."""
    deadline = time.monotonic() + _BOOK_SECONDS
    while True:
        rows = await totals.rows_of(books, record.hash)
        if sum(int(row["requests"]) for row in rows) >= requests or time.monotonic() > deadline:
            return rows
        await asyncio.sleep(0.1)


def _providers(settings: GatewaySettings, demo_url: str) -> dict[str, str]:
    """Environment that points every provider without a credential at the demo provider."""
    environment: dict[str, str] = {}
    for name, base in _BASES.items():
        if name not in settings.providers:
            prefix = f"AROUTER_PROVIDERS__{name.upper()}__"
            environment[prefix + "BASE_URL"] = base.format(url=demo_url)
            environment[prefix + "API_KEY"] = _DEMO_CREDENTIAL
            environment[prefix + "PROXY"] = "off"  # it is on this machine
    return environment
