"""`arouter seal-key`, and what the command line says of sealed tails."""

from __future__ import annotations

import argparse
import secrets
from typing import Any

from shared.books import quarantine
from shared.books.books import Books
from shared.contract import seals, tail
from shared.contract.errors import BadRecord
from shared.contract.tail import End, Segment, StreamEntry
from shared.runtime.seal_keys import SealKeys


def add_commands(commands: Any) -> None:
    one = commands.add_parser("seal-key", help="print a new key for AROUTER_SEAL_KEYS_FILE")
    one.set_defaults(run=print_key)


def print_key(_: argparse.Namespace) -> int:
    """Print a new key, as a line of `AROUTER_SEAL_KEYS_FILE`."""
    print(secrets.token_hex(seals.KEY_BYTES))
    return 0


def said_of(keys: SealKeys) -> str:
    """What these keys are for."""
    if not keys.ids:
        return "tails are not sealed"
    first, *others = keys.ids
    return f"tails are sealed with the key {first}" + (f"; {', '.join(others)} open them, too" if others else "")


async def missing(books: Books, keys: SealKeys) -> dict[str, int]:
    """How many exchanges in quarantine are sealed with which keys that are not among these."""
    found: dict[str, int] = {}
    for case in await quarantine.cases(books):
        for key in {key for entry in case.entries for key in _keys(entry)}.difference(keys.ids):
            found[key] = found.get(key, 0) + 1
    return found


def _keys(entry: StreamEntry) -> set[str]:
    try:
        record = tail.decode(entry.fields)[2]
    except BadRecord:
        return set()
    bodies = [record.body] if isinstance(record, Segment | End) else []
    if isinstance(record, End) and record.request is not None:
        bodies.append(record.request)
    return {body.seal.key[:16] for body in bodies if body.seal is not None}
