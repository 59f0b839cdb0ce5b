"""Parses a provider's answers: HTTP/1.1 framing without I/O, clock or loop.

`begin` starts an answer, `feed` takes the bytes of one read and returns those of the body, `close` ends the connection;
between two calls `state` says where the answer stands. httptools reads heads and chunks; this module decides how a body
is framed. How bytes are split over reads changes only the size of the parts.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import httptools

from services.gateway.upstream.head import TOO_LARGE, BadHead, HeadBuffer, tidy


class State(Enum):
    """Where an answer stands. The names follow h11's."""

    IDLE = "idle"  # no request is open: a byte now is an error
    HEAD = "head"  # a request is open; interim answers (1xx) are skipped until the final head is whole
    BODY = "body"  # in a body with a length or chunks
    BETWEEN_CHUNKS = "between chunks"  # in a body with chunks; the next byte is the first of a chunk's size
    UNTIL_CLOSE = "until close"  # in a body that ends with the connection
    DONE = "done"  # the answer is whole, and the connection can take another request
    MUST_CLOSE = "must close"  # the answer is whole, and the connection cannot take another request
    BROKEN = "broken"  # the bytes are not HTTP, or the answer ended early; `fault` says which


# Looking up a member of an enum is slow in Python 3.11, and every read does it.
_IDLE: Final = State.IDLE
_HEAD: Final = State.HEAD
_BODY: Final = State.BODY
_BETWEEN_CHUNKS: Final = State.BETWEEN_CHUNKS
_UNTIL_CLOSE: Final = State.UNTIL_CLOSE
_DONE: Final = State.DONE
_MUST_CLOSE: Final = State.MUST_CLOSE
_BROKEN: Final = State.BROKEN

_BODILESS = (204, 304)
_TRANSFER = b"transfer-encoding"
# What may come within a body that is not of the body: chunk extensions and trailers. A trailer counts as a 256th of it.
_MAX_SURPLUS = 16 * 1024
_TRAILER = _MAX_SURPLUS // 256
_chunk = re.compile(rb"(0{0,7}[1-9a-fA-F][0-9a-fA-F]{0,7})\r\n").match  # the start of a chunk that is not the last

Header = tuple[bytes, bytes]


class _Untidy(Exception):
    """A head that httptools takes and that has to be tidied all the same."""


