"""The tunnel of one WebSocket: moves its bytes in both directions as they come, and reads its frames beside them.

It has slots because every read comes by. There is no task, timer or queue in it: a side that reads slowly pauses the
other one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from services.gateway.capture.tap import ExchangeTap
from services.gateway.client.request import ClientRequest
from services.gateway.client.socket_writer import SocketWriter
from services.gateway.ending import Ending
from services.gateway.relay import Relay
from services.gateway.upstream.switching import Switched
from services.gateway.websocket.copying import WHOLE_BYTES, Copies, bulky
from services.gateway.websocket.frames import FrameParser, close_frame
from services.gateway.websocket.guard import Forbidden, Guard
from shared.contract.tail import Outcome

Clock = Callable[[], float]  # monotonic seconds

COMPLETED = Ending(Outcome.COMPLETED)


class Tunnel:
    """Both directions. `over` is its end, once it has one."""

    __slots__ = (
        "_client",
        "_clock",
        "_copies",
        "_down",
        "_guard",
        "_out",
        "_provider",
        "_relay",
        "_up",
        "full_since",
        "over",
        "sizes",
    )

    _out: SocketWriter
    _provider: Switched

    def __init__(
        self,
        client: ClientRequest,
        relay: Relay,
        tap: ExchangeTap,
        guard: Guard | None,
        room: int,
        clock: Clock = time.monotonic,
    ) -> None:
        """`room`: bytes of the tail that copies of messages may take."""
        self._client = client
        self._relay = relay
        self._copies = Copies(tap.feed, room)
        self._guard = guard
        self._clock = clock
        self._down = FrameParser(WHOLE_BYTES, bulky)
        self._up = FrameParser(WHOLE_BYTES, bulky)
        self.sizes = [0, 0]  # bytes that went to the client, and to the provider
        self.full_since: float | None = None  # since when the provider takes nothing more, monotonic
        self.over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def begin(self, out: SocketWriter, connect: Callable[[Tunnel], Switched]) -> None:
        """Move bytes from now on. `out`: where they go to the client; `connect`: to the provider."""
        self._out = out
        self._provider = connect(self)

    @property
    def closing(self) -> bool:
        """Whether a close frame has passed, in either direction."""
        return self._down.closed is not None or self._up.closed is not None

    def tell_client(self, status: int, reason: str) -> None:
        """Write a close frame of ours to the client, where one can stand: not within a frame of the provider's."""
        if self._down.between and self._down.closed is None:
            self._out.write(close_frame(status, reason))

    def close(self) -> None:
        """Note the last of what has passed."""
        if self._down.lost:
            self._copies.lost(self._down.lost, sent=False)
        if self._up.lost:
            self._copies.lost(self._up.lost, sent=True)
        self._copies.close()

    # What the client's connection calls.

    def sent(self, data: bytes) -> None:
        """The client has sent bytes."""
        if self.over.done():
            return
        if self._guard is not None:
            try:
                data = self._guard.feed(data)
            except Forbidden as forbidden:
                self.tell_client(forbidden.status, str(forbidden))
                self._end(Ending(Outcome.CLIENT_GONE, forbidden.cause))
                return
        if data:
            self._provider.write(data)
            self.sizes[1] += len(data)
            for message in self._up.feed(data):
                self._copies.take(message, sent=True)

    def client_gone(self) -> None:
        self._end(COMPLETED if self.closing else Ending(Outcome.CLIENT_GONE, "client_gone"))

    # What the provider's connection calls.

    def came(self, data: bytes) -> None:
        """The provider has sent bytes."""
        if self.over.done():
            return  # nothing stands behind a close frame of ours
        self._out.write(data)
        self.sizes[0] += len(data)
        if self._relay.first_byte is None:
            self._relay.first_byte = self._clock()
        for message in self._down.feed(data):
            self._copies.take(message, sent=False)

    def provider_gone(self, exc: Exception | None) -> None:
        if self.closing:
            self._end(COMPLETED)
        else:
            self._end(Ending(Outcome.UPSTREAM_FAILED, "closed_early" if exc is None else "reset"))

    def provider_full(self) -> None:
        self.full_since = self._clock()
        self._client.pause()

    def provider_ready(self) -> None:
        self.full_since = None
        self._client.resume()

    def _end(self, ending: Ending) -> None:
        if not self.over.done():
            self.over.set_result(ending)
