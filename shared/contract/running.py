"""What running processes say of themselves in Redis, as JSON: a gateway's state, and how a reload went. A field is
appended, with a default; none is renamed, removed, or used for something else."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec

from shared.contract.errors import BadRecord
from shared.contract.provider_state import ProviderState

T = TypeVar("T", bound=msgspec.Struct)

# Bounds of what one gateway says. Names come from its settings, and causes are short words.
MOST_CREDENTIALS = 200
LONGEST = 300  # characters of a line


class GatewayState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One gateway, as its heartbeat tells it."""

    host: str  # of its process
    loaded_ms: int  # UTC, milliseconds since the epoch: when its configuration was loaded
    configuration: str  # a digest of what a reload changes, without credentials
    refused: str = ""  # why the last reload was refused, one line; "" where it was not
    providers: tuple[ProviderState, ...] = ()
    left_out: int = 0  # credentials beyond MOST_CREDENTIALS


class Service(StrEnum):
    """What reloads."""

    GATEWAY = "gateway"
    METER = "meter"


class Result(StrEnum):
    """How a reload ended."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"  # nothing that a reload changes was another than before
    REFUSED = "refused"  # something is wrong, and the old configuration stays


class Reloaded(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a reload went in one process."""

    service: str  # a `Service`
    result: str  # a `Result`
    host: str
    said: str = ""  # why it was refused, or what only a restart changes: one line


def encode(state: GatewayState | Reloaded) -> bytes:
    """As it is stored."""
    return msgspec.json.encode(state)


def decode(stored: bytes, kind: type[T]) -> T:
    """The inverse of `encode`. BadRecord for anything else."""
    try:
        return msgspec.json.decode(stored, type=kind)
    except msgspec.MsgspecError as exc:
        raise BadRecord(f"not a {kind.__name__}: {exc}") from exc


def line(text: str) -> str:
    """A text as one line of bounded length."""
    return " ".join(text.split())[:LONGEST]
