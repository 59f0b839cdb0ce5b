"""The bytes of a response's head. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from services.gateway.client.headers import Header

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CLOSE: Header = (b"connection", b"close")
CHUNKED: Header = (b"transfer-encoding", b"chunked")

_NO_BODY = (204, 304)


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


def bodiless(method: str, status: int) -> bool:
    """Whether no body follows, whatever the head says (RFC 9112, 6.3)."""
    return method == "HEAD" or status in _NO_BODY


def content_length(headers: Sequence[Header]) -> int | None:
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None


def asks_to_close(headers: Sequence[Header]) -> bool:
    """Whether these headers of a response close the connection."""
    for name, value in headers:  # noqa: SIM110  # every answer comes by, and any() takes twice as long
        if name == b"connection" and b"close" in value.lower():
            return True
    return False


def head(status: int, headers: Sequence[Header], ours: Sequence[Header]) -> bytes:
    """Status line, `headers`, `ours`, and the empty line. RuntimeError where a value holds a line break."""
    lines = [_STATUS_LINES[status]]
    lines += [b"%b: %b\r\n" % header for header in headers]
    lines += [b"%b: %b\r\n" % header for header in ours]
    lines.append(b"\r\n")
    whole = b"".join(lines)
    if whole.count(b"\n") != len(lines) or whole.count(b"\r") != len(lines):
        raise RuntimeError("a header of a response holds a line break")
    return whole
