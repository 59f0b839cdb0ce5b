"""`arouter`: every command, and the place where an error becomes one line on stderr and an exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from services.cli import (
    books,
    commands,
    demo,
    doctor,
    exchanges,
    followers,
    inspect,
    limits,
    prices,
    providers,
    quarantine,
    running,
    seals,
    services,
    sinks,
    teams,
    usage,
    webhooks,
    work,
)
from shared.contract.errors import ARouterError
from shared.runtime.settings import use_config


def main() -> None:
    """The console script. Exits 0, 1 for an error of ours (one line), 2 for wrong usage."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, _terminate)
    try:
        if arguments.config is not None:
            use_config(arguments.config)
        status = arguments.run(arguments)
        sys.stdout.flush()
    except ARouterError as exc:
        print(f"arouter: {exc}", file=sys.stderr)
        status = 1
    except BrokenPipeError:  # `arouter exchanges | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the exit
        status = 141
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)  # so that context managers close what is open


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="arouter", description="A self-hosted LLM gateway that streams and counts.")
    parser.add_argument("--version", action="version", version=f"arouter {version('arouter')}")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings, in place of ./arouter.toml; AROUTER_CONFIG does the same"
    )
    commands_ = parser.add_subparsers(required=True, metavar="command")

    one = commands_.add_parser("demo", help="stream through a gateway on this machine and show what was booked")
    one.add_argument("--once", action="store_true", help="one round, then stop; exit 0 only if every count is right")
    one.set_defaults(run=lambda a: demo.run(once=a.once))

    services.add_commands(commands_)

    keys = commands_.add_parser("keys", help="create, list, change and revoke keys").add_subparsers(required=True)
    one = keys.add_parser("create", help="make a key and print it, this once")
    one.add_argument("--name", required=True)
    one.add_argument("--management", action="store_true", help="a key that manages keys, and cannot call models")
    one.add_argument("--team", metavar="NAME", help="the team it belongs to")
    limits.add_flags(one)
    one.add_argument("--json", action="store_true", help="print the whole record")
    one.set_defaults(run=commands.create_key)
    one = keys.add_parser("list", help="list all keys, oldest first")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=commands.list_keys)
    one = keys.add_parser(
        "update", help="change a key, by its hash or the beginning of it; gateways act in two seconds"
    )
    one.add_argument("hash")
    one.add_argument("--name")
    one.add_argument("--disable", dest="disabled", action="store_const", const=True)
    one.add_argument("--enable", dest="disabled", action="store_const", const=False)
    one.add_argument("--expires-at", metavar="TIME", help="ISO 8601, UTC without a zone; 'never' clears it")
    one.add_argument("--allow-providers", metavar="A,B", help="the only providers it may use; 'all' clears the list")
    one.add_argument(
        "--allow-models", metavar="A,B*", help="the only models it may use; a trailing * stands for any rest"
    )
    one.add_argument("--team", metavar="NAME", help="the team it belongs to from now on; '' takes it out of its team")
    limits.add_flags(one)
    one.set_defaults(run=commands.update_key)
    one = keys.add_parser("revoke", help="revoke a key, by its hash or the beginning of it")
    one.add_argument("hash")
    one.set_defaults(run=commands.revoke_key)

    teams.add_commands(commands_)
    limits.add_commands(commands_)

    one = commands_.add_parser("seal-key", help="print a new key for AROUTER_SEAL_KEYS_FILE")
    one.set_defaults(run=seals.print_key)

    usage.add_command(
        commands_.add_parser("usage", help="print totals per key, provider and model; or of a time, by any groups")
    )
    exchanges.add_command(
        commands_.add_parser("exchanges", help="find exchanges: by key, team, user, model, how they ended, or an id")
    )
    doctor.add_command(
        commands_.add_parser("doctor", help="say what this machine lacks; with --url, whether a path streams")
    )
    providers.add_commands(commands_)
    running.add_commands(commands_)
    prices.add_commands(commands_)
    books.add_commands(commands_)
    followers.add_commands(commands_)
    sinks.add_command(commands_)
    webhooks.add_commands(commands_)
    quarantine.add_commands(
        commands_.add_parser("quarantine", help="list, show, retry or drop exchanges that could not be read")
    )
    work.add_command(commands_.add_parser("work", help="list work that has begun and whose result is not booked"))
    inspect.add_command(commands_.add_parser("inspect", help="print what the meter reads in a recorded body"))
    return parser
