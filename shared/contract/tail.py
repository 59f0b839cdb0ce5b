"""The tail: the records in which one exchange travels from a gateway to a meter. Pure: no clock, no I/O.

A tail is a run of records with `seq` 0, 1, 2 …: one Open, any number of Segments, one End. The End may carry the last
bytes, so that a short exchange is two records. A record may arrive twice and out of order; (`exchange_id`, `seq`) names
it. In Redis a record is one stream entry with the fields `x` (exchange id), `s` (seq), `r` (the record).

Gateways and meters of different versions read each other's records, and fields are told apart by their place alone.
So a field is appended, with a default; none is ever moved, removed, or used for something else.
"""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import NamedTuple

import msgspec
import zstandard

from shared.contract.dialects import Dialect
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId

# The most bytes that one segment may unpack to. A gateway cuts at 64 KiB plus one read; a corrupt frame that claims
# more must not take the meter's memory.
MAX_SEGMENT_BYTES = 64 * 1024 * 1024

# Below this, compressing costs more time than it saves.
_COMPRESS_FROM = 1024


Fields = dict[bytes, bytes]


class StreamEntry(NamedTuple):
    """One record in a stream."""

    id: bytes
    fields: Fields


class Outcome(StrEnum):
    """How an exchange ended: exactly one."""

    COMPLETED = "completed"  # the provider's body ended properly, whatever its status
    CLIENT_GONE = "client_gone"  # the client left first
    UPSTREAM_FAILED = "upstream_failed"  # the provider refused, could not be reached, or broke off
    TIMED_OUT = "timed_out"  # the first-byte, idle, total or slow-reader limit
    DRAINED = "drained"  # the gateway shut down before it ended
    GATEWAY_LOST = "gateway_lost"  # the gateway died before it wrote an end; meters write this outcome


class Seal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a reader has to know of sealed bytes; `shared.contract.seals` has their layout."""

    key: str  # id of the key
    size: int  # of the bytes, unpacked
    zstd: bool  # whether they were compressed before they were sealed
    pieces: tuple[int, ...]  # size of each piece in `data`


class Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bytes, zstd-compressed where that pays, and sealed where the operator wants it."""

    data: bytes
    zstd: bool = False  # sealed bytes say so, too: who knows no seals must take them for damaged, not for an answer
    seal: Seal | None = None

    @classmethod
    def pack(cls, data: bytes) -> Packed:
        if len(data) < _COMPRESS_FROM:
            return cls(data)
        return cls(_ZSTD.compressor.compress(data), True)

    @property
    def size(self) -> int:
        """How many bytes it unpacks to, as it says."""
        if self.seal is not None:
            return max(0, self.seal.size)
        try:
            return max(0, zstandard.frame_content_size(self.data)) if self.zstd else len(self.data)
        except zstandard.ZstdError:  # `unpack` says so
            return len(self.data)

    def unpack(self) -> bytes:
        """The bytes; BadRecord where they are sealed, are damaged or would exceed MAX_SEGMENT_BYTES."""
        if self.seal is not None:
            raise BadRecord(f"sealed with the key {self.seal.key[:16]!r}")
        if not self.zstd:
            return self.data
        try:
            if zstandard.frame_content_size(self.data) > MAX_SEGMENT_BYTES:
                raise BadRecord("segment unpacks to more than the limit")
            return _ZSTD.decompressor.decompress(self.data)
        except zstandard.ZstdError as exc:
            raise BadRecord(f"segment does not unpack: {exc}") from exc


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """The first record, written before the request goes upstream: no token is bought without a trace."""

    key: str  # hash of the caller's key
    dialect: Dialect
    provider: str
    model: str  # as requested, without the provider prefix; "" where the request names none
    opened_ms: int  # UTC, milliseconds since the epoch; its hour is the hour that is booked
    streamed: bool
    path: str  # as sent upstream, without the query
    request_bytes: int = 0  # of the request body, decoded; where the end is lost, the input is estimated from it
    # Who asked, as far as the key and the request say so; "" where they do not.
    team: str = ""  # of the key at that time: its history stays where it was when it moves
    user: str = ""
    session: str = ""
    tags: tuple[str, ...] = ()
    client_address: str = ""
    user_agent: str = ""
    traceparent: str = ""  # W3C trace context of the caller
    permit: str = ""  # the permit it was admitted under; "" where no limit applies
    requested_model: str = ""  # as the request names it, where that is a named route, or the first of several models
    app: str = ""  # the program or site that the request is for, as it says


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The part of the answer's head that a reader needs."""

    status: int | None = None
    content_type: str = ""
    content_encoding: str = ""
    # Who answers, as in `End`: an exchange whose end is lost is booked on them.
    provider: str = ""
    model: str = ""
    credential: str = ""
    path: str = ""


