"""AWS event streams: length-prefixed binary frames with two checksums. Pure; a damaged frame ends the reading.

Frame: u32 total length, u32 headers length, u32 CRC of those eight bytes, headers, payload, u32 CRC of all before.
Header: u8 name length, name, u8 type, value (strings are type 7: u16 length, bytes).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from services.meter.readers.framing import MAX_PAYLOAD, Payload

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_STRING = 7
# Lengths of the values of the other types: true, false, byte, short, int, long; timestamp, uuid.
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class EventStream:
    """Yields each frame's payload under its event type, exceptions under `error`."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._broken = False

    def feed(self, data: bytes) -> Iterator[Payload]:
        if self._broken:
            return
        self._buffer += data
        while len(self._buffer) >= _PRELUDE.size:
            size, head_size, check = _PRELUDE.unpack_from(self._buffer)
            sound = zlib.crc32(self._buffer[:8]) == check and 16 + head_size <= size <= MAX_PAYLOAD
            if not sound:
                self._broken = True
                return
            if len(self._buffer) < size:
                return
            frame = bytes(self._buffer[:size])
            del self._buffer[:size]
            if zlib.crc32(frame[:-4]) != _CRC.unpack(frame[-4:])[0]:
                self._broken = True
                return
            headers = _headers(frame[12 : 12 + head_size])
            exception = headers.get(b":message-type") != b"event"
            yield b"error" if exception else headers.get(b":event-type", b""), frame[12 + head_size : -4]

    def skip(self) -> None:
        """Frames have no mark by which the next one could be found."""
        self._broken = True

    def close(self) -> Iterator[Payload]:
        return iter(())  # a frame that was cut cannot be checked


def _headers(data: bytes) -> dict[bytes, bytes]:
    """String headers by name; what cannot be understood is left out."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at + 2 <= len(data):
        name = data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
        kind = data[at] if at < len(data) else -1
        at += 1
        if kind in _FIXED:
            at += _FIXED[kind]
        elif kind in (6, _STRING) and at + 2 <= len(data):
            size = int.from_bytes(data[at : at + 2])
            found[name] = data[at + 2 : at + 2 + size]
            at += 2 + size
        else:
            break
    return found
