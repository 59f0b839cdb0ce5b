"""A provider's answers, from bytes: HTTP/1.1 framing without I/O, a clock or a loop.

`begin` says what was asked, `feed` takes the bytes of one read and gives the body's, `close` says that no more will
come; between any two calls `state` says where the answer stands. httptools reads the heads and the chunks, and this
module alone knows how a body is framed. How the bytes are split over reads changes nothing but the size of the parts.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import httptools


class State(Enum):
    """Where an answer stands. Bytes and ends of connections move it; the names follow h11's."""

    IDLE = "idle"  # nothing was asked: a byte now answers no question
    HEAD = "head"  # asked; interim answers (1xx) are passed over until the final one's head is whole
    BODY = "body"  # within a body that says where it ends: a length, or chunks
    BETWEEN_CHUNKS = "between chunks"  # the same, and the next byte is the first of a chunk's size
    UNTIL_CLOSE = "until close"  # within a body whose end is the end of the connection
    DONE = "done"  # the answer is whole, and the connection can take another question
    MUST_CLOSE = "must close"  # the answer is whole; the connection says, or has shown, that it takes no other
    BROKEN = "broken"  # what came is not HTTP, or it ended before its end; `fault` says which


# An enum's members are dear to look up in 3.11, and every read asks.
_IDLE: Final = State.IDLE
_HEAD: Final = State.HEAD
_BODY: Final = State.BODY
_BETWEEN_CHUNKS: Final = State.BETWEEN_CHUNKS
_UNTIL_CLOSE: Final = State.UNTIL_CLOSE
_DONE: Final = State.DONE
_MUST_CLOSE: Final = State.MUST_CLOSE
_BROKEN: Final = State.BROKEN

_BODILESS = (204, 304)
_chunk = re.compile(rb"(0{0,7}[1-9a-fA-F][0-9a-fA-F]{0,7})\r\n").match  # the start of a chunk that is not the last

Header = tuple[bytes, bytes]


class ResponseParser:
    """The answers on one connection, one after the other."""

    __slots__ = ("_head_only", "_http", "_parts", "fault", "headers", "state", "status")

    def __init__(self) -> None:
        self._http = httptools.HttpResponseParser(self)
        # Both lengths in one answer: the transfer encoding wins (RFC 9112, 6.3).
        self._http.set_dangerous_leniencies(lenient_chunked_length=True)
        self._parts: list[bytes] = []
        self._head_only = False
        self.state = _IDLE
        self.status = 0  # until the final head is here
        self.headers: list[Header] = []
        self.fault = ""

    @property
    def complete(self) -> bool:
        """Whether the answer is whole."""
        return self.state is _DONE or self.state is _MUST_CLOSE

    def begin(self, method: bytes) -> None:
        """A question goes out; not before the last answer is whole."""
        self._head_only = method == b"HEAD"
        self.status = 0
        self.headers = []
        self.state = _HEAD

    def rest(self) -> None:
        """Nobody asks anything for now; only from DONE."""
        self.state = _IDLE

    def feed(self, data: bytes) -> bytes:
        """The bytes of one read; returns those of the body among them, which are good even where `state` is BROKEN."""
        state = self.state
        if state is _BETWEEN_CHUNKS:
            # Most reads are one whole chunk. httptools stands before a chunk, and still does when it is left out.
            size = _chunk(data)
            if size is not None:
                start = size.end()
                if start + int(size[1], 16) + 2 == len(data) and data[-2:] == b"\r\n":
                    return data[start:-2]
            self.state = _BODY
        elif state is _IDLE or state is _MUST_CLOSE or state is _BROKEN:
            self._break("an answer to nothing")
            return b""
        return self._parse(data)

    def close(self) -> None:
        """The connection has ended in good order; where it was cut off, the answer is not to be trusted."""
        if self.state is _UNTIL_CLOSE or self.state is _DONE:
            self.state = _MUST_CLOSE
        elif self.state is not _MUST_CLOSE:
            self._break("the provider closed the connection")

    def _parse(self, data: bytes) -> bytes:
        try:
            self._http.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break("the provider switched protocols")
        except httptools.HttpParserError as exc:
            self._break(str(exc))
        # What is behind the last chunk and ends a line would have called `on_chunk_header`.
        if self.state is _BETWEEN_CHUNKS and not data.endswith(b"\r\n"):
            self.state = _BODY
        parts = self._parts
        if not parts:
            return b""
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return body

    def _break(self, fault: str) -> None:
        """An answer that was whole before stays good; nothing else does."""
        if self.state is _DONE or self.state is _MUST_CLOSE:
            self.state = _MUST_CLOSE
        elif self.state is not _BROKEN:
            self.state, self.fault = _BROKEN, fault

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.state is _DONE:
            self.state = _MUST_CLOSE  # a second answer to one question

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state is _HEAD:  # a trailer is not passed on
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.state is not _HEAD:
            return
        status = self._http.get_status_code()
        if status < 200:
            self.headers = []  # an interim answer; the real one follows, but for 101, which httptools raises
            return
        self.status = status
        if self._head_only:
            self.state = _MUST_CLOSE  # httptools does not know what was asked, and would wait for a body
        elif status in _BODILESS:
            self.state = _DONE if self._http.should_keep_alive() else _MUST_CLOSE
        else:
            names = {name.lower() for name, _ in self.headers}
            framed = b"content-length" in names or b"transfer-encoding" in names
            self.state = _BODY if framed else _UNTIL_CLOSE

    def on_chunk_header(self) -> None:
        if self.state is _BETWEEN_CHUNKS:
            self.state = _BODY

    def on_body(self, body: bytes) -> None:
        if self.state is _BODY or self.state is _UNTIL_CLOSE:
            self._parts.append(body)

    def on_chunk_complete(self) -> None:
        if self.state is _BODY:
            self.state = _BETWEEN_CHUNKS

    def on_message_complete(self) -> None:
        if self.state is _BODY or self.state is _BETWEEN_CHUNKS:
            self.state = _DONE if self._http.should_keep_alive() else _MUST_CLOSE
