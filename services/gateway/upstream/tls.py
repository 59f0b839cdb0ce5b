"""TLS to the providers. Sessions are resumed, which makes the handshake of a new connection much cheaper."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from shared.runtime.files import read

_HOSTS = 256


class ResumingContext(ssl.SSLContext):
    """A client's context that keeps one session per host, because asyncio and uvloop cannot pass one."""

    _sessions: dict[str, ssl.SSLSession]

    def remember(self, host: str, connection: ssl.SSLObject) -> None:
        """Keep the connection's session. With TLS 1.3 there is one only after the first bytes of an answer."""
        session = connection.session
        if session is not None and session.has_ticket:
            if len(self._sessions) >= _HOSTS:
                self._sessions.clear()
            self._sessions[host] = session

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # as in ssl
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        known = self._sessions.get(str(server_hostname))
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session or known)


class Files(NamedTuple):
    """PEM files of one provider; None for none."""

    ca: Path | None = None  # certificate authorities beside the system's
    cert: Path | None = None  # what we show
    key: Path | None = None  # its key; None: in the same file


def client_context(files: Files = Files()) -> ResumingContext:  # noqa: B008  # immutable
    """As `ssl.create_default_context`: certificates and host names are checked against the system's roots.

    OSError or ssl.SSLError where a file cannot be used.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context._sessions = {}  # noqa: SLF001  # SSLContext.__new__ takes no further arguments
    context.load_default_certs()
    for file in filter(None, files):
        read(file)  # OpenSSL would read what has no end, too
    if files.ca is not None:
        context.load_verify_locations(files.ca)
    if files.cert is not None:
        context.load_cert_chain(files.cert, files.key, password="")  # without one OpenSSL asks a terminal
    return context
