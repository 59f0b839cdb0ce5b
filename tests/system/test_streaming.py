"""What the client gets is what the provider sent: every byte, at once, and never a clean end that was none."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import Any

import httpx
import pytest

from tests.support import web
from tests.support.requests import ASKS, STREAMS, exchange_bytes, raw_request
from tests.support.system import System

CUTS = ["", "bytewise", "split=40", "close-delimited", "tools", "no-usage", "seed=3, tokens=60"]
ENCODINGS = ["gzip", "deflate", "br", "zstd"]


def body_of(system: System, name: str, directives: str) -> tuple[httpx.Response, bytes]:
    """The undecoded body of an answer through the gateway."""
    ask = ASKS[name]
    with web.stream(
        "POST", system.url + ask.path, headers=ask.headers(system.key, directives), json=ask.body
    ) as response:
        return response, b"".join(response.iter_raw())


def check_body(system: System, name: str, directives: str) -> dict[str, Any]:
    response, body = body_of(system, name, directives)
    id = response.headers["x-generation-id"]
    line = system.until(lambda: system.emitted().get(id))
    assert (len(body), hashlib.sha256(body).hexdigest()) == (line["bytes"], line["sha256"])
    assert line["status"] == response.status_code
    entry: dict[str, Any] = system.settled([id])[id]
    assert entry["outcome"] == "completed"
    assert entry["response_bytes"] == len(body)
    return entry | {"line": line}


@pytest.mark.parametrize("directives", CUTS)
@pytest.mark.parametrize("name", ASKS)
def test_every_byte_and_every_count_is_the_providers(system: System, name: str, directives: str) -> None:
    entry = check_body(system, name, directives)
    usage = entry["line"]["usage"]
    if usage is not None:
        assert {counter: entry[counter] for counter in usage} == usage
        assert entry["source"] == "reported"
    else:
        assert entry["source"] == "estimated"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", STREAMS)
def test_encoded_bodies_pass_as_they_are_and_are_counted(system: System, name: str, encoding: str) -> None:
    entry = check_body(system, name, f"{encoding}, split=30")
    assert {counter: entry[counter] for counter in entry["line"]["usage"]} == entry["line"]["usage"]


@pytest.mark.parametrize("name", STREAMS)
def test_events_of_megabytes(system: System, name: str) -> None:
    entry = check_body(system, name, "huge=3000000, split=90000")
    assert {counter: entry[counter] for counter in entry["line"]["usage"]} == entry["line"]["usage"]
    assert entry["response_bytes"] > 3_000_000


@pytest.mark.parametrize("name", STREAMS)
def test_the_first_token_is_there_while_the_provider_is_silent(system: System, name: str) -> None:
    ask = ASKS[name]
    directives = "tokens=30, after=6, stall"  # six events, and then nothing for ever
    with web.stream(
        "POST", system.url + ask.path, headers=ask.headers(system.key, directives), json=ask.body
    ) as response:
        seen = b""
        for part in response.iter_raw():
            seen += part
            if max(seen.count(b"data:"), seen.count(b'"candidates"')) >= 6:
                break
    id = response.headers["x-generation-id"]
    entry = system.settled([id])[id]
    line = system.until(lambda: system.emitted().get(id))
    assert (entry["outcome"], entry["source"], line["ended"]) == ("client_gone", "partial", "client_gone")
    assert entry["response_bytes"] == line["bytes"] == len(seen)


@pytest.mark.parametrize("how", ["cut", "reset"])
@pytest.mark.parametrize("name", ["chat", *STREAMS])
def test_a_dead_upstream_is_no_clean_end(system: System, name: str, how: str) -> None:
    ask = ASKS[name]
    ids = []
    with pytest.raises(httpx.RemoteProtocolError):
        with web.stream("POST", system.url + ask.path, headers=ask.headers(system.key, how), json=ask.body) as response:
            ids.append(response.headers["x-generation-id"])
            response.read()
    entry = system.settled(ids)[ids[0]]
    assert (entry["outcome"], entry["source"]) == ("upstream_failed", "partial")


@pytest.mark.parametrize("name", STREAMS)
def test_an_end_in_the_middle_is_passed_on_and_marked(system: System, name: str) -> None:
    entry = check_body(system, name, "truncate")
    assert not entry["complete"]
    assert entry["line"]["usage"] is None
    if name == "messages stream":  # the count in its first event is a start value
        assert entry["source"] == "partial"


@pytest.mark.parametrize("name", STREAMS)
def test_an_error_in_the_middle_is_passed_on(system: System, name: str) -> None:
    entry = check_body(system, name, "error")
    assert entry["error"]


def test_a_provider_that_refuses_or_cannot_be_reached(system: System) -> None:
    for ask, directives in ((ASKS["chat"], "refuse"), (ASKS["messages"], "refuse")):
        response = web.post(system.url + ask.path, headers=ask.headers(system.key, directives), json=ask.body)
        assert response.status_code == 502
        id = response.headers["x-generation-id"]
        entry = system.settled([id])[id]
        assert (entry["outcome"], entry["status"], entry["total_tokens"]) == ("upstream_failed", None, 0)
    assert response.json()["type"] == "error"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
@pytest.mark.parametrize("name", ["chat stream", "messages stream", "gemini events"])
def test_the_providers_errors_pass_untouched(system: System, name: str, status: int) -> None:
    entry = check_body(system, name, f"status={status}")
    assert (entry["status"], entry["total_tokens"], entry["source"]) == (status, 0, "reported")


def test_streams_ask_proxies_not_to_buffer(system: System) -> None:
    response, _ = body_of(system, "chat stream", "")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"] == "req_demo"
    assert "set-cookie" not in response.headers
    plain, _ = body_of(system, "chat", "")
    assert "x-accel-buffering" not in plain.headers
    assert "cache-control" not in plain.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_any_path_of_a_provider_passes_through(system: System, method: str) -> None:
    body = b"" if method == "GET" else b'{"raw": "caf\xc3\xa9"}'
    response = web.request(
        method,
        f"{system.url}/openai/v1/some/thing%2Felse?a=%2F&key={system.key}&b=1&$x=y",
        headers={"x-mine": "1", "cookie": "a=b", "connection": "x-hop", "x-hop": "1", "x-forwarded-for": "1.2.3.4"},
        content=body,
    )
    seen = response.json()
    assert seen["method"] == method
    assert seen["target"] == "/v1/some/thing%2Felse?a=%2F&b=1&$x=y"
    assert seen["body"].encode("latin-1") == body
    assert seen["headers"]["authorization"] == "Bearer sk-openai-credential"
    assert seen["headers"]["accept-encoding"] == "identity"
    assert seen["headers"]["x-mine"] == "1"
    assert not {"cookie", "x-hop", "x-forwarded-for"} & seen["headers"].keys()
    assert system.key not in response.text


def test_head_and_bodiless_answers(system: System) -> None:
    response = web.head(f"{system.url}/openai/v1/models", headers={"x-api-key": system.key})
    assert response.status_code == 200
    assert int(response.headers["content-length"]) > 0
    assert response.content == b""


def test_ask_usage_adds_the_option_and_nothing_else(system: System) -> None:
    ask = ASKS["chat"]
    body = ask.body | {"model": "asking/gpt-4o", "stream": True}
    response = web.post(system.url + ask.path, headers=ask.headers(system.key), json=body)
    assert '"usage":{"prompt_tokens"' in response.text
    id = response.headers["x-generation-id"]
    assert system.settled([id])[id]["source"] == "reported"
    declined = body | {"stream_options": {"include_usage": False}}
    assert '"usage"' not in web.post(system.url + ask.path, headers=ask.headers(system.key), json=declined).text


def test_curl(system: System) -> None:
    done = subprocess.run(
        [
            "curl",
            "-sN",
            f"{system.url}/v1/chat/completions",
            "-H",
            f"Authorization: Bearer {system.key}",
            "-d",
            json.dumps(ASKS["chat stream"].body),
        ],
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.endswith(b"data: [DONE]\n\n")


def test_a_cut_never_sends_the_last_chunk(system: System) -> None:
    answer = exchange_bytes(
        system.url, raw_request("/v1/chat/completions", system.key, ASKS["chat stream"].body, "x-demo: cut")
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"data: " in answer
    assert not answer.endswith(b"0\r\n\r\n")
