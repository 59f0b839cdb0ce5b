"""Frames of RFC 6455 as clients and servers write them, made without the code that is tested."""

from __future__ import annotations

import struct

KEY = b"\x37\xfa\x21\x3d"  # the mask of the RFC's examples


def frame(payload: bytes, opcode: int = 1, *, mask: bytes = b"", final: bool = True) -> bytes:
    """One frame. `mask`: four bytes, where a client writes it."""
    first, flag, size = (0x80 if final else 0) | opcode, 0x80 if mask else 0, len(payload)
    if size < 126:
        head = struct.pack(">BB", first, flag | size)
    elif size < 65536:
        head = struct.pack(">BBH", first, flag | 126, size)
    else:
        head = struct.pack(">BBQ", first, flag | 127, size)
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + payload


def sent(payload: bytes | str, opcode: int = 1) -> bytes:
    """A frame of a client's."""
    return frame(payload.encode() if isinstance(payload, str) else payload, opcode, mask=KEY)
