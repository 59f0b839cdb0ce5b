"""The attempts of one exchange. Its plan says whom to ask; who answered is who is booked. After the first byte nothing
is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from services.gateway.client.headers import Header, fields
from services.gateway.upstream.client import Answer
from shared.contract.tail import Attempt
from shared.runtime.errors import UpstreamError


class Candidate(msgspec.Struct, frozen=True):
    """Whom to ask, and with what: everything that differs between two attempts of one exchange."""

    provider: str
    model: str  # as requested, without the provider prefix; "" where the request names none
    credential: str  # its name, never its secret; "" where there is one alone
    method: str
    url: str  # without the query
    query: bytes
    headers: list[Header]
    body: bytes


Plan = tuple[Candidate, ...]  # in the order in which they are tried. Today it has one; policies decide on more
Clock = Callable[[], float]  # monotonic seconds


class Upstream(Protocol):
    """Where requests are sent: the border to the providers."""

    async def send(
        self, provider: str, method: str, url: str, query: bytes, headers: list[Header], body: bytes
    ) -> Answer: ...


class Attempts:
    """Asks the candidates of a plan. `made` lists the attempts that have ended."""

    __slots__ = ("_clock", "_upstream", "answered", "candidate", "made", "plan")

    def __init__(self, plan: Plan, upstream: Upstream, clock: Clock = time.monotonic) -> None:
        self.plan = plan
        self.candidate = plan[0]  # the one that is tried, or has answered
        self.made: list[Attempt] = []
        self.answered: dict[bytes, str] = {}  # header fields of the answer, by lower-case name
        self._upstream = upstream
        self._clock = clock

    async def first_answer(self, extra: list[Header]) -> Answer:
        """The first answer that is given, with its headers; `extra` headers go with each request.

        UpstreamError where there is none. May be cancelled.
        """
        return await self._try(self.plan[0], extra)

    async def _try(self, candidate: Candidate, extra: list[Header]) -> Answer:
        self.candidate = candidate
        started = self._clock()
        status, cause = None, "cancelled"
        try:
            answer = await self._upstream.send(
                candidate.provider,
                candidate.method,
                candidate.url,
                candidate.query,
                [*candidate.headers, *extra],
                candidate.body,
            )
            status, cause = answer.status, ""
            self.answered = fields(answer.headers)
        except UpstreamError as exc:
            cause = exc.cause
            raise
        else:
            return answer
        finally:
            took = int((self._clock() - started) * 1000)
            self.made.append(Attempt(candidate.provider, candidate.model, candidate.credential, status, cause, took))
