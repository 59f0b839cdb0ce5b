"""One socket in memory: who ends it, which limits hold, what each side sees, and what its records say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from services.gateway.attempts import Candidate, Plan
from services.gateway.client.headers import Header
from services.gateway.exchange import Call
from services.gateway.routing.authenticators import Fixed
from services.gateway.upstream.switching import Switchboard
from services.gateway.websocket.exchange import SocketExchange
from services.gateway.websocket.guard import Guard
from shared.contract.dialects import Dialect, Family
from shared.contract.messages import Messages, SocketMessage
from shared.contract.tail import Head, Outcome
from shared.runtime.errors import UpstreamUnreachable
from tests.support import playbook
from tests.support.frames import frame, sent
from tests.support.playbook import LIMITS, Clock, Plane, Tap, Upstream

CLOSE = b"\x03\xe8"
DONE, GONE, FAILED, LATE, DRAINED, CANCELLED = (
    Outcome.COMPLETED,
    Outcome.CLIENT_GONE,
    Outcome.UPSTREAM_FAILED,
    Outcome.TIMED_OUT,
    Outcome.DRAINED,
    Outcome.CANCELLED,
)


class Client(playbook.Client):
    """The client's side of a socket: also the writer that its bytes go into."""

    def __init__(self) -> None:
        super().__init__()
        self.closes = False
        self.got = b""
        self.paused = False
        self.received: Callable[[bytes], None] | None = None

    def switch(self, headers: list[Header], received: Callable[[bytes], None]) -> Client:
        self.headers, self.received = dict(headers), received
        return self

    def write(self, body: bytes) -> None:
        self.got += body

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


