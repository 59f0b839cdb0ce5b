"""The pushed path: our own connections, which call the sink in the turn of the loop that reads the bytes."""

from __future__ import annotations

from services.gateway.upstream.connection import Body, Connection, Origin, Sink, Timeouts
from services.gateway.upstream.errors import TRANSPORT_ERRORS, translate
from services.gateway.upstream.parser import Header
from services.gateway.upstream.pool import Pool, request_head
from services.gateway.upstream.switching import SWITCHING, Switchboard, Switched


class PushedAnswer:
    """An `Answer` on a connection of the pool."""

    __slots__ = ("_body", "_connection", "headers", "status")

    def __init__(self, connection: Connection, body: Body) -> None:
        self.status = connection.parser.status
        self.headers: list[Header] = connection.parser.headers
        self._body = body
        self._connection: Connection | None = connection

    @property
    def ended(self) -> bool:
        return self._connection is None or self._connection.parser.complete

    def whole(self) -> bytes | None:
        connection = self._connection
        return connection.take() if connection is not None and connection.parser.complete else None

    async def beginning(self, most: int, seconds: float) -> bytes:
        return await self._connection.beginning(most, seconds) if self._connection is not None else b""

    async def relay(self, sink: Sink, idle_timeout: float) -> None:
        assert self._connection is not None
        try:
            await self._connection.push(sink, idle_timeout)
        except TRANSPORT_ERRORS as exc:
            raise translate(exc, begun=True) from exc

    def switch(self, board: Switchboard) -> Switched:
        """As `Tunnel.switch`."""
        assert self._connection is not None
        return self._connection.switch(board)

    def pause(self) -> None:
        if self._connection is not None:  # once closed, it may belong to another exchange
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self.status == SWITCHING:
            connection.leave()
        elif connection is not None:
            if not isinstance(self._body, bytes) and not self._body.ended:
                connection.abort()  # the provider answered early, and still waits for the rest
            connection.release()


class PushedPath:
    """Requests over one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def send(
        self,
        origin: Origin,
        method: str,
        target: bytes,
        headers: list[Header],
        body: Body,
        timeouts: Timeouts,
        *,
        fresh: bool = False,
        switch: bool = False,
    ) -> PushedAnswer:
        """As `Path.send`."""
        verb = method.encode()
        head = request_head(verb, target, headers)
        connection = await self._pool.open(origin, verb, head, body, timeouts, fresh=fresh, switch=switch)
        return PushedAnswer(connection, body)

    @property
    def idle(self) -> bool:
        """Whether it has no connection."""
        return not len(self._pool)

    def retire(self) -> None:
        """Keep no connection from now on."""
        self._pool.retire()

    async def close(self) -> None:
        """Abort every connection."""
        self._pool.close()
