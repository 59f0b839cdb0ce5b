"""Work that ends elsewhere: begun by one exchange, and booked on the one that brings its result."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from shared.contract.errors import BadRecord


class WorkKind(StrEnum):
    """The kinds of work that a provider goes on with after it has answered."""

    RESPONSE = "response"  # OpenAI's responses in the background
    INTERACTION = "interaction"  # Gemini's interactions in the background
    BATCH = "batch"  # many requests as one
    DEFERRED = "deferred"  # xAI's deferred completions
    ASYNC = "async"  # Perplexity's asynchronous chats


class WorkStart(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who began a piece of work. Stored as JSON; its result is booked on this key. A field is appended, with a
    default; none is renamed, removed, or used for something else."""

    exchange_id: str
    key: str  # hash of the caller's key
    model: str  # as it was asked for; "" where the request named none
    kind: str  # a `WorkKind`
    opened_ms: int
    # As in the open record.
    team: str = ""
    user: str = ""
    session: str = ""
    tags: tuple[str, ...] = ()
    app: str = ""


class Claim(NamedTuple):
    """What is known of a piece of work once an exchange has been noted."""

    holder: str  # id of the exchange that books the result; "" while none does
    start: WorkStart | None  # who began it; None where nobody is known to have


class Noted(NamedTuple):
    """What an exchange says of a piece of work."""

    exchange_id: str
    provider: str
    names: Sequence[str]  # the provider's ids: of the work, then of the file with its result
    kind: WorkKind
    start: WorkStart | None = None  # this exchange began it
    books: bool = False  # this exchange has the result, and books it if it is the first
    unbegun: bool = False  # and does so though nobody is known to have begun it


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(WorkStart)


def encode(start: WorkStart) -> bytes:
    """As it is stored."""
    return _ENCODER.encode(start)


def decode(stored: bytes) -> WorkStart:
    """The inverse of `encode`. BadRecord for anything else."""
    try:
        return _DECODER.decode(stored)
    except msgspec.MsgspecError as exc:
        raise BadRecord(f"not the start of work: {exc}") from exc
