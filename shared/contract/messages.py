"""Messages: the form in which what passed through a WebSocket stands in a tail. Pure.

The bytes of such a tail are a run of messages, each with its length before it. A message is never cut by the end of a
record, so that one can be read whatever is missing before it. Frames, masks and fragments are gone: a message has the
payload that its receiver got. Large ones, and audio, are told by their beginning and size alone.

As in tail records, fields are told apart by their place: append one with a default, and never move, remove or reuse
one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from shared.contract.errors import BadRecord

_LENGTH = struct.Struct(">I")


class SocketMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message, or a run of messages of one side that are not copied."""

    sent: bool  # by the client; else by the provider
    size: int  # bytes of the payload; of a run, all of them together
    body: bytes  # the payload, or the beginning of it; of a run, that of its first message
    end: bytes = b""  # where a report stands in a message that is not copied: its last bytes, from the report on
    times: int = 1  # how many messages these are; 0: bytes in which no frames could be read

    @property
    def whole(self) -> bool:
        """Whether this is one message with all its bytes."""
        return self.times == 1 and len(self.body) == self.size


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(SocketMessage)


def encode(message: SocketMessage) -> bytes:
    """A message with its length."""
    packed = _ENCODER.encode(message)
    return _LENGTH.pack(len(packed)) + packed


class Messages:
    """Reads messages from pieces of bytes, cut anywhere."""

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._size = 0
        self._needed = _LENGTH.size  # bytes until there is something to read

    def feed(self, data: bytes) -> Iterator[SocketMessage]:
        """The messages that are complete now. BadRecord where the bytes are none."""
        self._pending.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return
        data, at = b"".join(self._pending), 0
        self.skip()
        while at + _LENGTH.size <= len(data):
            end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
            if end > len(data):
                self._needed = end - at
                break
            try:
                yield _DECODER.decode(data[at + _LENGTH.size : end])
            except msgspec.MsgspecError as exc:
                raise BadRecord(f"not a message of a socket: {exc}") from exc
            at = end
        self._pending, self._size = [data[at:]], len(data) - at

    def skip(self) -> None:
        """Records are missing here; the next one begins with a message."""
        self._pending, self._size, self._needed = [], 0, _LENGTH.size
