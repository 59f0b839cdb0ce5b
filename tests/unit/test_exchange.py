"""One exchange in every state: who ends it, how far its answer was, whether its client is there, and reads."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from services.gateway.attempt_settings import AttemptSettings
from shared.contract.tail import Attempt, Head, Outcome
from tests.support.playbook import LIMITS, Stage

DONE, GONE, FAILED, LATE, DRAINED, CANCELLED = (
    Outcome.COMPLETED,
    Outcome.CLIENT_GONE,
    Outcome.UPSTREAM_FAILED,
    Outcome.TIMED_OUT,
    Outcome.DRAINED,
    Outcome.CANCELLED,
)


class Row(NamedTuple):
    """A script with its expected results. `seen`: calls on the client's side; `body`: the bytes in the tail."""

    script: str
    outcome: Outcome
    cause: str
    seen: str
    body: str = ""
    read_on: bool = False


TABLE = [
    # Nobody has answered.
    Row("unreachable", FAILED, "connect_refused", "whole 502"),
    Row("unanswered", LATE, "first_byte_timeout", "whole 504"),
    Row("nonsense", FAILED, "internal", "whole 502"),
    # It met a connection that the provider was closing, and is sent once more.
    Row("stale answer a end", DONE, "", "head 200|a|end", "a"),
    Row("stale whole", DONE, "", "whole 200", "body"),
    Row("stale stale", FAILED, "closed_early", "whole 502"),
    Row("stale unreachable", FAILED, "connect_refused", "whole 502"),
    Row("stale leave", GONE, "client_gone", ""),
    Row("late", LATE, "total_timeout", "whole 504"),
    Row("full late", LATE, "total_timeout", "abort"),  # bytes of an earlier answer block it
    Row("full slow", LATE, "slow_reader", "abort"),
    Row("shutdown", DRAINED, "drain", "last|whole 503"),
    Row("cancel", CANCELLED, "cancelled", "whole 499"),
    Row("full cancel", CANCELLED, "cancelled", "abort"),
    Row("leave cancel", CANCELLED, "cancelled", "whole 499", read_on=True),  # who has left does not get it
    Row("leave", GONE, "client_gone", ""),
    Row("leave unreachable", GONE, "client_gone", "whole 502", read_on=True),
    Row("leave unanswered", GONE, "client_gone", "whole 504", read_on=True),
    Row("leave late", GONE, "client_gone", "", read_on=True),
    Row("leave shutdown", DRAINED, "drain", "last|whole 503", read_on=True),
    # The rest of a body that goes upstream as it arrives does not come.
    Row("halted", LATE, "body_timeout", "last|whole 408"),
    Row("overlong", GONE, "body_too_large", "last|whole 413"),
    Row("unsent", GONE, "client_gone", ""),
    Row("leave unsent", GONE, "client_gone", "", read_on=True),
    # The answer came whole.
    Row("whole", DONE, "", "whole 200", "body"),
    Row("full whole", DONE, "", "whole 200", "body"),
    Row("leave whole", GONE, "client_gone", "whole 200", "body", read_on=True),
    # Its head is here.
    Row("answer end", DONE, "", "head 200|end"),
    Row("answer break", FAILED, "reset", "head 200|abort, flushed"),
    Row("answer silence", LATE, "idle_timeout", "head 200|abort, flushed"),
    Row("answer late", LATE, "total_timeout", "head 200|abort, flushed"),
    Row("answer shutdown", DRAINED, "drain", "head 200|abort, flushed"),
    Row("answer cancel", CANCELLED, "cancelled", "head 200|abort, flushed"),
    Row("answer leave", GONE, "client_gone", "head 200"),
    Row("answer bug", FAILED, "internal", "head 200|abort, flushed"),
    # Some of its body is.
    Row("answer a b end", DONE, "", "head 200|a|b|end", "ab"),
    Row("answer a break", FAILED, "reset", "head 200|a|abort, flushed", "a"),
    Row("answer a silence", LATE, "idle_timeout", "head 200|a|abort, flushed", "a"),
    Row("answer a late", LATE, "total_timeout", "head 200|a|abort, flushed", "a"),
    Row("answer a shutdown", DRAINED, "drain", "head 200|a|abort, flushed", "a"),
    Row("answer a bug", FAILED, "internal", "head 200|a|abort, flushed", "a"),
    Row("answer a cancel", CANCELLED, "cancelled", "head 200|a|abort, flushed", "a"),
    Row("answer a full cancel", CANCELLED, "cancelled", "head 200|a|abort", "a"),
    Row("answer a leave cancel", CANCELLED, "cancelled", "head 200|a|abort, flushed", "a", read_on=True),
    Row("answer a leave", GONE, "client_gone", "head 200|a", "a"),
    Row("answer a end+leave", DONE, "", "head 200|a|end", "a"),  # many a client closes as soon as it has the last byte
    # The client does not read.
    Row("answer a full ready b end", DONE, "", "head 200|a|b|end", "ab"),
    Row("answer a end+full slow", LATE, "slow_reader", "head 200|a|abort", "a"),  # the last bytes are not read
    Row("answer a end+full ready", DONE, "", "head 200|a|end", "a"),
    Row("answer a full slow", LATE, "slow_reader", "head 200|a|abort", "a"),
    Row("answer a full late", LATE, "total_timeout", "head 200|a|abort", "a"),
    Row("answer a full shutdown", DRAINED, "drain", "head 200|a|abort", "a"),
    Row("answer a full leave", GONE, "client_gone", "head 200|a", "a"),
    Row("answer a full break", FAILED, "reset", "head 200|a|abort, flushed", "a"),
    # The client has left, and the provider is read on.
    Row("answer a leave b end", GONE, "client_gone", "head 200|a|end", "ab", read_on=True),
    Row("answer a full leave b end", GONE, "client_gone", "head 200|a|end", "ab", read_on=True),
    Row("answer a leave b break", GONE, "client_gone", "head 200|a|abort, flushed", "ab", read_on=True),
    Row("answer a leave b silence", GONE, "client_gone", "head 200|a|abort, flushed", "ab", read_on=True),
    Row("answer a leave b late", GONE, "client_gone", "head 200|a", "ab", read_on=True),
    Row("answer a leave leave", GONE, "client_gone", "head 200|a", "a", read_on=True),
    Row("answer a leave b shutdown", DRAINED, "drain", "head 200|a|abort, flushed", "ab", read_on=True),
    Row("answer a leave 123456789 b", GONE, "client_gone", "head 200|a", "a123456789", read_on=True),
    Row("answer leave a end", GONE, "client_gone", "head 200|end", "a", read_on=True),
]


