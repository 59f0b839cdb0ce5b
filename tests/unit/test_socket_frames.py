"""Frames become messages, wherever they are cut; what is none is said, and nothing is raised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.websocket import frames
from services.gateway.websocket.frames import HEAD_BYTES, LAST_BYTES, FrameParser, Message, close_frame, unmasked
from tests.support.frames import KEY, frame, sent

LIMIT = 4096
# RFC 6455, 5.7.
EXAMPLES = [
    (b"\x81\x05Hello", [(1, b"Hello")]),
    (b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", [(1, b"Hello")]),
    (b"\x01\x03Hel\x80\x02lo", [(1, b"Hello")]),
    (b"\x89\x05Hello", [(9, b"Hello")]),
    (b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", [(10, b"Hello")]),
    (b"\x82\x7e\x01\x00" + bytes(256), [(2, bytes(256))]),
    (b"\x82\x7f\x00\x00\x00\x00\x00\x00\x01\x00" + bytes(256), [(2, bytes(256))]),
    (b"\x01\x03Hel\x89\x01!\x80\x02lo", [(9, b"!"), (1, b"Hello")]),  # a ping within a message
    (b"\x81\x00", [(1, b"")]),
    (b"\x01\x00\x00\x00\x80\x01x", [(1, b"x")]),
    (b"\x88\x02\x03\xe8", [(8, b"\x03\xe8")]),
]
WRONG = [
    (b"\xc1\x00", "extension"),
    (b"\x83\x00", "unknown kind 3"),
    (b"\x8b\x00", "unknown kind 11"),
    (b"\x80\x00", "a fragment without a message"),
    (b"\x01\x01a\x81\x01b", "a message within another"),
    (b"\x89\x7e\x00\x7e", "a control frame"),
    (b"\x08\x00", "a control frame"),
    (b"\x81\x7f\x80" + bytes(7), "2^63"),
]


def parse(data: bytes, *, step: int = 0, limit: int = LIMIT) -> list[tuple[int, bytes]]:
    parser = FrameParser(limit)
    pieces = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
    found = [message for piece in pieces for message in parser.feed(piece)]
    assert not parser.fault
    return [(message.opcode, message.body) for message in found]


@pytest.mark.parametrize(("data", "expected"), EXAMPLES)
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_the_examples_of_the_rfc(data: bytes, expected: list[tuple[int, bytes]], step: int) -> None:
    assert parse(data + frame(b"behind"), step=step) == [*expected, (1, b"behind")]


@pytest.mark.parametrize(("data", "fault"), WRONG)
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_no_frame_ends_the_parsing(data: bytes, fault: str, step: int) -> None:
    parser = FrameParser(LIMIT)
    whole = frame(b"before") + data + frame(b"behind")
    pieces = [whole[at : at + 1] for at in range(len(whole))] if step else [whole]
    found = [message.body for piece in pieces for message in parser.feed(piece)]
    assert found == [b"before"]
    assert fault in parser.fault
    assert parser.lost >= len(frame(b"behind"))
    assert not parser.between


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 9]), st.binary(max_size=125), st.booleans(), st.integers(1, 40)), max_size=6
    ),
    st.lists(st.integers(1, 50), min_size=1, max_size=20),
)
def test_any_split_has_the_same_messages(messages: list[tuple[int, bytes, bool, int]], cuts: list[int]) -> None:
    data, expected = b"", []
    for opcode, payload, masks, fragment in messages:
        mask = KEY if masks else b""
        if opcode < 8:
            parts = [payload[at : at + fragment] for at in range(0, len(payload), fragment)] or [b""]
        else:
            parts = [payload]
        for number, part in enumerate(parts):
            data += frame(part, opcode if not number else 0, mask=mask, final=number == len(parts) - 1)
        expected.append((opcode, payload))
    parser, found, at, turn = FrameParser(LIMIT), [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        found += [(message.opcode, message.body) for message in parser.feed(data[at : at + size])]
        at, turn = at + size, turn + 1
    assert found == expected
    assert parser.between
    assert parser.open == 0


@given(st.binary(max_size=300), st.integers(1, 7))
def test_no_bytes_raise(data: bytes, step: int) -> None:
    parser = FrameParser(64)
    for at in range(0, len(data), step):
        parser.feed(data[at : at + step])
    assert parser.lost <= len(data)


@pytest.mark.parametrize("step", [0, 23, 1000])
@pytest.mark.parametrize("masked", [False, True])
def test_of_a_large_message_the_beginning_and_the_end_are_kept(step: int, *, masked: bool) -> None:
    payload = bytes(at % 251 for at in range(40_000))
    data = frame(payload, mask=KEY if masked else b"")
    parser = FrameParser(LIMIT)
    pieces = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
    [message] = [message for piece in pieces for message in parser.feed(piece)]
    assert message == Message(1, 40_000, payload[:HEAD_BYTES], payload[-LAST_BYTES:])
    assert not message.whole


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1, LAST_BYTES, HEAD_BYTES + LAST_BYTES])
def test_a_message_that_fits_between_beginning_and_end_is_whole(size: int) -> None:
    payload = bytes(at % 251 for at in range(size))
    [message] = FrameParser(LIMIT).feed(frame(payload))
    assert message == Message(1, size, payload)


def test_audio_is_told_by_its_beginning() -> None:
    parser = FrameParser(1 << 20, lambda beginning: beginning.startswith(b"audio"))
    sound = b"audio" + bytes(100_000)
    assert [message.whole for message in parser.feed(frame(sound) + frame(b"text" + bytes(100_000)))] == [False, True]


def test_the_status_of_a_close_is_told() -> None:
    for data, status in ((b"\x88\x00", 1005), (b"\x88\x02\x03\xf3", 1011), (close_frame(1012, "restart"), 1012)):
        parser = FrameParser(LIMIT)
        assert parser.closed is None
        parser.feed(data)
        assert parser.closed == status
    assert close_frame(1000, "x" * 500) == frame(b"\x03\xe8" + b"x" * 123, 8)


def test_where_a_frame_of_ours_may_stand() -> None:
    data = frame(b"a", final=False) + frame(b"", 9) + frame(b"b", 0)
    parser = FrameParser(LIMIT)
    places = []
    for at in range(len(data)):
        parser.feed(data[at : at + 1])
        places.append((parser.between, parser.open))
    assert [place for place in places if place[0]] == [(True, 3), (True, 5), (True, 0)]


def test_a_mask_is_undone_by_itself() -> None:
    assert unmasked(unmasked(b"some payload", KEY), KEY) == b"some payload"
    assert sent("x")[1] & 0x80
    assert {frames.TEXT, frames.BINARY} == {1, 2}
