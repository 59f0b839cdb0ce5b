"""HTTP as it should not be spoken, on either side."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from tests.support import web
from tests.support.raw_upstream import RawUpstream
from tests.support.requests import ASKS, connected, exchange_bytes, raw_request
from tests.support.system import System

CHAT = ASKS["chat"]
PATH = "/v1/chat/completions"
ZIPPED = gzip.compress(b"ok", mtime=0)


@pytest.fixture(scope="module")
def raw() -> Iterator[RawUpstream]:
    with RawUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, raw: RawUpstream) -> Iterator[System]:
    settings = {
        "AROUTER_PROVIDERS__ODD__BASE_URL": raw.url,
        "AROUTER_KEEP_ALIVE_TIMEOUT": "4",
        "AROUTER_HEADER_TIMEOUT": "4",
        "AROUTER_PROVIDERS__DEEPSEEK__ON_DISCONNECT": "read_on",
    }
    with System(tmp_path_factory.mktemp("odd"), **settings) as running:
        yield running


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 55\r\netag: x\r\n\r\n", 304, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 200 OK\nX-A : b\nContent-Length: 2\n\nok", 200, b"ok"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED),
            200,
            b"ok",
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 307 Over There\r\nlocation: /v1/there\r\ncontent-length: 0\r\n\r\n", 307, b""),
        (b"HTTP/1.1 307 Over There\r\nlocation: https://there.invalid/\r\ncontent-length: 0\r\n\r\n", 502, None),
        (b"HTTP/1.1 200 OK\r\nx-a: " + b"b" * 100_000 + b"\r\ncontent-length: 2\r\n\r\nok", 502, None),
        (b"HTTP/1.1 777 Odd\r\ncontent-length: 0\r\n\r\n", 502, None),
        (b"HTTP/1.1 abc\r\n\r\n", 502, None),
        (b"not HTTP at all", 502, None),
        (b"", 502, None),
    ],
)
def test_odd_answers(odd: System, raw: RawUpstream, answer: bytes, status: int, body: bytes | None) -> None:
    raw.answer = answer
    response = web.get(f"{odd.url}/odd/v1/thing", headers=CHAT.headers(odd.key))
    assert response.status_code == status
    if body is not None:
        assert response.content == body
    id = response.headers["x-generation-id"]
    outcome = odd.settled([id])[id]["outcome"]
    assert outcome == ("upstream_failed" if status == 502 else "completed")


def test_a_request_that_meets_a_closing_connection_is_answered(odd: System, raw: RawUpstream) -> None:
    raw.answer, raw.closes_under_the_next = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True
    try:
        ids = []
        for _ in range(3):
            response = web.post(f"{odd.url}/odd/v1/thing", headers=CHAT.headers(odd.key), json={})
            assert (response.status_code, response.content) == (200, b"ok")
            ids.append(response.headers["x-generation-id"])
    finally:
        raw.closes_under_the_next = False
    settled = odd.settled(ids)
    causes = [[attempt[4] for attempt in settled[id]["attempts"]] for id in ids]
    assert causes[1:] == [["closed_early", ""]] * 2


def test_paths_and_queries_go_on_as_they_came(odd: System) -> None:
    target = "/v1/a%2Fb/c%20d?$alt=json%3Benum&x=%22<>&q={[|]}&plus=a+b;c&zz=%zz"
    request = f"GET /openai{target} HTTP/1.1\r\nhost: g\r\nx-api-key: {odd.key}\r\nconnection: close\r\n\r\n".encode()
    answer = exchange_bytes(odd.url, request)
    body = answer.partition(b"\r\n\r\n")[2]
    assert json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["target"] == target


def test_trailers_are_no_headers(odd: System) -> None:
    head = f"POST /openai/v1/echo HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {odd.key}\r\nconnection: close\r\n"
    body = "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-smuggled: 1\r\nauthorization: Bearer other\r\n\r\n"
    answer = exchange_bytes(odd.url, (head + body).encode())
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"x-smuggled" not in answer
    keyless = head.replace(odd.key, "nobody") + body.replace("other", odd.key)
    assert exchange_bytes(odd.url, keyless.encode()).startswith(b"HTTP/1.1 401")


def test_endless_trailers_are_refused(odd: System) -> None:
    head = f"POST /openai/v1/echo HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {odd.key}\r\n"
    body = "transfer-encoding: chunked\r\n\r\n0\r\nx: " + "y" * 2_000_000
    assert exchange_bytes(odd.url, (head + body).encode()).startswith(b"HTTP/1.1 431")


def test_nothing_of_ours_gets_into_a_running_response(odd: System) -> None:
    ask = raw_request(PATH, odd.key, CHAT.body | {"stream": True}, "x-demo: tokens=30, pace=50")
    answer = exchange_bytes(odd.url, ask + b"garbage that is no request\r\n\r\n")
    assert b"HTTP/1.1 400" not in answer
    unfinished = exchange_bytes(odd.url, ask + b"GET / HTTP/1.1\r\nhost")
    assert b"408" not in unfinished
    assert unfinished.endswith(b"0\r\n\r\n")


def test_an_upgrade_nobody_serves_costs_nothing(odd: System) -> None:
    lines = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA")
    answer = exchange_bytes(odd.url, raw_request(PATH, odd.key, CHAT.body, *lines))
    assert answer.startswith(b"HTTP/1.1 200")


def test_nor_on_a_later_request_of_the_connection(odd: System) -> None:
    host, _, port = odd.url.removeprefix("http://").partition(":")
    client = http.client.HTTPConnection(host, int(port), timeout=60)
    headers = CHAT.headers(odd.key) | {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "A"}
    for _ in range(3):
        client.request("POST", PATH, json.dumps(CHAT.body), headers)
        answer = client.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
    client.close()


def test_idle_connections_close_whatever_was_sent_before(odd: System) -> None:
    refused = raw_request(PATH, "nobody", CHAT.body)
    assert exchange_bytes(odd.url, refused).startswith(b"HTTP/1.1 401")
    assert exchange_bytes(odd.url, b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_pipelining_client_that_leaves_is_gone(odd: System) -> None:
    before = set(odd.ledger())
    ask = raw_request(PATH, odd.key, CHAT.body | {"stream": True}, "x-demo: tokens=500, pace=20")
    host, _, port = odd.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.sendall(ask + ask)
        connection.recv(1000)
    [id] = odd.until(lambda: odd.ledger().keys() - before)
    assert odd.ledger()[id]["outcome"] == "client_gone"


def test_an_upstream_is_read_on_before_its_headers_too(odd: System) -> None:
    before = set(odd.ledger())
    body = CHAT.body | {"model": "deepseek/deepseek-chat"}
    key = odd.command("keys", "create", "--name", "leaves").strip()
    with connected(odd.url) as client:
        client.sendall(raw_request(PATH, key, body, "x-demo: hang=4000"))
        odd.until(lambda: odd.pending(key))
    [id] = odd.until(lambda: odd.ledger().keys() - before)
    entry = odd.ledger()[id]
    assert (entry["outcome"], entry["output_tokens"]) == ("client_gone", 12)


def test_bodies_no_decoder_takes(odd: System) -> None:
    for body in (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"model":"' + b"m" * 300 + b'"}'):
        response = web.post(odd.url + PATH, headers=CHAT.headers(odd.key), content=body)
        assert response.status_code == 400
        assert response.json()["error"]["message"]
