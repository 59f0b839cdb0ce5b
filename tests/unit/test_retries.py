"""Policy, budget and Retry-After."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.gateway.attempt_settings import CAUSES, AttemptSettings
from services.gateway.retries import Retries, maybe_paid, retry_after


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ()),
        ("connect", ("connect",)),
        (" Connect , 429,5XX", ("connect", "429", "5xx")),
        ('["timeout", "408"]', ("timeout", "408")),
        (["broken", 529], ("broken", "529")),
    ],
)
def test_words_of_a_policy(words: object, expected: tuple[str, ...]) -> None:
    assert AttemptSettings(retry_on=words).retry_on == expected  # type: ignore[arg-type]  # pydantic reads it


@pytest.mark.parametrize("words", ["always", "200", "4xx", "399", "connect;429", 5, "600"])
def test_words_that_are_none(words: object) -> None:
    with pytest.raises(ValidationError):
        AttemptSettings(retry_on=words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", set[str]()),
        ("connect", {"connect_refused", "dns", "credential"}),
        ("timeout", {"first_byte_timeout"}),
        ("broken", {"reset", "closed_early"}),
        ("429", {"429"}),
        ("5xx", {"500", "503", "529"}),
        ("503,408", {"503", "408"}),
    ],
)
def test_what_a_policy_wants(words: str, wanted: set[str]) -> None:
    retries = Retries(AttemptSettings(retry_on=words))  # type: ignore[arg-type]
    asked = ("connect_refused", "dns", "credential", "first_byte_timeout", "reset", "closed_early", "request")
    found = {cause for cause in asked if retries.wanted(None, cause)}
    found |= {str(status) for status in (400, 401, 408, 429, 500, 503, 529) if retries.wanted(status, "")}
    assert found == wanted


def test_the_words_share_no_cause() -> None:
    assert sum(map(len, CAUSES.values())) == len(frozenset().union(*CAUSES.values()))


def spent(retries: Retries, now: float) -> int:
    """How many further attempts the budget has room for."""
    count = 0
    while retries.allowed(now):
        retries.spend(now)
        count += 1
    return count


@pytest.mark.parametrize(("budget", "requests", "expected"), [(0.2, 0, 10), (0.2, 1000, 200), (0.5, 7, 10), (0, 99, 0)])
def test_the_budget_is_a_share_of_the_requests(budget: float, requests: int, expected: int) -> None:
    retries = Retries(AttemptSettings(budget=budget))
    retries.note(0.0)
    retries.requests += requests
    assert spent(retries, 1.0) == expected


def test_the_budget_looks_back_for_a_minute() -> None:
    retries = Retries(AttemptSettings())
    for now in range(200):
        retries.note(now)
        retries.requests += 1 if now < 100 else 10
        if now == 99:
            assert spent(retries, now) == 12
    retries.note(200)
    assert spent(retries, 200) == 120
    assert spent(retries, 230) == 0
    for now in range(201, 300):
        retries.note(now)
    assert spent(retries, 300) == 10


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({b"retry-after": "7"}, 7),
        ({b"retry-after": " 0.5 "}, 0.5),
        ({b"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 60),
        ({b"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0),
        ({b"retry-after": "soon"}, None),
        ({b"retry-after": "-3"}, None),
        ({b"retry-after": "1e9"}, None),
        ({b"retry-after": "9" * 400}, 1e32),
        ({b"retry-after": "٣"}, None),
        ({b"retry-after": "7", b"retry-after-ms": "250"}, 0.25),
        ({b"retry-after": "7", b"retry-after-ms": "now"}, 7),
    ],
)
def test_retry_after(given: dict[bytes, str], expected: float | None) -> None:
    found = retry_after(given, now=40.0)
    assert found == expected if expected is None else found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wait", "asked", "attempt", "expected"),
    [
        (0, None, 0, None),
        (0, 0, 0, 0),
        (5, 3, 0, 3),
        (5, 6, 0, None),
        (5, None, 0, 0.5),
        (5, None, 3, 4),
        (5, None, 4, None),
    ],
)
def test_the_same_candidate_is_waited_for_within_a_bound(
    wait: float, asked: float | None, attempt: int, expected: float | None
) -> None:
    assert Retries(AttemptSettings(wait=wait)).pause(asked, attempt) == expected


@pytest.mark.parametrize(
    ("status", "cause", "expected"),
    [
        (None, "connect_refused", False),
        (None, "first_byte_timeout", True),
        (None, "reset", True),
        (None, "credential", False),
        (429, "", False),
        (500, "", False),
        (504, "", True),
    ],
)
def test_what_may_have_been_paid(status: int | None, cause: str, expected: bool) -> None:
    assert maybe_paid(status, cause) is expected
