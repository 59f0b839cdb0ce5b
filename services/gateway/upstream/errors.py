"""Translates httpx's errors into ours: one table for both paths.

The class decides what the exchange does; `cause` is a machine word for the books. The errors behind an error are looked
at first, because httpx makes one of a refused connection, a bad certificate and an unknown host.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx

from services.gateway.upstream.connection import ClosedEarly
from shared.runtime.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError, OSError)

Table = tuple[tuple[type[BaseException], str], ...]  # the first class that fits counts

_LIMITS: Table = (
    (httpx.PoolTimeout, "pool_timeout"),
    (httpx.ConnectTimeout, "connect_timeout"),
    (httpx.WriteTimeout, "write_timeout"),
)
_BEHIND: Table = (
    (ssl.SSLError, "tls"),
    (socket.gaierror, "dns"),
    (UnicodeError, "dns"),  # a host name that cannot be encoded
    (ConnectionRefusedError, "connect_refused"),
    (ConnectionError, "reset"),
)
_KINDS: Table = (
    (httpx.ProxyError, "proxy"),
    (httpx.ConnectError, "connect_failed"),
    (ClosedEarly, "closed_early"),
    (httpx.RemoteProtocolError, "protocol"),
    (httpx.NetworkError, "reset"),
    (OSError, "reset"),
    (httpx.LocalProtocolError, "request"),
    (httpx.UnsupportedProtocol, "request"),
    (httpx.InvalidURL, "request"),
)
# The messages of httpcore and h11 for an early end, for which they have no class.
_CLOSED = ("Server disconnected", "peer closed connection")
# Where several addresses were tried, asyncio and uvloop keep only the texts of the errors.
_REFUSED = ("Connection refused", "Connect call failed")


def translate(error: Exception, *, begun: bool) -> UpstreamError:
    """Our error for one of `TRANSPORT_ERRORS`. `begun`: the head of the answer had arrived."""
    if isinstance(error, httpx.TimeoutException):
        kind: type[UpstreamError] = UpstreamTimeout
    else:
        kind = UpstreamBroken if begun else UpstreamUnreachable
    return kind(type(error).__name__, cause=_cause(error, begun=begun))


def _cause(error: Exception, *, begun: bool) -> str:
    if isinstance(error, httpx.TimeoutException):
        return _found(_LIMITS, error) or ("idle_timeout" if begun else "first_byte_timeout")
    for behind in _chain(error):
        if word := _found(_BEHIND, behind):
            return word
        if isinstance(behind, OSError) and any(text in str(behind) for text in _REFUSED):
            return "connect_refused"
    if str(error).startswith(_CLOSED):
        return "closed_early"
    return _found(_KINDS, error) or "unknown"


def _found(table: Table, error: BaseException) -> str | None:
    return next((word for kind, word in table if isinstance(error, kind)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and every error behind it: its arguments, the members of a group (one for each address), its cause and
    context. httpcore suppresses the context, but passes the error as an argument."""
    while error is not None:
        yield error
        held = error.exceptions if isinstance(error, BaseExceptionGroup) else error.args
        for inner in held:
            if isinstance(inner, BaseException):
                yield from _chain(inner)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
