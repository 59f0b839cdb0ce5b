"""Sockets: which addresses they take, and that their connections are kept alive."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from shared.runtime import sockets
from shared.runtime.sockets import bound, keep_alive


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[Sequence[socket.socket]]:
    with ExitStack() as stack:
        made = [stack.enter_context(sock) for sock in bound(host, port)]
        for sock in made:
            sock.listen()
        yield made


def answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), 10).close()
        return True
    return False


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        pytest.param("::1", {"::1"}, marks=needs_ipv6),
        pytest.param("::", {"127.0.0.1", "::1"}, marks=needs_ipv6),
        pytest.param("", {"127.0.0.1", "::1"}, marks=needs_ipv6),
        ("0.0.0.0", {"127.0.0.1"}),
    ],
)
def test_addresses(host: str, taken: set[str]) -> None:
    with listening(host) as [one]:
        assert {address for address in ("127.0.0.1", "::1") if answers(address, one.getsockname()[1])} == taken


def test_a_name_stands_for_each_of_its_addresses() -> None:
    with listening("localhost") as made:
        known = {info[4][0] for info in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
        taken = {sock.getsockname()[0] for sock in made}
        assert taken
        assert taken <= known


def test_an_address_that_is_taken_is_an_error() -> None:
    with listening("127.0.0.1") as [one], pytest.raises(OSError, match="in use"):
        bound("127.0.0.1", one.getsockname()[1])


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        bound("192.0.2.7", 0)


def test_what_is_accepted_is_kept_alive() -> None:
    with listening("127.0.0.1") as [one]:
        with socket.create_connection(one.getsockname(), 10):
            accepted, _ = one.accept()
            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == sockets.INTERVAL_SECONDS
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == sockets.PROBES


def test_what_is_no_tcp_socket_is_left_alone() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        keep_alive(one)
    keep_alive(one)  # nor is a closed one an error
