"""TCP sockets as every service wants them: kept alive, and bound to addresses of either family."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Any

from shared.runtime.errors import SettingsError

# NAT gateways and load balancers forget a connection after one to six minutes of silence, and a model may think longer.
# A peer that has vanished is noticed after two minutes.
IDLE_SECONDS = 45
INTERVAL_SECONDS = 15
PROBES = 5

_EVERYWHERE = ("", "::")  # all addresses of this machine, of both families
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # such as where IPv6 is switched off


def keep_alive(sock: socket.socket) -> None:
    """Let the kernel probe a peer that is silent. Nothing happens to a socket that is closed or is not TCP.

    What a listening socket accepts inherits it (Linux and the BSDs).
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):
        for option in keep_alive_options():
            sock.setsockopt(*option)


def keep_alive_options() -> list[tuple[int, int, int]]:
    """The same as arguments of `setsockopt`."""
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # the second is macOS's name
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_SECONDS),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
    ]
    return options if idle is None else [*options, (socket.IPPROTO_TCP, idle, IDLE_SECONDS)]


def bound(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Sockets bound to every address of `host`, which do not listen yet; what they accept is kept alive.

    `::` and "" stand for all addresses, of both families. `shared`: with other processes of this user that say so, too
    (SO_REUSEPORT); the system spreads new connections over those that listen.

    OSError where an address is taken, or none is this machine's.
    """
    everywhere = host in _EVERYWHERE
    made: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in _everywhere(port) if everywhere else _addresses(host, port):
            try:
                made.append(_bound(family, address, shared=shared))
            except OSError as exc:
                if exc.errno not in _NO_SUCH_ADDRESS:
                    raise
                missing = exc
            if made and everywhere:
                return made  # the socket for IPv6 takes IPv4, too
        if not made and missing is not None:
            raise missing
    except OSError:
        for sock in made:
            sock.close()
        raise
    return made


def claimed(setting: str, host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """The same for a server. SettingsError, which names the setting, where it cannot listen there."""
    try:
        return bound(host, port, shared=shared)
    except OSError as exc:
        shown = f"[{host}]" if ":" in host else host
        raise SettingsError(f"{setting}: cannot listen on {shown}:{port}: {exc.strerror}") from None


def _everywhere(port: int) -> list[tuple[int, Any]]:
    return [(socket.AF_INET6, ("::", port)), (socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104  # it is what is wanted


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def _bound(family: int, address: Any, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        keep_alive(sock)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
