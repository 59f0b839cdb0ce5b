"""How version 1.0 of the contract wrote and read, frozen: nothing here follows the product any more.

With the next version this file becomes that version's predecessor.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

SETTLE = (Path(__file__).parent / "previous.lua").read_text()
BOOKED = (
    "requests input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens total_tokens "
    "estimated_requests partial_requests unpriced_requests cost_microusd"
)
ENTRY = [
    "exchange_id",
    "key",
    "provider",
    "model",
    "dialect",
    "opened_ms",
    "outcome",
    "source",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
    "status",
    "streamed",
    "complete",
    "response_bytes",
    "request_bytes",
    "lost_bytes",
    "first_byte_ms",
    "duration_ms",
    "response_model",
    "response_id",
    "request_id",
    "finish",
    "service_tier",
    "error",
    "raw_usage",
    "observed_input_tokens",
    "observed_output_tokens",
    "ratio",
    "output_low",
    "output_high",
    "input_low",
    "input_high",
    "drift",
    "price_version",
    "cost_microusd",
]


class Packed(msgspec.Struct, frozen=True, array_like=True):
    data: bytes
    zstd: bool = False


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    key: str
    dialect: str
    provider: str
    model: str
    opened_ms: int
    streamed: bool
    path: str
    request_bytes: int = 0


class Head(msgspec.Struct, frozen=True, array_like=True):
    status: int | None = None
    content_type: str = ""
    content_encoding: str = ""


class Segment(msgspec.Struct, frozen=True, array_like=True, tag="segment"):
    body: Packed
    head: Head | None = None


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    outcome: str
    status: int | None
    content_type: str
    content_encoding: str
    response_bytes: int
    request_bytes: int
    first_byte_ms: int | None
    duration_ms: int
    request_id: str
    body: Packed
    request: Packed | None = None
    lost_bytes: int = 0


Record = Open | Segment | End
JournalItem = tuple[str, int, bytes, int]
_DECODER = msgspec.msgpack.Decoder(Record)


def pack(record: Record) -> bytes:
    return msgspec.msgpack.encode(record)


def unpack(packed: bytes) -> Record:
    record: Record = _DECODER.decode(packed)
    return record


def frame(items: Sequence[JournalItem]) -> bytes:
    """A frame of a journal. -1 stands for body bytes, -2 for a head; a record without data is a cut."""
    payload = msgspec.msgpack.encode(items)
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


def entry(fields: dict[str, Any]) -> bytes:
    """An entry as its meter wrote it, of any that has at least its fields."""
    return msgspec.json.encode({name: fields[name] for name in ENTRY})
