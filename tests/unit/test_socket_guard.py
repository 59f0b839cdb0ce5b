"""A key that may call certain models is held to them in every message of a socket, and bytes pass as they came."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.websocket.guard import Forbidden, Guard
from shared.contract.dialects import Dialect
from tests.support.frames import KEY, frame, sent

GOOD = "gpt-realtime"
CREATE = {"type": "response.create", "model": GOOD, "input": "hi"}


def guard(dialect: Dialect = Dialect.OPENAI_REALTIME, most: int = 10_000) -> Guard:
    return Guard(lambda model: model in (GOOD, "gemini-live"), dialect, most)


ALLOWED = [
    (Dialect.OPENAI_REALTIME, '{"type":"response.create"}'),
    (Dialect.OPENAI_REALTIME, '{"type":"session.update","session":{"model":"gpt-realtime"}}'),
    (Dialect.OPENAI_REALTIME, '{"type":"x","session":{"tools":[{"parameters":{"model":{"type":"string"}}}]}}'),
    (Dialect.OPENAI_REALTIME, '{"type":"x","text":"\\"model\\": \\"gpt-5\\""}'),
    (Dialect.OPENAI_RESPONSES_SOCKET, json.dumps(CREATE)),
    (Dialect.OPENAI_RESPONSES_SOCKET, '{"type":"response.steer","input":"more"}'),
    (Dialect.GEMINI_LIVE, '{"setup":{"model":"models/gemini-live"}}'),
    (Dialect.GEMINI_LIVE, '{"clientContent":{"turnComplete":true}}'),
]
FORBIDDEN = [
    (Dialect.OPENAI_REALTIME, '{"type":"session.update","session":{"model":"gpt-5"}}'),
    (Dialect.OPENAI_REALTIME, '{"type":"session.update","session":{"audio":{"transcription":{"model":"whisper-1"}}}}'),
    (Dialect.OPENAI_REALTIME, '{"m\\u006fdel":"gpt-5"}'),
    (Dialect.OPENAI_REALTIME, '{"Model":"gpt-5"}'),
    (Dialect.OPENAI_REALTIME, '{"model":"gpt-5","model":"gpt-realtime"}'),
    (Dialect.OPENAI_REALTIME, '{"model":"gpt-realtime","model":"gpt-5"}'),
    (Dialect.OPENAI_REALTIME, '{"model":17}'),
    (Dialect.OPENAI_REALTIME, '[[{"model":"gpt-5"}]]'),
    (Dialect.OPENAI_REALTIME, "no json"),
    (Dialect.OPENAI_REALTIME, "[" * 5000),
    (Dialect.OPENAI_RESPONSES_SOCKET, '{"type":"response.create","input":"hi"}'),
    (Dialect.OPENAI_RESPONSES_SOCKET, '{"type":"response.steer","type":"response.create"}'),
    (Dialect.OPENAI_RESPONSES_SOCKET, '{"type":"response.create","model":null}'),
    (Dialect.OPENAI_RESPONSES_SOCKET, '{"type":"response.create","metadata":{"model":"gpt-realtime"}}'),
    (Dialect.OPENAI_RESPONSES_SOCKET, '{"type":"response.create","Model":"gpt-realtime"}'),
    (Dialect.OPENAI_RESPONSES_SOCKET, '{"Type":"Response.Create","input":"hi"}'),
    (Dialect.GEMINI_LIVE, '{"setup":{}}'),
    (Dialect.GEMINI_LIVE, '{"Setup":{}}'),
    (Dialect.GEMINI_LIVE, '{"setup":{"tools":[{"model":"gemini-live"}]}}'),
    (Dialect.GEMINI_LIVE, '{"setup":{"model":"gemini-live"},"setup":{}}'),
    (Dialect.GEMINI_LIVE, '{"setup":{"model":"models/gemini-pro"}}'),
]


@pytest.mark.parametrize(("dialect", "message"), ALLOWED)
def test_what_may_pass_passes_as_it_came(dialect: Dialect, message: str) -> None:
    data = sent(message)
    assert guard(dialect).feed(data) == data


@pytest.mark.parametrize(("dialect", "message"), FORBIDDEN)
def test_what_may_not_pass_ends_the_socket(dialect: Dialect, message: str) -> None:
    with pytest.raises(Forbidden) as refused:
        guard(dialect).feed(sent(json.dumps(CREATE)) + sent(message))
    assert refused.value.status == 1008
    assert refused.value.cause == "model_not_allowed"


def test_nothing_of_a_message_passes_before_all_of_it_was_read() -> None:
    held = guard()
    bad = sent('{"session":{"model":"gpt-5"}}')
    first = sent('{"type":"response.create"}')
    assert held.feed(first + bad[:-1]) == first
    with pytest.raises(Forbidden):
        held.feed(bad[-1:])


def test_a_model_cannot_hide_in_fragments() -> None:
    held = guard()
    assert held.feed(frame(b'{"model":"gp', mask=KEY, final=False)) == b""
    assert held.feed(frame(b"", 9, mask=KEY)) == b""
    with pytest.raises(Forbidden):
        held.feed(frame(b't-5"}', 0, mask=KEY))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=10))
def test_any_split_passes_the_same_bytes(cuts: list[int]) -> None:
    data = b"".join((sent('{"type":"a"}'), sent(b"", 9), sent(json.dumps(CREATE)), sent(b"\x03\xe8", 8)))
    held, out, at, turn = guard(), b"", 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        out += held.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert out == data


def test_what_is_held_is_bounded() -> None:
    large = sent("[" + "1," * 10_000 + "1]")
    with pytest.raises(Forbidden) as refused:
        guard(most=1000).feed(large)
    assert refused.value.status == 1009
    held = guard(most=1000)
    with pytest.raises(Forbidden) as refused:
        for at in range(0, len(large), 100):
            assert held.feed(large[at : at + 100]) == b""
            assert at < 1200
    assert refused.value.status == 1009


def test_bytes_that_are_no_frames_do_not_pass() -> None:
    with pytest.raises(Forbidden) as refused:
        guard().feed(b"GET / HTTP/1.1\r\n\r\n")
    assert (refused.value.status, refused.value.cause) == (1002, "bad_frames")
