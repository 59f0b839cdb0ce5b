"""Parses one direction of a WebSocket (RFC 6455) beside the bytes that are relayed: frames to messages. No I/O.

It is total: bytes that are not frames set `fault`, and nothing is parsed behind them. What it holds of a message is
bounded: of one that is large, or that is audio by its first bytes, the beginning and the last bytes are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
_KNOWN = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})

HEAD_BYTES: Final = 512  # of a message that is not kept whole
LAST_BYTES: Final = 16 * 1024
_LONGEST_CONTROL = 125
_NO_STATUS = 1005  # RFC 6455, 7.4.1

Bulky = Callable[[bytes], bool]  # by the first bytes of a message, whether it need not be kept whole


class Message(NamedTuple):
    """A message, or a control frame (`opcode` tells which). `body` is the whole payload where it has `size` bytes."""

    opcode: int
    size: int
    body: bytes
    last: bytes = b""  # its last bytes, where it is not whole

    @property
    def whole(self) -> bool:
        return len(self.body) == self.size


class _Kept:
    """What is kept of a message that has begun."""

    __slots__ = ("_bulky", "_last", "_last_size", "_limit", "_parts", "bulk", "opcode", "size")

    def __init__(self, opcode: int, limit: int, bulky: Bulky) -> None:
        self.opcode = opcode
        self.size = 0
        self.bulk = False  # only its beginning and its last bytes are kept
        self._bulky = bulky
        self._limit = limit
        self._parts: list[bytes] = []
        self._last: deque[bytes] = deque()
        self._last_size = 0

    def add(self, data: bytes) -> None:
        before, self.size = self.size, self.size + len(data)
        if self.bulk:
            self._roll(data)
            return
        self._parts.append(data)
        judged = before < HEAD_BYTES <= self.size and self._bulky(self._head())
        if self.size > self._limit or judged:
            self.bulk = True
            held, self._parts = b"".join(self._parts), [self._head()]
            self._roll(held[HEAD_BYTES:])

    def message(self) -> Message:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        last = b"".join(self._last)
        if self.bulk and len(body) + len(last) == self.size:
            return Message(self.opcode, self.size, body + last)
        return Message(self.opcode, self.size, body, last[-LAST_BYTES:])

    def _head(self) -> bytes:
        head = b""
        for part in self._parts:
            head += part[: HEAD_BYTES - len(head)]
            if len(head) == HEAD_BYTES:
                break
        return head

    def _roll(self, data: bytes) -> None:
        self._last.append(data[-LAST_BYTES:])
        self._last_size += len(self._last[-1])
        while self._last_size - len(self._last[0]) >= LAST_BYTES:
            self._last_size -= len(self._last.popleft())


class FrameParser:
    """The frames of one direction."""

    __slots__ = (
        "_bulky",
        "_control",
        "_final",
        "_header",
        "_kept",
        "_key",
        "_left",
        "_limit",
        "closed",
        "fault",
        "lost",
        "open",
    )

    def __init__(self, limit: int, bulky: Bulky = lambda _: False) -> None:
        """`limit`: the most bytes of a message that are kept whole."""
        self._bulky = bulky
        self._limit = limit
        self._header = b""  # of a frame that has begun, until it is complete
        self._left = 0  # payload bytes of this frame still to come
        self._key = b""  # its mask, turned to the next byte
        self._control: _Kept | None = None  # this frame, where it is a control frame
        self._final = True  # whether this frame ends its message
        self._kept: _Kept | None = None  # the message that has begun
        self.closed: int | None = None  # the status of a close frame, once there was one
        self.fault = ""  # why the bytes are no frames
        self.lost = 0  # bytes that were not parsed for that
        self.open = 0  # the last bytes of what was fed, which belong to a message that is not complete

    @property
    def between(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self._left and not self._header and not self.fault

    def feed(self, data: bytes) -> list[Message]:
        """Parse the bytes of one read. Returns the messages and control frames that are complete now."""
        found: list[Message] = []
        at = 0
        self.open += len(data)
        while at < len(data):
            if self.fault:
                self.lost += len(data) - at
                break
            if not self._left:
                at = self._read_header(data, at, found)
            else:
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                self._take(part)
                if not self._left:
                    self._end_frame(found)
            if self._kept is None and self.between:
                self.open = len(data) - at
        return found

    def _read_header(self, data: bytes, at: int, found: list[Message]) -> int:
        """Read the header of a frame, or as much of it as is here. Returns where its payload begins."""
        needed = _header_size(self._header + data[at : at + 2])
        while len(self._header) < needed:
            if at == len(data):
                return at
            part = data[at : at + needed - len(self._header)]
            at += len(part)
            self._header += part
            needed = _header_size(self._header)
        header, self._header = self._header, b""
        self._begin_frame(header)
        if not self._left and not self.fault:
            self._end_frame(found)
        return at

    def _begin_frame(self, header: bytes) -> None:
        first, second = header[0], header[1]
        opcode, final = first & 0x0F, bool(first & 0x80)
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(header[2:4], "big")
        elif length == 127:
            length = int.from_bytes(header[2:10], "big")
        self._key = header[-4:] if second & 0x80 else b""
        self.fault = self._wrong(first, opcode, length, final=final)
        if self.fault:
            self.lost += len(header)
            return
        self._left = length
        if opcode >= CLOSE:
            self._control = _Kept(opcode, _LONGEST_CONTROL, lambda _: False)
        elif opcode != CONTINUATION:
            self._kept = _Kept(opcode, self._limit, self._bulky)
        self._final = final

    def _wrong(self, first: int, opcode: int, length: int, *, final: bool) -> str:
        """Why this cannot be the header of a frame; "" where it is one."""
        if first & 0x70:
            return "a frame of an extension, and none was agreed on"
        if opcode not in _KNOWN:
            return f"a frame of the unknown kind {opcode}"
        if length >> 63:
            return "a frame of more than 2^63 bytes"
        if opcode >= CLOSE:
            return "" if final and length <= _LONGEST_CONTROL else "a control frame that is long or fragmented"
        if (opcode == CONTINUATION) != (self._kept is not None):
            return "a fragment without a message" if opcode == CONTINUATION else "a message within another"
        return ""

    def _take(self, part: bytes) -> None:
        kept = self._control or self._kept
        assert kept is not None
        if self._key:
            part, turn = unmasked(part, self._key), len(part) % 4
            self._key = self._key[turn:] + self._key[:turn]
        kept.add(part)

    def _end_frame(self, found: list[Message]) -> None:
        if self._control is not None:
            control, self._control = self._control.message(), None
            if control.opcode == CLOSE:
                self.closed = int.from_bytes(control.body[:2], "big") if len(control.body) >= 2 else _NO_STATUS
            found.append(control)
        elif self._final and self._kept is not None:
            found.append(self._kept.message())
            self._kept = None


def _header_size(begun: bytes) -> int:
    """How long a header is, as far as its first two bytes tell."""
    if len(begun) < 2:
        return 2
    length = begun[1] & 0x7F
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if begun[1] & 0x80 else 0)


def unmasked(data: bytes, key: bytes) -> bytes:
    """Payload bytes without their mask, or with it (RFC 6455, 5.3)."""
    size = len(data)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")


def close_frame(status: int, reason: str = "") -> bytes:
    """A close frame of a server's: without a mask."""
    payload = status.to_bytes(2, "big") + reason.encode()[: _LONGEST_CONTROL - 2]
    return bytes([0x80 | CLOSE, len(payload)]) + payload
