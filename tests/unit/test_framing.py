import json
import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meter.readers.framing import Framing, JsonArray, JsonBody, LinedArray, NdJson, Payload, Sse


def fed(cutter: Framing, parts: list[bytes]) -> list[Payload]:
    return [payload for part in parts for payload in cutter.feed(part)] + list(cutter.close())


def cuts(body: bytes) -> list[list[bytes]]:
    """The body whole, byte by byte, and cut in two at every offset."""
    return [[body], [body[i : i + 1] for i in range(len(body))], *([body[:i], body[i:]] for i in range(len(body)))]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_wherever_they_are_cut(end: bytes) -> None:
    lines = [
        b": comment",
        b"",
        b"event: one",
        b'data: {"a":',
        b"data: 1}",
        b"id: 7",
        b"",
        b"data:2",
        b"",
        b"",
        b"data: \xe2\x80\xa8\xc2\x85",
        b"",
    ]
    body = end.join(lines) + end + b"data: last"
    expected = [(b"one", b'{"a":\n1}'), (b"", b"2"), (b"", b" \xe2\x80\xa8\xc2\x85"), (b"", b" last")]
    for parts in cuts(body):
        got = fed(Sse(), parts)
        assert [(name, data.strip()) for name, data in got] == [(name, data.strip()) for name, data in expected]


@given(st.lists(st.sampled_from([b"data: 1", b"data:2", b": c", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n"])))
def test_mixed_line_ends_wherever_they_are_cut(parts: list[bytes]) -> None:
    body = b"".join(parts)
    whole = fed(Sse(), [body])
    assert fed(Sse(), [body[at : at + 1] for at in range(len(body))]) == whole
    assert fed(Sse(), parts) == whole
    unified = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert fed(Sse(), [unified]) == whole


def test_an_error_outside_the_events_is_one() -> None:
    assert fed(Sse(), [b'data: 1\n\nerror: {"detail":"x"}\n']) == [(b"", b"1"), (b"error", b'{"detail":"x"}')]
    raw = b'data: 1\n\n{\n  "error": {\n    "code": 503\n  }\n}\n'
    [_, (name, data)] = fed(Sse(), [raw])
    assert (name, json.loads(data)) == (b"error", {"error": {"code": 503}})


ELEMENTS = st.lists(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.text(max_size=12) | st.integers(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=3,
    ),
    max_size=4,
)


@given(ELEMENTS, st.sampled_from([",", ",\r\n", "\n,\n"]), st.integers(0, 2**32))
def test_array_elements_wherever_they_are_cut(elements: list[object], comma: str, seed: int) -> None:
    body = ("[" + comma.join(json.dumps(element, ensure_ascii=False, indent=1) for element in elements) + "]").encode()
    rng = random.Random(seed)
    for parts in ([body], [body[i : i + 1] for i in range(len(body))], _randomly(body, rng)):
        assert [json.loads(data) for _, data in fed(JsonArray(), parts)] == elements


@given(st.lists(st.integers()), st.integers(0, 2**32))
def test_lines_wherever_they_are_cut(numbers: list[int], seed: int) -> None:
    body = b"\n".join(b"%d" % number for number in numbers)
    got = fed(NdJson(), _randomly(body, random.Random(seed)))
    assert [int(data) for _, data in got] == numbers


def test_a_body_is_one_document() -> None:
    assert fed(JsonBody(), [b"\n\n{", b"}"]) == [(b"", b"\n\n{}")]
    assert fed(JsonBody(), [b" \n"]) == []


@pytest.mark.parametrize("cutter", [Sse, NdJson, JsonBody, JsonArray])
def test_memory_is_bounded(cutter: Callable[[int], Framing]) -> None:
    under_test, piece = cutter(100_000), b"x" * 10_000
    assert list(under_test.feed(b'["')) == []
    tracemalloc.start()
    for _ in range(500):
        assert list(under_test.feed(piece + b" ")) == []  # a piece of its own each time
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("cutter", [Sse, NdJson])
def test_what_follows_a_monster_is_read(cutter: Callable[[int], Framing]) -> None:
    got = fed(cutter(10_000), [*[b"x" * 1000] * 50, b"\n\n", b"data: 1", b"\n\n"])
    assert [data.removeprefix(b"data:").strip() for _, data in got] == [b"1"]


def test_lined_arrays_are_read_the_quick_way() -> None:
    elements = [{"a": {"b": [1, 2]}, "t": "x\n}"}] * 5
    body = ("[" + ",\r\n".join(json.dumps(element, indent=2) for element in elements) + "\n]").encode()
    for parts in cuts(body):
        array = JsonArray(quick=True)
        got = [payload for part in parts for payload in array.feed(part)]
        assert array.lined
        at = body.index(array.rest()) if array.rest() else len(body)
        rest = LinedArray()
        got += rest.feed(body[at:]) if len(parts) == 1 else ()
        assert [json.loads(data) for _, data in got] == elements[: len(got)]
        assert len(got) == (5 if len(parts) == 1 else 2)


@pytest.mark.parametrize("cutter", [Sse, NdJson, JsonBody, JsonArray])
@given(body=st.binary(max_size=300), seed=st.integers(0, 2**32))
def test_arbitrary_bytes_never_raise(cutter: type[Framing], body: bytes, seed: int) -> None:
    assert fed(cutter(), _randomly(body, random.Random(seed))) == fed(cutter(), [body])


def _randomly(body: bytes, rng: random.Random) -> list[bytes]:
    at = sorted(rng.randint(0, len(body)) for _ in range(6))
    return [body[start:stop] for start, stop in zip([0, *at], [*at, len(body)], strict=True)]
