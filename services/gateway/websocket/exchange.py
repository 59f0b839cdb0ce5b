"""A WebSocket as an exchange: its handshake is the request, and where the answer is a 101, its tunnel is the body.

Any other answer is passed on as usual. A socket is one exchange, however many responses it carries (decision 98).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol, cast

import msgspec

from services.gateway.capture.tap import ExchangeTap
from services.gateway.client import headers
from services.gateway.client.request import ClientRequest
from services.gateway.ending import Ending, answering, end_record, summary
from services.gateway.exchange import Call, Exchange, Plane
from services.gateway.relay import Relay
from services.gateway.upstream.switching import SWITCHING
from services.gateway.upstream.ways import Answer
from services.gateway.upstream.ways import Tunnel as Tunnelled
from services.gateway.websocket.guard import Guard
from services.gateway.websocket.handshake import UPGRADE
from services.gateway.websocket.tunnel import COMPLETED, Tunnel
from shared.contract.tail import Head, Outcome

_CLOSING_SECONDS: Final = 10.0  # from a close frame to the end of the connections
_QUIET_SECONDS: Final = 10.0  # a socket that is silent for so long is closed once the process is shutting down
_GOING_AWAY: Final = 1001  # close statuses (RFC 6455, 7.4.1)
_POLICY: Final = 1008  # at the others many clients connect again
_RESTART: Final = 1012


class SocketPlane(Plane, Protocol):
    """The data plane, as a socket sees it."""

    @property
    def socket_room(self) -> int:
        """Bytes of whole messages that are copied of one socket."""


class SocketExchange(Exchange):
    """One socket, from its handshake to its end."""

    __slots__ = ("_guard", "_room", "_seen", "_since", "_tunnel")

    def __init__(
        self,
        call: Call,
        tap: ExchangeTap,
        client: ClientRequest,
        plane: SocketPlane,
        arrived: float,
        guard: Guard | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`guard`: reads what the client sends, where its key may not call every model."""
        super().__init__(call, tap, client, plane, arrived, clock)
        self.relay = Relay(client, tap, None, 0, clock)
        self._guard = guard
        self._room = plane.socket_room
        self._tunnel: Tunnel | None = None
        self._seen: tuple[int, ...] = ()  # sizes, and whether it is closing, when it was last looked at
        self._since = 0.0  # since when they have not changed

    @property
    def relayed(self) -> int:
        return super().relayed if self._tunnel is None else self._tunnel.sizes[0]

    def client_gone(self) -> None:
        if self._tunnel is None:
            super().client_gone()
        else:
            self._tunnel.client_gone()

    def end_late(self, now: float, slow: float) -> None:
        super().end_late(now, slow)
        tunnel = self._tunnel
        if tunnel is None or tunnel.over.done():
            return
        seen = (*tunnel.sizes, tunnel.closing)
        if seen != self._seen:
            self._seen, self._since = seen, now
        silent = now - self._since
        if tunnel.closing and silent > _CLOSING_SECONDS:
            tunnel.over.set_result(COMPLETED)
        elif tunnel.full_since is not None and now - tunnel.full_since > self._plane.limits.idle:
            self.end_early(Outcome.TIMED_OUT, "write_timeout")
        elif self._client.closes and silent > _QUIET_SECONDS:
            self.end_early(Outcome.DRAINED, "drain")
        elif silent > self._plane.limits.idle:
            self.end_early(Outcome.TIMED_OUT, "idle_timeout")

    async def _pass_on(self, answer: Answer, *, leading: bool) -> Ending:
        if answer.status != SWITCHING:
            return await super()._pass_on(answer, leading=leading)
        answered = self._attempts.answered
        given = headers.downstream_response(answer.headers, answered, self._tap.name, status=SWITCHING, stream=False)
        given += self._attempts.shown
        self._tap.head(Head(answer.status, "", "", *answering(self._attempts)))
        self._since = self._clock()
        tunnel = self._tunnel = Tunnel(self._client, self.relay, self._tap, self._guard, self._room, self._clock)
        tunnel.begin(self._client.switch([*given, *UPGRADE], tunnel.sent), cast("Tunnelled", answer).switch)
        self._responds()
        ending = await tunnel.over
        self._client.abort(flush=True)
        answer.close()
        return ending

    def _tell_client(self, outcome: Outcome) -> None:
        if self._tunnel is not None and self.relay.blocked_since is None:
            if outcome is Outcome.DRAINED:
                self._tunnel.tell_client(_RESTART, "the gateway is shutting down")
            elif outcome is Outcome.TIMED_OUT:
                self._tunnel.tell_client(_GOING_AWAY, "the socket has reached a limit of the gateway")
            elif outcome is Outcome.CANCELLED:
                self._tunnel.tell_client(_POLICY, "the socket was cancelled at the gateway")
        super()._tell_client(outcome)

    def _record(self, ending: Ending) -> None:
        tunnel = self._tunnel
        if tunnel is None:
            super()._record(ending)
            return
        tunnel.close()
        down, up = tunnel.sizes
        facts = self._facts(ending)
        end = msgspec.structs.replace(end_record(facts), request_bytes=up)
        self._tap.end(end, None, relayed=down)
        self._plane.observer.ended(summary(facts, self._tap)._replace(response_bytes=down))
