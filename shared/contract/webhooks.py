"""A message to a webhook, as its queue holds it in Redis: msgpack, an array. A field is appended, with a default."""

from __future__ import annotations

import msgspec

from shared.contract.errors import BadRecord


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One message, until it is delivered, or lost among the dead letters."""

    id: str  # of its event
    type: str  # an `EventType`
    queued_ms: int  # UTC, milliseconds since the epoch
    body: bytes  # JSON, as it is sent and signed
    attempts: int = 0  # that have failed
    error: str = ""  # of the last one, one line; "" for a dead letter means that there was no room for it
    tried_ms: int = 0  # when that was


_DECODER = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """As it is stored."""
    return msgspec.msgpack.encode(message)


def decode(stored: bytes) -> Message:
    """The inverse of `encode`. BadRecord for anything else."""
    try:
        return _DECODER.decode(stored)
    except msgspec.MsgspecError as exc:
        raise BadRecord(f"not a message: {exc}") from exc
