"""Zeros that stand for counts still to come, halves of reports, and what is said twice: in streams."""

import json
from typing import Any

import pytest

from services.meter.readers.reader import read
from shared.contract.dialects import Dialect
from shared.contract.entry import Mark
from tests.support.answers import Counts, chat, counts, events, message

CHAT, MESSAGES = Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES


def anthropic(start: dict[str, Any], delta: dict[str, Any] | None) -> bytes:
    ending: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    return events(
        {"type": "message_start", "message": {"id": "m", "model": "claude-x", "usage": start}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Three short words"}},
        ending if delta is None else ending | {"usage": delta},
        {"type": "message_stop"},
    )


@pytest.mark.parametrize(
    ("start", "delta", "expected", "marks"),
    [
        # The input of the start stands where the delta zeroes it; a delta that moves it from one cache to another wins.
        (
            {"input_tokens": 30, "output_tokens": 1},
            {"input_tokens": 0, "output_tokens": 9},
            (30, 9, None, None, None, 39),
            {Mark.PLACEHOLDER},
        ),
        (
            {"input_tokens": 3, "cache_read_input_tokens": 400, "output_tokens": 1},
            {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 9},
            (403, 9, 400, None, None, 412),
            {Mark.PLACEHOLDER},
        ),
        (
            {"input_tokens": 3, "cache_creation_input_tokens": 400, "output_tokens": 1},
            {"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 401, "output_tokens": 9},
            (404, 9, 401, 0, None, 413),
            set(),
        ),
        # A start value is no count of the output.
        ({"input_tokens": 30, "output_tokens": 1}, None, (30, None, None, None, None, None), {Mark.HALF_REPORT}),
        (
            {"input_tokens": 0, "output_tokens": 0},
            {"output_tokens": 9},
            (None, 9, None, None, None, None),
            {Mark.HALF_REPORT},
        ),
        (
            {"input_tokens": 0, "output_tokens": 0},
            {"input_tokens": 30, "output_tokens": 9},
            (30, 9, None, None, None, 39),
            set(),
        ),
    ],
)
def test_the_larger_input_of_an_anthropic_stream_stands(
    start: dict[str, Any], delta: dict[str, Any] | None, expected: Counts, marks: set[Mark]
) -> None:
    for observe in (False, True):
        reading = read(MESSAGES, anthropic(start, delta), observe=observe)
        assert counts(reading) == expected
        assert reading.marks == marks
        assert not reading.provisional


ZEROS = {"total_tokens": 0, "total_characters": 0}
NONE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
REAL = {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}


def said(usage: Any, finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "c",
        "choices": [{"index": 0, "delta": {"content": "some words "}, "finish_reason": finish}],
        "usage": usage,
    }


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (events(said(ZEROS), said(ZEROS)), None),
        (events(said(NONE), said(NONE, "stop")) + b"data: [DONE]\n\n", None),
        (events(said(ZEROS), said(REAL, "stop"), said(NONE)), (8, 4, None, None, None, 12)),
        (events(*[said(ZEROS)] * 40, said(REAL, "stop")), (8, 4, None, None, None, 12)),
    ],
)
def test_zeros_in_every_chunk_are_placeholders(body: bytes, expected: Counts | None, observe: bool) -> None:
    reading = read(CHAT, body, observe=observe)
    assert counts(reading) == expected
    assert (Mark.PLACEHOLDER in reading.marks) == (expected is None)


def test_zeros_without_output_are_a_fact_of_one_whole_document() -> None:
    batch = {
        "id": "b",
        "object": "batch",
        "status": "validating",
        "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
    }
    assert counts(read(Dialect.PASSTHROUGH, json.dumps(batch).encode())) == (0, 0, None, None, None, 0)
    assert read(CHAT, json.dumps(chat(NONE)).encode()).usage is None


