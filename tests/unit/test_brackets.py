"""Brackets outside strings: found wherever the bytes are cut, with work that grows no faster than the bytes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meter.readers import brackets
from services.meter.readers.brackets import TO_BRACKET, TO_QUOTE, Brackets
from tests.support.regular_expressions import Steps

Found = list[tuple[int, bool]]


def found(parts: list[bytes]) -> Found:
    under_test, before, all_of_them = Brackets(), 0, []
    for part in parts:
        all_of_them += [(before + at, opens) for at, opens in under_test.feed(part)]
        before += len(part)
    return all_of_them


def plainly(body: bytes) -> Found:
    """The same, byte by byte."""
    result, in_string, escaped = [], False, False
    for at, byte in enumerate(body, 1):
        if in_string:
            escaped, in_string = not escaped and byte == ord("\\"), escaped or byte != ord('"')
        elif byte == ord('"'):
            in_string = True
        elif byte in b"{}[]":
            result.append((at, byte in b"{["))
    return result


TEXT = st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b'\\"', b"\n", b"x" * 9])).map(b"".join)


@given(TEXT, st.data())
def test_brackets_wherever_they_are_cut(body: bytes, data: st.DataObject) -> None:
    at = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    parts = [body[start:stop] for start, stop in zip([0, *at], [*at, len(body)], strict=True)]
    assert found(parts) == found([body]) == found([body[i : i + 1] for i in range(len(body))]) == plainly(body)


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("filling", [b"x", b'\\"', b"\\\\", b'","', b"{}", b'"[\\"]"'])
def test_brackets_wherever_a_window_ends(filling: bytes, shift: int) -> None:
    window = brackets.WINDOW
    body = b" " * shift + b'["' + filling * (2 * window // len(filling)) + b'"]{"}":[]}'
    assert found([body]) == plainly(body)


# What makes a backtracking engine try the same bytes again: nothing that follows fits.
HARD = {
    "open string": b'"' + b"x" * 40,
    "open string of escapes": b'"' + b'\\"' * 20,
    "open string, mixed": b'"' + b'xx\\"' * 10,
    "half an escape": b'"' + b"\\\\" * 20 + b"\\",
    "strings, then an open one": b'"a","b\\n",' * 5 + b'"' + b"\\nx" * 10,
    "strings without a bracket": b'"a":"\\"",' * 8,
    "nothing but plain": b"x" * 40,
}


def growth(pattern: re.Pattern[bytes], text: bytes) -> float:
    """Steps on a text whose repetitions are four times as many, by steps on the text."""
    longer = re.sub(rb"((?:.{1,10}?))\1{3,}", lambda run: run[0] * 4, text, flags=re.DOTALL)
    assert len(longer) > 2 * len(text)
    return Steps(pattern, longer).run() / Steps(pattern, text).run() / (len(longer) / len(text))


@pytest.mark.parametrize("pattern", [TO_BRACKET, TO_QUOTE], ids=["to a bracket", "to a quote"])
@pytest.mark.parametrize("text", HARD.values(), ids=list(HARD))
def test_steps_grow_no_faster_than_the_text(pattern: re.Pattern[bytes], text: bytes) -> None:
    assert growth(pattern, text) < 1.5
    assert Steps(pattern, text).run() < 60 * len(text)


@pytest.mark.parametrize("pattern", [TO_BRACKET, TO_QUOTE], ids=["to a bracket", "to a quote"])
@given(text=TEXT)
def test_steps_are_counted_on_the_engines_own_way(pattern: re.Pattern[bytes], text: bytes) -> None:
    steps, match = Steps(pattern, text[:40]), pattern.match(text[:40])
    steps.run()
    assert match is not None
    assert steps.end == match.end()


def test_a_pattern_that_blows_up_is_seen() -> None:
    """The pattern of before, its possessive quantifiers made plain."""
    before = re.compile(rb'(?:[^"{}\[\]]+|"(?:[^"\\]+|\\.)*")*', re.DOTALL)
    assert Steps(before, b'"' + b"x" * 12).run() > 5 * Steps(before, b'"' + b"x" * 8).run()
