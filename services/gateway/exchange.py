"""One exchange, from its open record to its end record. Whatever happens in between, there is exactly one outcome.

The pump below is the relay: it moves bytes, and knows no JSON and no provider. Once a body has begun nothing is ever
added to it: an answer that breaks off leaves the client's connection without a proper end, because a clean end would
make every SDK report success.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

import msgspec

from services.gateway.capture.tap import ExchangeTap
from services.gateway.client import cors, headers
from services.gateway.client.headers import Header
from services.gateway.client.protocol import Connection
from services.gateway.metrics import GatewayMetrics
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import Answer, UpstreamClient
from shared.access.envelopes import error_body
from shared.contract.dialects import Family
from shared.contract.ids import ExchangeId
from shared.contract.tail import End, Head, Outcome, Packed
from shared.runtime.errors import Refused, UpstreamBroken, UpstreamError, UpstreamTimeout

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Request(msgspec.Struct, frozen=True):
    """What goes upstream."""

    method: str
    provider: str
    url: str
    query: bytes
    headers: list[Header]
    body: bytes
    streamed: bool
    keep_body: bool  # the meter may need it to estimate
    drain: bool  # read on when the client leaves
    cors: list[Header]  # what a browser must be told


class Plane(Protocol):
    """What an exchange needs of the data plane it runs on."""

    settings: GatewaySettings
    client: UpstreamClient
    metrics: GatewayMetrics

    def may_drain(self) -> bool: ...


class Exchange:
    """A request on its way. `cut` ends it early, from outside; `run` always ends it."""

    __slots__ = (
        "_answer",
        "_answered",
        "_arrived",
        "_connection",
        "_cut_by",
        "_drained",
        "_ended",
        "_family",
        "_first_byte",
        "_gaps",
        "_plane",
        "_request",
        "_response_started",
        "_tap",
        "_task",
        "blocked_since",
        "client_left",
        "deadline",
        "id",
        "started",
    )

    def __init__(
        self,
        exchange_id: ExchangeId,
        request: Request,
        family: Family,
        tap: ExchangeTap,
        connection: Connection,
        plane: Plane,
        arrived: float,
    ) -> None:
        """`arrived`: when the request's head was here, monotonic."""
        self.id = exchange_id
        self.client_left = False  # and the upstream is drained for the usage at its end
        self.blocked_since: float | None = None  # waiting for the client to read, since this monotonic time
        self.started = time.monotonic()
        self.deadline = self.started + plane.settings.total_timeout
        self._arrived = arrived
        self._gaps = plane.metrics.gaps()
        self._request = request
        self._family = family
        self._tap = tap
        self._connection = connection
        self._plane = plane
        self._task = asyncio.current_task()
        self._cut_by: Outcome | None = None
        self._ended = False
        self._answer: Answer | None = None
        self._answered: dict[bytes, str] = {}  # header fields of the answer
        self._response_started = False
        self._first_byte: float | None = None
        self._drained = 0

    async def run(self, send: Send) -> Outcome:
        """Forward the request and relay the answer. Returns how it ended; raises nothing."""
        self._connection.attach(self)
        outcome = Outcome.UPSTREAM_FAILED
        try:
            outcome = await self._forward(send)
        except asyncio.CancelledError:
            # Else it is the server's: its time to drain is over. It cancels each task once, and waits for none.
            outcome = self._cut_by or Outcome.DRAINED
            assert self._task is not None
            self._task.uncancel()
            self._ended = True  # a second cut changes nothing
            await self._tell_of_cut(outcome, send)
        except Exception:
            # A bug, or an answer no server should give: the client must not take it for a whole one.
            log.exception("exchange %s failed in a way nobody expected", self.id, extra=self._logged)
            self._ended = True
            await self._fail(send)
        finally:
            self._ended = True
            self._connection.detach()
            if self._answer is not None and outcome is not Outcome.COMPLETED:
                self._answer.close()
            self._end(outcome)
        return outcome

    def cut(self, outcome: Outcome) -> None:
        """End the exchange now, for the first reason given."""
        if self._ended or self._cut_by is not None or self._task is None:
            return
        if outcome is Outcome.CLIENT_GONE and self._answer is not None and self._answer.ended:
            return  # it has been given everything; many a client closes as soon as it has the last byte
        if outcome is Outcome.CLIENT_GONE and not self.client_left and self._may_drain():
            self.client_left = True
            self.client_ready()
            self.deadline = min(self.deadline, time.monotonic() + self._plane.settings.read_on_seconds)
            return
        self._cut_by = Outcome.CLIENT_GONE if self.client_left else outcome
        self._task.cancel()

    def client_gone(self) -> None:
        """The client has closed its connection."""
        self.cut(Outcome.CLIENT_GONE)

    def client_full(self) -> None:
        """The client reads more slowly than the provider sends."""
        self.blocked_since = time.monotonic()
        if self._answer is not None:
            self._answer.pause()

    def client_ready(self) -> None:
        """The client has read on."""
        self.blocked_since = None
        if self._gaps is not None and self._first_byte is not None and not self.client_left:
            self._gaps.went()
        if self._answer is not None:
            self._answer.resume()

    @property
    def _logged(self) -> dict[str, str]:
        return {"exchange_id": str(self.id)}

    def _may_drain(self) -> bool:
        return self._request.drain and self._plane.may_drain()

    async def _forward(self, send: Send) -> Outcome:
        request = self._request
        try:
            self._answer = await self._plane.client.send(
                request.provider, request.method, request.url, request.query, request.headers, request.body
            )
        except UpstreamTimeout as exc:
            log.warning("exchange %s: the provider did not answer in time: %s", self.id, exc, extra=self._logged)
            await self._refuse(send, Refused(504, "the provider did not answer in time"))
            return self._unless_client_left(Outcome.TIMED_OUT)
        except UpstreamError as exc:
            log.warning("exchange %s: the provider could not be reached: %s", self.id, exc, extra=self._logged)
            await self._refuse(send, Refused(502, "the provider refused the connection or could not be reached"))
            return self._unless_client_left(Outcome.UPSTREAM_FAILED)
        try:
            return await self._pump(self._answer, send)
        except UpstreamTimeout as exc:
            log.warning("exchange %s: the provider fell silent: %s", self.id, exc, extra=self._logged)
            self._connection.cut(flush=True)
            return self._unless_client_left(Outcome.TIMED_OUT)
        except UpstreamBroken as exc:
            log.warning("exchange %s: the provider broke off: %s", self.id, exc, extra=self._logged)
            self._connection.cut(flush=True)
            return self._unless_client_left(Outcome.UPSTREAM_FAILED)

    async def _pump(self, answer: Answer, send: Send) -> Outcome:
        settings = self._plane.settings
        answered = self._answered = headers.fields(answer.headers)
        content_type = answered.get(b"content-type", "")
        stream = headers.is_stream(content_type) or (self._request.streamed and answer.status == 200)
        given = headers.downstream_response(answer.headers, self._tap.name, status=answer.status, stream=stream)
        if self._request.cors:
            given = cors.replaced(given, self._request.cors)
        whole = answer.whole()
        if whole is not None:
            if whole:
                self._first_byte = time.monotonic()
                self._tap.feed(whole)
            answer.close()
            self._response_started = True
            self._connection.respond(answer.status, given, whole)
            return self._unless_client_left(Outcome.COMPLETED)
        self._tap.head(Head(answer.status, content_type, answered.get(b"content-encoding", "")))
        if self._connection.closes:
            given.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": given})
        self._response_started = True
        await answer.relay(self._relay if self._gaps is None else self._relay_timed, settings.idle_timeout)
        answer.close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return self._unless_client_left(Outcome.COMPLETED)

    def _relay(self, chunk: bytes) -> None:
        """Bytes of the body, on their way: called for every read from the provider."""
        if self._first_byte is None:
            self._first_byte = time.monotonic()
        self._tap.feed(chunk)
        if not self.client_left:
            self._connection.write(chunk)
            if self.blocked_since is not None and self._answer is not None:
                self._answer.pause()  # it may have been full before there was an answer to pause
            return
        self._drained += len(chunk)
        if self._drained > self._plane.settings.read_on_bytes:
            self.cut(Outcome.CLIENT_GONE)

    def _relay_timed(self, chunk: bytes) -> None:
        """The same, for an exchange whose gaps are measured."""
        assert self._gaps is not None
        self._gaps.came()
        self._relay(chunk)
        if self.blocked_since is None and not self.client_left:
            self._gaps.went()

    async def _fail(self, send: Send) -> None:
        if self._response_started:
            self._connection.cut(flush=True)
        else:
            await self._refuse(send, Refused(502, "the provider's answer cannot be passed on"))

    def _unless_client_left(self, outcome: Outcome) -> Outcome:
        return Outcome.CLIENT_GONE if self.client_left else outcome

    async def _tell_of_cut(self, outcome: Outcome, send: Send) -> None:
        if outcome is Outcome.TIMED_OUT and not self._response_started and self.blocked_since is None:
            await self._refuse(send, Refused(504, "the exchange took longer than the limit"))
        elif outcome is Outcome.DRAINED and not self._response_started:
            await self._refuse(send, Refused(503, "the gateway is shutting down"))
        elif outcome is not Outcome.CLIENT_GONE:
            # A client that does not read would keep a flush waiting for ever.
            self._connection.cut(flush=self.blocked_since is None)

    async def _refuse(self, send: Send, refused: Refused) -> None:
        self._response_started = True
        await refuse(send, self._family, refused, str(self.id), extra=self._request.cors)

    def _end(self, outcome: Outcome) -> None:
        answered = self._answered
        self._tap.end(
            End(
                outcome=outcome,
                status=self._answer.status if self._answer is not None else None,
                content_type=answered.get(b"content-type", ""),
                content_encoding=answered.get(b"content-encoding", ""),
                response_bytes=0,  # the tap knows
                request_bytes=len(self._request.body),
                first_byte_ms=None if self._first_byte is None else int((self._first_byte - self.started) * 1000),
                duration_ms=int((time.monotonic() - self.started) * 1000),
                request_id=headers.request_id(answered),
                body=Packed(b""),
            ),
            self._request.body if self._request.keep_body else None,
        )
        metrics = self._plane.metrics
        status = self._answer.status if self._answer is not None else None
        metrics.ended(outcome, self._request.provider, status, self._tap.bytes, self._tap.lost)
        if self._first_byte is not None:
            metrics.answered(self._first_byte - self.started, self._first_byte - self._arrived)


async def refuse(
    send: Send,
    family: Family,
    refused: Refused,
    generation_id: str | None = None,
    *,
    unread: bool = False,
    extra: Sequence[Header] = (),
) -> None:
    """Answer with an error of the gateway's own, in the caller's dialect. `unread`: the request's body is not read."""
    body = error_body(family, refused.status, refused.message)
    given: list[Header] = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
    if unread:
        given.append((b"connection", b"close"))
    if generation_id is not None:
        given.append((headers.GENERATION_ID, generation_id.encode()))
    await send({"type": "http.response.start", "status": refused.status, "headers": given})
    await send({"type": "http.response.body", "body": body, "more_body": False})
