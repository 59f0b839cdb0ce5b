"""Parses a client's requests: httptools with the limits that it lacks (decision 30). No I/O, and no clock."""

from __future__ import annotations

from typing import Any, Protocol

import httptools

from services.gateway.client.body_stream import BodyStream
from services.gateway.client.headers import Header


class BadRequest(Exception):
    """Bytes that are not an acceptable request; `status` is the answer's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Sink(Protocol):
    """Takes the requests, in order."""

    def begun(
        self, method: str, target: bytes, query: bytes, headers: list[Header], version: str, *, keep_alive: bool
    ) -> BodyStream:
        """A head is complete. Returns the stream that takes the request's body."""


_INVALID = "invalid HTTP request"
_TOO_LARGE = "the request head is too large"


class RequestParser:
    """The parser of one connection. `feed` takes bytes and calls the sink."""

    __slots__ = (
        "_body",
        "_deaf",
        "_headers",
        "_last",
        "_max_bytes",
        "_max_lines",
        "_parser",
        "_pending",
        "_sink",
        "_upgrade",
        "_url",
        "in_head",
    )

    def __init__(self, sink: Sink, max_bytes: int, max_lines: int) -> None:
        """`max_bytes`, `max_lines`: limits of a head; `max_bytes` also of trailers and chunk sizes."""
        self._sink = sink
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._pending = 0  # bytes since a head was complete or a body grew
        self._last = False
        self._deaf = False
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = bytearray()  # comes in as many pieces as there are reads
        self._upgrade: list[Header] = []  # what was asked for, while its head is parsed again
        self._headers: list[Header] = []
        self._body: BodyStream | None = None
        self.in_head = False  # whether a head has begun and is not complete

    def feed(self, data: bytes) -> None:
        """Parse bytes. BadRequest where they are not acceptable; then nothing is parsed any more."""
        if self._deaf:
            return
        # httptools shows only whole headers and trailers: an endless one is noticed here.
        self._pending += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as exc:
            if not self._deaf:
                self._deaf = True
                raise _reason(exc) from exc
        if self._pending > self._max_bytes:
            self._deaf = True
            raise BadRequest(431, _TOO_LARGE)

    def end_after_this(self) -> None:
        """Take no request after the present one (RFC 9112, 9.6)."""
        self._last = True

    def close(self) -> None:
        """Break the reference cycle of parser and callbacks."""
        self._deaf = True
        self._parser = self._body = None
        del self._sink

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self._last:
            self._deaf = True
            raise BadRequest(400, _INVALID)  # stops httptools; `feed` drops it
        self.in_head = True
        self._url = bytearray()
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.get_method() == b"CONNECT":
            raise BadRequest(405, "CONNECT is not served")
        if parser.should_upgrade():
            return  # the head is parsed again, without the upgrade
        # Trailers could pass for headers: they go to a list that nobody reads.
        headers, self._headers = self._headers, []
        self._check_size(headers)
        self._pending = 0
        version = parser.get_http_version()
        names = [name for name, _ in headers]
        if version != "1.0" and names.count(b"host") != 1:
            raise BadRequest(400, "exactly one Host header is needed")
        if b"transfer-encoding" in names:
            _check_codings(headers, version)
        if self._upgrade:
            headers += self._upgrade
            self._upgrade = []
        target, query = _split(bytes(self._url))
        self.in_head = False
        keep_alive = version == "1.1" and parser.should_keep_alive()
        method = parser.get_method().decode()
        self._body = self._sink.begun(method, target, query, headers, version, keep_alive=keep_alive)

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        if self._body is not None:
            self._body.feed(body)

    def on_message_complete(self) -> None:
        if self.in_head:
            return  # of an upgrade, whose head is parsed again
        self._pending = 0
        if self._body is not None:
            self._body.end()
        self._deaf = self._last  # further bytes are dropped, and are not an error

    def _parse(self, data: bytes) -> None:
        """Parse bytes, ignoring upgrades: the JDK asks for h2c on every first request, which must not lose its body.

        httptools takes all bytes behind an upgrade for another protocol's. So a new parser gets the head again
        without that line, and then the rest. The request has it all the same.
        """
        pieces: list[bytes | memoryview] = [data]
        while pieces:
            piece = pieces.pop()
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as exc:
                pieces += [memoryview(piece)[exc.args[0] :], self._head_without_upgrade()]
                self._parser = httptools.HttpRequestParser(self)

    def _head_without_upgrade(self) -> bytes:
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), bytes(self._url), version)]
        lines += [b"%b: %b" % header for header in self._headers if header[0] != b"upgrade"]
        self._upgrade = [header for header in self._headers if header[0] == b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _check_size(self, headers: list[Header]) -> None:
        # Adding up is needed only where more bytes than the limit have come.
        large = self._pending > self._max_bytes and self._size(headers) > self._max_bytes
        if large or len(headers) > self._max_lines:
            raise BadRequest(431, _TOO_LARGE)

    def _size(self, headers: list[Header]) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers)


def _split(url: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request's target, as they came. BadRequest where it has no path."""
    if url.startswith(b"/"):
        target, _, query = url.partition(b"#")[0].partition(b"?")
        return target, query
    try:
        parsed = httptools.parse_url(url)  # http://host/path, as to a proxy; or *
    except httptools.HttpParserError as exc:
        raise BadRequest(400, _INVALID) from exc
    if parsed.path is None:
        raise BadRequest(400, _INVALID)
    return parsed.path, parsed.query or b""


def _check_codings(headers: list[Header], version: str) -> None:
    """BadRequest where a body does not end with its last chunk, or would have to be decoded (RFC 9112, 6.1 and 6.3)."""
    named = b",".join(value for name, value in headers if name == b"transfer-encoding").lower().split(b",")
    codings = [coding for one in named if (coding := one.strip(b" \t"))]
    if version == "1.0" or codings[-1:] != [b"chunked"] or b"chunked" in codings[:-1]:
        raise BadRequest(400, "the body of a request has a length or is chunked")
    if len(codings) > 1:
        raise BadRequest(501, "chunked is the only transfer coding")


def _reason(error: httptools.HttpParserError) -> BaseException:
    """The exception of a callback, or else BadRequest for httptools' error."""
    return error.__context__ or BadRequest(400, _INVALID)
