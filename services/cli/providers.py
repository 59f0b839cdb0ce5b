"""`arouter providers` and `arouter reload`: what gateways say of their providers, and reloads of all processes."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from services.cli.output import print_table
from services.cli.redis import with_redis
from shared.books import running
from shared.books.books import Books
from shared.books.provider_health import CredentialHealth, merged
from shared.contract.provider_state import CredentialState
from shared.contract.running import GatewayState, Reloaded, Result
from shared.runtime.store import Store

_WAIT_SECONDS = 20.0  # a new credential of a cloud is fetched for ten
_POLL_SECONDS = 0.2


def add_commands(commands: Any) -> None:
    one = commands.add_parser("providers", help="list providers and credentials with their health, of all gateways")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=list_providers)
    one = commands.add_parser(
        "reload", help="have every gateway read providers and credentials again, and every meter its prices"
    )
    one.add_argument(
        "--timeout", type=float, default=_WAIT_SECONDS, metavar="SECONDS", help="how long to wait for answers; 20"
    )
    one.set_defaults(run=reload)


def list_providers(arguments: argparse.Namespace) -> int:
    """Print a line for each credential, or for each gateway where they see different things."""

    async def show(books: Books) -> None:
        gateways = await running.gateways(books.store)
        found = merged(gateways)
        if arguments.json:
            print(json.dumps([_as_dict(one) for one in found]))
            return
        columns = ("provider", "credential", "health", "since", "cause", "requests", "failures", "gateway", "dialects")
        print_table(columns, [row for one in found for row in _rows(one)])
        print(f"gateways: {len(gateways)}; requests and failures of the last five minutes")
        for boot, gateway in gateways.items():
            if gateway.refused:
                print(f"{boot} on {gateway.host}: its last reload was refused: {gateway.refused}")
            if gateway.left_out:
                print(f"{boot} on {gateway.host}: {gateway.left_out} more credentials are not shown")

    return with_redis(show)


def _rows(one: CredentialHealth) -> list[tuple[str, ...]]:
    states: Mapping[str, CredentialState] = one.by_gateway if one.differs else {"all": one.worst}
    return [
        (
            one.provider,
            one.name or "-",
            state.health,
            _time(state)[:19],
            state.cause or "-",
            str(state.requests),
            str(state.failures),
            gateway,
            " ".join(one.dialects),
        )
        for gateway, state in states.items()
    ]


def _as_dict(one: CredentialHealth) -> dict[str, Any]:
    return {
        "provider": one.provider,
        "credential": one.name,
        "dialects": one.dialects,
        "weight": one.worst.weight,
        **_seen(one.worst),
        "gateways": [{"gateway": boot, **_seen(state)} for boot, state in one.by_gateway.items()],
    }


def _seen(state: CredentialState) -> dict[str, Any]:
    return {
        "health": state.health,
        "since": _time(state),
        "cause": state.cause,
        "requests": state.requests,
        "failures": state.failures,
    }


def _time(state: CredentialState) -> str:
    return datetime.fromtimestamp(state.since_ms / 1000, UTC).isoformat(timespec="seconds")


def reload(arguments: argparse.Namespace) -> int:
    """Print how it went in each process. 1 where one has refused or has not answered, or where there is none."""
    results: list[bool] = []

    async def ask(books: Books) -> None:
        redis = books.store
        awaited = await running.processes(redis)
        number = await running.ask_reload(redis)
        answers = await _answers(redis, number, set(awaited), arguments.timeout)
        hosts = await running.gateways(redis)
        services = dict(awaited) | {process: answer.service for process, answer in answers.items()}
        for process, service in sorted(services.items(), key=lambda one: (one[0] not in answers, one[1], one[0])):
            answer = answers.get(process)
            results.append(answer is not None and answer.result != Result.REFUSED)
            print(_line(process, answer, service, hosts.get(process)))
        if not results:
            print("no gateway and no meter runs")

    with_redis(ask)
    return int(not results or not all(results))


async def _answers(redis: Store, number: int, awaited: set[str], timeout: float) -> Mapping[str, Reloaded]:
    """The answers to a reload, once all of `awaited` have answered, or after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = await running.reloaded(redis, number)
        if awaited <= found.keys() or time.monotonic() > deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)


def _line(process: str, answer: Reloaded | None, service: str, gateway: GatewayState | None) -> str:
    if answer is None:
        host = f" on {gateway.host}" if gateway is not None else ""
        return f"{service} {process}{host}: did not answer"
    said: dict[str, str] = {Result.CHANGED: "reloaded", Result.UNCHANGED: "reloaded, nothing has changed"}
    return f"{service} {process} on {answer.host}: " + ": ".join(
        filter(None, (said.get(answer.result, answer.result), answer.said))
    )