@pytest.mark.parametrize("row", TABLE, ids=[f"{row.script}{' (read on)' * row.read_on}" for row in TABLE])
async def test_there_is_exactly_one_outcome(row: Row) -> None:
    stage = Stage(read_on=row.read_on)
    assert await stage.play(row.script) is row.outcome
    assert "|".join(stage.client.seen) == row.seen
    assert stage.tap.body.decode() == row.body
    (end,) = stage.tap.ends
    (summary,) = stage.plane.observer.summaries
    assert (end.outcome, end.cause) == (summary.outcome, summary.cause) == (row.outcome, row.cause)
    assert stage.client.listener is None, "what the client does later concerns nobody"
    answered = not {"answer", "whole"}.isdisjoint(row.script.split())
    assert end.status == (200 if answered else None)
    before = [None] * row.script.startswith("stale")
    assert [attempt.status for attempt in end.attempts] == [*before, end.status]
    assert stage.tap.heads == [Head(200, "text/event-stream", "")] * ("answer" in row.script.split())
    assert stage.given.closed == answered, "a connection is given back, or up"


@pytest.mark.parametrize("row", [row for row in TABLE if row.read_on], ids=lambda row: row.script)
async def test_without_room_nothing_is_read_on(row: Row) -> None:
    """The same scripts where no more upstreams may be read on: a client that leaves ends its exchange."""
    until = row.script[: row.script.index("leave") + len("leave")]
    stage = Stage(read_on=row.read_on, room=False)
    assert await stage.play(until) is GONE
    assert stage.client.seen[-1:] != ["end"]


async def test_a_client_that_closes_after_the_last_byte_has_had_everything() -> None:
    stage = Stage()
    assert await stage.play("answer a end") is DONE
    stage.exchange.client_gone()
    assert [end.outcome for end in stage.tap.ends] == [DONE]


async def test_head_and_end_say_who_answers_where_that_is_not_the_first_candidate() -> None:
    """The head reaches the meter where the gateway dies before the end."""
    stage = Stage(second=True)
    assert await stage.play("unreachable answer a end") is DONE
    assert stage.tap.heads == [Head(200, "text/event-stream", "", "azure", "gpt-4o", "spare", "openai/v1/x")]
    [end] = stage.tap.ends
    assert (end.provider, end.model, end.credential, end.path) == ("azure", "gpt-4o", "spare", "openai/v1/x")
    alone = Stage()
    await alone.play("answer a end")
    assert [(end.provider, end.model, end.path) for end in alone.tap.ends] == [("", "", "")]


async def test_nobody_is_asked_for_a_client_that_leaves_between_two_attempts() -> None:
    stage = Stage(read_on=True, attempts=AttemptSettings(retry_on=("connect",), wait=60))
    await stage.act("unreachable")
    stage.exchange.client_gone()
    await stage.act("")
    assert [(end.outcome, len(end.attempts)) for end in stage.tap.ends] == [(GONE, 1)]
    assert len(stage.plane.upstream.asked) == 1


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("unreachable", "connect_refused"),
        ("unanswered", "first_byte_timeout"),
        ("nonsense", "internal"),
        ("leave", "cancelled"),
    ],
)
async def test_an_attempt_says_why_it_failed(script: str, cause: str) -> None:
    stage = Stage()
    await stage.play(script)
    (end,) = stage.tap.ends
    assert end.attempts == (Attempt("openai", "gpt", "", None, cause, 0, cause == "first_byte_timeout"),)


