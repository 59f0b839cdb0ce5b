"""What a provider gets is what the gateway has understood, admitted and metered (decisions 53 to 55)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import web
from tests.support.requests import ASKS, exchange_bytes
from tests.support.system import System


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    settings = {
        "AROUTER_PROVIDERS__DEEPSEEK__PASS_HEADERS": "OpenAI-Project, x-forwarded-for",
        "AROUTER_APP_HEADERS": "X-Corp-App, X-Title, HTTP-Referer",
    }
    with System(tmp_path_factory.mktemp("strict"), **settings) as running:
        yield running


def answer(system: System, method: str, target: str, *lines: str, key: str | None = None, body: str = "") -> bytes:
    head = [f"{method} {target} HTTP/1.1", "host: g", f"x-api-key: {key or system.key}", "connection: close"]
    text = "\r\n".join([*head, f"content-length: {len(body)}", *lines]) + "\r\n\r\n" + body
    return exchange_bytes(system.url, text.encode())


def seen(given: bytes) -> dict[str, Any]:
    """What the demo provider's echo says that it got."""
    head, _, body = given.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    found: dict[str, Any] = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    return found


OTHERS = {
    "openai-organization": "org-other",
    "openai-project": "proj-other",
    "x-goog-user-project": "other",
    "x-http-method-override": "DELETE",
    "x-original-url": "/v1/other",
    "x-forwarded-for": "192.0.2.1",
    "true-client-ip": "192.0.2.1",
    "cf-connecting-ip": "192.0.2.1",
    "x_rewrite_url": "/v1/other",
}


def test_a_provider_gets_neither_accounts_nor_overrides_nor_addresses_of_callers(strict: System) -> None:
    lines = [f"{name}: {value}" for name, value in OTHERS.items()]
    got = seen(answer(strict, "POST", "/openai/v1/echo?a=%2F&k%65y=x&userProject=o&b=1", *lines, "x-title: mine"))
    assert got["target"] == "/v1/echo?a=%2F&b=1"
    assert not OTHERS.keys() & got["headers"].keys()
    assert got["headers"]["x-title"] == "mine"
    own = seen(answer(strict, "POST", "/openai/v1/echo", f"x-mine: {strict.key}"))
    assert strict.key not in json.dumps(own)


ASKER = {
    "x-arouter-user": "ann",
    "x_arouter_session": "s-1",
    "x-litellm-tags": "a,b",
    "x-openwebui-user-email": "ann@example.com",
    "x-openwebui-user-role": "admin",
    "x-corp-app": "crm",
}


def test_who_asks_is_for_us_alone_and_what_providers_know_passes(strict: System) -> None:
    lines = [f"{name}: {value}" for name, value in ASKER.items()]
    own = {"http-referer": "https://app.example", "x-title": "App", "session_id": "s", "user-agent": "curl/8"}
    lines += [f"{name}: {value}" for name, value in own.items()]
    got = seen(answer(strict, "POST", "/openai/v1/echo", *lines))
    assert not ASKER.keys() & got["headers"].keys()
    assert got["headers"].items() >= own.items()


def test_what_the_operator_allows_passes_to_that_provider(strict: System) -> None:
    lines = [f"{name}: {value}" for name, value in OTHERS.items()]
    got = seen(answer(strict, "POST", "/deepseek/v1/echo", *lines))["headers"]
    assert {name: got[name] for name in OTHERS if name in got} == {
        "openai-project": "proj-other",
        "x-forwarded-for": "192.0.2.1",
    }


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("TRACE", "/openai/v1/x", 405),
        ("PURGE", "/openai/v1/x", 405),
        ("PUT", "/openai/v1/chat/completions", 405),
        ("GET", "/v1beta/models/gemini-x:generateContent", 405),
        ("POST", "/openai/v1/Chat/Completions", 400),
        ("POST", "/openai/v1/chat%2Fcompletions", 400),
        ("POST", "/openai/v1/chat/completions;v=1", 400),
        ("POST", "/openai/v1/files%2F..%2Fchat%2Fcompletions", 400),
        ("POST", "/openai/v1/files/..;/chat/completions", 400),
        ("POST", "/openai/v1/files/..\\chat/completions", 400),
        ("POST", f"/openai/v1/{'models/' * 4000}", 400),
    ],
)
def test_what_could_be_read_in_two_ways_does_not_go_upstream(
    strict: System, method: str, target: str, status: int
) -> None:
    given = answer(strict, method, target, "x-http-method-override: POST", body=json.dumps(ASKS["chat"].body))
    head, _, body = given.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert b"x-generation-id" not in head  # no exchange has begun
    assert "error" in json.loads(body)
    assert (b"allow: " in head) is (status == 405)


def test_a_restricted_key_does_not_generate_by_reading(strict: System) -> None:
    made = json.loads(strict.command("keys", "create", "--name", "one", "--json"))
    strict.command("keys", "update", made["hash"], "--allow-models", "gemini-y")
    target = "/v1beta/models/gemini-x:generateContent"
    for method in ("GET", "HEAD", "POST"):
        given = answer(strict, method, target, "x-http-method-override: POST", key=made["key"], body='{"contents":[]}')
        assert given.startswith(b"HTTP/1.1 40")


def test_reading_on_the_path_of_a_call_takes_no_body(strict: System) -> None:
    target = "/openai/v1/chat/completions"
    assert answer(strict, "GET", target, body='{"model":"x"}').startswith(b"HTTP/1.1 400")
    assert b"x-generation-id" in answer(strict, "GET", target)


@pytest.mark.parametrize(
    ("name", "model", "at"),
    [
        ("chat", "groq/llama", lambda error: error["error"]["code"]),
        ("messages", "openrouter/claude", lambda error: error["error"]["type"]),
    ],
)
def test_a_provider_without_its_credential_is_refused_in_the_callers_dialect(
    strict: System, name: str, model: str, at: Any
) -> None:
    ask = ASKS[name]
    response = web.post(f"{strict.url}{ask.path}", headers=ask.headers(strict.key), json=ask.body | {"model": model})
    assert response.status_code == 404
    assert "x-generation-id" not in response.headers
    assert at(response.json()) in ("provider_not_configured", "not_found_error")
    path = "/v1beta/models/groq/g:generateContent"
    google = web.post(f"{strict.url}{path}", headers={"x-goog-api-key": strict.key}, json={"contents": []})
    assert google.json()["error"]["status"] == "NOT_FOUND"
