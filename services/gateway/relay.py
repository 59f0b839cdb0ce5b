"""The relay of one answer: it moves bytes from the provider to the client and the tap (decision 29). It knows neither
JSON nor providers, and adds nothing to a body.

A client that reads slowly pauses the provider. When a client leaves, the provider may be read on for the usage at the
answer's end.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from services.gateway.capture.tap import ExchangeTap
from services.gateway.client.request import ClientRequest
from services.gateway.observers import StopWatch
from services.gateway.upstream.ways import Answer

Clock = Callable[[], float]  # monotonic seconds


class ReadOnExceeded(Exception):
    """More was read on after the client had left than `read_on_bytes` allows."""


class Relay:
    """Moves one answer. It has slots because every chunk comes by: with hundreds of streams each object is cold."""

    __slots__ = (
        "_client",
        "_clock",
        "_limit",
        "_read_on",
        "_tap",
        "_untaken",
        "_watch",
        "answer",
        "blocked_since",
        "client_left",
        "first_byte",
    )

    def __init__(
        self,
        client: ClientRequest,
        tap: ExchangeTap,
        watch: StopWatch | None,
        read_on_bytes: int,
        clock: Clock = time.monotonic,
    ) -> None:
        """`read_on_bytes`: the most bytes to read after the client has left."""
        self.blocked_since: float | None = None  # since when the client is full and takes nothing, monotonic
        self.client_left = False  # the provider is read on
        self.first_byte: float | None = None  # when it came, monotonic
        self.answer: Answer | None = None
        self._client = client
        self._clock = clock
        self._limit = read_on_bytes
        self._read_on = 0
        self._tap = tap
        self._untaken = 0  # bytes that the client had still to take at that time
        self._watch = watch

    @property
    def complete(self) -> bool:
        """Whether the whole answer is here."""
        return self.answer is not None and self.answer.ended

    def take(self, answer: Answer) -> None:
        """Set the answer to move. From now on a slow client pauses it."""
        self.answer = answer

    def whole(self, body: bytes) -> None:
        """Record a body that came with its headers; the caller writes it to the client."""
        if body:
            self.first_byte = self._clock()
            self._tap.feed(body)

    async def run(self, idle_timeout: float) -> None:
        """Move the body to its end. `idle_timeout`: seconds between two reads.

        UpstreamTimeout, UpstreamBroken or ReadOnExceeded where it does not get there.
        """
        assert self.answer is not None
        await self.answer.relay(self._move if self._watch is None else self._move_timed, idle_timeout)

    def client_full(self) -> None:
        """The client reads more slowly than the provider sends."""
        self.blocked_since = self._clock()
        self._untaken = self._client.untaken
        if self.answer is not None:
            self.answer.pause()

    def takes_nothing(self, since: float) -> bool:
        """Whether the client is full, and has taken nothing after `since`, a monotonic time (decision 73)."""
        if self.blocked_since is None or self.blocked_since >= since:
            return False
        untaken = self._client.untaken
        if untaken < self._untaken:  # it reads, and has not made room for more yet
            self._untaken, self.blocked_since = untaken, self._clock()
            return False
        return True

    def client_ready(self) -> None:
        """The client reads again."""
        self.blocked_since = None
        if self._watch is not None and self.first_byte is not None and not self.client_left:
            self._watch.went()
        if self.answer is not None:
            self.answer.resume()

    def read_on(self) -> None:
        """Go on without the client, which has left."""
        self.client_left = True
        self.client_ready()

    def _move(self, chunk: bytes) -> None:
        """Move the bytes of one read."""
        if self.first_byte is None:
            self.first_byte = self._clock()
        self._tap.feed(chunk)
        if not self.client_left:
            self._client.write(chunk)
            if self.blocked_since is not None and self.answer is not None:
                self.answer.pause()  # the client may have been full before there was an answer
            return
        self._read_on += len(chunk)
        if self._read_on > self._limit:
            raise ReadOnExceeded

    def _move_timed(self, chunk: bytes) -> None:
        """The same, with the gaps measured."""
        assert self._watch is not None
        self._watch.came()
        self._move(chunk)
        if self.blocked_since is None and not self.client_left:
            self._watch.went()
