"""The server side of HTTP in memory: how a connection ends whose client does not read, or does not stop sending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.gateway.client.request import ClientRequest
from services.gateway.client.waiting import Limits
from tests.support.memory_client import (
    CHUNKED,
    GET,
    LIMITS,
    Draining,
    MemoryClient,
    Script,
    post,
    settled,
    sized,
    statuses,
)

LAST = GET.replace(b"host", b"connection: close\r\nhost")
WHOLE = [lambda request: request.respond(200, [], b"fine")]
START = [lambda request: request.start(200, []), lambda request: request.write(b"he")]
ABORT = [lambda request: request.abort(flush=True)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


# How an answer ends whose last bytes the client does not take.
UNREAD: dict[str, tuple[bytes, list[Any]]] = {
    "and the connection stays": (GET, WHOLE),
    "and the connection ends": (LAST, WHOLE),
    "in the middle": (GET, [*START, *ABORT]),
    "with another request behind it": (GET + GET, WHOLE),
}


@pytest.mark.parametrize("name", UNREAD)
async def test_who_takes_nothing_of_its_answer_is_given_up(name: str) -> None:
    sent, calls = UNREAD[name]
    short, usual = (
        MemoryClient(Script(*calls).handle, LIMITS._replace(slow_reader_timeout=limit)) for limit in (0.02, 600.0)
    )
    for client in (short, usual):
        client.transport.unsent = 10
        await client.send(sent)
    await until(lambda: short.transport.aborted)
    assert (short.unread, usual.unread, usual.transport.aborted) == (1, 0, False)


async def test_who_has_taken_it_in_the_end_is_idle() -> None:
    client = MemoryClient(Script(*WHOLE).handle, LIMITS._replace(slow_reader_timeout=0.02, keep_alive_timeout=0.02))
    client.transport.unsent = 9
    await client.send(GET)
    client.transport.unsent = 0
    await until(client.closed)
    assert (client.transport.aborted, client.unread) == (False, 0)


@pytest.mark.parametrize("held", [False, True])
async def test_a_drain_does_not_wait_for_who_reads_nothing(held: bool) -> None:
    drain = Draining()
    limits = LIMITS._replace(slow_reader_drain=0.0)
    client = MemoryClient(Script(*WHOLE).handle, limits, drain=drain)
    client.transport.unsent = 10
    if held:
        client.protocol.pause_writing()
    await client.send(GET + GET if held else GET)
    drain.draining = True
    client.protocol.shutdown()
    assert (client.transport.aborted, client.unread) == (True, 1)
    await settled()
    assert not client.server.connections


UPLOAD = post(b"", b"content-length: 1000000")


def refuse(request: ClientRequest) -> None:
    request.respond(401, [(b"connection", b"close")], b"no")


# What is refused while its client still sends.
SENDING: dict[str, tuple[bytes, list[Any], int]] = {
    "a body": (UPLOAD, [refuse], 401),
    "a body in chunks": (post(b"5\r\nhe", CHUNKED), [refuse], 401),
    "a bad chunk": (post(b"zz\r\n", CHUNKED), [], 400),
    "a bad coding": (post(b"", b"transfer-encoding: gzip"), [], 400),
    "a head that is too large": (b"GET /x HTTP/1.1\r\nx: " + b"y" * 400, [], 431),
    "no HTTP": (b"nonsense\r\n\r\n", [], 400),
    "a request behind the last one": (GET + GET, [refuse], 401),
}


@pytest.mark.parametrize("name", SENDING)
async def test_what_a_client_still_sends_is_discarded(name: str) -> None:
    sent, calls, status = SENDING[name]
    script = Script(*calls)
    client = MemoryClient(script.handle)
    await client.send(sent, *[b"x" * 100_000] * 3, GET)
    assert statuses(client.answers) == (status,)
    assert client.transport.ended, "it sees that the answer is over"
    assert not client.transport.is_closing(), "a close would be a reset, which takes the answer from it"
    assert client.transport.is_reading()
    assert len(script.requests) <= 1
    client.leave()
    await settled()
    assert not client.server.connections


@pytest.mark.parametrize("name", ["a request", "a body that is whole"])
async def test_who_has_sent_everything_is_not_waited_for(name: str) -> None:
    client = MemoryClient(Script(refuse).handle)
    await client.send(GET if name == "a request" else sized(b"hello"))
    assert client.transport.is_closing()


@pytest.mark.parametrize(
    "limits",
    [LIMITS._replace(linger_bytes=1000), LIMITS._replace(linger_timeout=0.02), LIMITS._replace(linger_silence=0.02)],
)
async def test_but_not_for_ever(limits: Limits) -> None:
    client = MemoryClient(Script(refuse).handle, limits)
    await client.send(UPLOAD)
    if limits.linger_bytes == 1000:
        client.transport.send(b"x" * 1000)
        assert not client.transport.aborted
        client.transport.send(b"x")
    await until(lambda: client.transport.aborted)
    assert (statuses(client.answers), client.unread) == ((401,), 0)


async def test_a_drain_lingers_no_longer_than_a_moment() -> None:
    drain = Draining()
    client = MemoryClient(Script(refuse).handle, LIMITS._replace(linger_silence=0.0), drain=drain)
    other = MemoryClient(Script(refuse).handle, drain=drain)
    for one in (client, other):
        await one.send(UPLOAD)
    drain.draining = True
    for one in (client, other):
        one.protocol.shutdown()
    assert (client.transport.aborted, other.transport.aborted) == (True, False)