class Answer(playbook.Answer):
    """A 101, and the provider's side of the socket."""

    status = 101

    def __init__(self) -> None:
        super().__init__()
        self.headers = [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", b"x"), (b"Content-Length", b"0")]
        self.got = b""
        self.board: Switchboard

    def switch(self, board: Switchboard) -> Answer:
        self.board = board
        return self

    def write(self, data: bytes) -> None:
        self.got += data


class Stage:
    """One running socket, with everything around it."""

    def __init__(self, guard: Guard | None = None) -> None:
        self.clock, self.client, self.tap, self.answer = Clock(), Client(), Tap(), Answer()
        self.upstream = Upstream()
        plane = Plane(self.upstream)
        plane.socket_room = 100_000  # type: ignore[attr-defined]
        candidate = Candidate("openai", "m", "", "GET", "https://provider/v1/realtime", b"", [], b"", Fixed())
        call = Call(Plan(candidate), Family.OPENAI, True, False, plane, [])

        async def run() -> Outcome:
            self.exchange = SocketExchange(
                call, cast("Any", self.tap), cast("Any", self.client), cast("Any", plane), 999.0, guard, self.clock
            )
            return await self.exchange.run()

        self._task = asyncio.get_running_loop().create_task(run())

    async def begin(self) -> None:
        await turns()
        self.upstream.answer(self.answer)
        await turns()

    def comes(self, data: bytes) -> None:
        self.answer.board.came(data)

    def sends(self, data: bytes) -> None:
        assert self.client.received is not None
        self.client.received(data)

    async def passes(self, seconds: float) -> None:
        """The watchdog looks at it now, and again after these seconds."""
        self.exchange.end_late(self.clock.now, self.clock.now - 4)
        self.clock.now += seconds
        self.exchange.end_late(self.clock.now, self.clock.now - 4)
        await turns()

    @property
    def running(self) -> bool:
        return not self._task.done()

    def stop(self) -> None:
        """The drain is over."""
        self._task.cancel()

    async def ended(self) -> tuple[Outcome, str]:
        await turns()
        assert self._task.done()
        [end] = self.tap.ends
        assert await self._task is end.outcome
        assert self.answer.closed
        return end.outcome, end.cause

    @property
    def told(self) -> int:
        """The status of the close frame that ends what the client got; 0 where it got none."""
        at = self.client.got.rfind(b"\x88")
        return int.from_bytes(self.client.got[at + 2 : at + 4], "big") if at >= 0 else 0

    def messages(self) -> list[SocketMessage]:
        return list(Messages().feed(self.tap.body))


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_bytes_pass_at_once_and_messages_are_copied() -> None:
    stage = Stage()
    await stage.begin()
    assert dict(stage.client.headers)[b"upgrade"] == b"websocket"
    assert b"content-length" not in stage.client.headers
    assert stage.tap.heads == [Head(101)]
    down, up = frame(b'{"a":1}'), sent(b'{"b":2}')
    stage.comes(down[:3])
    assert stage.client.got == down[:3]
    stage.comes(down[3:])
    stage.sends(up)
    assert (stage.client.got, stage.answer.got) == (down, up)
    assert stage.messages() == [SocketMessage(False, 7, b'{"a":1}'), SocketMessage(True, 7, b'{"b":2}')]
    stage.sends(sent(CLOSE, 8))
    stage.answer.board.provider_gone(None)
    assert await stage.ended() == (DONE, "")
    assert stage.client.seen == ["abort, flushed"]
    assert stage.tap.ends[0].request_bytes == len(up) + 8
    assert stage.tap.ends[0].status == 101


@pytest.mark.parametrize(
    ("who", "closing", "expected"),
    [
        ("client", False, (GONE, "client_gone")),
        ("client", True, (DONE, "")),
        ("provider", False, (FAILED, "closed_early")),
        ("provider", True, (DONE, "")),
        ("reset", False, (FAILED, "reset")),
        ("reset", True, (DONE, "")),
    ],
)
async def test_who_closes(who: str, *, closing: bool, expected: tuple[Outcome, str]) -> None:
    stage = Stage()
    await stage.begin()
    if closing:
        stage.comes(frame(CLOSE, 8))
    if who == "client":
        assert stage.client.listener is not None
        stage.client.listener.client_gone()
    else:
        stage.answer.board.provider_gone(ConnectionResetError() if who == "reset" else None)
    assert await stage.ended() == expected
    assert stage.told == (1000 if closing else 0)


async def test_a_closing_handshake_that_nobody_completes_ends_after_a_while() -> None:
    stage = Stage()
    await stage.begin()
    stage.sends(sent(CLOSE, 8))
    await stage.passes(9)
    assert stage.running
    await stage.passes(2)
    assert await stage.ended() == (DONE, "")


async def test_silence_ends_it_and_a_ping_is_none() -> None:
    stage = Stage()
    await stage.begin()
    for _ in range(5):
        await stage.passes(LIMITS.idle - 1)
        stage.sends(sent(b"", 9))
    await stage.passes(LIMITS.idle - 1)
    assert stage.running
    await stage.passes(2)
    assert await stage.ended() == (LATE, "idle_timeout")
    assert stage.told == 1001


async def test_the_whole_time_is_limited() -> None:
    stage = Stage()
    await stage.begin()
    stage.comes(frame(b"{}"))
    await stage.passes(LIMITS.total + 1)
    assert await stage.ended() == (LATE, "total_timeout")
    assert stage.told == 1001


async def test_no_close_frame_stands_within_a_frame() -> None:
    stage = Stage()
    await stage.begin()
    stage.comes(frame(b'{"a":1}')[:-1])
    await stage.passes(LIMITS.total + 1)
    assert await stage.ended() == (LATE, "total_timeout")
    assert stage.told == 0


async def test_a_client_that_takes_nothing() -> None:
    stage = Stage()
    await stage.begin()
    assert stage.client.listener is not None
    stage.client.listener.client_full()
    assert stage.answer.paused is True
    await stage.passes(5)
    assert await stage.ended() == (LATE, "slow_reader")
    assert stage.client.seen == ["abort"]


async def test_a_provider_that_takes_nothing() -> None:
    stage = Stage()
    await stage.begin()
    stage.answer.board.provider_full()
    held = [stage.client.paused]
    stage.answer.board.provider_ready()
    held.append(stage.client.paused)
    assert held == [True, False]
    stage.answer.board.provider_full()
    for _ in range(12):
        stage.comes(frame(b"{}"))
        await stage.passes(1)
    assert await stage.ended() == (LATE, "write_timeout")


async def test_at_a_drain_silent_sockets_go_first() -> None:
    quiet, lively = Stage(), Stage()
    for stage in (quiet, lively):
        await stage.begin()
    await quiet.passes(9)
    assert quiet.running
    quiet.client.closes = lively.client.closes = True
    await quiet.passes(2)
    for _ in range(4):
        lively.comes(frame(b"{}"))
        await lively.passes(9)
    assert await quiet.ended() == (DRAINED, "drain")
    assert quiet.told == 1012
    assert lively.running
    lively.stop()
    assert await lively.ended() == (DRAINED, "drain")
    assert lively.told == 1012


async def test_a_socket_that_is_cancelled_is_told_so() -> None:
    stage = Stage()
    await stage.begin()
    stage.comes(frame(b'{"a":1}'))
    assert stage.exchange.relayed == len(frame(b'{"a":1}'))
    assert stage.exchange.cancel()
    assert await stage.ended() == (CANCELLED, "cancelled")
    assert stage.told == 1008
    waiting = Stage()
    await turns()
    assert waiting.exchange.cancel()
    await turns()
    assert waiting.client.seen == ["whole 499"]


async def test_what_a_key_may_not_say_ends_it() -> None:
    stage = Stage(Guard(lambda model: model == "m", Dialect.OPENAI_REALTIME, 1000))
    await stage.begin()
    good = sent('{"session":{"model":"m"}}')
    bad = sent('{"session":{"model":"n"}}')
    stage.sends(good + bad[:-1])
    assert stage.answer.got == good
    stage.sends(bad[-1:] + good)
    stage.sends(good)
    assert await stage.ended() == (GONE, "model_not_allowed")
    assert stage.told == 1008
    assert stage.answer.got == good


async def test_a_provider_that_cannot_be_reached() -> None:
    stage = Stage()
    await turns()
    stage.upstream.answer(UpstreamUnreachable("nobody there", "connect_refused"))
    await turns()
    [end] = stage.tap.ends
    assert (end.outcome, end.cause, end.status) == (FAILED, "connect_refused", None)
    assert stage.client.seen == ["whole 502"]
