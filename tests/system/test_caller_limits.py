"""Limits of callers through real processes and the providers' SDKs: who waits, who is refused, and what is left."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from shared.contract import limits, names
from tests.support import web
from tests.support.controlled import Controlled, ask, made
from tests.support.requests import ASKS

ASK: list[Any] = [{"role": "user", "content": "Tell me a story."}]


def scope(data: dict[str, Any]) -> str:
    return names.limit(limits.key_scope(data["hash"]))


def exhaust(controlled: Controlled, data: dict[str, Any], per_minute: int) -> None:
    """Take all of a minute's requests, so that the next one comes free within a second."""
    debt = per_minute * limits.MINUTE_MS
    controlled.redis.hset(scope(data), "rpm", f"{debt} {time.time_ns() // 1_000_000}")


def used(controlled: Controlled, data: dict[str, Any]) -> dict[str, Any]:
    """What `limits status` says of a key."""
    found = json.loads(controlled.command("limits", "status", "--json"))
    return next(one for one in found if one["scope"] == limits.key_scope(data["hash"]) and one["models"] is None)


def settled(controlled: Controlled, data: dict[str, Any]) -> dict[str, Any]:
    """The same once nothing of it is reserved."""
    found: dict[str, Any] = controlled.until(
        lambda: (one := used(controlled, data))["reserved_tokens"] == 0 and one["used_tokens"] and one
    )
    return found


@pytest.fixture
def rated(controlled: Controlled) -> tuple[str, dict[str, Any]]:
    """A key of 60 requests per minute, which has just used them."""
    key, data = made(controlled, rate_limit={"requests_per_minute": 60})
    assert ask(controlled.url, key).status_code == 200
    exhaust(controlled, data, 60)
    return key, data


@pytest.fixture
def spent(controlled: Controlled) -> str:
    """A key that has spent its budget."""
    return made(controlled, limit=0, limit_reset="monthly")[0]


def test_a_refusal_says_when_to_come_back(controlled: Controlled, rated: tuple[str, dict[str, Any]]) -> None:
    refused = ask(controlled.url, rated[0])
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["x-ratelimit-limit"] == "60"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert 0 <= int(refused.headers["x-ratelimit-reset"]) - time.time() <= 5
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_sdks_wait_and_succeed(controlled: Controlled, rated: tuple[str, dict[str, Any]]) -> None:
    key, data = rated
    with openai.OpenAI(base_url=f"{controlled.url}/v1", api_key=key) as client:
        assert client.chat.completions.create(model="gpt-4o", messages=ASK).choices
    exhaust(controlled, data, 60)
    with anthropic.Anthropic(base_url=controlled.url, api_key=key) as other:
        assert other.messages.create(model="claude", max_tokens=9, messages=ASK).content
    exhaust(controlled, data, 60)
    patient = genai_types.HttpOptions(
        base_url=controlled.url, retry_options=genai_types.HttpRetryOptions(attempts=5, initial_delay=1.0)
    )
    google = genai.Client(api_key=key, http_options=patient)
    assert google.models.generate_content(model="gemini-2.0-flash", contents="hi").text


def test_no_sdk_asks_again_for_a_spent_budget(controlled: Controlled, spent: str) -> None:
    sent: list[Any] = []
    hooks: Any = {"request": [sent.append]}
    with httpx2.Client(event_hooks=hooks) as http, httpx.Client(event_hooks=hooks) as older:
        client = openai.OpenAI(base_url=f"{controlled.url}/v1", api_key=spent, http_client=http)
        with pytest.raises(openai.APIStatusError) as of_openai:
            client.chat.completions.create(model="gpt-4o", messages=ASK)
        assert of_openai.value.status_code == 402
        assert of_openai.value.body["metadata"]["limit_usd"] == 0  # type: ignore[index]
        assert len(sent) == 1
        other = anthropic.Anthropic(base_url=controlled.url, api_key=spent, http_client=http)
        with pytest.raises(anthropic.APIStatusError) as of_anthropic:
            other.messages.create(model="claude", max_tokens=9, messages=ASK)
        assert of_anthropic.value.body["error"]["type"] == "billing_error"  # type: ignore[index]
        assert len(sent) == 2
        patient = genai_types.HttpRetryOptions(attempts=5, initial_delay=1.0)
        options = genai_types.HttpOptions(base_url=controlled.url, retry_options=patient, httpx_client=older)
        google = genai.Client(api_key=spent, http_options=options)
        with pytest.raises(genai_errors.ClientError) as of_google:
            google.models.generate_content(model="gemini-2.0-flash", contents="hi")
        assert of_google.value.code == 402
        assert len(sent) == 3


def test_a_spent_budget_is_told_in_the_form_of_the_public_product(controlled: Controlled, spent: str) -> None:
    refused = ask(controlled.url, spent)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["type"]) == (402, 402, "payment_required")
    assert error["message"] == "Credit limit exceeded for this API key."
    assert error["metadata"]["used_usd"] == 0
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["x-should-retry"] == "false"


