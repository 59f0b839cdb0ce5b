"""One exchange in memory: a client, a provider and a clock that do what a script says, word by word.

In the manner of mitmproxy's playbook: no socket, no time, and every state can be reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from services.gateway.attempt_settings import AttemptSettings
from services.gateway.attempts import Candidate, Plan
from services.gateway.client.headers import Header
from services.gateway.client.request import ClientListener
from services.gateway.exchange import Call, Exchange, Limits
from services.gateway.observers import Observer, Summary
from services.gateway.retries import Retries
from services.gateway.routing.authenticators import Fixed
from services.gateway.upstream.connection import Body, Sink
from shared.contract.dialects import Family
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Head, Outcome
from shared.runtime.errors import Refused, UploadBroken, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable

LIMITS = Limits(total=100.0, idle=10.0, read_on=20.0, read_on_bytes=8)


class Clock:
    """Seconds that pass when the script says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """The client's side. `seen` records the calls on it."""

    def __init__(self) -> None:
        self.untaken = 0  # bytes
        self.target = b"/v1/x"
        self.seen: list[str] = []
        self.headers: dict[bytes, bytes] = {}
        self.listener: ClientListener | None = None
        self.is_full = False

    def attach(self, listener: ClientListener) -> None:
        self.listener = listener

    def close_after(self) -> None:
        self.seen.append("last")

    def detach(self) -> None:
        self.listener = None

    def start(self, status: int, headers: list[Header]) -> None:
        self.headers = dict(headers)
        self.seen.append(f"head {status}")

    def write(self, body: bytes) -> None:
        self.seen.append(body.decode())

    async def writable(self) -> None:
        while self.is_full and self.listener is not None:
            await asyncio.sleep(0)

    def finish(self) -> None:
        self.seen.append("end")

    def respond(self, status: int, headers: list[Header], body: bytes) -> None:
        self.headers = dict(headers)
        self.seen.append(f"whole {status}")

    def abort(self, *, flush: bool) -> None:
        self.seen.append("abort, flushed" if flush else "abort")


class Answer:
    """A provider's answer; its body comes with `words`."""

    status = 200

    def __init__(self, whole: bytes | None = None) -> None:
        self.headers: list[Header] = [(b"Content-Type", b"text/event-stream"), (b"X-Request-Id", b"req-1")]
        self.words: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.ended = whole is not None
        self.paused = self.closed = False
        self._whole = whole

    def whole(self) -> bytes | None:
        return self._whole

    async def beginning(self, most: int, seconds: float) -> bytes:
        return (self._whole or b"")[:most]

    async def relay(self, sink: Sink, idle_timeout: float) -> None:
        assert idle_timeout <= LIMITS.idle
        while (word := await self.words.get()) is not None:
            if isinstance(word, Exception):
                raise word
            while self.paused:
                await asyncio.sleep(0)
            sink(word)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True


