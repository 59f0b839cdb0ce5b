"""What the gateway turns away, and how it says so."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support import web
from tests.support.requests import ASKS, connected, exchange_bytes, raw_request
from tests.support.system import System


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system whose limits are reached in seconds: by what stalls, and not by what is slow on a busy machine."""
    limits = {
        "AROUTER_MAX_BODY_BYTES": "1000",
        "AROUTER_HEADER_TIMEOUT": "4",
        "AROUTER_BODY_TIMEOUT": "4",
        "AROUTER_FIRST_BYTE_TIMEOUT": "4",
        "AROUTER_IDLE_TIMEOUT": "4",
        "AROUTER_TOTAL_TIMEOUT": "12",
        "AROUTER_SLOW_READER_TIMEOUT": "4",
        "AROUTER_PROVIDERS__DEEPSEEK__ON_DISCONNECT": "read_on",
    }
    with System(tmp_path_factory.mktemp("tight"), **limits) as running:
        yield running


ENVELOPES = {
    "chat": lambda error, status: error["error"]["type"] and error["error"]["message"],
    "messages": lambda error, status: error["type"] == "error" and error["error"]["message"],
    "gemini": lambda error, status: error["error"]["code"] == status and error["error"]["message"],
}


@pytest.mark.parametrize("name", ENVELOPES)
@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (400, {"content": b"{"}),
        (401, {"key": "sk-stranger"}),
        (401, {"key": ""}),
        (404, {"path": "/nothing/at/all"}),
        (413, {"content": b"x" * 2000}),
    ],
)
def test_errors_speak_the_callers_dialect(tight: System, name: str, status: int, changes: dict[str, str]) -> None:
    ask = ASKS[name]
    if status == 400 and name == "gemini":
        pytest.skip("the gateway does not read a Gemini body: the path says it all")
    path = ask.path + changes.get("path", "")
    headers = ask.headers(changes.get("key", tight.key))
    if changes.get("key") == "":
        del headers[ask.key_header]
    response = web.post(tight.url + path, headers=headers, content=changes.get("content", b'{"model":"x"}'))
    assert response.status_code == status
    assert ENVELOPES[name](response.json(), status)
    assert "x-generation-id" not in response.headers


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 90_000, b"431"),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\n" + b"".join(b"x%d: 1\r\n" % n for n in range(150)) + b"\r\n", b"431"),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\n", b"408"),
        (b"nonsense\r\n\r\n", b"400"),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            b"400",
        ),
    ],
)
def test_heads_are_limited_in_size_count_and_time(tight: System, request_bytes: bytes, status: bytes) -> None:
    assert exchange_bytes(tight.url, request_bytes).startswith(b"HTTP/1.1 " + status)


def test_a_body_that_does_not_come_is_given_up(tight: System) -> None:
    head = raw_request("/v1/chat/completions", tight.key, {}, "x: y").partition(b"\r\n\r\n")[0]
    waiting = head.replace(b"content-length: 2", b"content-length: 500") + b"\r\n\r\n{"
    assert exchange_bytes(tight.url, waiting).startswith(b"HTTP/1.1 408")


def outcome(system: System, id: str) -> str:
    return str(system.settled([id])[id]["outcome"])


def test_a_provider_that_hangs_before_its_headers_is_504(tight: System) -> None:
    ask = ASKS["messages"]
    response = web.post(tight.url + ask.path, headers=ask.headers(tight.key, "hang"), json=ask.body)
    assert response.status_code == 504
    assert response.json()["error"]["type"] == "timeout_error"
    assert outcome(tight, response.headers["x-generation-id"]) == "timed_out"


@pytest.mark.parametrize("directives", ["stall", "tokens=3000, pace=100"])
def test_silence_and_endless_streams_are_cut(tight: System, directives: str) -> None:
    ask = ASKS["chat stream"]
    ids = []
    with pytest.raises(httpx.RemoteProtocolError):
        with web.stream(
            "POST", tight.url + ask.path, headers=ask.headers(tight.key, directives), json=ask.body
        ) as response:
            ids.append(response.headers["x-generation-id"])
            response.read()
    assert outcome(tight, ids[0]) == "timed_out"


def test_a_client_that_does_not_read_is_cut(tight: System) -> None:
    ask = ASKS["chat stream"]
    with web.stream(
        "POST", tight.url + ask.path, headers=ask.headers(tight.key, "huge=60000000"), json=ask.body
    ) as response:
        assert outcome(tight, response.headers["x-generation-id"]) == "timed_out"


def test_a_client_that_leaves_before_the_headers_is_an_outcome(system: System) -> None:
    key = system.command("keys", "create", "--name", "leaves").strip()
    before = set(system.ledger())
    ask = raw_request("/v1/chat/completions", key, ASKS["chat stream"].body, "x-demo: hang=600000")
    with connected(system.url) as client:
        client.sendall(ask)
        system.until(lambda: system.pending(key))
    [id] = system.until(lambda: system.ledger().keys() - before)
    assert outcome(system, id) == "client_gone"


def test_an_upstream_is_read_on_for_the_usage_at_its_end(tight: System) -> None:
    ask = ASKS["chat stream"]
    body = ask.body | {"model": "deepseek/deepseek-chat"}
    with web.stream(
        "POST", tight.url + ask.path, headers=ask.headers(tight.key, "tokens=20, pace=20"), json=body
    ) as response:
        next(response.iter_raw())
    id = response.headers["x-generation-id"]
    entry = tight.settled([id])[id]
    line = tight.until(lambda: tight.emitted().get(id))
    assert (entry["outcome"], line["ended"]) == ("client_gone", "complete")
    assert {counter: entry[counter] for counter in line["usage"]} == line["usage"]


def test_a_revoked_key_is_refused(system: System) -> None:
    record = system.command("keys", "create", "--name", "short-lived", "--json")
    key, hash = (record.partition(f'"{field}": "')[2].partition('"')[0] for field in ("key", "hash"))
    ask = ASKS["chat"]
    assert web.post(system.url + ask.path, headers=ask.headers(key), json=ask.body).status_code == 200
    system.command("keys", "revoke", hash)
    system.until(lambda: web.post(system.url + ask.path, headers=ask.headers(key), json=ask.body).status_code == 401)


def test_health_needs_no_key(tight: System) -> None:
    assert web.get(f"{tight.url}/healthz").json() == {"status": "ok"}
    assert web.get(f"{tight.url}/readyz").json() == {"ready": True, "reasons": []}
    assert web.options(f"{tight.url}/v1/chat/completions").status_code == 204
