"""The pool in memory: which connection a request gets, when it asks for another try, and what a moved name changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from services.gateway.upstream.connection import Connection, Unheard
from services.gateway.upstream.pool import Ages, Pool
from tests.support.wire import Wire

ORIGIN = ("http", "provider.test", 80)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
OLD = Ages(idle=60, name=0)  # every connection counts as old
YOUNG = Ages(idle=60, name=60)


class Dialer:
    """Connects in memory, to the address that the name has."""

    def __init__(self) -> None:
        self.address = "192.0.2.1"
        self.wires: list[Wire] = []
        self.lookups = 0
        self.fails: Exception | None = None

    async def connect(self, make: Callable[[], Connection], place: tuple[str, int], *, secure: bool) -> Connection:
        assert (place, secure) == (ORIGIN[1:], False)
        if self.fails is not None:
            raise self.fails
        connection, wire = make(), Wire(self.address)
        connection.connection_made(wire)
        wire.connection = connection
        self.wires.append(wire)
        return connection

    async def moved(self, place: tuple[str, int], address: str) -> bool:
        assert place == ORIGIN[1:]
        self.lookups += 1
        return address != self.address


class Play:
    """A pool, and its requests."""

    def __init__(self, ages: Ages = YOUNG) -> None:
        self.dialer = Dialer()
        self.pool = Pool(cast("Any", None), 10, ages, tick=60, dialer=cast("Any", self.dialer))

    async def asked(self, *, fresh: bool = False) -> asyncio.Task[Connection]:
        opening = self.pool.open(ORIGIN, b"POST", b"head", b"body", {"connect": 5, "read": 5}, fresh=fresh)
        task = self.pool.loop.create_task(opening)
        for _ in range(5):
            await asyncio.sleep(0)
        return task

    async def answered(self, *, fresh: bool = False) -> Wire:
        """Ask, answer and give back; the wire that it went over."""
        before = [len(wire.sent) for wire in self.dialer.wires]
        task = await self.asked(fresh=fresh)
        [wire] = [wire for wire, sent in zip(self.dialer.wires, [*before, 0], strict=False) if len(wire.sent) > sent]
        self.connection_of(wire).data_received(OK)
        (await task).release()
        return wire

    def connection_of(self, wire: Wire) -> Connection:
        return cast("Connection", wire.connection)

    def close(self) -> None:
        for wire in self.dialer.wires:
            if not wire.lost:
                wire.lost = True
                self.connection_of(wire).connection_lost(None)
        self.pool.close()
        assert len(self.pool) == 0


@pytest.mark.parametrize("lost", [None, ConnectionResetError(), BrokenPipeError()])
async def test_an_idle_connection_that_closes_under_a_request(lost: Exception | None) -> None:
    play = Play()
    first = await play.answered()
    task = await play.asked()
    first.lost = True
    play.connection_of(first).connection_lost(lost)
    with pytest.raises(Unheard) as unheard:
        await task
    assert isinstance(unheard.value.__cause__, httpx.TransportError)
    assert await play.answered() is not first
    play.close()


async def test_a_new_connection_that_closes_is_no_such_case() -> None:
    play = Play()
    task = await play.asked()
    [wire] = play.dialer.wires
    wire.lost = True
    play.connection_of(wire).connection_lost(None)
    with pytest.raises(httpx.RemoteProtocolError):
        await task
    play.close()


async def test_a_part_of_an_answer_is_no_such_case() -> None:
    play = Play()
    wire = await play.answered()
    task = await play.asked()
    play.connection_of(wire).data_received(b"H")
    wire.lost = True
    play.connection_of(wire).connection_lost(None)
    with pytest.raises(httpx.RemoteProtocolError):
        await task
    play.close()


async def test_a_fresh_connection_is_a_new_one_though_others_are_idle() -> None:
    play = Play()
    first = await play.answered()
    assert await play.answered() is first
    assert await play.answered(fresh=True) is not first
    play.close()


async def test_a_name_that_moves_takes_its_old_connections_along() -> None:
    play = Play(OLD)
    first = await play.answered()
    assert await play.answered() is first
    assert play.dialer.lookups == 1
    play.dialer.address = "192.0.2.2"
    second = await play.answered()
    assert (second is not first, first.aborted) == (True, True)
    assert await play.answered() is second
    play.close()


async def test_a_young_connection_is_used_without_a_lookup() -> None:
    play = Play()
    first = await play.answered()
    play.dialer.address = "192.0.2.2"
    assert await play.answered() is first
    assert play.dialer.lookups == 0
    play.close()


@pytest.mark.parametrize(
    ("fails", "error"),
    [
        (OSError("x"), httpx.ConnectError),
        (UnicodeError("x"), httpx.ConnectError),
        (TimeoutError(), httpx.ConnectTimeout),
    ],
)
async def test_a_connection_that_fails_leaves_its_place_to_others(
    fails: Exception, error: type[httpx.TransportError]
) -> None:
    play = Play()
    play.dialer.fails = fails
    for _ in range(20):  # more often than the pool has places
        with pytest.raises(error):
            await (await play.asked())
    play.dialer.fails = None
    await play.answered()
    play.close()


async def test_a_retired_pool_keeps_nothing_and_cuts_nothing() -> None:
    play = Play()
    idle = await play.answered()
    first, second = await play.asked(fresh=True), await play.asked(fresh=True)
    busy, late = play.dialer.wires[1:]
    play.pool.retire()
    assert [wire.aborted for wire in (idle, busy, late)] == [True, False, False]
    play.connection_of(busy).data_received(OK)
    connection = await first
    assert (connection.take(), busy.is_closing()) == (b"ok", False)
    connection.release()
    assert busy.is_closing()
    play.connection_of(late).data_received(OK)
    (await second).release()
    again = await play.answered(fresh=True)  # an exchange that began before tries again
    assert again.aborted
    play.close()
