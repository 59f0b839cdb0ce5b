"""The server side of HTTP in memory: what a handler sees, and what a client gets, however the bytes arrive."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.support.memory_client import CHUNKED, GET, MemoryClient, Recorder, Seen, post, settled, sized, statuses

H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"


@dataclass(frozen=True)
class Case:
    """Bytes of a client; the requests in them; the statuses of what comes back; whether the connection is closed."""

    sent: bytes
    seen: tuple[Seen, ...]
    statuses: tuple[int, ...]
    closed: bool = False


X = Seen("GET", b"/x")
# RFC 9112, 6.1 and 6.3: 400 where its end is unknown, 501 where it would have to be decoded.
CODINGS: list[tuple[str, list[bytes], int]] = [
    ("identity", [b"transfer-encoding: identity"], 400),
    ("gzip", [b"transfer-encoding: gzip"], 400),
    ("nearly chunked", [b"transfer-encoding: xchunked"], 400),
    ("chunked and noise", [b"transfer-encoding: chunked;q=1"], 400),
    ("chunked and an odd space", [b"transfer-encoding: chunked\x0b"], 400),
    ("chunked, then identity", [b"transfer-encoding: chunked, identity"], 400),
    ("chunked, then gzip, in two lines", [CHUNKED, b"transfer-encoding: gzip"], 400),
    ("chunked twice", [b"transfer-encoding: chunked, chunked"], 400),
    ("nothing", [b"transfer-encoding:"], 400),
    ("gzip, then chunked", [b"transfer-encoding: gzip, chunked"], 501),
    ("identity, then chunked, in two lines", [b"transfer-encoding: identity", CHUNKED], 501),
]
HELLO = Seen("POST", b"/x", body=b"hello")

CASES: dict[str, Case] = {
    "a request": Case(GET, (X,), (200,)),
    "a body": Case(sized(b"hello"), (HELLO,), (200,)),
    "a chunked body": Case(post(b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", CHUNKED), (HELLO,), (200,)),
    "trailers": Case(post(b"5\r\nhello\r\n0\r\nhost: evil\r\nx-late: 1\r\n\r\n", CHUNKED), (HELLO,), (200,)),
    "a target as it came": Case(
        b"GET /a%2Fb//c%20d?$alt=json%3B&x=?# HTTP/1.1\r\nhost: h\r\n\r\n",
        (Seen("GET", b"/a%2Fb//c%20d", b"$alt=json%3B&x=?"),),
        (200,),
    ),
    "a target as to a proxy": Case(
        b"GET http://h:80/a?b HTTP/1.1\r\nhost: h\r\n\r\n", (Seen("GET", b"/a", b"b"),), (200,)
    ),
    "a head and trailers that fit, each": Case(
        post(b"0\r\nx: " + b"y" * 200 + b"\r\n\r\n", CHUNKED, b"x: " + b"y" * 150), (Seen("POST", b"/x"),), (200,)
    ),
    "one after the other": Case(sized(b"hello") + GET + sized(b"hello"), (HELLO, X, HELLO), (200, 200, 200)),
    "empty lines between": Case(b"\r\n" + GET + b"\r\n\r\n" + GET, (X, X), (200, 200)),
    "the last one": Case(sized(b"hello", b"connection: close") + GET, (HELLO,), (200,), closed=True),
    "noise after the last one": Case(sized(b"hello", b"connection: close") + b"\0\0", (HELLO,), (200,), closed=True),
    "HTTP/1.0": Case(b"GET /x HTTP/1.0\r\n\r\n", (X,), (200,), closed=True),
    "HTTP/1.0 kept alive": Case(b"GET /x HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", (X,), (200,), closed=True),
    "an upgrade": Case(sized(b"hello", H2C[:-2]), (HELLO,), (200,)),
    "an upgrade, chunked": Case(post(b"5\r\nhello\r\n0\r\n\r\n", H2C[:-2], CHUNKED), (HELLO,), (200,)),
    "upgrades in a row": Case(sized(b"hello", H2C[:-2]) * 3, (HELLO,) * 3, (200,) * 3),
    "an upgrade without a body": Case(GET.replace(b"host", H2C + b"host") + GET, (X, X), (200, 200)),
    "an upgrade in capitals": Case(sized(b"hello", H2C[:-2].upper().replace(b": ", b" :\t")), (), (400,), closed=True),
    "no host": Case(b"GET /x HTTP/1.1\r\n\r\n", (), (400,), closed=True),
    "two hosts": Case(b"GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", (), (400,), closed=True),
    "two hosts and an upgrade": Case(GET.replace(b"host", H2C + b"host: a\r\nhost"), (), (400,), closed=True),
    "two lengths": Case(post(b"5\r\nhello\r\n", CHUNKED, b"content-length: 5"), (), (400,), closed=True),
    "a tunnel": Case(b"CONNECT h:443 HTTP/1.1\r\nhost: h\r\n\r\n", (), (405,), closed=True),
    "a tunnel to a path": Case(b"CONNECT /x HTTP/1.1\r\nhost: h\r\n\r\n", (), (405,), closed=True),
    "HTTP/2": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (), (400,), closed=True),
    "a target that is not ASCII": Case(b"GET /\xc3\xa9 HTTP/1.1\r\nhost: h\r\n\r\n", (), (400,), closed=True),
    "no HTTP": Case(b"nonsense\r\n\r\n", (), (400,), closed=True),
    "a large head": Case(GET.replace(b"host", b"x: " + b"y" * 400 + b"\r\nhost"), (), (431,), closed=True),
    "an endless head": Case(b"GET /x HTTP/1.1\r\nx: " + b"y" * 400, (), (431,), closed=True),
    "a long target": Case(b"GET /" + b"y" * 400 + b" HTTP/1.1\r\nhost: h\r\n\r\n", (), (431,), closed=True),
    "many lines": Case(GET.replace(b"host", b"x: 1\r\n" * 10 + b"host"), (), (431,), closed=True),
    "a broken chunk": Case(post(b"5\r\nhello\r\nnonsense\r\n", CHUNKED), (), (400,), closed=True),
    "a broken first chunk": Case(post(b"zz\r\n", CHUNKED), (), (400,), closed=True),
    "codings in a list": Case(post(b"5\r\nhello\r\n0\r\n\r\n", b"transfer-encoding: ,\tChunked "), (HELLO,), (200,)),
    **{
        f"a body that is {name}": Case(post(b"", *lines), (), (status,), closed=True) for name, lines, status in CODINGS
    },
    "chunks of HTTP/1.0": Case(post(b"", CHUNKED, version=b"1.0"), (), (400,), closed=True),
    "an upgrade of a body that is not chunked": Case(
        post(b"", H2C[:-2], b"transfer-encoding: identity"), (), (400,), closed=True
    ),
    "a chunk longer than its size": Case(post(b"3\r\nhello\r\n0\r\n\r\n", CHUNKED), (), (400,), closed=True),
}


def splits(data: bytes) -> Iterator[Sequence[bytes]]:
    """Whole, byte by byte, and in two; among equal bytes of a filling, in a few places."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        if data[at - 3 : at + 3] != b"yyyyyy" or at % 32 == 0:
            yield data[:at], data[at:]


@pytest.mark.parametrize("name", CASES)
async def test_requests_are_the_same_however_they_arrive(name: str) -> None:
    case = CASES[name]
    for pieces in splits(case.sent):
        recorder = Recorder()
        client = MemoryClient(recorder.handle)
        await client.send(*pieces)
        got = tuple(recorder.seen), statuses(client.answers), client.closed()
        assert got == (case.seen, case.statuses, case.closed), pieces
        assert not any(b"x-late" in headers for headers in recorder.headers)
        assert {headers.get(b"upgrade") for headers in recorder.headers} <= {None, b"h2c"}
        client.leave()
        await settled()
        assert not client.server.connections
        assert not client.server.tasks


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.statuses[0] >= 400])
async def test_errors_of_the_parser_are_objects(name: str) -> None:
    client = MemoryClient(Recorder().handle)
    await client.send(CASES[name].sent)
    head, _, body = client.answers.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body)["error"]["message"]
