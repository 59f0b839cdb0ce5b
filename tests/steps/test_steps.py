"""The count of steps sees work that grows faster than its input, and does not see it where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from tests.support.steps import Pump, assert_linear, counted, steps

WORDS = Pump(b"{", b"word,", b"}")


def split(text: bytes) -> object:
    return [part.strip() for part in text.split(b",")]


def find(text: bytes) -> object:
    at, found = 0, []
    while (end := text.find(b",", at)) >= 0:
        found.append(text[at:end])
        at = end + 1
    return found


def rest(text: bytes) -> object:
    """Cut off the beginning each time."""
    found = []
    while text:
        part, _, text = text.partition(b",")
        found.append(part)
    return found


def rest_of_a_slice(text: bytes) -> object:
    return [text[at:].lstrip() for at in range(0, len(text), 5)]


def count(text: bytes) -> object:
    return [text.count(b",") for _ in range(0, len(text), 5)]


def contains(text: bytes) -> object:
    return [b"!" in text for _ in range(0, len(text), 5)]


def add(text: bytes) -> object:
    whole = b""
    for part in text.split(b","):
        whole = whole + part
    return whole


def keep(text: bytes) -> object:
    return Holder().read(text)


class Holder:
    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def read(self, text: bytes) -> bytes:
        for part in text.split(b","):
            self._kept += part
        return self._kept


def pairs(text: bytes) -> object:
    parts = text.split(b",")
    return [one == other for one in parts for other in parts]


def gather(text: bytes) -> object:
    parts: tuple[bytes, ...] = ()
    for part in text.split(b","):
        parts = (*parts, part)
    return parts


def decode(text: bytes) -> object:
    plain = text.decode()
    whole = json.dumps([plain])
    return [json.JSONDecoder().decode(whole) for _ in range(0, len(text), 50)]


def decode_in_c(text: bytes) -> object:
    return [msgspec.json.Decoder().decode(b'["%b"]' % text) for _ in range(0, len(text), 50)]


def as_text(text: bytes) -> object:
    plain = text.decode()
    return [plain.find("!") for _ in range(0, len(plain), 5)]


@pytest.mark.parametrize("read", [split, find])
def test_one_pass_is_linear(read: Callable[[bytes], object]) -> None:
    assert_linear(read, WORDS, free=0)


@pytest.mark.parametrize(
    "read", [rest, rest_of_a_slice, count, contains, add, keep, pairs, gather, decode, decode_in_c, as_text]
)
def test_passes_that_multiply_are_seen(read: Callable[[bytes], object]) -> None:
    with pytest.raises(AssertionError, match="steps"):
        assert_linear(read, WORDS, size=600)


def test_a_refusal_is_an_answer() -> None:
    def refuse(_: bytes) -> None:
        raise ValueError

    assert_linear(refuse, WORDS, refusals=(ValueError,))
    with pytest.raises(ValueError, match=r"^$"):
        assert_linear(refuse, WORDS)


def test_counts_do_not_change() -> None:
    text = counted(b"a,b,c" * 50)
    assert steps(lambda: find(text)) == steps(lambda: find(text))


def test_what_is_cut_out_counts_too_and_is_the_same() -> None:
    text = counted(b"one two")
    assert [part.decode().upper() for part in text.split()] == ["ONE", "TWO"]
    assert (text[3:], text[0], hash(text), text == b"one two") == (b" two", 111, hash(b"one two"), True)
    assert {b"one": 1}[text[:3]] == 1
    assert "".join(counted("ab") + "c") == "abc"
