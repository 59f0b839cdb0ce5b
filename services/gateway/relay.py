"""The relay of one answer: it moves bytes from the provider to the client and the tap. It knows neither JSON nor
providers.

Flow control goes both ways: a client that reads slowly pauses the provider, and the provider is read on for a while
when its client has left, for the usage at its end. Once a body has begun nothing is ever added to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from services.gateway.capture.tap import ExchangeTap
from services.gateway.client.request import ClientRequest
from services.gateway.observers import StopWatch
from services.gateway.upstream.client import Answer

Clock = Callable[[], float]  # monotonic seconds


class ReadOnExceeded(Exception):
    """So much was read on after the client had left that the rest is given up."""


class Relay:
    """Pumps one answer. Slots: every chunk comes by here, and with hundreds of streams each object is cold."""

    __slots__ = (
        "_client",
        "_clock",
        "_limit",
        "_read_on",
        "_tap",
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
        """`read_on_bytes`: most bytes read after the client has left."""
        self.blocked_since: float | None = None  # waiting for the client to read, since this monotonic time
        self.client_left = False  # and the provider is read on
        self.first_byte: float | None = None  # when it came, monotonic
        self.answer: Answer | None = None
        self._client = client
        self._clock = clock
        self._limit = read_on_bytes
        self._read_on = 0
        self._tap = tap
        self._watch = watch

    @property
    def complete(self) -> bool:
        """Whether the answer has come to its proper end."""
        return self.answer is not None and self.answer.ended

    def take(self, answer: Answer) -> None:
        """The answer whose body is to be moved; what the client does steers it from now on."""
        self.answer = answer

    def whole(self, body: bytes) -> None:
        """Note a body that came with its headers; whoever calls gives it to the client."""
        if body:
            self.first_byte = self._clock()
            self._tap.feed(body)

    async def run(self, idle_timeout: float) -> None:
        """Move the body until its end. UpstreamTimeout, UpstreamBroken, or ReadOnExceeded where it does not get there;
        `idle_timeout` in seconds."""
        assert self.answer is not None
        await self.answer.relay(self._move if self._watch is None else self._move_timed, idle_timeout)

    def client_full(self) -> None:
        """The client reads more slowly than the provider sends."""
        self.blocked_since = self._clock()
        if self.answer is not None:
            self.answer.pause()

    def client_ready(self) -> None:
        """The client has read on."""
        self.blocked_since = None
        if self._watch is not None and self.first_byte is not None and not self.client_left:
            self._watch.went()
        if self.answer is not None:
            self.answer.resume()

    def read_on(self) -> None:
        """The client has left: go on without it."""
        self.client_left = True
        self.client_ready()

    def _move(self, chunk: bytes) -> None:
        """Bytes of the body, on their way: called for every read from the provider."""
        if self.first_byte is None:
            self.first_byte = self._clock()
        self._tap.feed(chunk)
        if not self.client_left:
            self._client.write(chunk)
            if self.blocked_since is not None and self.answer is not None:
                self.answer.pause()  # it may have been full before there was an answer to pause
            return
        self._read_on += len(chunk)
        if self._read_on > self._limit:
            raise ReadOnExceeded

    def _move_timed(self, chunk: bytes) -> None:
        """The same, for an exchange whose gaps are measured."""
        assert self._watch is not None
        self._watch.came()
        self._move(chunk)
        if self.blocked_since is None and not self.client_left:
            self._watch.went()
