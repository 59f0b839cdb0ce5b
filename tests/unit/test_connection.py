"""One connection in memory: its transport is a fake, and its clock is `tick`."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from services.gateway.upstream.connection import BadAnswer, ClosedEarly, Connection, Timeouts
from services.gateway.upstream.parser import State
from tests.support.wire import Wire

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LIMITS: Timeouts = {"read": 2.0, "write": 2.0}  # two ticks


class Pool:
    """The connection's calls on its owner."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.tick = 1.0
        self.given_back: list[bool] = []
        self.forgotten = 0

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        self.given_back.append(reusable)

    def remember(self, host: str, transport: asyncio.Transport) -> None:
        raise AssertionError("not over TLS")

    def forget(self, connection: Connection) -> None:
        self.forgotten += 1


class Play:
    """A connection, and what is done with it."""

    def __init__(self) -> None:
        self.pool, self.wire = Pool(), Wire()
        self.connection = Connection(self.pool, ("http", "x", 80))
        self.connection.connection_made(self.wire)
        self.got: list[bytes] = []

    async def sent(self) -> asyncio.Task[None]:
        task = self.pool.loop.create_task(self.connection.send(b"POST", b"head", b"body", LIMITS))
        await asyncio.sleep(0)
        return task

    async def answered(self, raw: bytes = HEAD) -> None:
        task = await self.sent()
        self.connection.data_received(raw)
        await task

    async def pushed(self) -> asyncio.Task[None]:
        task = self.pool.loop.create_task(self.connection.push(self.got.append, 2.0))
        await asyncio.sleep(0)
        return task

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.connection.tick()


async def test_every_read_reaches_the_sink_in_its_own_turn() -> None:
    play = Play()
    await play.answered(HEAD + b"2\r\nok\r\n")
    assert play.wire.sent == b"headbody"
    task = await play.pushed()
    for n, raw in enumerate([b"1\r\na\r\n", b"1\r\nb\r\n1\r\nc\r\n", b"3\r\nd", b"ef\r\n"], start=2):
        play.connection.data_received(raw)
        assert len(play.got) == n
    play.connection.data_received(b"0\r\n\r\n")
    await task
    assert play.got == [b"ok", b"a", b"bc", b"d", b"ef"]
    play.connection.release()
    assert (play.pool.given_back, play.wire.aborted) == ([True], False)


async def test_a_short_answer_is_taken_whole_and_the_connection_used_again() -> None:
    play = Play()
    for _ in range(3):
        await play.answered(OK)
        assert (play.connection.take(), play.connection.take()) == (b"ok", b"")
        play.connection.release()
    assert (play.pool.given_back, play.wire.aborted) == ([True] * 3, False)


@pytest.mark.parametrize(
    ("rest", "seen", "error"),
    [
        ([b"8\r\nof three\r\n", b"0\r\n\r\n"], b"a body of three", None),
        ([b"8\r\nof three\r\n8\r\nor four\n\r\n"], b"a body of threeo", None),
        ([b"no chunk"], b"a body ", BadAnswer),
        ([None], b"a body ", ClosedEarly),
    ],
    ids=["whole", "enough", "broken", "closed"],
)
async def test_the_beginning_of_a_body_may_be_looked_at_and_stays(
    rest: list[bytes | None], seen: bytes, error: type[Exception] | None
) -> None:
    play = Play()
    await play.answered(HEAD + b"7\r\na body \r\n")
    task = play.pool.loop.create_task(play.connection.beginning(16, 60))
    for part in rest:
        await asyncio.sleep(0)
        assert not task.done()
        if part is None:
            play.connection.connection_lost(None)
        else:
            play.connection.data_received(part)
    assert await task == seen
    pushing = await play.pushed()
    if error is not None:
        with pytest.raises(error):
            await pushing
    else:
        if not play.connection.parser.complete:
            play.connection.data_received(b"0\r\n\r\n")
        await pushing
    assert b"".join(play.got).startswith(seen)


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    play = Play()
    await play.answered(HEAD + b"1\r\na\r\n")
    assert await play.connection.beginning(15, 0) == b"a"
    pushing = await play.pushed()
    play.connection.data_received(b"0\r\n\r\n")
    await pushing
    assert play.got == [b"a"]


async def test_a_sink_that_fails_fails_the_push_even_with_the_last_bytes() -> None:
    for last in (b"2\r\nok\r\n", b"2\r\nok\r\n0\r\n\r\n"):
        play = Play()
        await play.answered()

        def sink(_: bytes) -> None:
            raise ZeroDivisionError

        task = play.pool.loop.create_task(play.connection.push(sink, 2.0))
        await asyncio.sleep(0)
        play.connection.data_received(last)
        with pytest.raises(ZeroDivisionError):
            await task
        play.connection.release()
        assert (play.pool.given_back, play.wire.aborted) == ([False], True)


