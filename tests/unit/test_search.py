"""Documents that say something are found without decoding the others."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meter.readers import search
from services.meter.readers.reader import read
from services.meter.readers.reading import Marks
from shared.contract.dialects import Dialect

MARKS = Marks(every=(b"stop",), every_key=(b'done"',), last=(b"Count",), last_key=(b'usage"',), final=(b"[END]",))
PIECES = (
    b'"usage":',
    b'"usage" : ',
    b'"done":',
    b"null",
    b"false",
    b"1",
    b"{}",
    b"stop",
    b"Count",
    b"[END]",
    b" ",
    b",",
)
SPANS = st.lists(st.sampled_from(PIECES)).map(b"".join)


def speaking(span: bytes, key: bytes) -> list[int]:
    """Where the end of that name is, if a value follows it, the slow way."""
    return [match.end() for match in re.finditer(key + rb"(?!\s*:\s*(?:null|false))(?=\s*(?::|\Z))", span)]


def starts(span: bytes, mark: bytes) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(mark), span)]


@given(SPANS)
def test_every_place_is_found(span: bytes) -> None:
    expected = starts(span, b"stop") + starts(span, b"[END]") + speaking(span, b'done"')
    assert sorted(search.every(span, MARKS)) == sorted(expected)


@given(SPANS)
def test_the_last_place_comes_first(span: bytes) -> None:
    expected = starts(span, b"Count") + speaking(span, b'usage"')
    assert list(search.from_the_back(span, MARKS)) == sorted(expected, reverse=True)


def chunk(**more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": "Hi"}}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]} | more).encode() + b"\n\n"


USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


@pytest.mark.parametrize("silent", [{}, None, {"prompt_tokens": 0}, {"prompt_tokens": None}])
def test_reports_that_say_nothing_do_not_hide_one_before_them(silent: object) -> None:
    """Each is looked at once, however many there are: searching the whole anew behind each would not end."""
    body = chunk() * 20 + chunk(usage=USAGE) + chunk(usage=silent) * 10_000 + b"data: [DONE]\n\n"
    reading = read(Dialect.OPENAI_CHAT, body, "text/event-stream")
    assert (reading.raw_usage, reading.complete) == (USAGE, True)


def test_a_document_full_of_marks_is_taken_once() -> None:
    """Looking for its borders anew from each mark would not end."""
    choice = {"index": 0, "delta": {"content": "error " * 500_000}, "finish_reason": "stop"}
    body = chunk() * 20 + chunk(choices=[choice], usage=USAGE) + b"data: [DONE]\n\n"
    reading = read(Dialect.OPENAI_CHAT, body, "text/event-stream")
    assert (reading.finish, reading.raw_usage) == (["stop"], USAGE)
