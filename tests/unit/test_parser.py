"""The response parser in memory: every answer whole, byte by byte, in two at every offset, with trailing data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.upstream.parser import ResponseParser, State

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CUT = "the provider closed the connection"


@dataclass(frozen=True)
class Seen:
    """The result of parsing an answer."""

    state: State
    status: int = 200
    body: bytes = b""
    fault: str = ""


@dataclass(frozen=True)
class Case:
    """An answer with its expected results: before the connection closes, and after."""

    raw: bytes
    seen: Seen
    closed: State = State.MUST_CLOSE
    method: bytes = b"GET"


def length(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    head = [b"HTTP/1.1 " + status, *lines, b"content-length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


OK = length(b"ok")
ASKED = Seen(State.HEAD, status=0)
CASES = {
    "nothing": Case(b"", ASKED, State.BROKEN),
    "half a head": Case(b"HTTP/1.1 200 OK\r\ncontent-le", ASKED, State.BROKEN),
    "a length": Case(OK, Seen(State.DONE, body=b"ok")),
    "a length of 0": Case(length(b""), Seen(State.DONE)),
    "a length, then close": Case(length(b"ok", b"connection: close"), Seen(State.MUST_CLOSE, body=b"ok")),
    "a length, too short": Case(OK[:-1], Seen(State.BODY, body=b"o"), State.BROKEN),
    "HTTP/1.0": Case(OK.replace(b"1.1", b"1.0"), Seen(State.MUST_CLOSE, body=b"ok")),
    "an error": Case(length(b"no", status=b"429 Slow Down"), Seen(State.DONE, 429, b"no")),
    "chunks": Case(CHUNKED + b"2\r\nok\r\n3\r\n!\r\n\r\n0\r\n\r\n", Seen(State.DONE, body=b"ok!\r\n")),
    "no chunks": Case(CHUNKED + b"0\r\n\r\n", Seen(State.DONE)),
    "chunks in a chunk": Case(
        CHUNKED + b"9\r\n1\r\nx\r\n0\r\n\r\n0\r\n\r\n", Seen(State.DONE, body=b"1\r\nx\r\n0\r\n")
    ),
    "extensions": Case(CHUNKED + b'2;a=b;c="d"\r\nok\r\n0;z\r\n\r\n', Seen(State.DONE, body=b"ok")),
    "trailers": Case(CHUNKED + b"2\r\nok\r\n0\r\nx-t: 1\r\n\r\n", Seen(State.DONE, body=b"ok")),
    "chunks, then close": Case(
        CHUNKED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + b"2\r\nok\r\n0\r\n\r\n",
        Seen(State.MUST_CLOSE, body=b"ok"),
    ),
    "between chunks": Case(CHUNKED + b"2\r\nok\r\n", Seen(State.BETWEEN_CHUNKS, body=b"ok"), State.BROKEN),
    "half a chunk": Case(CHUNKED + b"2\r\no", Seen(State.BODY, body=b"o"), State.BROKEN),
    "half a size": Case(CHUNKED + b"2\r\nok\r\n2", Seen(State.BODY, body=b"ok"), State.BROKEN),
    "half an end": Case(CHUNKED + b"2\r\nok\r\n0\r\n", Seen(State.BODY, body=b"ok"), State.BROKEN),
    "both lengths": Case(
        CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-length: 9\r\n\r\n") + b"2\r\nok\r\n0\r\n\r\n",
        Seen(State.DONE, body=b"ok"),
    ),
    "until close": Case(b"HTTP/1.1 200 OK\r\n\r\nso far", Seen(State.UNTIL_CLOSE, body=b"so far")),
    "HEAD": Case(length(b"")[:-5] + b"500\r\n\r\n", Seen(State.MUST_CLOSE), method=b"HEAD"),
    "HEAD with a body": Case(OK, Seen(State.MUST_CLOSE), method=b"HEAD"),
    "HEAD of chunks": Case(CHUNKED, Seen(State.MUST_CLOSE), method=b"HEAD"),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", Seen(State.DONE, 204)),
    "204 with a length": Case(b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", Seen(State.DONE, 204)),
    "304": Case(b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", Seen(State.DONE, 304)),
    "304, then close": Case(b"HTTP/1.1 304 No\r\nconnection: close\r\n\r\n", Seen(State.MUST_CLOSE, 304)),
    "interim alone": Case(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", ASKED, State.BROKEN),
    "interim first": Case(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, Seen(State.DONE, body=b"ok")
    ),
    "a second answer": Case(OK + length(b"EVIL", status=b"500 Evil"), Seen(State.MUST_CLOSE, body=b"ok")),
    "half a second answer": Case(OK + b"HTTP/1.1 5", Seen(State.MUST_CLOSE, body=b"ok")),
    "nonsense after it": Case(OK + b"nonsense", Seen(State.MUST_CLOSE, body=b"ok")),
    "no HTTP": Case(b"SSH-2.0-OpenSSH_9.2\r\n", Seen(State.BROKEN, 0, fault="Expected HTTP/"), State.BROKEN),
    "switched": Case(
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        Seen(State.BROKEN, 0, fault="the provider switched protocols"),
        State.BROKEN,
    ),
    "a bad length": Case(
        b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n", Seen(State.BROKEN, 0, fault="Invalid"), State.BROKEN
    ),
    "a bad chunk": Case(
        CHUNKED + b"2\r\nok\r\nzz\r\n", Seen(State.BROKEN, body=b"ok", fault="Invalid character"), State.BROKEN
    ),
    "a chunk's size padded": Case(CHUNKED + b"2  \r\nok\r\n0\t\r\n\r\n", Seen(State.DONE, body=b"ok")),
    "a space before an extension": Case(CHUNKED + b"2 ;a=b\r\nok\r\n0 ;z\r\n\r\n", Seen(State.DONE, body=b"ok")),
    "a chunk's size ended by LF": Case(
        CHUNKED + b"2\nok\r\n0\r\n\r\n", Seen(State.BROKEN, fault="Missing expected CR"), State.BROKEN
    ),
    "bare LF": Case(b"HTTP/1.1 200 OK\nContent-Length: 6\n\no\r\n\r\nk", Seen(State.DONE, body=b"o\r\n\r\nk")),
    "bare LF, a body with empty lines": Case(
        b"HTTP/1.1 200 OK\nContent-Length: 4\n\r\n\n\n\n\n", Seen(State.DONE, body=b"\n\n\n\n")
    ),
    "bare LF, and an empty line of the body's": Case(
        b"HTTP/1.1 200 OK\n\n\r\nso far", Seen(State.UNTIL_CLOSE, body=b"\r\nso far")
    ),
    "one length twice": Case(length(b"ok", b"Content-Length: 2"), Seen(State.DONE, body=b"ok")),
    "one length in a list": Case(b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok", Seen(State.DONE, body=b"ok")),
    "two lengths": Case(
        length(b"ok", b"Content-Length: 3"), Seen(State.BROKEN, 0, fault="the answer has several lengths"), State.BROKEN
    ),
    "a space before a colon": Case(length(b"ok", b"X-A : b", b"X-B\t: c"), Seen(State.DONE, body=b"ok")),
    "a folded line": Case(length(b"ok", b"x-a: one\r\n\ttwo"), Seen(State.DONE, body=b"ok")),
    "a control character": Case(length(b"ok", b"x-a: a\x01\0b\rc"), Seen(State.DONE, body=b"ok")),
    "no name": Case(length(b"ok", b"nonsense"), Seen(State.BROKEN, 0, fault="Invalid header token"), State.BROKEN),
    "gzip, chunked": Case(
        CHUNKED.replace(b"chunked", b"gzip, chunked") + b"2\r\nok\r\n0\r\n\r\n", Seen(State.DONE, body=b"ok")
    ),
    "gzip and chunked apart": Case(
        CHUNKED.replace(b"chunked", b"GZip\r\nTransfer-Encoding: Chunked") + b"2\r\nok\r\n0\r\n\r\n",
        Seen(State.DONE, body=b"ok"),
    ),
    "gzip alone": Case(
        CHUNKED.replace(b"chunked", b"gzip\r\ncontent-length: 1") + b"ok", Seen(State.UNTIL_CLOSE, body=b"ok")
    ),
    "chunked twice": Case(
        CHUNKED.replace(b"chunked", b"chunked, chunked") + b"2\r\nok\r\n0\r\n\r\n", Seen(State.DONE, body=b"ok")
    ),
    "identity with a length": Case(length(b"ok", b"transfer-encoding: identity"), Seen(State.DONE, body=b"ok")),
    "chunked below gzip": Case(
        CHUNKED.replace(b"chunked", b"chunked, gzip"),
        Seen(State.BROKEN, 0, fault="the answer has a transfer coding"),
        State.BROKEN,
    ),
    "an unknown coding": Case(
        CHUNKED.replace(b"chunked", b"zstd, chunked"),
        Seen(State.BROKEN, 0, fault="the answer has a transfer coding"),
        State.BROKEN,
    ),
    "empty lines first": Case(b"\r\n\r\n\n" + OK, Seen(State.DONE, body=b"ok")),
    "an untidy one after interim ones": Case(
        b"HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early\r\nlink : x\r\n\r\n" + length(b"ok", b"x-a : b"),
        Seen(State.DONE, body=b"ok"),
    ),
    "a chunk too long": Case(
        CHUNKED + b"2\r\nok!\r\n0\r\n\r\n", Seen(State.BROKEN, body=b"ok", fault="Expected"), State.BROKEN
    ),
}


def read(case: Case, parts: list[bytes]) -> tuple[ResponseParser, bytes]:
    parser = ResponseParser()
    parser.begin(case.method)
    return parser, b"".join([parser.feed(part) for part in parts])


def cuts(raw: bytes) -> list[list[bytes]]:
    """Whole, byte by byte, and in two at every offset."""
    return [[raw], [raw[i : i + 1] for i in range(len(raw))], *([raw[:i], raw[i:]] for i in range(1, len(raw)))]


def alike(state: State) -> State:
    """Before a chunk the parser knows its place only where a read ended there."""
    return State.BODY if state is State.BETWEEN_CHUNKS else state


@pytest.mark.parametrize("name", CASES)
def test_an_answer_wherever_it_is_cut(name: str) -> None:
    case = CASES[name]
    for parts in cuts(case.raw):
        parser, body = read(case, parts)
        assert alike(parser.state) is alike(case.seen.state), parts
        assert (parser.status, body) == (case.seen.status, case.seen.body), parts
        assert parser.fault.startswith(case.seen.fault) and bool(parser.fault) is bool(case.seen.fault), parts
        parser.close()
        assert parser.state is case.closed, parts
        assert parser.complete is (case.closed is State.MUST_CLOSE)
        assert parser.feed(b"more") == b"", parts


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.seen.state is State.DONE])
def test_the_next_answer_on_the_same_connection(name: str) -> None:
    case = CASES[name]
    for parts in cuts(case.raw):
        parser, _ = read(case, parts)
        parser.begin(b"GET")
        assert (parser.state, parser.status, parser.headers) == (State.HEAD, 0, [])
        assert parser.feed(length(b"next", b"x: y")) == b"next"
        assert (parser.state, parser.headers) == (State.DONE, [(b"x", b"y"), (b"content-length", b"4")])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.seen.state is State.DONE])
def test_what_comes_after_a_whole_answer_spoils_the_connection_alone(name: str) -> None:
    case = CASES[name]
    for trailing in (b"HTTP/1.1 200 OK\r\n\r\nEVIL", b"EVIL", b"\0"):
        for parts in ([case.raw + trailing], [case.raw, trailing]):
            parser, body = read(case, parts)
            assert (parser.state, body) == (State.MUST_CLOSE, case.seen.body), parts


def test_headers_are_the_final_ones_as_written() -> None:
    case = CASES["interim first"]
    for parts in cuts(case.raw):
        assert read(case, parts)[0].headers == [(b"content-length", b"2")]
    twice = length(b"", b"Set-Cookie: a", b"set-cookie: B")
    for parts in cuts(twice):
        assert read(Case(twice, ASKED), parts)[0].headers[:2] == [(b"Set-Cookie", b"a"), (b"set-cookie", b"B")]
    case = CASES["trailers"]
    for parts in cuts(case.raw):
        assert read(case, parts)[0].headers == [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("a space before a colon", [(b"X-A", b"b"), (b"X-B", b"c"), (b"content-length", b"2")]),
        ("a folded line", [(b"x-a", b"one two"), (b"content-length", b"2")]),
        ("a control character", [(b"x-a", b"a  b c"), (b"content-length", b"2")]),
        ("bare LF", [(b"Content-Length", b"6")]),
        ("one length twice", [(b"content-length", b"2")]),
        ("gzip, chunked", [(b"content-encoding", b"gzip"), (b"transfer-encoding", b"chunked")]),
        ("gzip alone", [(b"content-encoding", b"gzip")]),
        ("an untidy one after interim ones", [(b"x-a", b"b"), (b"content-length", b"2")]),
    ],
)
def test_untidy_headers(name: str, headers: list[tuple[bytes, bytes]]) -> None:
    for parts in cuts(CASES[name].raw):
        assert read(CASES[name], parts)[0].headers == headers


def test_a_transfer_coding_comes_behind_the_content_codings() -> None:
    raw = CHUNKED.replace(b"chunked", b"deflate, chunked\r\nContent-Encoding: br")
    parser, _ = read(Case(raw, ASKED), [raw])
    assert parser.headers == [(b"content-encoding", b"br, deflate"), (b"transfer-encoding", b"chunked")]


def test_half_a_size_is_no_place_before_a_chunk() -> None:
    parser, body = read(Case(b"", ASKED), [CHUNKED, b"2\r\nok\r\n1", b"2\r\nxx\r\n", b"x" * 14 + b"\r\n0\r\n\r\n"])
    assert (body, parser.state) == (b"okxx\r\n" + b"x" * 14, State.DONE)


def test_a_byte_that_answers_nothing_breaks_the_connection() -> None:
    parser = ResponseParser()
    assert (parser.feed(OK), parser.state, parser.fault) == (b"", State.BROKEN, "an answer without a request")


def test_an_end_between_answers_is_no_answer() -> None:
    parser = ResponseParser()
    parser.close()
    assert (parser.state, parser.complete) == (State.BROKEN, False)


@pytest.mark.parametrize(
    ("chunk", "body", "state"),
    [
        (b"2\r\nok\r\n", b"ok", State.BETWEEN_CHUNKS),
        (b"0A\r\n0123456789\r\n", b"0123456789", State.BETWEEN_CHUNKS),
        (b"2\r\nok\r\n2\r\nok\r\n", b"okok", State.BETWEEN_CHUNKS),
        (b"2;x=y\r\nok\r\n", b"ok", State.BETWEEN_CHUNKS),
        (b"2\r\nok\r\n2\r\n", b"ok", State.BODY),
        (b"4\r\no\r\n", b"o\r\n", State.BODY),
        (b"0\r\n\r\n", b"", State.DONE),
        (b"0\r\nab\r\n", b"", State.BROKEN),
        (b"2\r\nokxx", b"ok", State.BROKEN),
        (b"+2\r\nok\r\n", b"", State.BROKEN),
        (b"1_0\r\n" + b"x" * 16 + b"\r\n", b"", State.BROKEN),
    ],
)
def test_a_read_that_begins_with_a_chunk(chunk: bytes, body: bytes, state: State) -> None:
    """The shortcut past httptools gives the same result as httptools."""
    parser, _ = read(Case(b"", ASKED), [CHUNKED, b"2\r\nok\r\n"])
    assert parser.state is State.BETWEEN_CHUNKS
    assert (parser.feed(chunk), parser.state) == (body, state)
    slow, got = read(Case(b"", ASKED), [CHUNKED + b"2\r\nok\r\n" + chunk])
    assert (got, alike(slow.state)) == (b"ok" + body, alike(state))


WORDS = [b"a\r\n", b"1", b"\r\n", b"0\r\n\r\n", b"data: x\n\n", b"1a;q=1\r\n", b"\r", b"00a\r\n0123456789\r\n"]
SIZES = [b"%x", b"%X", b"00%x", b"%x;ext=1"]


@st.composite
def split_answers(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A body that looks like chunks itself, and its answer, in parts."""
    bodies = draw(st.lists(st.lists(st.sampled_from(WORDS), min_size=1).map(b"".join)))
    chunks = [draw(st.sampled_from(SIZES)) % len(body) + b"\r\n" + body + b"\r\n" for body in bodies]
    end = draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n", b"000\r\n\r\n"]))
    raw = CHUNKED + b"".join(chunks) + end
    ends = [len(CHUNKED) + len(b"".join(chunks[:n])) for n in range(len(chunks) + 1)]
    places = st.one_of(st.sampled_from(ends), st.integers(0, len(raw)))
    at = sorted({0, *draw(st.lists(places)), len(raw)})
    return b"".join(bodies), [raw[a:b] for a, b in pairwise(at)]


@given(split_answers())
def test_splitting_changes_nothing(given_: tuple[bytes, list[bytes]]) -> None:
    body, parts = given_
    parser, got = read(Case(b"", ASKED), parts)
    assert (got, parser.state, parser.status) == (body, State.DONE, 200)


@given(st.sampled_from(sorted(CASES)), st.data())
def test_splitting_changes_nothing_of_any_answer(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    at = sorted({0, *data.draw(st.lists(st.integers(0, len(case.raw)))), len(case.raw)})
    parser, body = read(case, [case.raw[a:b] for a, b in pairwise(at)])
    assert (alike(parser.state), parser.status, body) == (alike(case.seen.state), case.seen.status, case.seen.body)
