"""Documents that strict JSON, or the standard of event streams, forbids: read where they can be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meter.readers import documents
from services.meter.readers.reader import Reader, read
from shared.contract.dialects import Dialect

CHAT = Dialect.OPENAI_CHAT
FIRST = b'{"id":"c","choices":[{"index":0,"delta":{"content":"Good day"}}]}'
FINAL = (
    b'{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":4,"completion_tokens":3}}'
)

READABLE: dict[str, bytes] = {
    "no empty line": b"data: " + FIRST + b"\ndata: " + FINAL + b"\ndata: [DONE]\n",
    "no empty line, CR LF": b"data: " + FIRST + b"\r\ndata: " + FINAL + b"\r\n",
    "names, and no empty line": b"event: a\ndata: " + FIRST + b"\nevent: b\ndata: " + FINAL + b"\n",
    "lines": FIRST + b"\n" + FINAL + b"\n",
    "joined": FIRST + FINAL,
    "joined in one event": b"data: " + FIRST + FINAL + b"\n\n",
    "half a character": b"data: " + FIRST.replace(b"day", b"\xe2\x82") + b"\n\ndata: " + FINAL + b"\n\n",
    "control characters": FIRST.replace(b"day", b"d\x01\ty") + b"\n" + FINAL,
    "a document before the events": FIRST + b"\n\ndata: " + FINAL + b"\n\n",
    "text before the lines": b"warming up\n" + FIRST + b"\n" + FINAL + b"\n",
    "wrapped twice": b"data: data: " + FIRST + b"\n\ndata: data: " + FINAL + b"\n\n",
    "comments": b": hello\n\n: again\n\ndata: " + FINAL + b"\n\n",
}
UNREADABLE: dict[str, bytes] = {
    "a page": b"<!DOCTYPE html><html><body>Please sign in</body></html>",
    "text": b"upstream connect error or disconnect/reset before headers",
    "events of something else": b"data: hello\n\ndata: world\n\n",
    "an open quote": b'"never closed',
    "binary": bytes(range(1, 200)) * 3,
}


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize("name", READABLE)
def test_what_can_be_read_is_read(name: str, observe: bool) -> None:
    body = READABLE[name]
    for piece in (1, 5, len(body)):
        reader = Reader(CHAT, "text/event-stream", observe=observe)
        for at in range(0, len(body), piece):
            reader.feed(body[at : at + piece])
        reading = reader.close()
        assert reading.usage is not None
        assert (reading.usage.input_tokens, reading.usage.output_tokens) == (4, 3)
        assert not reading.unreadable


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_says_so(name: str) -> None:
    for observe in (False, True):
        reading = read(CHAT, UNREADABLE[name], "text/event-stream", observe=observe)
        assert reading.unreadable
        assert reading.usage is None


@pytest.mark.parametrize(
    "body", [b"", b"\n\n", b": ping\n\n: ping\n\n", b"event: ping\ndata:\n\n", b"data: [DONE]\n\n"]
)
def test_silence_is_not_unreadable(body: bytes) -> None:
    assert not read(CHAT, body, "text/event-stream").unreadable


def test_a_long_stream_without_empty_lines_is_read_to_its_end() -> None:
    body = (b"data: " + FIRST + b"\n") * 2000 + b"data: " + FINAL + b"\ndata: [DONE]\n"
    reading = read(CHAT, body, "text/event-stream", observe=True)
    assert reading.usage is not None
    assert reading.complete
    assert reading.texts() == ["Good day" * 2000]


WORDS = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(document=st.dictionaries(st.text(max_size=4), WORDS, max_size=5), data=st.data())
def test_any_beginning_of_a_document_is_one(document: dict[str, Any], data: st.DataObject) -> None:
    body = json.dumps(document).encode()
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    found = documents.beginning(cut)
    assert found is None or set(found) <= set(document)
    assert (found is not None) == cut.startswith(b"{")


def test_a_document_that_breaks_off_is_observed_and_reports_nothing() -> None:
    answer = {
        "id": "c",
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
        "choices": [{"message": {"content": "one two three four"}}],
    }
    body = json.dumps(answer).encode()
    reading = read(CHAT, body[: body.index(b"four")], "application/json")
    assert reading.usage is None
    assert reading.texts() == ["one two three "]
    assert not reading.ended
    assert not reading.unreadable
    part = b'{"candidates": [{"content": {"parts": [{"text": "one two"}]}}]}'
    array = b"[" + part + b",\n" + part[: part.index(b" two")]
    assert read(Dialect.GEMINI, array, "application/json", observe=True).texts() == ["one twoone"]
    event = b"data: " + FIRST + b"\n\ndata: " + FIRST[: FIRST.index(b" day")]
    assert read(CHAT, event, "text/event-stream", observe=True).texts() == ["Good dayGood"]


SPACES = st.text(" \t\n", max_size=2)


@given(before=SPACES, after=SPACES, comma=SPACES, nulls=st.integers(0, 30))
def test_white_space_means_nothing(before: str, after: str, comma: str, nulls: int) -> None:
    def spaced(body: bytes) -> bytes:
        separators = (f"{comma},{comma}".replace("\n", " "), f"{before}:{after}".replace("\n", " "))
        return b"data: " + json.dumps(json.loads(body), separators=separators).encode() + b"\n\n"

    silent = FIRST[:-1] + b',"usage":null,"finish_reason":null}'
    body = spaced(silent) * nulls + spaced(FINAL) + spaced(silent) * 3
    quick, observed = read(CHAT, body), read(CHAT, body, observe=True)
    assert quick.usage == observed.usage
    assert quick.usage is not None
    assert quick.finish == observed.finish == ["stop"]
