"""A client's request, and the methods that answer it."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, Protocol

from services.gateway.client import response
from services.gateway.client.body_stream import BodyStream, Reading
from services.gateway.client.headers import Header
from services.gateway.client.socket_writer import SocketWriter
from shared.access.envelopes import error_body
from shared.contract.dialects import Family

_UNENDING = math.inf


class ClientLeft(Exception):
    """The client disconnected before its request was complete."""


class ClientListener(Protocol):
    """Is told what the client does."""

    def client_gone(self) -> None:
        """The client has closed its connection."""

    def client_full(self) -> None:
        """The client reads too slowly: write no more."""

    def client_ready(self) -> None:
        """The client reads again."""


class Connection(Reading, Protocol):
    """The connection of a request."""

    def answered(self) -> None:
        """The response to the first request of the queue is complete."""

    def hang_up(self) -> None:
        """Close, and give the client time to read what is written."""

    def switch(self, received: Callable[[bytes], None]) -> None:
        """Give everything that the client sends from now on to `received`."""


class _Phase(Enum):
    NEW = auto()
    ASKED = auto()  # the rest of the body was asked for
    BEGUN = auto()  # the head of the response is written
    ENDED = auto()
    GONE = auto()  # the client has left, or we have aborted it: further writes go nowhere


class ClientRequest:
    """A request whose head is here; its body may still be coming.

    Where the client has left, only `read` raises. RuntimeError means a mistake of ours: a response begun twice, or a
    body that is longer or shorter than its content-length.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_keep_alive",
        "_left",
        "_listener",
        "_out",
        "_phase",
        "headers",
        "method",
        "query",
        "target",
        "version",
    )

    def __init__(
        self,
        connection: Connection,
        out: SocketWriter,
        method: str,
        target: bytes,
        query: bytes,
        headers: list[Header],
        version: str,
        *,
        keep_alive: bool,
    ) -> None:
        """`target`: the path as it came, percent-encoded, and `query` without its question mark. `headers`: lower-case
        names, in order, without trailers. `version`: of HTTP, "1.1"."""
        self.method = method
        self.target = target
        self.query = query
        self.headers = headers
        self.version = version
        self._connection = connection
        self._out = out
        self._keep_alive = keep_alive
        self._body = BodyStream(connection)
        self._phase = _Phase.NEW
        self._left: float | None = 0  # body bytes still to write; None: the body goes out in chunks
        self._listener: ClientListener | None = None

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this response."""
        return not self._keep_alive

    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the client."""
        return _address(self._out.transport.get_extra_info("peername"))

    @property
    def server(self) -> tuple[str, int] | None:
        """Address and port that the client has connected to."""
        return _address(self._out.transport.get_extra_info("sockname"))

    def remove_prefix(self, prefix: bytes) -> None:
        """Take a path such as `/llm` off the target, where it begins with it."""
        rest = self.target.removeprefix(prefix)
        if len(rest) < len(self.target) and (not rest or rest.startswith(b"/")):
            self.target = rest or b"/"

    def whole_body(self) -> bytes | None:
        """The request's body, if all of it is here; `read` then returns b""."""
        return self._body.whole()

    async def read(self) -> bytes:
        """The next bytes of the body; b"" at its end. ClientLeft where the client left before it."""
        if self._phase is _Phase.NEW:
            self._phase = _Phase.ASKED
            if self._expects_continue():
                self._out.write(response.CONTINUE)
        data = await self._body.read()
        if data is None:
            raise ClientLeft
        return data

    def take(self) -> bytes | None:
        """The bytes of the body that are here; b"" at its end, None where more must come first. Raises as `read`."""
        if self._body.left:
            raise ClientLeft
        return self._body.take()

    def tell(self, changed: Callable[[], None]) -> None:
        """Call `changed` once, when `take` has something."""
        self._body.tell(changed)

    def drop_body(self) -> None:
        """Let the rest of the body pass unread: the client may read an answer only once it has sent everything."""
        self._body.drop()
        self._connection.resume_reading()

    def attach(self, listener: ClientListener) -> None:
        """Tell `listener` what the client does, until `detach`."""
        self._listener = listener
        if self._phase is _Phase.GONE:
            listener.client_gone()
            return
        self._connection.resume_reading()  # only by reading do we notice that the client has left
        if self._out.full:
            listener.client_full()

    def detach(self) -> None:
        self._listener = None

    def start(self, status: int, headers: list[Header]) -> None:
        """Write the head of a response; `headers` have lower-case names. Without a content-length the body goes out in
        chunks, or, to a client of HTTP/1.0, ends with the connection."""
        if not self._may_begin():
            return
        length = response.content_length(headers)
        ours: list[Header] = []
        if length is not None or response.bodiless(self.method, status):
            self._left = length or 0
        elif self.version == "1.1":
            self._left = None
            ours.append(response.CHUNKED)
        else:
            self._left = _UNENDING  # the parser closes the connections of such clients
        head = response.head(status, headers, ours + self._connection_header(headers))
        self._phase = _Phase.BEGUN
        self._out.write(head)

    def write(self, body: bytes) -> None:
        """Write body bytes of a started response, in this turn of the loop."""
        if self._left is None:
            if body:  # an empty chunk would be the last
                self._out.write(b"%x\r\n%b\r\n" % (len(body), body))
        elif self.method != "HEAD":
            if len(body) > self._left:
                raise RuntimeError("the body is longer than its content-length")
            self._left -= len(body)
            self._out.write(body)

    @property
    def untaken(self) -> int:
        """Bytes of what is written that have not arrived at the client's end."""
        return self._out.untaken

    async def writable(self) -> None:
        """Wait until the client has room, or has left."""
        await self._out.room()

    def finish(self) -> None:
        """End a started response properly."""
        if self._phase is _Phase.GONE:
            return
        if self._phase is not _Phase.BEGUN:
            raise RuntimeError("there is no response to finish")
        if self._left is None:
            self._out.write(response.LAST_CHUNK)
        elif self._left not in (0, _UNENDING) and self.method != "HEAD":
            raise RuntimeError("the body is shorter than its content-length")
        self._ended()

    def respond(self, status: int, headers: list[Header], body: bytes) -> None:
        """Write a whole response in one system call; `headers` have lower-case names. Adds a content-length where there
        is none."""
        if not self._may_begin():
            return
        bodiless = response.bodiless(self.method, status)
        length = response.content_length(headers)
        ours = self._connection_header(headers)
        if not bodiless and length is None:
            ours.append((b"content-length", b"%d" % len(body)))
        elif not bodiless and length != len(body):
            raise RuntimeError("the body differs from its content-length")
        head = response.head(status, headers, ours)
        self._out.write(head if bodiless else head + body)
        self._ended()

    def switch(self, headers: list[Header], received: Callable[[bytes], None]) -> SocketWriter:
        """Answer that protocols are switched: from now on the client's bytes go to `received`, and those for it into
        the writer. `abort` ends the connection."""
        if self._may_begin():
            self._phase = _Phase.BEGUN
            self._left = None
            self._out.write(response.head(101, headers, []))
            self._connection.switch(received)
        return self._out

    def pause(self) -> None:
        """Read no more from the client, until `resume`."""
        self._connection.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._connection.resume_reading()

    def abort(self, *, flush: bool) -> None:
        """Close without a proper end, so that the client cannot take a part for the whole answer.

        `flush`: the client may read first what is already written.
        """
        if self._phase is _Phase.ENDED:
            return
        unending = self._left == _UNENDING
        self._go()
        if unending:
            self._out.reset()  # an ordinary close would be a proper end
        elif flush:
            self._connection.hang_up()
        else:
            self._out.abort()

    # What the connection calls.

    @property
    def body(self) -> BodyStream:
        return self._body

    @property
    def unfinished(self) -> bool:
        """Whether the client waits for a response, or for the rest of one."""
        return self._phase is not _Phase.ENDED and self._phase is not _Phase.GONE

    def close_after(self) -> None:
        """End the connection with this response."""
        self._keep_alive = False

    def fail(self, status: int, message: str) -> None:
        """Answer with an error, unless a response has begun, and close the connection."""
        if self._phase is _Phase.NEW or self._phase is _Phase.ASKED:
            self._keep_alive = False
            headers = [(b"content-type", b"application/json")]
            if status == 503:
                headers.append((b"retry-after", b"1"))
            self.respond(status, headers, error_body(Family.OPENAI, status, message))
        elif self._phase is _Phase.BEGUN:
            self.abort(flush=True)

    def leave(self) -> None:
        """The client has left, or sends bytes that cannot be parsed."""
        self._go()
        self._body.leave()
        if self._listener is not None:
            self._listener.client_gone()

    def full(self) -> None:
        if self._listener is not None:
            self._listener.client_full()

    def ready(self) -> None:
        if self._listener is not None:
            self._listener.client_ready()

    def _go(self) -> None:
        self._phase = _Phase.GONE
        self._left = None  # further writes go into a closed socket, and are not counted

    def _may_begin(self) -> bool:
        if self._phase is _Phase.GONE:
            return False
        if self._phase is _Phase.BEGUN or self._phase is _Phase.ENDED:
            raise RuntimeError("there is a response already")
        return True

    def _connection_header(self, headers: list[Header]) -> list[Header]:
        """The header that says that the connection closes, where it is missing."""
        if response.asks_to_close(headers):
            self._keep_alive = False
            return []
        return [] if self._keep_alive else [response.CLOSE]

    def _expects_continue(self) -> bool:
        # A client of HTTP/1.0 would take the interim answer for the final one (RFC 9110, 10.1.1).
        return self.version != "1.0" and any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in self.headers
        )

    def _ended(self) -> None:
        self._phase = _Phase.ENDED
        self._left = 0
        self._body.drop()
        self._connection.answered()


Handler = Callable[[ClientRequest], Coroutine[Any, Any, None]]


def below(base_path: str, handler: Handler) -> Handler:
    """A handler that takes a base path off the targets of its requests, where it is there (decision 52)."""
    if not base_path:
        return handler
    prefix = base_path.encode()

    async def handle(request: ClientRequest) -> None:
        request.remove_prefix(prefix)
        await handler(request)

    return handle


def _address(info: Any) -> tuple[str, int] | None:
    return (str(info[0]), int(info[1])) if isinstance(info, tuple) else None
