"""The tail: how the raw bytes of one exchange travel from a gateway to a meter. Pure: no clock, no I/O.

A tail is a run of records with `seq` 0, 1, 2 …: one Open, any number of Segments, one End (which may carry the last
bytes itself, so that a short exchange is two records). A record may arrive twice and out of order; (`exchange_id`,
`seq`) names it. In Redis a record is one stream entry with the fields `x` (exchange id), `s` (seq), `r` (the record).

Gateways and meters of different versions read each other's records, and fields are told apart by their place alone.
So a field is appended, with a default; none is ever moved, removed, or used for something else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec
import zstandard

from shared.contract.dialects import Dialect
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId

# The most bytes one segment may unpack to. The gateway cuts at 64 KiB plus one read; a corrupt frame that claims
# more must not take the meter's memory.
MAX_SEGMENT_BYTES = 64 * 1024 * 1024

# Below this compressing costs more time than the bytes it saves are worth: a short answer goes as it is.
_COMPRESS_FROM = 1024


Fields = dict[bytes, bytes]


class StreamEntry(NamedTuple):
    """One record as a stream holds it."""

    id: bytes
    fields: Fields


class Outcome(StrEnum):
    """How an exchange ended: exactly one."""

    COMPLETED = "completed"  # the provider's body ended properly, whatever its status
    CLIENT_GONE = "client_gone"  # the client left first
    UPSTREAM_FAILED = "upstream_failed"  # refused, unreachable, or broke off
    TIMED_OUT = "timed_out"  # the first-byte, idle, total or slow-reader limit
    DRAINED = "drained"  # cut by a drain
    GATEWAY_LOST = "gateway_lost"  # no end was ever written; said by the meter


class Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bytes, zstd-compressed where that pays."""

    data: bytes
    zstd: bool = False

    @classmethod
    def pack(cls, data: bytes) -> Packed:
        if len(data) < _COMPRESS_FROM:
            return cls(data)
        return cls(_COMPRESSOR.compress(data), True)

    def unpack(self) -> bytes:
        """The bytes; BadRecord where they are damaged or would exceed MAX_SEGMENT_BYTES."""
        if not self.zstd:
            return self.data
        try:
            if zstandard.frame_content_size(self.data) > MAX_SEGMENT_BYTES:
                raise BadRecord("segment unpacks to more than the limit")
            return _DECOMPRESSOR.decompress(self.data)
        except zstandard.ZstdError as exc:
            raise BadRecord(f"segment does not unpack: {exc}") from exc


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """Written before the request goes upstream, so that no token is bought without a trace."""

    key: str  # hash of the caller's key
    dialect: Dialect
    provider: str
    model: str  # as requested, without the provider prefix; "" where the request names none
    opened_ms: int  # UTC, milliseconds since the epoch; its hour is the hour that is booked
    streamed: bool
    path: str  # as sent upstream, without the query
    request_bytes: int = 0  # of the request body; all there is to estimate from where the end is lost
    # Who asked, as far as the key and the request say so; "" where they do not.
    team: str = ""
    user: str = ""
    session: str = ""
    tags: tuple[str, ...] = ()
    client_address: str = ""
    user_agent: str = ""
    traceparent: str = ""  # W3C trace context of the caller
    permit: str = ""  # the permit it was admitted under; "" where no limit applies


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What a body's reader must know of the answer's head."""

    status: int | None = None
    content_type: str = ""
    content_encoding: str = ""


class Segment(msgspec.Struct, frozen=True, array_like=True, tag="segment"):
    """The next bytes of the response body, as they came from the provider."""

    body: Packed
    head: Head | None = None  # with the first of them, for readers of a tail whose end is lost


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One try to get the answer from one upstream."""

    provider: str
    model: str  # as it was asked there
    credential: str  # its name, never itself; "" where it has none
    status: int | None  # the provider's HTTP status; None where it sent none
    cause: str  # of its failure, a short machine word as in `End.cause`; "" where it did not fail
    ms: int  # from its begin to the answer's head, or to its failure


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """Written once; its `seq` tells how many records the tail has."""

    outcome: Outcome
    status: int | None  # the provider's HTTP status; None where it sent none
    content_type: str
    content_encoding: str
    response_bytes: int  # relayed body bytes, as they came
    request_bytes: int
    first_byte_ms: int | None  # from the open to the first body byte
    duration_ms: int
    request_id: str  # the provider's own, from its response headers
    body: Packed  # the last bytes, often all of them
    request: Packed | None = None  # the request body, where usage may have to be estimated
    lost_bytes: int = 0  # bytes the tap had no memory for: the tail has a hole, its usage is partial
    # Who answered, which is who is booked; "" is the provider and model of the open.
    provider: str = ""
    model: str = ""
    credential: str = ""  # name of the credential that was used
    attempts: tuple[Attempt, ...] = ()  # in the order they were made, the one that answered last
    # Why it did not end well, as a short machine word: connect_refused, tls, dns, reset, idle_timeout, client_gone, …
    cause: str = ""


Record = Open | Segment | End

_COMPRESSOR = zstandard.ZstdCompressor(level=1, write_checksum=False, write_content_size=True)
_DECOMPRESSOR = zstandard.ZstdDecompressor()
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Record)


def pack(record: Record) -> bytes:
    """A record as it travels."""
    return _ENCODER.encode(record)


def fields(exchange_id: ExchangeId | str, seq: int, packed: bytes) -> Fields:
    """The fields of one stream entry, of a record that is packed already."""
    return {b"x": str(exchange_id).encode(), b"s": b"%d" % seq, b"r": packed}


def encode(exchange_id: ExchangeId, seq: int, record: Record) -> Fields:
    """The fields of one stream entry."""
    return fields(exchange_id, seq, pack(record))


def decode_open(packed: bytes) -> Open:
    """An open record as it travels; BadRecord for anything else."""
    try:
        record = _DECODER.decode(packed)
    except msgspec.MsgspecError as exc:
        raise BadRecord(f"not a tail record: {exc}") from exc
    if not isinstance(record, Open):
        raise BadRecord("not an open record")
    return record


def decode(entry: Fields) -> tuple[ExchangeId, int, Record]:
    """The inverse of `encode`; BadRecord for anything that `encode` did not write."""
    try:
        exchange_id = ExchangeId.parse(entry[b"x"].decode("ascii"))
        seq = int(entry[b"s"])
        record = _DECODER.decode(entry[b"r"])
    except (KeyError, ValueError, msgspec.MsgspecError) as exc:
        raise BadRecord(f"not a tail record: {type(exc).__name__}: {exc}") from exc
    if seq < 0 or isinstance(record, Open) != (seq == 0):
        raise BadRecord(f"record {type(record).__name__} cannot have seq {seq}")
    return exchange_id, seq, record