async def test_a_request_is_sent_once_more_on_a_new_connection_and_both_attempts_are_told() -> None:
    stage = Stage()
    assert await stage.play("stale answer a end") is DONE
    assert stage.plane.upstream.fresh == [False, True]
    expected = [("openai", None, "closed_early"), ("openai", 200, "")]
    [end], [summary] = stage.tap.ends, stage.plane.observer.summaries
    for attempts in (end.attempts, summary.attempts):
        assert [(attempt.provider, attempt.status, attempt.cause) for attempt in attempts] == expected
    stage = Stage()
    await stage.play("unreachable")
    assert stage.plane.upstream.fresh == [False]


async def test_the_first_reason_counts() -> None:
    stage = Stage()
    await asyncio.sleep(0)
    stage.exchange.end_early(LATE, "total_timeout")
    stage.exchange.end_early(GONE, "client_gone")
    assert await stage.play("") is LATE


async def test_only_what_runs_can_be_cancelled() -> None:
    stage = Stage()
    await stage.act("answer a")
    assert stage.exchange.cancel()
    assert not stage.exchange.cancel(), "it is ending already"
    assert await stage.play("") is CANCELLED
    assert not stage.exchange.cancel()
    stage = Stage()
    await asyncio.sleep(0)
    stage.exchange.end_early(LATE, "total_timeout")
    assert not stage.exchange.cancel()
    assert await stage.play("") is LATE


async def test_what_runs_says_who_answers_and_how_far_it_is() -> None:
    stage = Stage(second=True)
    await asyncio.sleep(0)
    exchange = stage.exchange
    assert (exchange.answering.provider, exchange.relayed, exchange.first_byte_ms) == ("", 0, None)
    stage.clock.now += 2
    await stage.act("unreachable answer ab")
    who = exchange.answering
    assert (who.provider, who.model, who.credential) == ("azure", "gpt-4o", "spare")
    assert (exchange.relayed, exchange.first_byte_ms, exchange.client_left) == (2, 2000, False)
    await stage.play("end")


async def test_a_client_that_is_full_pauses_the_provider() -> None:
    stage = Stage()
    paused = []
    for script in ("full answer a", "ready"):  # full before there was an answer to pause
        await stage.act(script)
        paused.append(stage.given.paused)
    assert paused == [True, False]
    assert await stage.play("end") is DONE


async def test_a_client_that_left_shortens_the_deadline() -> None:
    stage = Stage(read_on=True)
    await asyncio.sleep(0)
    before = stage.exchange.deadline
    assert before == stage.clock.now + LIMITS.total
    stage.exchange.client_gone()
    assert stage.exchange.deadline == stage.clock.now + LIMITS.read_on
    await stage.play("answer end")


async def test_the_end_says_who_answered_and_when() -> None:
    stage = Stage(keep_body=True)
    await asyncio.sleep(0)
    stage.clock.now += 2
    await stage.act("answer a")
    stage.clock.now += 5
    assert await stage.play("b end") is DONE
    (end,) = stage.tap.ends
    (attempt,) = end.attempts
    assert (attempt.provider, attempt.model, attempt.status, attempt.cause, attempt.ms) == (
        "openai",
        "gpt",
        200,
        "",
        2000,
    )
    assert (end.first_byte_ms, end.duration_ms, end.request_id, end.request_bytes) == (2000, 7000, "req-1", 7)
    assert stage.tap.requests == [b"request"]
    (summary,) = stage.plane.observer.summaries
    assert (summary.first_byte, summary.first_byte_to_client) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("script", "status", "kept"),
    [
        ("answer a end", 200, [b"request"]),
        ("answer a break", 200, [b"request"]),
        ("answer a end", 429, [None]),
        ("unreachable", 200, [None]),
    ],
)
async def test_a_request_is_kept_only_where_its_input_may_be_estimated(
    script: str, status: int, kept: list[bytes | None]
) -> None:
    stage = Stage(keep_body=True)
    stage.given.status = status
    await stage.play(script)
    assert stage.tap.requests == kept


async def test_the_exchange_id_goes_both_ways() -> None:
    stage = Stage()
    await stage.play("answer end")
    ((provider, sent),) = stage.plane.upstream.asked
    assert (provider, dict(sent)[b"x-generation-id"].decode()) == ("openai", stage.tap.name)
    assert stage.client.headers[b"x-generation-id"].decode() == stage.tap.name
    stage = Stage()
    stage.plane.send_generation_id = False
    await stage.play("answer end")
    assert b"x-generation-id" not in dict(stage.plane.upstream.asked[0][1])


async def test_a_full_client_that_takes_something_is_not_a_slow_reader() -> None:
    stage = Stage()
    await stage.act("answer a")
    relay, client = stage.exchange.relay, stage.client
    assert not relay.takes_nothing(since=stage.clock.now + 1)  # it is not full
    client.untaken = 1000
    await stage.act("full")
    began = stage.clock.now
    assert not relay.takes_nothing(since=began)
    stage.clock.now = began + 60
    client.untaken = 999
    assert not relay.takes_nothing(since=began + 1)
    stage.clock.now = began + 120
    assert relay.takes_nothing(since=began + 61)
    await stage.act("ready")
    assert not relay.takes_nothing(since=began + 200)
    await stage.play("end")
