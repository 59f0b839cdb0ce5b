"""Limits without Redis: how they are written, which of them a request is under, and what is served while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import pytest

from services.gateway.client.flags import most_output
from services.gateway.limiting import scopes
from services.gateway.limiting.answers import Verdict, left, refusal
from services.gateway.limiting.asking import Asking
from services.gateway.limiting.away import Away
from services.gateway.limiting.limiter import Limiter
from services.gateway.limiting.releases import Releases
from services.gateway.limiting.scopes import Scope, Size
from shared.access import limit_form
from shared.access.limit_form import BadLimits
from shared.books.scripted import Call
from shared.contract import limits
from shared.contract.dialects import Dialect
from shared.contract.limits import Limits, ModelLimits, Raise, Reset
from shared.runtime import store
from shared.runtime.errors import Refused, StoreUnavailable

NOW_MS = 1_796_000_000_000
CALL = Size(True, 400, 100)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def scope(**amounts: Any) -> Scope:
    return Scope("key:x", "key:x", ModelLimits(**amounts))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"limit": -1}, "limit: must be from 0 to 9007199 US dollars"),
        ({"limit": "1e999999"}, "limit: must be from 0 to 9007199 US dollars"),
        ({"limit": "sNaN"}, "limit: must be an amount in US dollars"),
        ({"limit": "much"}, "limit: must be an amount in US dollars"),
        ({"limit": True}, "limit: must be an amount in US dollars"),
        ({"limit": float("inf")}, "limit: must be an amount in US dollars"),
        ({"limit_tokens": 1.5}, "limit_tokens: must be a whole number"),
        ({"limit_reset": "hourly"}, "limit_reset: must be never, daily, weekly or monthly"),
        ({"rate_limit": {"requests_per_minute": 0}}, "rate_limit.requests_per_minute: must be from 1 to"),
        ({"rate_limit": {"per_second": 1}}, "rate_limit.per_second: is no limit"),
        ({"rate_limit": 5}, "rate_limit: must be a block"),
        ({"soft": "yes"}, "soft: must be true or false"),
        ({"raised": {"limit": 5}}, "raised: must be a block with until"),
        ({"raised": {"limit": 5, "until": "soon"}}, "raised.until: must be a time"),
        ({"models": {"gpt-4o": {"models": {}}}}, "models.gpt-4o.models: is no limit"),
        ({"models": {"": {}}}, "models.: must be a block, under a pattern"),
        ({"budget": 5}, "budget: is no limit"),
    ],
)
def test_limits_that_cannot_be_are_refused_by_name(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadLimits, match=f"^{says}"):
        limit_form.changed(given)


def test_what_is_not_named_stays_and_null_takes_away() -> None:
    first = limit_form.changed({"limit": "0.1", "rate_limit": {"requests_per_minute": 6, "tokens_per_minute": 7}})
    assert first.limit_nanousd == 100_000_000
    second = limit_form.changed({"limit": None, "rate_limit": {"requests_per_minute": None}}, first)
    assert second == Limits(tokens_per_minute=7)
    assert limit_form.changed({"rate_limit": None}, second) == Limits()


def test_limits_are_written_as_they_are_read() -> None:
    found = limit_form.changed(
        {
            "limit": 2.5,
            "limit_reset": "weekly",
            "raised": {"limit": 4, "until": "2027-01-01T00:00:00Z"},
            "models": {"gpt-4*": {"limit_tokens": 9, "soft": True}},
        }
    )
    assert limits.decode(limits.encode(found)) == found
    shown = limit_form.shown(found)
    assert shown["raised"]["until"] == "2027-01-01T00:00:00Z"
    assert limit_form.changed(shown) == found


def test_what_is_raised_holds_until_its_end() -> None:
    given = ModelLimits(limit_nanousd=5, limit_tokens=7, raised=Raise(until=100, limit_nanousd=9))
    assert limits.effective(given, 99.9).limit_nanousd == 9
    assert limits.effective(given, 99.9).limit_tokens == 7
    assert limits.effective(given, 100).limit_nanousd == 5


@pytest.mark.parametrize(
    ("reset", "at", "expected"),
    [
        (Reset.DAILY, "2026-11-30T23:59:59", "2026-12-01"),
        (Reset.WEEKLY, "2026-11-29T12:00:00", "2026-11-30"),  # a Sunday
        (Reset.WEEKLY, "2026-11-30T00:00:00", "2026-12-07"),
        (Reset.MONTHLY, "2026-12-31T12:00:00", "2027-01-01"),
        (Reset.NEVER, "2026-12-31T12:00:00", None),
    ],
)
def test_budgets_begin_anew_at_midnight_utc(reset: Reset, at: str, expected: str | None) -> None:
    at_ms = int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1000)
    again = limits.begins_anew(reset, at_ms)
    assert (None if again is None else datetime.fromtimestamp(again, UTC).isoformat()[:10]) == expected
    if again is not None:
        before, after = limits.period(again * 1000 - 1).field(reset), limits.period(again * 1000).field(reset)
        assert before == limits.period(at_ms).field(reset) != after


def test_a_request_is_under_the_limits_of_its_key_team_everything_and_model() -> None:
    own = Limits(
        limit_tokens=1, models={"anthropic/*": ModelLimits(limit_tokens=2), "gpt*": ModelLimits(limit_tokens=3)}
    )
    others = {"team:red": Limits(limit_tokens=4), "team:blue": Limits(limit_tokens=5), "all": Limits(limit_tokens=6)}
    found = scopes.asked("k", own, "red", others, [("openai", "gpt-4o")], 0)
    assert [one.name for one in found] == ["key:k", "key:k:gpt*", "team:red", "all"]
    assert [one.owner for one in found] == ["key:k", "key:k", "team:red", "all"]
    assert scopes.asked("k", None, "", {"team:red": Limits(limit_tokens=4)}, [("openai", "gpt-4o")], 0) == []
    found = scopes.asked("k", own, "", {}, [("openai", "o3"), ("openai", "gpt-4o"), ("openai", "gpt-5")], 0)
    assert [one.name for one in found] == ["key:k", "key:k:gpt*"]


def test_patterns_name_models_however_a_provider_takes_them() -> None:
    """Azure takes GPT-4o for gpt-4o, and Google models/gemini for gemini: neither is a way around a limit."""
    assert limits.matches("gemini-2*", "gemini", "models/gemini-2.5-pro")
    assert limits.matches("gemini/gemini-2*", "gemini", "models/gemini-2.5-pro")
    for pattern in ("gpt-4o", "GPT-4*", "azure/gpt*", "Azure/gpt-4O"):
        assert limits.matches(pattern, "azure", "GPT-4o")
    assert not limits.matches("gpt-4o", "azure", "gpt-4o-mini")


@pytest.mark.parametrize(
    ("method", "dialect", "costs"),
    [
        ("POST", Dialect.OPENAI_CHAT, True),
        ("GET", Dialect.METADATA, False),
        ("POST", Dialect.METADATA, True),
        ("POST", Dialect.COUNT_TOKENS, False),
        ("POST", Dialect.PASSTHROUGH, True),
    ],
)
def test_requests_that_cost_nothing_reserve_nothing(method: str, dialect: Dialect, costs: bool) -> None:
    assert scopes.calls(method, dialect) is costs


@pytest.mark.parametrize(
    ("body", "most"),
    [
        (b'{"max_tokens": 5}', 5),
        (b'{"max_completion_tokens": 7, "max_tokens": 5, "n": 3}', 21),
        (b'{"max_output_tokens": 9}', 9),
        (b'{"generationConfig": {"maxOutputTokens": 4, "candidateCount": 2}}', 8),
        (b'{"generationConfig": []}', None),
        (b'{"max_tokens": "5"}', None),
        (b'{"max_tokens": 1e99, "n": -4}', None),
        (b'{"max_tokens": 1, "max_completion_tokens": "32000"}', None),  # some providers read it all the same
        (b'{"max_tokens": 1, "max_completion_tokens": 32000.0}', None),
        (b'{"max_tokens": true}', None),
        (b'{"max_tokens": 5, "n": 4.0}', None),
        (b'{"max_tokens": 5, "best_of": 4}', 20),
        (b'{"max_output_tokens": 5, "previous_response_id": "resp_1"}', None),  # its model reads more than the body
        (b'{"cachedContent": "cachedContents/1", "generationConfig": {"maxOutputTokens": 4}}', None),
        (b"{}", None),
        (b"[]", None),
        (b"not JSON", None),
    ],
)
def test_the_most_that_a_request_may_write_is_read_by_every_name(body: bytes, most: int | None) -> None:
    assert most_output(body) == most


def test_a_long_wait_is_not_tried_again_by_sdks() -> None:
    verdict = Verdict(0, NOW_MS, why=5, wait_ms=61_000, left_rpd=0)
    found = dict(refusal(scope(requests_per_day=10), verdict).headers)
    assert (found[b"retry-after"], found[b"x-should-retry"]) == (b"61", b"false")
    short = dict(refusal(scope(requests_per_minute=10), Verdict(0, NOW_MS, why=3, wait_ms=1)).headers)
    assert short[b"retry-after"] == b"1"
    assert b"x-should-retry" not in short


def test_what_is_left_is_that_of_the_tightest_scope() -> None:
    wide = scope(limit_nanousd=10**10, requests_per_minute=100), Verdict(1, NOW_MS, nanousd=10**9, left_rpm=60)
    tight = scope(limit_nanousd=10**9, tokens_per_minute=100), Verdict(2, NOW_MS, held_nanousd=10**8, left_tpm=50)
    found = dict(left([wide, tight]))
    assert found[b"x-arouter-limit-remaining"] == b"0.900000000"
    assert (found[b"x-ratelimit-limit"], found[b"x-ratelimit-remaining"]) == (b"100", b"50")
    assert found[b"x-arouter-limit-exceeded"] == b"soft"


def test_known_scopes_are_served_without_redis_from_what_they_had_left() -> None:
    clock = Clock()
    away, budget = Away(60, clock), scope(limit_tokens=1000)
    away.note(budget, Verdict(1, NOW_MS, tokens=500, reserve_tokens=200))
    away.admit([budget], CALL, 1)
    away.admit([budget], CALL, 1)
    with pytest.raises(Refused) as refused:
        away.admit([budget], CALL, 1)
    assert refused.value.status == 429
    assert away.served == 2


def test_a_redis_that_answers_with_errors_alone_is_not_served_from_for_ever() -> None:
    clock = Clock()
    away, budget = Away(60, clock), scope(limit_tokens=1000)
    away.note(budget, Verdict(1, NOW_MS))
    clock.seconds = 500.0  # nobody asked meanwhile
    away.admit([budget], CALL, 0)
    clock.seconds = 561.0
    with pytest.raises(Refused) as refused:
        away.admit([budget], CALL, 0)
    assert refused.value.code == "limits_not_checked"
    away.note(budget, Verdict(1, NOW_MS))
    away.admit([budget], CALL, 0)


def test_rates_flow_without_redis() -> None:
    clock = Clock()
    away, rate = Away(60, clock), scope(requests_per_minute=60)
    away.note(rate, Verdict(1, NOW_MS, left_rpm=0))
    with pytest.raises(Refused):
        away.admit([rate], CALL, 1)
    clock.seconds = 1.0
    away.admit([rate], CALL, 1)
    with pytest.raises(Refused):
        away.admit([rate], CALL, 1)


@pytest.mark.parametrize(
    ("seconds", "since", "known"), [(60, 61, True), (60, 1, False), (None, 0, True)], ids=["long", "unknown", "refuse"]
)
def test_what_is_not_known_is_refused_without_redis(seconds: float | None, since: float, known: bool) -> None:
    away, budget = Away(seconds, Clock()), scope(limit_tokens=1000)
    if known:
        away.note(budget, Verdict(1, NOW_MS))
    with pytest.raises(Refused) as refused:
        away.admit([budget], CALL, since)
    assert (refused.value.status, refused.value.code) == (503, "limits_not_checked")


class Late(Releases):
    """Notes the permits of questions that may yet be heard."""

    def __init__(self) -> None:
        self.permits: list[str] = []

    def add_late(self, scopes: Collection[str], permit: str) -> None:
        self.permits.append(permit)


async def test_a_redis_that_does_not_answer_is_asked_once_a_second() -> None:
    """And nobody waits for it meanwhile."""
    away = store.connect("redis://127.0.0.1:9/0")
    limiter = Limiter(away, lambda: "BOOT", 1, None)
    limiter.releases = late = Late()
    for _ in range(3):
        with pytest.raises(Refused) as refused:
            await limiter.reserve([scope(limit_tokens=1)], "", CALL)
        assert (refused.value.status, refused.value.code) == (503, "limits_not_checked")
    assert late.permits == ["BOOT.0"]  # the others were never asked
    known = scope(limit_tokens=1000)
    serving = Limiter(away, lambda: "BOOT", 1, 60)
    serving.away.note(known, Verdict(1, NOW_MS))
    assert (await serving.reserve([known], "", CALL)).permit == "BOOT.0"
    await away.aclose()


async def test_releases_that_wait_for_redis_are_bounded() -> None:
    """By their number, and not by that of their scopes; those that were not heard still count."""
    away = store.connect("redis://127.0.0.1:9/0")
    waiting = Releases(away, most=5)
    for n in range(4):
        waiting.add("undo", ["key:a"], f"BOOT.{n}")
    with pytest.raises(StoreUnavailable):
        await waiting.flush()
    for n in range(4, 9):
        waiting.add("undo", ["key:a"], f"BOOT.{n}")
    assert len(waiting) == 5
    await away.aclose()


async def test_a_question_that_nobody_waits_for_any_more_is_not_asked() -> None:
    """Its release may come before it, and then nothing would release what it reserves."""
    away = store.connect("redis://127.0.0.1:9/0")
    asking, asked = Asking(away), []
    asking.heard(0)

    def question(until: int) -> list[Call]:
        asked.append(until)
        return []

    task = asyncio.get_running_loop().create_task(asking.ask(question))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asking.ask(lambda _: [])
    assert not asked
    await away.aclose()