class Upstream:
    """Answers when the script says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Header]]] = []
        self.fresh: list[bool] = []  # of each request, whether it wants a new connection
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Answer] = self._loop.create_future()

    async def send(
        self,
        provider: str,
        method: str,
        url: str,
        query: bytes,
        headers: list[Header],
        body: Body,
        *,
        fresh: bool = False,
    ) -> Answer:
        self.asked.append((provider, headers))
        self.fresh.append(fresh)
        try:
            return await self._answer
        finally:
            self._answer = self._loop.create_future()

    def answer(self, answer: Answer | Exception) -> None:
        if isinstance(answer, Exception):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)


class Tap:
    """A tap that keeps its calls."""

    def __init__(self) -> None:
        self.id = ExchangeId(new_boot(), 0, 0)
        self.name = str(self.id)
        self.bytes = self.lost = 0
        self.heads: list[Head] = []
        self.body = b""
        self.ends: list[End] = []
        self.requests: list[bytes | None] = []

    @property
    def so_far(self) -> int:
        return len(self.body)

    def head(self, head: Head) -> None:
        self.heads.append(head)

    def feed(self, chunk: bytes) -> None:
        self.body += chunk

    def end(self, end: End, request: bytes | None, *, relayed: int | None = None) -> None:
        self.ends.append(end)
        self.requests.append(request)


class Watching(Observer):
    """An observer that keeps the summaries."""

    def __init__(self) -> None:
        self.summaries: list[Summary] = []

    def ended(self, summary: Summary) -> None:
        self.summaries.append(summary)


@dataclass
class Plane:
    """The data plane around the exchange."""

    upstream: Upstream
    observer: Watching = field(default_factory=Watching)
    limits: Limits = LIMITS
    retries: Retries = field(default_factory=lambda: Retries(AttemptSettings()))
    send_generation_id: bool = True
    room: bool = True  # for one more upstream that is read on

    def may_read_on(self) -> bool:
        return self.room

    def inward(self, provider: str, url: str) -> str | None:
        own = "https://provider/"
        return f"/{provider}/{url.removeprefix(own)}" if url.startswith(own) else None


class TwoPlaces(Plan):
    """A plan with a second candidate."""

    def __init__(self, first: Candidate, second: Candidate) -> None:
        super().__init__(first)
        self._second: Candidate | None = second

    def more(self, now: float) -> bool:
        return self._second is not None

    def another(self, *, elsewhere: bool, now: float) -> Candidate | None:
        second, self._second = self._second, None
        return second


class Stage:
    """One running exchange, with everything around it."""

    def __init__(
        self,
        *,
        read_on: bool = False,
        room: bool = True,
        keep_body: bool = False,
        second: bool = False,
        attempts: AttemptSettings | None = None,
    ) -> None:
        """`second`: there is another candidate; `attempts`: the policy."""
        self.clock, self.client, self.tap, self.given = Clock(), Client(), Tap(), Answer()
        self.plane = Plane(Upstream(), room=room, retries=Retries(attempts or AttemptSettings()))
        candidate = Candidate(
            "openai",
            "gpt",
            "",
            "POST",
            "https://provider/v1/x",
            b"",
            [(b"a", b"b")],
            b"request",
            Fixed(),
            read_on=read_on,
        )
        other = msgspec.structs.replace(
            candidate, provider="azure", model="gpt-4o", credential="spare", url="https://other/openai/v1/x"
        )
        plan = TwoPlaces(candidate, other) if second else Plan(candidate)
        self._call = Call(plan, Family.OPENAI, True, keep_body, self.plane, [])
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> Outcome:
        self.exchange = Exchange(
            self._call,
            cast("Any", self.tap),
            cast("Any", self.client),
            self.plane,
            arrived=self.clock.now - 1,
            clock=self.clock,
        )
        outcome = await self.exchange.run()
        assert self._task.cancelling() == 0, "the cancellation of an exchange that ends early must not reach its caller"
        return outcome

    async def act(self, script: str) -> None:
        """Do what the words say, one after the other; those with a + between them in one turn of the loop."""
        await _turns()
        for words in script.split():
            for word in words.split("+"):
                self._do(word)
            await _turns()

    async def play(self, script: str) -> Outcome:
        """Do what the words say; the exchange must have ended then. Returns its outcome."""
        await self.act(script)
        assert self._task.done(), f"it has not ended after {script!r}"
        return await self._task

    def _do(self, word: str) -> None:
        if word in _NO_ANSWER:
            self.plane.upstream.answer(_NO_ANSWER[word]())
        elif word in ("answer", "whole"):
            self.given = Answer(b"body") if word == "whole" else self.given
            self.plane.upstream.answer(self.given)
        elif word == "end":
            self.given.ended = True
            self.given.words.put_nowait(None)
        elif word in _ENDINGS:
            self.given.words.put_nowait(_ENDINGS[word]())
        elif word in _CUTS:
            self.exchange.end_early(Outcome.TIMED_OUT, _CUTS[word])
        elif word == "cancel":
            self.exchange.cancel()
        elif word == "shutdown":
            self._task.cancel()
        elif word in ("leave", "full", "ready"):
            self._client_does(word)
        else:
            self.given.words.put_nowait(word.encode())

    def _client_does(self, word: str) -> None:
        listener = self.client.listener
        assert listener is not None
        self.client.is_full = word == "full"
        {"leave": listener.client_gone, "full": listener.client_full, "ready": listener.client_ready}[word]()


def _stale() -> Exception:
    error = UpstreamUnreachable("it closed the connection", "closed_early")
    error.again = True
    return error


_NO_ANSWER: dict[str, Callable[[], Exception]] = {
    "stale": _stale,
    "unreachable": lambda: UpstreamUnreachable("nobody there", "connect_refused"),
    "unanswered": lambda: UpstreamTimeout("no head", "first_byte_timeout"),
    "nonsense": ZeroDivisionError,
    "unsent": lambda: UploadBroken("client_gone", None),
    "halted": lambda: UploadBroken("body_timeout", Refused(408, "late")),
    "overlong": lambda: UploadBroken("body_too_large", Refused(413, "large")),
}
_ENDINGS: dict[str, Callable[[], Exception]] = {
    "break": lambda: UpstreamBroken("reset", "reset"),
    "silence": lambda: UpstreamTimeout("silent", "idle_timeout"),
    "bug": ZeroDivisionError,
}
_CUTS = {"late": "total_timeout", "slow": "slow_reader"}


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
