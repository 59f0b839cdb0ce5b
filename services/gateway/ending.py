"""How an exchange ended, and the two records of it: the end of its tail, and the summary for observers."""

from __future__ import annotations

from typing import NamedTuple

from services.gateway.attempts import Attempts, Candidate
from services.gateway.capture.tap import ExchangeTap
from services.gateway.client import headers
from services.gateway.observers import Summary
from shared.contract.tail import End, Outcome, Packed

_LONGEST_MODEL = 256  # characters, as admission has it


class Ending(NamedTuple):
    """How an exchange ended; each has exactly one. `cause`: a machine word; "" where nothing went wrong."""

    outcome: Outcome
    cause: str = ""


class Times(NamedTuple):
    """When an exchange began, in monotonic seconds."""

    arrived: float  # the request's head arrived
    started: float  # the open record was durable


class Facts(NamedTuple):
    """The facts of an exchange that has ended. Times are monotonic seconds."""

    ending: Ending
    attempts: Attempts
    status: int | None  # the provider's; None where it sent none
    times: Times
    first_byte: float | None
    ended: float


class Answering(NamedTuple):
    """Who answers an exchange; "" stands for what the open record says."""

    provider: str
    model: str
    credential: str
    path: str


def answering(attempts: Attempts) -> Answering:
    """Who answers, or was asked last."""
    candidate = attempts.candidate
    if candidate is attempts.plan.first:
        return Answering("", "", candidate.credential, "")
    return Answering(candidate.provider, candidate.model, candidate.credential, path_of(candidate))


def path_of(candidate: Candidate) -> str:
    """The path of a candidate's request, as the open record has it."""
    return candidate.url.partition("://")[2].partition("/")[2]


def end_record(facts: Facts) -> End:
    """The end of the tail. The tap fills in the last bytes and the sizes."""
    candidate, first_byte, who = facts.attempts.candidate, facts.first_byte, answering(facts.attempts)
    late = candidate.late_model() if candidate.late_model is not None and not candidate.model else ""
    return End(
        outcome=facts.ending.outcome,
        status=facts.status,
        content_type=facts.attempts.answered.get(b"content-type", ""),
        content_encoding=facts.attempts.answered.get(b"content-encoding", ""),
        response_bytes=0,
        request_bytes=candidate.request_bytes,
        first_byte_ms=None if first_byte is None else int((first_byte - facts.times.started) * 1000),
        duration_ms=int((facts.ended - facts.times.started) * 1000),
        request_id=headers.request_id(facts.attempts.answered),
        body=Packed(b""),
        provider=who.provider,
        model=who.model or late[:_LONGEST_MODEL],
        credential=who.credential,
        path=who.path,
        attempts=tuple(facts.attempts.made),
        cause=facts.ending.cause,
    )


def summary(facts: Facts, tap: ExchangeTap) -> Summary:
    """The summary for observers, once the tap has the end."""
    candidate, first_byte = facts.attempts.candidate, facts.first_byte
    return Summary(
        id=tap.id,
        provider=candidate.provider,
        model=candidate.model,
        status=facts.status,
        outcome=facts.ending.outcome,
        cause=facts.ending.cause,
        attempts=facts.attempts.made,
        response_bytes=tap.bytes,
        lost_bytes=tap.lost,
        first_byte=None if first_byte is None else first_byte - facts.times.started,
        first_byte_to_client=None if first_byte is None else first_byte - facts.times.arrived,
        duration=facts.ended - facts.times.started,
    )
