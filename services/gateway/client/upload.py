"""A request's body that goes upstream as it arrives: in bounded memory, at the pace of the slower side, and once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from services.gateway.client.request import ClientLeft
from shared.runtime.errors import Refused, UploadBroken

_KEPT = 8 * 1024


class Incoming(Protocol):
    """The client's request, as far as its body goes."""

    def take(self) -> bytes | None: ...

    def tell(self, changed: Callable[[], None]) -> None: ...

    def drop_body(self) -> None: ...


class UploadLimits(NamedTuple):
    """The most bytes of an upload, and the seconds that it may stand still."""

    bytes: int
    idle: float


class Upload:
    """The body: a first part that is here, and the rest, which the client still sends."""

    __slots__ = ("_client", "_first", "_kept", "_last", "_limits", "_size", "_timer", "ended", "late", "length", "sent")

    def __init__(self, first: bytes, client: Incoming, length: int | None, limits: UploadLimits) -> None:
        """`length`: of the whole body as it was declared; None where it comes in chunks."""
        self.length = length
        self.sent = 0  # bytes that have gone upstream
        self.ended = False  # the last byte has
        self.late = False
        self._client = client
        self._first = first
        self._limits = limits
        self._size = len(first)  # that has come
        self._timer: asyncio.TimerHandle | None = None
        self._last: deque[bytes] = deque()
        self._kept = 0  # bytes in it

    @property
    def end(self) -> bytes:
        """The last 8 KiB that were sent, or a little more."""
        return b"".join(self._last)

    def replace_first(self, first: bytes) -> None:
        """Send another first part. Only before anything is sent."""
        if self.length is not None:
            self.length += len(first) - len(self._first)
        self._first = first

    def take(self) -> bytes | None:
        """The next bytes; b"" at the end, None where more must come first.

        UploadBroken where the client has left, stands still, or sends more than the limit.
        """
        if self._first:
            part, self._first = self._first, b""
            self._note(part)
            return part
        taken = self._more()
        if taken is not None:
            self._stop()
            self.ended = not taken
            self._note(taken)
        return taken

    def tell(self, changed: Callable[[], None]) -> None:
        """Call `changed` when `take` has something to say."""
        self._client.tell(changed)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limits.idle, self._expire, changed)

    async def read(self) -> bytes:
        """The next bytes, once they are here; b"" at the end. As `take`."""
        while (part := self.take()) is None:
            more = asyncio.Event()
            self.tell(more.set)
            await more.wait()
        return part

    def close(self) -> None:
        """Nobody will take the rest."""
        self._stop()
        if not self.ended:
            self._client.drop_body()

    def _more(self) -> bytes | None:
        if self.late:
            raise UploadBroken("body_timeout", Refused(408, "the request body did not arrive in time"))
        try:
            taken = self._client.take()
        except ClientLeft:
            self._stop()
            raise UploadBroken("client_gone", None) from None
        self._size += len(taken or b"")
        if self._size > self._limits.bytes:
            raise UploadBroken(
                "body_too_large", Refused(413, f"the request body is larger than {self._limits.bytes} bytes")
            )
        return taken

    def _note(self, part: bytes) -> None:
        self.sent += len(part)
        self._kept += len(part)
        self._last.append(part)
        while self._kept - len(self._last[0]) >= _KEPT:
            self._kept -= len(self._last.popleft())

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, changed: Callable[[], None]) -> None:
        self.late = True
        changed()
