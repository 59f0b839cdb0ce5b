"""Journal frames: the form in which records lie on a gateway's disk. Pure.

A file is a run of frames: length and CRC-32 of a payload, and the payload, which is a version byte and a msgpack list
of items. Gateways read the journals of dead gateways of other versions, so the rules of tail records hold here, too:
append a field with a default, and never move, remove or reuse one. A new kind of item needs a new version byte, and one
release must read it before the next one writes it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import msgspec

from shared.contract.errors import BadRecord
from shared.contract.tail import Head, Packed

_HEADER = struct.Struct("<II")  # length and CRC-32 of the payload
OVERHEAD = _HEADER.size  # bytes of a frame beyond its payload

# Payloads of contract 1.0 have no version and begin with their list: none of these bytes may become a version.
_ARRAYS = frozenset({*range(0x90, 0xA0), 0xDC, 0xDD})
VERSION = 1


class JournaledRecord(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A whole record of a tail."""

    exchange_id: str
    seq: int
    record: bytes


class JournaledHead(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The head of an answer; it goes into the next segment."""

    exchange_id: str
    head: Head


class Fragment(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Body bytes that are in no record yet."""

    exchange_id: str
    seq: int  # of the segment they will be part of
    body: bytes


class Cut(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The end of a segment, which is made of the fragments before it."""

    exchange_id: str
    seq: int
    size: int  # bytes of the segment: the last ones before this item


class SealedFragment(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Body bytes that are in no record yet, sealed. The record that they become follows whole, without a cut: what was
    sealed is sent again as it is, by whoever has the journal, with the key or without it."""

    exchange_id: str
    seq: int  # of the segment they will be part of
    body: Packed  # one piece


Item = JournaledRecord | JournaledHead | Fragment | Cut | SealedFragment

# Items of contract 1.0: exchange id, seq or one of the two numbers below, data, and seq or size.
_FirstItem = tuple[str, int, bytes, int]
_FIRST_FRAGMENT = -1
_FIRST_HEAD = -2

_PREFIX = bytes([VERSION])
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Item])
_FIRST_DECODER = msgspec.msgpack.Decoder(list[_FirstItem])
_HEAD_DECODER = msgspec.msgpack.Decoder(Head)


def encode(items: Sequence[Item]) -> bytes:
    """One frame with these items."""
    return framed(_PREFIX + _ENCODER.encode(items))


def framed(payload: bytes) -> bytes:
    """A frame with this payload."""
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def payloads(data: bytes) -> Iterator[bytes]:
    """The payloads of a file's frames, up to the first one that is torn."""
    at = 0
    while at + OVERHEAD <= len(data):
        length, crc = _HEADER.unpack_from(data, at)
        payload = data[at + OVERHEAD : at + OVERHEAD + length]
        if not payload or len(payload) < length or zlib.crc32(payload) != crc:
            return
        yield payload
        at += OVERHEAD + length


def decode(payload: bytes) -> list[Item]:
    """The items of a payload of this or an earlier version. BadRecord for anything else."""
    try:
        if payload[0] == VERSION:
            return _DECODER.decode(payload[1:])
        if payload[0] in _ARRAYS:
            return [_first(*item) for item in _FIRST_DECODER.decode(payload)]
    except msgspec.MsgspecError as exc:
        raise BadRecord(f"not a journal frame: {exc}") from exc
    raise BadRecord(f"a journal frame of version {payload[0]}, which is later than this")


def _first(exchange_id: str, number: int, data: bytes, size: int) -> Item:
    if number == _FIRST_HEAD:
        return JournaledHead(exchange_id, _HEAD_DECODER.decode(data))
    if number == _FIRST_FRAGMENT:
        return Fragment(exchange_id, size, data)
    return JournaledRecord(exchange_id, number, data) if data else Cut(exchange_id, number, size)
