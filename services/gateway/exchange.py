"""One exchange, from its open record to its end record. Whatever happens in between, it has exactly one outcome.

Its attempts get an answer (`attempts.py`), its relay moves the bytes (`relay.py`), and its end is recorded
(`ending.py`; decision 29). Where an answer breaks off, the client's connection closes without a proper end, because a
clean end would make every SDK report success.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol

import msgspec

from services.gateway.attempts import Attempts, Plan, Upstream
from services.gateway.capture.tap import ExchangeTap
from services.gateway.client import cors, headers, leads, way_back
from services.gateway.client.headers import Header
from services.gateway.client.request import ClientRequest
from services.gateway.client.way_back import WayBack
from services.gateway.ending import Answering, Ending, Facts, Times, answering, end_record, summary
from services.gateway.observers import Observer
from services.gateway.refusal import refuse
from services.gateway.relay import ReadOnExceeded, Relay
from services.gateway.retries import Retries
from services.gateway.upstream.ways import Answer
from shared.contract.dialects import Family
from shared.contract.ids import ExchangeId
from shared.contract.tail import Head, Outcome
from shared.runtime.errors import (
    Refused,
    UploadBroken,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)

log = logging.getLogger(__name__)

Clock = Callable[[], float]  # monotonic seconds

_COMPLETED = Ending(Outcome.COMPLETED)
_CLIENT_GONE = Ending(Outcome.CLIENT_GONE, "client_gone")
_DRAINED = Ending(Outcome.DRAINED, "drain")
_UNFORESEEN = Ending(Outcome.UPSTREAM_FAILED, "internal")


class Configured(Protocol):
    """What was configured when the exchange began."""

    @property
    def upstream(self) -> Upstream: ...

    @property
    def retries(self) -> Retries: ...

    def inward(self, provider: str, url: str) -> str | None:
        """The path at the gateway that leads to a URL of a provider; None where none does."""


class Call(msgspec.Struct, frozen=True):
    """The request of an exchange, whichever candidate answers it."""

    plan: Plan
    family: Family
    streamed: bool
    keep_body: bool  # the meter may need the request's body to estimate
    configured: Configured
    cors: list[Header]  # for browsers
    left: Sequence[Header] = ()  # what is left of the caller's limits
    way_back: WayBack | None = None  # of URLs in the answer


class Limits(NamedTuple):
    """Limits of an exchange, in seconds and bytes."""

    total: float
    idle: float  # between two reads from the provider
    read_on: float
    read_on_bytes: int


class Plane(Protocol):
    """The data plane, as an exchange sees it."""

    @property
    def limits(self) -> Limits: ...

    @property
    def observer(self) -> Observer: ...

    @property
    def send_generation_id(self) -> bool: ...

    def may_read_on(self) -> bool:
        """Whether one more upstream may be read on after its client has left."""


class _State(Enum):
    ASKING = auto()  # the client has no part of a response yet
    RESPONDING = auto()  # the head of a response is written: its status cannot change any more
    OVER = auto()  # the outcome is decided; ending it again changes nothing


class Exchange:
    """A request with its answer. `run` takes it to its end; `end_early` ends it from outside."""

    __slots__ = (
        "_attempts",
        "_call",
        "_client",
        "_clock",
        "_ended_by",
        "_plane",
        "_state",
        "_tap",
        "_task",
        "_times",
        "deadline",
        "relay",
    )

    def __init__(
        self,
        call: Call,
        tap: ExchangeTap,
        client: ClientRequest,
        plane: Plane,
        arrived: float,
        clock: Clock = time.monotonic,
    ) -> None:
        """`arrived`: when the request's head arrived, by `clock`."""
        self.relay = Relay(client, tap, plane.observer.began(), plane.limits.read_on_bytes, clock)
        self.deadline = clock() + plane.limits.total
        self._attempts = Attempts(call.plan, call.configured.upstream, call.configured.retries, clock)
        self._call = call
        self._client = client
        self._clock = clock
        self._ended_by: Ending | None = None
        self._plane = plane
        self._state = _State.ASKING
        self._tap = tap
        self._task = asyncio.current_task()
        self._times = Times(arrived, started=clock())

    @property
    def id(self) -> ExchangeId:
        return self._tap.id

    @property
    def answering(self) -> Answering:
        """Who answers, or is asked."""
        return answering(self._attempts)

    @property
    def relayed(self) -> int:
        """Bytes of the answer's body so far."""
        return self._tap.so_far

    @property
    def first_byte_ms(self) -> int | None:
        """From the open to the first of them; None before it."""
        first = self.relay.first_byte
        return None if first is None else int((first - self._times.started) * 1000)

    @property
    def client_left(self) -> bool:
        """Whether it is read on without its client."""
        return self.relay.client_left

    async def run(self) -> Outcome:
        """Forward the request and relay the answer. Returns how it ended; does not raise."""
        self._client.attach(self)
        ending = _UNFORESEEN
        try:
            ending = await self._forward()
        except asyncio.CancelledError:
            # The default: uvicorn's drain is over. It cancels each task once, and does not wait for it.
            ending = self._ended_by or _DRAINED
            assert self._task is not None
            self._task.uncancel()
            self._tell_client(ending.outcome)
        except Exception:
            # A bug, or an answer that no server should give: the client must not take it for a whole one.
            log.exception("exchange %s failed unexpectedly", self.id, extra=self._logged)
            self._fail()
        finally:
            self._state = _State.OVER
            self._client.detach()
            answer = self.relay.answer
            if answer is not None and ending.outcome is not Outcome.COMPLETED:
                answer.close()
            self._record(ending)
        return ending.outcome

    def cancel(self) -> bool:
        """End the exchange, because the operator or its key's owner wants it. False where it is ending already."""
        if self._state is _State.OVER or self._ended_by is not None:
            return False
        self.end_early(Outcome.CANCELLED, "cancelled")
        return True

    def end_early(self, outcome: Outcome, cause: str) -> None:
        """End the exchange now. Of several reasons the first one counts."""
        if self._state is _State.OVER or self._ended_by is not None or self._task is None:
            return
        if outcome is Outcome.CLIENT_GONE and self.relay.complete:
            return  # it has the whole answer; many clients close as soon as they have its last byte
        if outcome is Outcome.CLIENT_GONE and self._may_read_on():
            self.relay.read_on()
            self._attempts.alone = True
            self.deadline = min(self.deadline, self._clock() + self._plane.limits.read_on)
            return
        left = self.relay.client_left and outcome is not Outcome.CANCELLED
        self._ended_by = _CLIENT_GONE if left else Ending(outcome, cause)
        self._task.cancel()

    def end_late(self, now: float, slow: float) -> None:
        """End the exchange where it exceeds a limit at `now`. `slow`: a client that has taken nothing since then is too
        slow. Monotonic times."""
        if now > self.deadline:
            self.end_early(Outcome.TIMED_OUT, "total_timeout")
        elif self.relay.takes_nothing(slow):
            self.end_early(Outcome.TIMED_OUT, "slow_reader")

    def client_gone(self) -> None:
        """The client has closed its connection."""
        self.end_early(Outcome.CLIENT_GONE, "client_gone")

    def client_full(self) -> None:
        """The client reads more slowly than the provider sends."""
        self.relay.client_full()

    def client_ready(self) -> None:
        """The client reads again."""
        self.relay.client_ready()

    @property
    def _logged(self) -> dict[str, str]:
        return {"exchange_id": str(self.id)}

    def _may_read_on(self) -> bool:
        asked = self._attempts.under_way or self.relay.answer is not None  # between two attempts nobody is
        return asked and not self.relay.client_left and self._attempts.candidate.read_on and self._plane.may_read_on()

    async def _forward(self) -> Ending:
        generation = [(headers.GENERATION_ID, self._tap.name.encode())] if self._plane.send_generation_id else []
        try:
            answer = await self._attempts.first_answer(generation)
            leading = leads.lead(self._attempts.answered)
            if leading:
                self._check_redirect(answer)
        except UpstreamError as exc:
            return self._unanswered(exc)
        except UploadBroken as exc:
            return self._unsent(exc)
        self.relay.take(answer)
        try:
            return await self._pass_on(answer, leading=leading)
        except (UpstreamTimeout, UpstreamBroken) as exc:
            log.warning("exchange %s: the provider's answer broke off: %s", self.id, exc, extra=self._logged)
            self._client.abort(flush=True)
            return self._unless_client_left(_failure(exc))
        except ReadOnExceeded:
            return _CLIENT_GONE

    def _unanswered(self, error: UpstreamError) -> Ending:
        late = isinstance(error, UpstreamTimeout)
        said = "did not answer in time" if late else "could not be reached"
        log.warning("exchange %s: the provider %s: %s (%s)", self.id, said, error, error.cause, extra=self._logged)
        if late:
            self._refuse(Refused(504, "the provider did not answer in time"))
        elif error.cause == "redirect":
            self._refuse(Refused(502, "the provider redirects to another place"))
        else:
            self._refuse(Refused(502, "the provider refused the connection or could not be reached"))
        return self._unless_client_left(_failure(error))

    def _unsent(self, broken: UploadBroken) -> Ending:
        if broken.refused is None:
            return _CLIENT_GONE
        self._client.close_after()  # the rest of the body must not be taken for a request
        self._refuse(broken.refused)
        outcome = Outcome.TIMED_OUT if broken.cause == "body_timeout" else Outcome.CLIENT_GONE
        return self._unless_client_left(Ending(outcome, broken.cause))

    def _check_redirect(self, answer: Answer) -> None:
        """UpstreamUnreachable where an answer sends the client to another place."""
        location = self._attempts.answered.get(b"location")
        host = leads.elsewhere(answer.status, location, self._attempts.candidate.url, self._inward)
        if host is not None:
            answer.close()
            raise UpstreamUnreachable(f"it redirects to {host[:255]!r}, which is none of its paths", cause="redirect")

    def _inward(self, url: str) -> str | None:
        return self._call.configured.inward(self._attempts.candidate.provider, url)

    async def _pass_on(self, answer: Answer, *, leading: bool) -> Ending:
        answered = self._attempts.answered
        content_type = answered.get(b"content-type", "")
        stream = headers.is_stream(content_type) or (self._call.streamed and answer.status == 200)
        given = headers.downstream_response(
            answer.headers, answered, self._tap.name, status=answer.status, stream=stream
        )
        given += self._attempts.shown
        if leading:
            here = self._client.target.decode("latin-1")
            given = leads.turned(given, self._attempts.candidate.url, here, self._inward)
        if self._call.way_back is not None and not way_back.NAMES.isdisjoint(answered):
            candidate = self._attempts.candidate
            given = way_back.led_back(given, self._client, candidate.provider, candidate.url, self._call.way_back)
        if self._call.left:
            given = headers.replaced(given, self._call.left)
        if self._call.cors:
            given = cors.replaced(given, self._call.cors)
        whole = answer.whole()
        if whole is not None:
            self.relay.whole(whole)
            answer.close()
            self._client.respond(answer.status, given, whole)
            self._state = _State.RESPONDING
            return self._unless_client_left(_COMPLETED)
        encoding = answered.get(b"content-encoding", "")
        self._tap.head(Head(answer.status, content_type, encoding, *answering(self._attempts)))
        self._client.start(answer.status, given)
        self._state = _State.RESPONDING
        await self.relay.run(self._plane.limits.idle)
        answer.close()
        await self._client.writable()  # an answer is complete only once the client has read its last bytes
        self._client.finish()
        return self._unless_client_left(_COMPLETED)

    def _fail(self) -> None:
        if self._state is _State.RESPONDING:
            self._client.abort(flush=True)
        else:
            self._refuse(Refused(502, "the provider's answer cannot be passed on"))

    def _unless_client_left(self, ending: Ending) -> Ending:
        return _CLIENT_GONE if self.relay.client_left else ending

    def _tell_client(self, outcome: Outcome) -> None:
        asking, blocked = self._state is _State.ASKING, self.relay.blocked_since is not None
        if outcome is Outcome.TIMED_OUT and asking and not blocked:
            self._refuse(Refused(504, "the exchange took longer than the limit"))
        elif outcome is Outcome.CANCELLED and asking and not blocked:
            # No status that SDKs try again at; Google's for CANCELLED.
            self._refuse(Refused(499, "the request was cancelled at the gateway", code="cancelled"))
        elif outcome is Outcome.DRAINED and asking:
            self._client.close_after()  # a request that waits behind this one would begin when nobody records it
            self._refuse(Refused(503, "the gateway is shutting down"))
        elif outcome is not Outcome.CLIENT_GONE:
            # A client that does not read would keep a flush waiting.
            self._client.abort(flush=not blocked)

    def _refuse(self, refused: Refused) -> None:
        self._state = _State.RESPONDING
        extra = [*self._attempts.shown, *self._call.cors]
        refuse(self._client, self._call.family, refused, self._tap.name, extra=extra)

    def _responds(self) -> None:
        self._state = _State.RESPONDING

    def _facts(self, ending: Ending) -> Facts:
        relay = self.relay
        return Facts(
            ending=ending,
            attempts=self._attempts,
            status=relay.answer.status if relay.answer is not None else None,
            times=self._times,
            first_byte=relay.first_byte,
            ended=self._clock(),
        )

    def _record(self, ending: Ending) -> None:
        facts, body = self._facts(ending), self._attempts.candidate.request
        bought = facts.status is not None and facts.status < 300  # of nothing else is the input ever estimated
        self._tap.end(end_record(facts), body if bought and self._call.keep_body else None)
        self._plane.observer.ended(summary(facts, self._tap))


def _failure(error: UpstreamError) -> Ending:
    outcome = Outcome.TIMED_OUT if isinstance(error, UpstreamTimeout) else Outcome.UPSTREAM_FAILED
    return Ending(outcome, error.cause)
