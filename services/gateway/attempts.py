"""The attempts of one exchange. Its plan has the candidates; usage is booked on the one that answers. After the first
byte for the client there is no further attempt (decision 29).

A request that met a connection the provider was closing is sent once more, on a new one (decision 57). Where an attempt
fails otherwise, policy and budget decide whether the next candidate is asked (decisions 85 and 86).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from services.gateway import retries
from services.gateway.bad_keys import BEGINNING, SECONDS, BadKey
from services.gateway.client.headers import ATTEMPTS, Header, fields
from services.gateway.client.upload import Upload
from services.gateway.credential_health import Health, Verdict
from services.gateway.retries import Retries
from services.gateway.upstream.ways import Answer
from shared.contract.provider_state import Health as State
from shared.contract.tail import Attempt
from shared.runtime.errors import UploadBroken, UpstreamError

log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024  # of an answer that is not passed on, so that its connection serves again
_READ_SECONDS = 0.25
_UNAUTHORIZED = 401
_MAY_REFUSE = (400, _UNAUTHORIZED)
# They may be about the credential, or about the request: no money, no permission.
_FORBIDDEN = frozenset({402, 403})
# Of attempts without an answer, those that say nothing about the upstream.
_OURS = frozenset({"cancelled", "internal", "request", "client_gone", "body_timeout", "body_too_large"})


class Authenticator(Protocol):
    """A credential of a provider, as its requests carry it."""

    def prepare(self, outgoing: Any) -> Sequence[Header]:
        """The headers that authenticate a candidate's request, made anew for each attempt. UpstreamError, cause
        `credential`, where there are none."""


class Candidate(msgspec.Struct, frozen=True):
    """An upstream and the request for it: everything that differs between two attempts of one exchange."""

    provider: str
    model: str  # as requested, without the provider prefix; "" where the request names none
    credential: str  # its name, never its secret; "" where the provider has only one
    method: str
    url: str  # without the query
    query: bytes
    headers: list[Header]  # without the credential
    body: bytes | Upload
    authenticator: Authenticator
    plain: bytes | None = None  # the body without its content encoding, where it has one and could be read
    late_model: Callable[[], str] | None = None  # the model, where an upload names it at its end
    read_on: bool = False  # when the client leaves, read on for the usage at the answer's end
    health: Health | None = None  # of its credential; None where nobody keeps it
    caller: str = ""  # whose request it is
    trusted: bool = False  # a 401 is about the credential, whatever the caller has written
    bad_key: BadKey | None = None  # what refusals say, where their status does not tell what they are about
    shown: tuple[Header, ...] = ()  # what the client is told of it

    @property
    def request(self) -> bytes | None:
        """What a meter can estimate from; None of an upload."""
        return self.plain if self.plain is not None else self.body if isinstance(self.body, bytes) else None

    @property
    def request_bytes(self) -> int:
        """The size of that; of an upload, what has gone upstream."""
        return self.body.sent if isinstance(self.body, Upload) else len(self.plain or self.body)


class Plan:
    """The candidates of an exchange. Only the first one is made beforehand."""

    __slots__ = ("first",)

    def __init__(self, first: Candidate) -> None:
        self.first = first

    def more(self, now: float) -> bool:
        """Whether there is another candidate to try. `now`: monotonic seconds."""
        return False

    def another(self, *, elsewhere: bool, now: float) -> Candidate | None:
        """The next candidate to try; None where there is none. `elsewhere`: better at another provider."""
        return None


Clock = Callable[[], float]  # monotonic seconds


class Upstream(Protocol):
    """The border to the providers."""

    async def send(
        self,
        provider: str,
        method: str,
        url: str,
        query: bytes,
        headers: list[Header],
        body: bytes | Upload,
        *,
        fresh: bool = False,
    ) -> Answer: ...


class Attempts:
    """Asks the candidates of a plan. `made`: the attempts that have ended."""

    __slots__ = (
        "_clock",
        "_forbidden",
        "_refused",
        "_retries",
        "_sleep",
        "_upstream",
        "alone",
        "answered",
        "candidate",
        "made",
        "plan",
        "under_way",
    )

    def __init__(
        self,
        plan: Plan,
        upstream: Upstream,
        retries: Retries,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.plan = plan
        self.alone = False  # nobody waits for an answer any more: no further attempt
        self.under_way = False  # a provider is being asked
        self.candidate = plan.first  # the one that is tried, or has answered
        self.made: list[Attempt] = []
        self.answered: dict[bytes, str] = {}  # header fields of the answer, by lower-case name
        self._clock = clock
        self._forbidden: list[Candidate] = []  # those that were refused, perhaps for what was asked
        self._refused = False  # the last answer is about the credential, whatever was asked
        self._retries = retries
        self._sleep = sleep
        self._upstream = upstream
        retries.requests += 1

    @property
    def shown(self) -> Sequence[Header]:
        """What the client is told of them."""
        shown = self.candidate.shown
        return shown if len(self.made) == 1 else ((ATTEMPTS, b"%d" % len(self.made)), *shown[1:])

    async def first_answer(self, extra: list[Header]) -> Answer:
        """The first answer of a candidate that is not followed by another attempt, once its headers are here. `extra`:
        headers for every request.

        UpstreamError where the last candidate does not answer. May be cancelled.
        """
        fresh = False
        while True:
            try:
                answer = await self._try(self.candidate, extra, fresh=fresh)
            except UpstreamError as exc:
                if exc.again and not fresh:
                    fresh = True
                    continue
                another = await self._another(None, exc.cause)
                if another is None:
                    raise
            else:
                if answer.status < 400:
                    if self._forbidden:
                        self._outdo()
                    return answer
                another = await self._another(answer, "")
                if another is None:
                    return answer
            self.candidate, self.answered, fresh = another, {}, False

    async def _try(self, candidate: Candidate, extra: list[Header], *, fresh: bool) -> Answer:
        started = self._clock()
        decides = candidate.health is not None and candidate.health.begin(started)
        status, cause, again = None, "internal", False
        self.under_way = True
        try:
            answer = await self._upstream.send(
                candidate.provider,
                candidate.method,
                candidate.url,
                candidate.query,
                [*candidate.headers, *candidate.authenticator.prepare(candidate), *extra],
                candidate.body,
                fresh=fresh,
            )
            status, cause = answer.status, ""
            self.answered = fields(answer.headers)
            self._refused = candidate.trusted and status in _MAY_REFUSE and await _refuses(answer, candidate.bad_key)
        except (UpstreamError, UploadBroken) as exc:
            cause, again = exc.cause, getattr(exc, "again", False)
            raise
        except asyncio.CancelledError:
            status, cause = None, "cancelled"
            raise
        else:
            return answer
        finally:
            self.under_way = False
            if isinstance(candidate.body, Upload):
                candidate.body.close()  # a provider may answer before it has read everything
            ended, fine = self._clock(), status is not None and status < 400
            took = int((ended - started) * 1000)
            paid = not fine and not again and retries.maybe_paid(status, cause)
            made = Attempt(candidate.provider, candidate.model, candidate.credential, status, cause, took, paid)
            self.made.append(made)
            health = candidate.health
            if health is not None and (not fine or health.troubled):
                verdict = Verdict.NOTHING if again else _verdict(status, cause, refused=self._refused)
                self._tell(candidate, health, verdict, started, ended, decides=decides)

    def _tell(
        self, candidate: Candidate, health: Health, verdict: Verdict, began: float, ended: float, *, decides: bool
    ) -> None:
        """Tell the health of a credential what an attempt with it says."""
        made = self.made[-1]
        wait = None
        if verdict is Verdict.FAILED and made.status is not None:
            wait = retries.retry_after(self.answered, time.time())
            wait = None if wait is None else min(wait, self._retries.settings.retry_after)
        cause = str(made.status) if made.status is not None else made.cause
        caller = candidate.caller
        if health.end(verdict, began, ended, decides=decides, cause=cause, caller=caller, wait=wait):
            _say(candidate, health)

    async def _another(self, answer: Answer | None, cause: str) -> Candidate | None:
        """The candidate of the next attempt, where there is one, and policy and budget allow it; `answer` is done with
        then."""
        failed, policy, now = self.candidate, self._retries, self._clock()
        status = None if answer is None else answer.status
        refused = self._refused and answer is not None
        forbidden = not refused and (status in _FORBIDDEN or status == _UNAUTHORIZED)
        if forbidden:
            self._forbidden.append(failed)
        if self.alone or isinstance(failed.body, Upload) or len(self.made) >= policy.settings.most or policy.stopped():
            return None
        wanted = policy.wanted(status, cause)
        if not (wanted or refused or forbidden):
            return None
        if not self.plan.more(now) and not (wanted and policy.settings.wait):
            return None
        # Refused ones are free: it puts the credential out, so that it does not happen again and again.
        if not refused and not policy.allowed(now, refused=forbidden):
            policy.unmade += 1
            return None
        found = self.plan.another(elsewhere=wanted and status != 429, now=now)
        pause = 0.0
        if found is None and wanted:
            asked = retries.retry_after(self.answered, time.time()) if answer is not None else None
            wait = policy.pause(asked, len(self.made) - 1)
            if wait is not None:
                found, pause = failed, wait
        if found is None:
            return None
        if not refused:
            policy.spend(now, refused=forbidden)
        if answer is not None:
            self.made[-1] = msgspec.structs.replace(self.made[-1], cause=_cause(answer.status, refused=refused))
            await _drop(answer)
        if pause:
            await self._sleep(pause)
        return found

    def _outdo(self) -> None:
        """The request was served: where another credential of the same provider was refused for it, that is why. Not on
        paths without a model: there accounts have things of their own."""
        now = self._clock()
        for refused in self._forbidden:
            same = refused.provider == self.candidate.provider and refused.model == self.candidate.model
            if same and refused.model and refused.health is not None and refused.health.outdone(refused.model, now):
                who, why = _who(refused), refused.health.cause
                log.error("provider %s: %s refuses %r (%s), which another one serves", *who, refused.model, why)


async def _refuses(answer: Answer, bad_key: BadKey | None) -> bool:
    """Whether an answer to a call of a model is about the credential: a 401 that does not say otherwise, or a 400 that
    says so."""
    if bad_key is None or not bad_key.looks(answer.status):
        return answer.status == _UNAUTHORIZED
    try:
        return bad_key.told(answer.status, await answer.beginning(BEGINNING, SECONDS))
    except asyncio.CancelledError:
        answer.close()  # nobody else has it yet
        raise


def _verdict(status: int | None, cause: str, *, refused: bool) -> Verdict:
    if status is None:
        return Verdict.NOTHING if cause in _OURS else Verdict.FAILED
    if refused:
        return Verdict.REFUSED
    if status < 400:
        return Verdict.ACCEPTED
    if status == _UNAUTHORIZED or status in _FORBIDDEN:
        return Verdict.FORBIDDEN
    return Verdict.FAILED if status in (408, 429) or status >= 500 else Verdict.ACCEPTED


def _cause(status: int, *, refused: bool) -> str:
    """The word for an answer that was not passed on."""
    if refused or status == _UNAUTHORIZED or status in _FORBIDDEN:
        return "refused"
    if status == 429:
        return "rate_limited"
    return "overloaded" if status in (503, 529) else "error"


def _say(candidate: Candidate, health: Health) -> None:
    """Log what has become of a credential."""
    level = {State.OUT: logging.ERROR, State.COOLING: logging.WARNING, State.HEALTHY: logging.INFO}[health.state]
    why = f" ({health.cause})" if health.state is not State.HEALTHY else ""
    log.log(level, "provider %s: %s is %s%s", *_who(candidate), health.state, why)


def _who(candidate: Candidate) -> tuple[str, str]:
    """A provider, and its credential in words."""
    return candidate.provider, f"credential {candidate.credential!r}" if candidate.credential else "its credential"


async def _drop(answer: Answer) -> None:
    """Be done with an answer that is not passed on. A short one is read to its end, to keep its connection."""
    read = 0

    def sink(chunk: bytes) -> None:
        nonlocal read
        read += len(chunk)
        if read > _READ_BYTES:
            raise _TooLong

    try:
        if answer.whole() is None:
            async with asyncio.timeout(_READ_SECONDS):
                await answer.relay(sink, _READ_SECONDS)
    except (UpstreamError, TimeoutError, _TooLong):
        pass  # its connection closes
    finally:
        answer.close()


class _TooLong(Exception):
    """An answer that is not passed on is too long to be read."""