def test_an_output_of_nothing_beside_text_is_unknown() -> None:
    reading = read(
        CHAT, events(said({"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}, "stop")), observe=True
    )
    assert counts(reading) == (8, None, None, None, None, None)
    assert reading.marks == {Mark.PLACEHOLDER, Mark.HALF_REPORT}


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ({"prompt_tokens": 8}, {"completion_tokens": 4}, (8, 4, None, None, None, 12)),
        (
            {"prompt_tokens": 8, "completion_tokens": 0},
            NONE | {"completion_tokens": 4, "total_tokens": 4},
            (8, 4, None, None, None, 12),
        ),
        ({"completion_tokens": 4}, {"prompt_tokens": 8}, (8, 4, None, None, None, 12)),
        (REAL, {"completion_tokens": 5}, (8, 5, None, None, None, 13)),
        (
            {"prompt_tokens": 8, "prompt_tokens_details": {"cached_tokens": 6}},
            {"completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 1}},
            (8, 4, 6, None, 1, 12),
        ),
    ],
)
def test_the_halves_of_a_report_are_joined(first: dict[str, Any], last: dict[str, Any], expected: Counts) -> None:
    reading = read(CHAT, events(said(first), said(None, "stop"), said(last)) + b"data: [DONE]\n\n", observe=True)
    assert counts(reading) == expected
    assert reading.marks == set()


@pytest.mark.parametrize("between", [1, 60])
def test_a_count_that_output_came_after_is_not_the_last(between: int) -> None:
    body = events(said(REAL), *[said(None)] * between, said(None, "stop")) + b"data: [DONE]\n\n"
    seen = read(CHAT, body, observe=True)
    assert (seen.provisional, seen.marks) == (True, {Mark.HALF_REPORT})
    assert read(CHAT, body).passed_over > 100  # which makes the meter look
    assert read(CHAT, events(*[said(None)] * between, said(REAL, "stop"))).passed_over < 16


def test_digits_in_a_string_are_a_count() -> None:
    usage = {"prompt_tokens": "1200", "completion_tokens": 300.0, "total_tokens": "1500"}
    assert counts(read(CHAT, json.dumps(chat(usage)).encode())) == (1200, 300, None, None, None, 1500)


def test_counts_in_another_shapes_names_are_read() -> None:
    zeros = {"input_tokens": 0, "output_tokens": 0}
    chats = {"prompt_tokens": 30, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 20}}
    assert counts(read(MESSAGES, anthropic(zeros, chats))) == (30, 9, 20, None, None, 39)
    assert counts(read(MESSAGES, json.dumps(message(chats)).encode())) == (30, 9, 20, None, None, 39)


def test_a_count_at_the_very_end_of_a_message_is_read() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 30, "output_tokens": 1}}}
    stop = {"type": "message_stop", "usage": {"output_tokens": 9}}
    inside = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "usage": {"output_tokens": 9}}}
    assert counts(read(MESSAGES, events(start, stop))) == (30, 9, None, None, None, 39)
    assert counts(read(MESSAGES, events(start, inside, {"type": "message_stop"}))) == (30, 9, None, None, None, 39)


def test_iterations_without_counts_say_nothing() -> None:
    usage = {"input_tokens": 30, "output_tokens": 9, "iterations": [{"type": "message", "output_tokens": None}]}
    assert counts(read(MESSAGES, json.dumps(message(usage)).encode())) == (30, 9, None, None, None, 39)


def test_a_whole_message_behind_its_deltas_is_observed_once() -> None:
    last = chat(REAL)
    body = events(said(None), said(None, "stop"), last)
    assert read(CHAT, body, observe=True).texts() == ["some words some words "]
    stream = anthropic({"input_tokens": 3, "output_tokens": 1}, {"output_tokens": 3}) + events(
        message({"input_tokens": 3, "output_tokens": 3})
    )
    assert read(MESSAGES, stream, observe=True).texts() == ["Three short words"]


def test_spoken_answers_are_observed_by_their_transcript() -> None:
    def spoken(transcript: str) -> dict[str, Any]:
        return {"id": "c", "choices": [{"index": 0, "delta": {"audio": {"transcript": transcript, "data": "AAAA"}}}]}

    assert read(CHAT, events(spoken("good "), spoken("morning")), observe=True).texts() == ["good morning"]
