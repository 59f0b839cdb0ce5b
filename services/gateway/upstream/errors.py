"""What goes wrong with a provider, as our errors: one table for both paths, both of which speak httpx's errors.

The class says what the exchange does about it; `cause` is a word for the books and for people. The errors behind the
error are asked first, because httpx folds a refused connection, a bad certificate and an unknown host into one.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx

from services.gateway.upstream.connection import ClosedEarly
from shared.runtime.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError, OSError)

Table = tuple[tuple[type[BaseException], str], ...]  # the first class that fits

_LIMITS: Table = (
    (httpx.PoolTimeout, "pool_timeout"),
    (httpx.ConnectTimeout, "connect_timeout"),
    (httpx.WriteTimeout, "write_timeout"),
)
_BEHIND: Table = (
    (ssl.SSLError, "tls"),
    (socket.gaierror, "dns"),
    (UnicodeError, "dns"),  # a host name that cannot even be asked for
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
# What httpcore and h11 call an end before the end; they have no class for it.
_CLOSED = ("Server disconnected", "peer closed connection")
# Several addresses were tried; asyncio and uvloop then keep the texts of the errors alone.
_REFUSED = ("Connection refused", "Connect call failed")


def translate(error: Exception, *, begun: bool) -> UpstreamError:
    """Our error for one of `TRANSPORT_ERRORS`. `begun`: the answer's head was here."""
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
    """The error, what it was raised from or within, and what it holds: httpcore cuts the chain, but wraps the error;
    a group holds the attempts at several addresses."""
    while error is not None:
        yield error
        held = error.exceptions if isinstance(error, BaseExceptionGroup) else error.args
        for inner in held:
            if isinstance(inner, BaseException):
                yield from _chain(inner)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