def test_what_is_left_is_said_with_answers_and_to_the_key(controlled: Controlled) -> None:
    key, data = made(
        controlled, limit=1.5, limit_tokens=1000, limit_reset="daily", rate_limit={"requests_per_minute": 9}
    )
    answer = ask(controlled.url, key)
    assert (answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]) == ("9", "8")
    assert 1 < float(answer.headers["x-arouter-limit-remaining"]) < 1.5
    assert 0 < int(answer.headers["x-arouter-limit-remaining-tokens"]) < 1000
    state = settled(controlled, data)
    assert 0 < state["used"] < 0.01
    assert state["resets_at"].endswith("T00:00:00Z")
    own = web.get(f"{controlled.url}/api/v1/key", headers={"authorization": f"Bearer {key}"}).json()["data"]
    assert (own["limit"], own["limit_reset"], own["limit_tokens"]) == (1.5, "daily", 1000)
    assert own["limit_remaining"] == pytest.approx(1.5 - state["used"])
    assert own["limit_tokens_remaining"] == 1000 - state["used_tokens"]
    assert (own["rate_limit"]["requests"], own["rate_limit"]["interval"]) == (9, "1m")
    assert own["is_management_key"] is False


def test_a_budget_is_spent_once_however_many_ask_at_once(controlled: Controlled) -> None:
    """Of 60 at once on two gateways, as many are served as it has room for, and never more than one beyond."""
    key, data = made(controlled, limit=0.1)
    assert ask(controlled.url, key).status_code == 200
    one = settled(controlled, data)["used"]
    changes = {"limit": one * 11}
    assert controlled.manager.patch(f"/api/v1/keys/{data['hash']}", json=changes).status_code == 200
    controlled.until(lambda: _knows(controlled, key, one * 11))
    with ThreadPoolExecutor(20) as pool:
        urls = [controlled.url, controlled.second] * 30
        statuses = list(pool.map(lambda url: ask(url, key, directives="hang=300").status_code, urls))
    assert set(statuses) <= {200, 402, 429}
    state = settled(controlled, data)
    assert one * 10 <= state["used"] <= one * 12


def _knows(controlled: Controlled, key: str, limit: float) -> bool:
    """Whether both gateways have taken on a limit: their answers say what is left of it."""
    lefts = [
        ask(url, key, "embeddings").headers.get("x-arouter-limit-remaining", "9")
        for url in (controlled.url, controlled.second)
    ]
    return all(float(left) <= limit for left in lefts)


def test_a_team_and_everything_are_limited_too(controlled: Controlled) -> None:
    team = controlled.manager.post("/api/v1/teams", json={"name": "poor", "limit": 0})
    assert team.status_code == 201
    key, data = made(controlled, team="poor")
    refused = controlled.until(lambda: (one := ask(controlled.url, key)).status_code == 402 and one)
    assert "team 'poor'" in refused.json()["error"]["message"]
    assert controlled.manager.patch("/api/v1/teams/poor", json={"limit": None}).json()["data"]["limit"] is None
    controlled.until(lambda: ask(controlled.url, key).status_code == 200)
    assert data["team"] == "poor"


def test_keys_that_are_gone_are_counted_no_longer(controlled: Controlled) -> None:
    """Followers would go through the limits of every key that there ever was."""
    _, deleted = made(controlled, limit=1)
    _, revoked = made(controlled, limit=1)
    gone = [limits.key_scope(data["hash"]) for data in (deleted, revoked)]
    assert all(controlled.redis.hmget(names.LIMITED, gone))  # type: ignore[arg-type]  # typed as sync or async
    assert controlled.manager.delete(f"/api/v1/keys/{deleted['hash']}").status_code == 200
    controlled.command("keys", "revoke", revoked["hash"])
    assert controlled.redis.hmget(names.LIMITED, gone) == [None, None]
    assert controlled.redis.exists(*map(names.limit, gone)) == 0


def test_a_running_request_counts_until_it_has_ended(controlled: Controlled) -> None:
    key, _ = made(controlled, rate_limit={"concurrent_requests": 1})
    for _ in range(3):
        assert controlled.until(lambda: ask(controlled.url, key).status_code == 200)
    chat = ASKS["chat stream"]
    with (
        web.client(base_url=controlled.url) as client,
        client.stream("POST", chat.path, headers=chat.headers(key, "stall"), json=chat.body) as running,
    ):
        assert running.status_code == 200
        refused = ask(controlled.second, key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrent_requests")
    controlled.until(lambda: ask(controlled.url, key).status_code == 200)


def test_limits_come_from_a_file_that_shows_what_it_changes(controlled: Controlled) -> None:
    _, data = made(controlled)
    file = controlled.folder / "limits.toml"
    file.write_text(
        f'[keys.{data["hash"][:16]}]\nlimit = 2.5\nlimit_reset = "weekly"\nrate_limit = {{requests_per_minute = 7}}\n'
        f'[keys.{data["hash"][:16]}.models."gpt-4*"]\nlimit_tokens = 99\n'
    )
    said = controlled.command("limits", "apply", "--check", str(file))
    assert "limit: none -> 2.5" in said
    assert controlled.command("limits", "apply", str(file)) == said
    assert controlled.command("limits", "apply", str(file)).strip() == "nothing changes"
    found = [
        one for one in json.loads(controlled.command("limits", "status", "--json")) if data["hash"] in one["scope"]
    ]
    assert [(one["models"], one["limit"], one["limit_tokens"], one["started"]) for one in found] == [
        (None, 2.5, None, True),
        ("gpt-4*", None, 99, True),
    ]
