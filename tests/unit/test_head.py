"""The bounds of a provider's head and trailers, counted in steps and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, cycle, pairwise, repeat
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.upstream.head import MAX_BYTES, MAX_FIELDS, TOO_LARGE, BadHead, HeadBuffer
from services.gateway.upstream.parser import ResponseParser, State

START = b"HTTP/1.1 200 OK\r\n"
INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
LAST_CHUNK = START + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"


class Counting(bytearray):
    """Counts the bytes that it is asked to look at, or to take."""

    steps = 0

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        stop = len(self) if end is None else end
        self.steps += stop - start
        return super().find(sub, start, stop)

    def __iadd__(self, other: Any) -> Self:  # type: ignore[misc]  # typeshed's own differ, too
        self.steps += len(other)
        return super().__iadd__(other)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_each_byte_of_a_head_is_looked_at_a_few_times_however_it_comes(size: int) -> None:
    held = Counting()
    buffer = HeadBuffer(held)
    head = START + b"x: " + b"y" * (MAX_BYTES - 100) + b"\r\n\r\n"
    found = b""
    for at in range(0, len(head), size):
        found, rest = buffer.feed(head[at : at + size])
        assert rest == b""
    assert found == head
    assert held.steps < 10 * len(head)


def fed(parts: Iterator[bytes]) -> tuple[ResponseParser, int]:
    """The parser once it is broken, and how many bytes it took until then."""
    parser, size = ResponseParser(), 0
    parser.begin(b"GET")
    for part in parts:
        parser.feed(part)
        size += len(part)
        if parser.state is State.BROKEN:
            return parser, size
        assert size < 4 * MAX_BYTES
    raise AssertionError("it took everything")


ENDLESS = {
    "one value": chain([START + b"x: "], repeat(b"y" * 1000)),
    "one value, byte by byte": chain([START + b"x: "], repeat(b"y")),
    "one name": chain([START], repeat(b"y" * 1000)),
    "fields": chain([START], repeat(b"a: b\r\n")),
    "a status line": chain([b"HTTP/1.1 200 "], repeat(b"O" * 1000)),
    "empty lines": repeat(b"\r\n" * 100),
    "interim answers": repeat(INTERIM),
    "an interim head": chain([b"HTTP/1.1 103 Early\r\n"], repeat(b"link: x\r\n")),
    "an interim head after another": chain([INTERIM, b"HTTP/1.1 103 Early\r\nlink: "], repeat(b"x" * 999)),
    "a trailer": chain([LAST_CHUNK + b"x: "], repeat(b"y" * 1000)),
    "trailers": chain([LAST_CHUNK], repeat(b"a: b\r\n")),
    "an extension": chain([START + b"transfer-encoding: chunked\r\n\r\n2;a="], repeat(b"y" * 1000)),
    "a size": chain([START + b"transfer-encoding: chunked\r\n\r\n"], cycle([b"0" * 1000])),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_given_up(name: str) -> None:
    parser, size = fed(iter(ENDLESS[name]))
    assert parser.fault == TOO_LARGE
    assert size < MAX_BYTES + 2000


def test_many_fields_at_once_are_given_up() -> None:
    buffer = HeadBuffer()
    assert buffer.feed(START + b"a: b\r\n" * MAX_FIELDS + b"\r\n")[0]
    with pytest.raises(BadHead, match=TOO_LARGE):
        HeadBuffer().feed(START + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n")


def test_a_large_head_is_an_answer_and_the_next_one_begins_anew() -> None:
    parser = ResponseParser()
    for _ in range(3):
        parser.begin(b"GET")
        for _ in range(20):
            parser.feed(INTERIM)
        assert (parser.feed(START + b"x: " + b"y" * 50_000 + b"\r\ncontent-length: 2\r\n\r\nok"), parser.heard) == (
            b"ok",
            True,
        )
        assert parser.state is State.DONE


PIECES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 103 Early Hints",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b",",
    b"\0",
    b"x",
    b"content-length",
    b"Transfer-Encoding",
    b"content-encoding",
    b"chunked",
    b"gzip",
    b"identity",
    b"2",
    b"ok",
    b"0\r\n\r\n",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40), st.data())
def test_whatever_comes_is_parsed_or_given_up_wherever_it_is_cut(pieces: list[bytes], data: st.DataObject) -> None:
    raw = b"HTTP/1.1 200 OK" + b"".join(pieces)
    at = sorted({0, *data.draw(st.lists(st.integers(0, len(raw)))), len(raw)})
    whole, cut = ResponseParser(), ResponseParser()
    whole.begin(b"GET")
    cut.begin(b"GET")
    body = whole.feed(raw)
    assert b"".join([cut.feed(raw[start:end]) for start, end in pairwise(at)]) == body
    assert (cut.status, cut.headers, cut.fault) == (whole.status, whole.headers, whole.fault)
    for name, value in whole.headers:
        assert not {*name, *value} & {0, 10, 13}