class Segment(msgspec.Struct, frozen=True, array_like=True, tag="segment"):
    """The next bytes of the response body, as they came from the provider."""

    body: Packed
    head: Head | None = None  # with the first segment, for tails whose end is lost
    gap: int = 0  # bytes of the answer that are missing before `body`: there was no room for them


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One try of an exchange at one upstream."""

    provider: str
    model: str  # as it was asked there
    credential: str  # its name, never the secret; "" where it has none
    status: int | None  # the provider's HTTP status; None where it sent none
    cause: str  # of its failure, a machine word as in `End.cause`; "" where it did not fail
    ms: int  # from its start to the answer's head, or to its failure
    maybe_paid: bool = False  # the request went out as a whole, and nobody knows what the provider made of it


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """The last record, written once; its `seq` tells how many records the tail has."""

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
    lost_bytes: int = 0  # bytes that the tap had no room for, all gaps of the tail together
    # Provider and model that answered, and are booked; "" stands for those of the open.
    provider: str = ""
    model: str = ""
    credential: str = ""  # name of the credential that was used
    attempts: tuple[Attempt, ...] = ()  # in order; the one that answered is the last
    # Why it did not end well, a machine word: connect_refused, tls, dns, reset, idle_timeout, client_gone, …
    cause: str = ""
    gap: int = 0  # of the lost bytes, those right before `body`
    path: str = ""  # as sent upstream to who answered, without the query; "" as in the open


Record = Open | Segment | End


class _Zstd(threading.local):
    """zstandard's objects, for each thread its own: two threads in one at once read wrong bytes, or crash."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1, write_checksum=False, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_ZSTD = _Zstd()
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Record)


def pack(record: Record) -> bytes:
    """A record as bytes."""
    return _ENCODER.encode(record)


def fields(exchange_id: ExchangeId | str, seq: int, packed: bytes) -> Fields:
    """The fields of one stream entry for a packed record."""
    return {b"x": str(exchange_id).encode(), b"s": b"%d" % seq, b"r": packed}


def encode(exchange_id: ExchangeId, seq: int, record: Record) -> Fields:
    """The fields of one stream entry."""
    return fields(exchange_id, seq, pack(record))


def decode_open(packed: bytes) -> Open:
    """The inverse of `pack`, for an open record. BadRecord for anything else."""
    try:
        record = _DECODER.decode(packed)
    except msgspec.MsgspecError as exc:
        raise BadRecord(f"not a tail record: {exc}") from exc
    if not isinstance(record, Open):
        raise BadRecord("not an open record")
    return record


def decode(entry: Fields) -> tuple[ExchangeId, int, Record]:
    """The inverse of `encode`. BadRecord for anything that `encode` did not write."""
    try:
        exchange_id = ExchangeId.parse(entry[b"x"].decode("ascii"))
        seq = int(entry[b"s"])
        record = _DECODER.decode(entry[b"r"])
    except (KeyError, ValueError, msgspec.MsgspecError) as exc:
        raise BadRecord(f"not a tail record: {type(exc).__name__}: {exc}") from exc
    if seq < 0 or isinstance(record, Open) != (seq == 0):
        raise BadRecord(f"record {type(record).__name__} cannot have seq {seq}")
    return exchange_id, seq, record
