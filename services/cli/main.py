"""`arouter`: every command, and the place where an error becomes one line on stderr and an exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from shared.contract.errors import ARouterError
from shared.runtime.settings import use_config

# The module of each command, in the order of the help. Only the module of the command that is run is imported: all of
# them take more than a second.
MODULES = {
    "demo": "demo",
    "gateway": "gateway",
    "meter": "meter",
    "control": "control",
    "provider": "provider",
    "keys": "keys",
    "teams": "teams",
    "limits": "limits",
    "seal-key": "seals",
    "usage": "usage",
    "exchanges": "exchanges",
    "doctor": "doctor",
    "providers": "providers",
    "reload": "providers",
    "ps": "running",
    "cancel": "running",
    "prices": "prices",
    "audit": "books",
    "ledger": "books",
    "books": "followers",
    "follow": "sinks",
    "webhooks": "webhooks",
    "quarantine": "quarantine",
    "work": "work",
    "inspect": "inspect",
}


def main() -> None:
    """The console script. Exits 0, 1 for an error of ours (one line), 2 for wrong usage."""
    arguments = parse(sys.argv[1:])
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


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line; `run` is what it runs. Exits 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="arouter", description="A self-hosted LLM gateway that streams and counts.")
    parser.add_argument("--version", action="version", version=f"arouter {version('arouter')}")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings, in place of ./arouter.toml; AROUTER_CONFIG does the same"
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    found = MODULES.get(_command(words) or "")
    for name in dict.fromkeys(MODULES.values()) if found is None else [found]:
        import_module(f"services.cli.{name}").add_commands(commands)
    return parser.parse_args(words)


def _command(words: Sequence[str]) -> str | None:
    """The first word that is neither an option nor the file of one."""
    left = iter(words)
    for word in left:
        if word == "--config":
            next(left, None)
        elif not word.startswith("-"):
            return word
    return None
