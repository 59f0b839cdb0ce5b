"""The attempts of one exchange. Its plan lists the candidates; usage is booked on the one that answers. After the first
byte of an answer there is no further attempt (decision 29).

A request that met a connection the provider was closing is sent once more, on a new one (decision 57)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from services.gateway.client.headers import Header, fields
from services.gateway.client.upload import Upload
from services.gateway.upstream.ways import Answer
from shared.contract.tail import Attempt
from shared.runtime.errors import UploadBroken, UpstreamError


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

    @property
    def request(self) -> bytes | None:
        """What a meter can estimate from; None of an upload."""
        return self.plain if self.plain is not None else self.body if isinstance(self.body, bytes) else None

    @property
    def request_bytes(self) -> int:
        """The size of that; of an upload, what has gone upstream."""
        return self.body.sent if isinstance(self.body, Upload) else len(self.plain or self.body)


class Plan(msgspec.Struct, frozen=True):
    """The candidates of an exchange, in the order in which they are tried. Only the first one is made beforehand."""

    first: Candidate
    further: Iterator[Candidate] = iter(())  # makes each when it is asked for


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

    __slots__ = ("_clock", "_upstream", "answered", "candidate", "made", "plan")

    def __init__(self, plan: Plan, upstream: Upstream, clock: Clock = time.monotonic) -> None:
        self.plan = plan
        self.candidate = plan.first  # the one that is tried, or has answered
        self.made: list[Attempt] = []
        self.answered: dict[bytes, str] = {}  # header fields of the answer, by lower-case name
        self._upstream = upstream
        self._clock = clock

    async def first_answer(self, extra: list[Header]) -> Answer:
        """The first answer of a candidate, once its headers are here. `extra`: headers for every request.

        UpstreamError where no candidate answers. May be cancelled.
        """
        try:
            return await self._try(self.plan.first, extra)
        except UpstreamError as exc:
            if not exc.again:
                raise
        return await self._try(self.plan.first, extra, fresh=True)

    async def _try(self, candidate: Candidate, extra: list[Header], *, fresh: bool = False) -> Answer:
        self.candidate = candidate
        started = self._clock()
        status, cause = None, "internal"
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
        except (UpstreamError, UploadBroken) as exc:
            cause = exc.cause
            raise
        except asyncio.CancelledError:
            cause = "cancelled"
            raise
        else:
            return answer
        finally:
            if isinstance(candidate.body, Upload):
                candidate.body.close()  # a provider may answer before it has read everything
            took = int((self._clock() - started) * 1000)
            self.made.append(Attempt(candidate.provider, candidate.model, candidate.credential, status, cause, took))