async def test_silence_counts_from_the_last_read_and_not_while_paused() -> None:
    play = Play()
    await play.answered()
    task = await play.pushed()
    play.ticks(2)
    play.connection.data_received(b"1\r\na\r\n")
    play.ticks(2)
    play.connection.pause()
    play.ticks(9)
    play.connection.resume()
    play.ticks(2)
    await asyncio.sleep(0)
    assert not task.done()
    play.ticks(1)
    with pytest.raises(httpx.ReadTimeout):
        await task
    assert play.wire.aborted


async def test_no_answer_and_a_request_that_cannot_be_sent_are_different_limits() -> None:
    play = Play()
    task = await play.sent()
    play.ticks(3)
    with pytest.raises(httpx.ReadTimeout):
        await task
    play = Play()
    play.connection.pause_writing()
    task = await play.sent()
    play.ticks(3)
    with pytest.raises(httpx.WriteTimeout):
        await task


async def test_a_head_has_one_limit_however_slowly_it_comes() -> None:
    play = Play()
    task = await play.sent()
    for part in (b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 200", b" OK\r\n"):
        play.connection.data_received(part)
        await asyncio.sleep(0)
        play.ticks(1)
    with pytest.raises(httpx.ReadTimeout):
        await task


@pytest.mark.parametrize(("ticks", "raw", "expected"), [(0, b"", True), (1, b"", False), (0, b"H", False)])
async def test_a_connection_that_closes_is_unheard_without_a_byte_and_within_a_second(
    ticks: int, raw: bytes, expected: bool
) -> None:
    for lost in (None, ConnectionResetError()):
        play = Play()
        await play.answered(OK)
        play.connection.release()
        task = await play.sent()
        play.ticks(ticks)
        if raw:
            play.connection.data_received(raw)
        play.connection.connection_lost(lost)
        with pytest.raises(httpx.TransportError):
            await task
        assert play.connection.unheard is expected


async def test_an_idle_connection_expires_and_one_at_work_does_not() -> None:
    play = Play()
    await play.answered(OK)
    play.ticks(9)  # nobody waits for it, and it is somebody's
    play.connection.release()
    play.connection.expire_after(2.0)
    play.ticks(2)
    assert not play.wire.aborted
    play.ticks(1)
    assert play.wire.aborted


async def test_a_body_without_a_sink_is_bounded() -> None:
    play = Play()
    await play.answered(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while not play.wire.paused:
        play.connection.data_received(b"x" * 1000)
        assert play.connection.parser.state is State.BODY
    task = await play.pushed()
    assert 250_000 < len(play.got[0]) < 300_000
    assert (play.wire.paused, task.done()) == (False, False)
    task.cancel()


@pytest.mark.parametrize(("lost", "error"), [(None, ClosedEarly), (ConnectionResetError(), httpx.ReadError)])
@pytest.mark.parametrize("raw", [HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"])
async def test_a_lost_connection_breaks_the_body_off(
    lost: Exception | None, error: type[httpx.TransportError], raw: bytes
) -> None:
    play = Play()
    await play.answered(raw)
    task = await play.pushed()
    play.connection.connection_lost(lost)
    with pytest.raises(error) as broken:
        await task
    assert broken.value.__cause__ is lost
    assert (play.pool.forgotten, play.connection.usable) == (1, False)


async def test_a_body_until_close_ends_with_an_orderly_close_alone() -> None:
    for lost in (None, ConnectionResetError()):
        play = Play()
        await play.answered(b"HTTP/1.1 200 OK\r\n\r\n")
        task = await play.pushed()
        play.connection.data_received(b"so far")
        play.connection.connection_lost(lost)
        if lost is None:
            await task
        else:
            with pytest.raises(httpx.ReadError):
                await task
        assert play.got == [b"so far"]


async def test_what_came_before_a_bad_chunk_is_delivered() -> None:
    play = Play()
    await play.answered(HEAD + b"2\r\nok\r\nzz\r\n")
    task = await play.pushed()
    with pytest.raises(httpx.RemoteProtocolError):
        await task
    assert (play.got, play.wire.aborted) == ([b"ok"], True)


@pytest.mark.parametrize("after", [b"HTTP/1.1 500 Evil\r\n\r\n", b"x"])
async def test_bytes_nobody_asked_for_end_the_connection(after: bytes) -> None:
    play = Play()
    await play.answered(OK)
    play.connection.data_received(after)
    assert play.connection.take() == b"ok"
    play.connection.release()
    assert (play.pool.given_back, play.wire.aborted) == ([False], True)
    play = Play()
    await play.answered(OK)
    play.connection.release()
    play.connection.data_received(after)
    assert play.wire.aborted
