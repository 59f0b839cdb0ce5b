"""Requests out of a client's bytes: httptools, with the bounds it lacks. No I/O, and no clock."""

from __future__ import annotations

from typing import Any, Protocol

import httptools

from services.gateway.client.body_stream import BodyStream
from services.gateway.client.headers import Header


class BadRequest(Exception):
    """Bytes that are not a request we take."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Sink(Protocol):
    """Takes the requests, in order."""

    def begun(
        self, method: str, target: bytes, query: bytes, headers: list[Header], version: str, *, keep_alive: bool
    ) -> BodyStream:
        """A head is complete; the body goes into what this returns."""


_INVALID = "invalid HTTP request"
_TOO_LARGE = "the request head is too large"


class RequestParser:
    """One connection's. `feed` it what comes; it calls its sink."""

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
        "_url",
        "in_head",
    )

    def __init__(self, sink: Sink, max_bytes: int, max_lines: int) -> None:
        """`max_bytes`, `max_lines`: of a head, and of anything else that neither ends nor is body."""
        self._sink = sink
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._pending = 0  # bytes fed without a head being complete or a body growing
        self._last = False
        self._deaf = False
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[Header] = []
        self._body: BodyStream | None = None
        self.in_head = False  # whether a head has begun and is not complete

    def feed(self, data: bytes) -> None:
        """Raises BadRequest; nothing is parsed any more then."""
        if self._deaf:
            return
        # The parser shows a header, or a trailer, only when it is whole, so that an endless one is counted here.
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
        """Let go of everything: parser and callbacks hold each other."""
        self._deaf = True
        self._parser = self._body = None

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self._last:
            self._deaf = True
            raise BadRequest(400, _INVALID)  # heard by nobody
        self.in_head = True
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade() and parser.get_method() != b"CONNECT":
            return  # the head comes again, without the upgrade
        # A trailer is none of the request's headers, and could pass for one: the list it goes to is nobody's.
        headers, self._headers = self._headers, []
        self._check_size(headers)
        self._pending = 0
        version = parser.get_http_version()
        if version != "1.0" and [name for name, _ in headers].count(b"host") != 1:
            raise BadRequest(400, "exactly one Host header is needed")
        target, query = _split(self._url)
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
            return  # of an upgrade
        self._pending = 0
        if self._body is not None:
            self._body.end()
        self._deaf = self._last  # whatever follows is read past, and is no error

    def _parse(self, data: bytes) -> None:
        """An upgrade nobody serves must not cost the request its body: the JDK asks for h2c on every first request.

        httptools takes whatever follows an upgrade for another protocol's, and cannot be told otherwise, so that a
        new parser gets the head again without that line, and then the rest.
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
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, version)]
        lines += [b"%b: %b" % header for header in self._headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _check_size(self, headers: list[Header]) -> None:
        # Most heads are known to fit without being added up: no more has come.
        large = self._pending > self._max_bytes and self._size(headers) > self._max_bytes
        if large or len(headers) > self._max_lines:
            raise BadRequest(431, _TOO_LARGE)

    def _size(self, headers: list[Header]) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers)


def _split(url: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request's target, percent-encoded as they came."""
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


def _reason(error: httptools.HttpParserError) -> BaseException:
    """What a callback raised, or what httptools has to say."""
    return error.__context__ or BadRequest(400, _INVALID)
