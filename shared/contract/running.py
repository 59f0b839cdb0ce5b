"""What running processes say of themselves in Redis, as JSON: a gateway's state, what it runs, how a reload went. A
field is appended, with a default; none is renamed, removed, or used for something else."""

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
MOST_RUNNING = 2000  # the oldest ones: what hangs is among them, and the others end soon
MOST_RUNNING_BYTES = 1024 * 1024  # of all of them together
LONGEST_NAME = 128  # characters of what callers choose


class GatewayState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One gateway, as its heartbeat tells it."""

    host: str  # of its process
    loaded_ms: int  # UTC, milliseconds since the epoch: when its configuration was loaded
    configuration: str  # a digest of what a reload changes, without credentials
    refused: str = ""  # why the last reload was refused, one line; "" where it was not
    providers: tuple[ProviderState, ...] = ()
    left_out: int = 0  # credentials beyond MOST_CREDENTIALS


class RunningExchange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One exchange that runs. What callers choose is cut at LONGEST_NAME."""

    id: str
    opened_ms: int  # UTC, milliseconds since the epoch, by its gateway's clock
    key: str  # hash of the caller's key
    dialect: str
    provider: str  # who answers, or is asked
    model: str  # asked for there
    bytes: int  # of the answer's body, so far
    first_byte_ms: int | None = None  # from the open to the first of them; None: there is none yet
    streamed: bool = False
    credential: str = ""  # its name
    team: str = ""
    user: str = ""
    client_address: str = ""
    read_on: bool = False  # its client has left, and the provider is read on


class RunningExchanges(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one gateway runs, as it says when somebody asks."""

    host: str  # of its process
    left_out: int = 0  # the newest ones, beyond MOST_RUNNING and MOST_RUNNING_BYTES
    exchanges: tuple[RunningExchange, ...] = ()  # oldest first


class Cancelled(StrEnum):
    """What a gateway answers where an exchange of its own is to be cancelled."""

    CANCELLED = "cancelled"  # it ends now
    ENDED = "ended"  # it does not run any more
    UNKNOWN = "unknown"  # there has never been one of this id


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


def encode(state: GatewayState | RunningExchanges | Reloaded) -> bytes:
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