class ResponseParser:
    """The parser of one connection: one answer after the other."""

    __slots__ = ("_head", "_head_only", "_http", "_parts", "_surplus", "fault", "headers", "state", "status")

    def __init__(self) -> None:
        self._http = self._made()
        self._head = HeadBuffer()
        self._parts: list[bytes] = []
        self._head_only = False
        self._surplus = 0  # since the last byte of a body
        self.state = _IDLE
        self.status = 0  # 0 until the final head is here
        self.headers: list[Header] = []
        self.fault = ""

    @property
    def complete(self) -> bool:
        """Whether the answer is whole."""
        return self.state is _DONE or self.state is _MUST_CLOSE

    @property
    def heard(self) -> bool:
        """Whether a byte of this answer has come."""
        return self._head.size > 0

    def begin(self, method: bytes) -> None:
        """A request goes out. The answer before must be whole."""
        self._head.before = 0
        self._surplus = 0
        self._head_only = method == b"HEAD"
        self.status = 0
        self.headers = []
        self.state = _HEAD

    def rest(self) -> None:
        """No request is open for now. Only from DONE."""
        self.state = _IDLE

    def feed(self, data: bytes) -> bytes:
        """Parse the bytes of one read. Returns the body bytes in them, which are good even where `state` is BROKEN."""
        state = self.state
        if state is _BETWEEN_CHUNKS:
            # Most reads are one whole chunk, which need not go through httptools: it waits for the next chunk still.
            size = _chunk(data)
            if size is not None:
                start = size.end()
                if start + int(size[1], 16) + 2 == len(data) and data[-2:] == b"\r\n":
                    return data[start:-2]
            self.state = _BODY
        elif state is _HEAD:
            end = self._head.whole(data)
            if not end:
                return self._read_head(data)
            self._surplus = -end
            return self._parse(data, whole_head=True)
        elif state is _IDLE or state is _MUST_CLOSE or state is _BROKEN:
            self._break("an answer without a request")
            return b""
        return self._parse(data)

    def close(self) -> None:
        """The connection has ended in good order. Where it broke, do not call this: the answer may be a part."""
        if self.state is _UNTIL_CLOSE or self.state is _DONE:
            self.state = _MUST_CLOSE
        elif self.state is not _MUST_CLOSE:
            self._break("the provider closed the connection")

    def _made(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        # Both lengths in one answer: the transfer encoding wins (RFC 9112, 6.3). Spaces around a chunk's size are
        # allowed before an extension (7.1.1), and some servers pad with them.
        parser.set_dangerous_leniencies(lenient_chunked_length=True, lenient_spaces_after_chunk_size=True)
        return parser

    def _read_head(self, data: bytes) -> bytes:
        try:
            while data and self.state is _HEAD:
                head, data = self._head.feed(data)
                if head:
                    self._parse_head(head)
        except BadHead as exc:
            self._break(str(exc))
        return self.feed(data) if data and self.state is not _BROKEN else b""

    def _read_anew(self, data: bytes) -> bytes:
        """Read what httptools refused once more, with its head in the tidy form."""
        self._http = self._made()
        self._head.before = 0
        self.headers = []
        return self._read_head(data)

    def _parse_head(self, head: bytes) -> None:
        """Parse a whole head; once more in its tidy form, where httptools refuses it."""
        try:
            self._http.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            tidied = tidy(head)
            self._http = self._made()
            self.headers = []
            self._surplus = -len(tidied)
            self._parse(tidied)

    def _parse(self, data: bytes, *, whole_head: bool = False) -> bytes:
        try:
            self._http.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._switched(data[exc.args[0] :])
        except httptools.HttpParserError as exc:
            if whole_head and self.state is _HEAD:
                return self._read_anew(data)
            self._break(str(exc))
        # What is behind the last chunk and ends a line would have called `on_chunk_header`.
        if self.state is _BETWEEN_CHUNKS and not data.endswith(b"\r\n"):
            self.state = _BODY
        parts = self._parts
        if not parts:
            self._surplus += len(data)
            if self._surplus > _MAX_SURPLUS and (self.state is _BODY or self.state is _BETWEEN_CHUNKS):
                self._break(TOO_LARGE)
            return b""
        self._surplus = 0
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return body

    def _switched(self, rest: bytes) -> None:
        """The provider has switched protocols; `rest` is behind its head."""
        self._break("the provider switched protocols")

    def _break(self, fault: str) -> None:
        """An answer that was whole before stays good; nothing else does."""
        if self.state is _DONE or self.state is _MUST_CLOSE:
            self.state = _MUST_CLOSE
        elif self.state is not _BROKEN:
            self.state, self.fault = _BROKEN, fault

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.state is _DONE:
            self.state = _MUST_CLOSE  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state is _HEAD:
            self.headers.append((name, value))
        else:  # a trailer is not passed on
            self._surplus += _TRAILER

    def on_headers_complete(self) -> None:
        if self.state is not _HEAD:
            return
        names = [name.lower() for name, _ in self.headers]
        codings = names.count(_TRANSFER)
        if codings and (codings > 1 or self.headers[names.index(_TRANSFER)][1].lower() != b"chunked"):
            raise _Untidy
        status = self._http.get_status_code()
        if status < 200:
            self.headers = []  # an interim answer; the real one follows, but for 101, which httptools raises
            return
        self.status = status
        if self._head_only:
            self.state = _MUST_CLOSE  # httptools does not know the method, and would wait for a body
        elif status in _BODILESS:
            self.state = _DONE if self._http.should_keep_alive() else _MUST_CLOSE
        else:
            framed = codings or b"content-length" in names
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
