"""Translates httpx's errors into ours: one table for both paths.

The class decides what the exchange does; `cause` is a machine word for the books. The errors behind an error are looked
at first, because httpx makes one of a refused connection, a bad certificate and an unknown host.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

import httpx

from services.gateway.upstream.connection import BadAnswer, ClosedEarly, Unheard
from services.gateway.upstream.head import TOO_LARGE
from shared.runtime.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError, OSError)

Table = tuple[tuple[type[BaseException], str], ...]  # the first class that fits counts

_LIMITS: Table = (
    (httpx.PoolTimeout, "pool_timeout"),
    (httpx.ConnectTimeout, "connect_timeout"),
    (httpx.WriteTimeout, "write_timeout"),
)
_BEHIND: Table = (
    (ssl.SSLCertVerificationError, "certificate"),
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

# What the log says of a cause.
_SAID = {
    "certificate": "its certificate is not accepted",
    "closed_early": "it closed the connection",
    "connect_failed": "no connection to it",
    "connect_refused": "it refused the connection",
    "connect_timeout": "no connection to it in time",
    "dns": "its host name cannot be resolved",
    "first_byte_timeout": "no answer in time",
    "idle_timeout": "it fell silent",
    "pool_timeout": "every connection to it was in use",
    "protocol": "its answer is not HTTP",
    "proxy": "the proxy does not connect to it",
    "request": "the request cannot be sent",
    "reset": "it reset the connection",
    "tls": "the TLS handshake failed",
    "too_large": "the head of its answer is too large",
    "write_timeout": "the request could not be sent in time",
}


def translate(error: Exception, *, begun: bool) -> UpstreamError:
    """Our error for one of `TRANSPORT_ERRORS`. `begun`: the head of the answer had arrived."""
    if isinstance(error, Unheard) and isinstance(error.__cause__, Exception):
        ours = translate(error.__cause__, begun=begun)
        ours.again = True
        return ours
    if isinstance(error, httpx.TimeoutException):
        kind: type[UpstreamError] = UpstreamTimeout
    else:
        kind = UpstreamBroken if begun else UpstreamUnreachable
    cause = _cause(error, begun=begun)
    said, why = _SAID.get(cause, type(error).__name__), _why(error)
    return kind(f"{said}: {why}" if why else said, cause)


def _cause(error: Exception, *, begun: bool) -> str:
    if isinstance(error, httpx.TimeoutException):
        return _found(_LIMITS, error) or ("idle_timeout" if begun else "first_byte_timeout")
    for behind in _chain(error):
        if word := _found(_BEHIND, behind):
            # Before there was a connection nothing was asked, so that nothing can have been paid.
            return "connect_failed" if word == "reset" and isinstance(error, httpx.ConnectError) else word
        if isinstance(behind, OSError) and any(text in str(behind) for text in _REFUSED):
            return "connect_refused"
    if str(error) == TOO_LARGE:
        return "too_large"
    if str(error).startswith(_CLOSED):
        return "closed_early"
    return _found(_KINDS, error) or "unknown"


def _why(error: Exception) -> str:
    """What a library says of an error, in words of its own; "" where it may repeat bytes of a provider, or a URL."""
    for behind in _chain(error):
        if isinstance(behind, BadAnswer):
            return str(behind)
        if isinstance(behind, ssl.SSLCertVerificationError):
            return str(getattr(behind, "verify_message", ""))
        if isinstance(behind, ssl.SSLError):
            return str(getattr(behind, "reason", None) or "")
        if isinstance(behind, OSError) and behind.errno is not None:
            return str(behind.strerror) if isinstance(behind, socket.gaierror) else os.strerror(behind.errno)
    return ""


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
