"""Routes with names through real processes: asked by SDKs, answered by the candidate that can, and booked on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types as genai_types

from services.cli.processes import ProcessFailed
from services.demo.scenario import Scenario
from services.demo.script import words
from tests.support import web
from tests.support.system import System

SAID = "".join(words(Scenario()))
ASK: list[Any] = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system whose gateway has routes. Nobody listens where the provider `dead` should be."""
    with System(
        tmp_path_factory.mktemp("routes"),
        AROUTER_ROUTES__FAST__CANDIDATES="dead/gpt-4o-mini, azure/gpt-4o-mini",
        AROUTER_ROUTES__ALIAS__CANDIDATES="azure/gpt-4.1",
        AROUTER_ROUTES__FLASH__CANDIDATES="gemini/demo-refuse, gemini/gemini-2.5-flash",
        AROUTER_ROUTES__BUSY__CANDIDATES="openai/demo-status=503, azure/gpt-4o-mini",
        AROUTER_ROUTES__DOWN__CANDIDATES="gone/gpt-4o-mini, openai/demo-status=503",
        AROUTER_PROVIDERS__GONE__BASE_URL="http://127.0.0.1:9/v1",  # as dead, and with a health of its own
        AROUTER_ATTEMPTS__RETRY_ON="connect, 5xx, broken",
        AROUTER_ROUTES__CLAUDE__CANDIDATES="anthropic/claude-haiku-4-5",
        AROUTER_ROUTES__SHARED__CANDIDATES=json.dumps(
            [{"model": "openai/gpt-4o", "weight": 1}, {"model": "azure/gpt-4o", "weight": 1}]
        ),
    ) as running:
        yield running


def client(system: System, key: str = "") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{system.url}/v1", api_key=key or system.key, max_retries=0)


@pytest.fixture(scope="module")
def manager(system: System) -> str:
    """A management key."""
    return system.command("keys", "create", "--name", "admin", "--management").strip()


def limited(system: System, manager: str, **lists: list[str]) -> str:
    """A new key with lists."""
    made = web.post(f"{system.url}/api/v1/keys", headers={"x-api-key": manager}, json={"name": "limited", **lists})
    return str(made.json()["key"])


def booked(system: System, exchange_id: str | None) -> dict[str, Any]:
    """The entry of an exchange. What was booked is what the provider says it has sent to this exchange."""
    assert exchange_id is not None
    entry = system.settled([exchange_id])[exchange_id]
    line = system.until(lambda: system.emitted().get(exchange_id))
    assert (entry["source"], entry["output_tokens"]) == ("reported", line["usage"]["output_tokens"])
    return entry


def attempts(entry: dict[str, Any]) -> list[tuple[str, str, int | None, str]]:
    """Provider, model, status and cause of each."""
    return [(made[0], made[1], made[3], made[4]) for made in entry["attempts"]]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_second_candidate_answers_where_nobody_listens_at_the_first(system: System, streamed: bool) -> None:
    asked: Any = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    with client(system) as sdk:
        answer: Any = sdk.chat.completions.with_raw_response.create(model="fast", messages=ASK, **asked)
        found = answer.parse()
        if isinstance(found, openai.Stream):
            said = "".join(chunk.choices[0].delta.content or "" for chunk in found if chunk.choices)
        else:
            said = found.choices[0].message.content
    assert said == SAID
    assert (answer.headers["x-arouter-provider"], answer.headers["x-arouter-attempts"]) == ("azure", "2")
    entry = booked(system, answer.headers["x-generation-id"])
    assert (entry["provider"], entry["model"], entry["requested_model"]) == ("azure", "gpt-4o-mini", "fast")
    assert attempts(entry) == [
        ("dead", "gpt-4o-mini", None, "connect_refused"),
        ("azure", "gpt-4o-mini", 200, ""),
    ]


def test_the_second_candidate_answers_where_the_first_is_overloaded(system: System) -> None:
    with client(system) as sdk:
        answer = sdk.responses.with_raw_response.create(model="busy", input="Tell me a story.")
    assert answer.parse().output_text == SAID
    entry = booked(system, answer.headers["x-generation-id"])
    assert (entry["provider"], entry["model"], entry["status"]) == ("azure", "gpt-4o-mini", 200)
    assert [made[:3] for made in attempts(entry)] == [
        ("openai", "demo-status=503", 503),
        ("azure", "gpt-4o-mini", 200),
    ]


def test_a_route_in_a_path(system: System) -> None:
    """The first candidate closes its connection, which may have been paid: the policy says that it is tried again."""
    options = genai_types.HttpOptions(base_url=system.url)
    with genai.Client(api_key=system.key, http_options=options) as sdk:
        chunks = list(sdk.models.generate_content_stream(model="flash", contents="Tell me a story."))
    assert "".join(chunk.text or "" for chunk in chunks) == SAID
    assert chunks[0].sdk_http_response is not None
    entry = booked(system, (chunks[0].sdk_http_response.headers or {})["x-generation-id"])
    assert (entry["provider"], entry["model"], entry["requested_model"]) == ("gemini", "gemini-2.5-flash", "flash")
    assert [made[1] for made in attempts(entry)] == ["demo-refuse", "gemini-2.5-flash"]


def test_a_request_brings_its_own_fallback(system: System) -> None:
    """The second provider gets the body without the list."""
    listed = {"models": ["alias", "azure/gpt-4o"], "route": "fallback"}
    with client(system) as sdk:
        answer = sdk.chat.completions.with_raw_response.create(model="dead/x", messages=ASK, extra_body=listed)
    assert answer.parse().choices[0].message.content == SAID
    entry = booked(system, answer.headers["x-generation-id"])
    assert (entry["provider"], entry["model"], entry["requested_model"]) == ("azure", "gpt-4.1", "dead/x")
    assert [made[:2] for made in attempts(entry)] == [("dead", "x"), ("azure", "gpt-4.1")]


def test_where_all_candidates_fail_the_last_answer_is_passed_on(system: System) -> None:
    with client(system) as sdk, pytest.raises(openai.InternalServerError) as failed:
        sdk.chat.completions.create(model="down", messages=ASK)
    assert failed.value.status_code == 503
    entry = system.settled([failed.value.response.headers["x-generation-id"]]).popitem()[1]
    assert (entry["provider"], entry["requested_model"]) == ("openai", "down")
    assert [made[:2] for made in attempts(entry)] == [("gone", "gpt-4o-mini"), ("openai", "demo-status=503")]


def test_an_alias_leads_to_its_model(system: System) -> None:
    with client(system) as sdk:
        answer = sdk.chat.completions.with_raw_response.create(model="alias", messages=ASK)
    assert answer.parse().choices[0].message.content == SAID
    entry = booked(system, answer.headers["x-generation-id"])
    assert (entry["provider"], entry["model"], entry["requested_model"]) == ("azure", "gpt-4.1", "alias")
    shown = web.get(
        f"{system.url}/api/v1/generation?id={entry['exchange_id']}", headers={"x-api-key": system.key}
    ).json()
    assert (shown["model"], shown["requested_model"]) == ("gpt-4.1", "alias")


def test_a_route_is_a_model_in_another_family(system: System) -> None:
    with anthropic.Anthropic(base_url=system.url, api_key=system.key, max_retries=0) as sdk:
        answer = sdk.messages.with_raw_response.create(model="claude", max_tokens=9, messages=ASK)
    entry = booked(system, answer.headers["x-generation-id"])
    assert (entry["provider"], entry["model"], entry["requested_model"]) == ("anthropic", "claude-haiku-4-5", "claude")


def test_a_plain_model_is_booked_as_ever(system: System) -> None:
    with client(system) as sdk:
        answer = sdk.chat.completions.with_raw_response.create(model="azure/gpt-4o", messages=ASK)
    assert "requested_model" not in booked(system, answer.headers["x-generation-id"])


def test_a_key_that_may_use_one_candidate_gets_that_one(system: System, manager: str) -> None:
    """The first candidate is dead; the key's lists leave it out."""
    key = limited(system, manager, allowed_models=["azure/gpt-4o-mini"])
    with client(system, key) as sdk:
        answer = sdk.chat.completions.with_raw_response.create(model="fast", messages=ASK)
        entry = booked(system, answer.headers["x-generation-id"])
        assert (entry["provider"], entry["model"], entry["requested_model"]) == ("azure", "gpt-4o-mini", "fast")
        assert [attempt[0] for attempt in entry["attempts"]] == ["azure"]
        with pytest.raises(openai.PermissionDeniedError) as refused:
            sdk.chat.completions.create(model="alias", messages=ASK)
    assert refused.value.code == "model_not_allowed"


def test_a_key_may_be_limited_to_a_route(system: System, manager: str) -> None:
    with client(system, limited(system, manager, allowed_models=["alias"])) as sdk:
        assert sdk.chat.completions.create(model="alias", messages=ASK).choices[0].message.content == SAID
        with pytest.raises(openai.PermissionDeniedError):
            sdk.chat.completions.create(model="azure/gpt-4.1", messages=ASK)


def test_what_goes_upstream_of_a_route(system: System) -> None:
    """The demo provider answers on paths that it does not know with the request."""

    def seen(body: str) -> Any:
        headers = {"authorization": f"Bearer {system.key}", "content-type": "application/json"}
        answer = web.post(f"{system.url}/v1/images/generations", headers=headers, content=body)
        return answer.json()["body"]

    assert seen('{ "model" : "alias","prompt":"x", "n": 1.0 }') == '{ "model" : "gpt-4.1","prompt":"x", "n": 1.0 }'
    kept = '{"model": "gpt-image-1", "models": ["alias"], "route": "fallback"}'
    assert seen(kept) == kept, "no call of a model: the list is the provider's to judge"


def test_weights_share_requests(system: System) -> None:
    with client(system) as sdk:
        ids = [
            sdk.chat.completions.with_raw_response.create(model="shared", messages=ASK).headers["x-generation-id"]
            for _ in range(60)
        ]
    entries = system.settled([str(found) for found in ids]).values()
    shares = [sum(entry["provider"] == provider for entry in entries) for provider in ("openai", "azure")]
    assert sum(shares) == 60
    assert min(shares) > 5  # otherwise once in 2**40 runs


def test_a_route_that_cannot_work_stops_the_start_with_one_line(system: System) -> None:
    environment = {**system.environment, "AROUTER_ROUTES__BAD__CANDIDATES": "openai/gpt-4o, anthropic/claude"}
    with pytest.raises(ProcessFailed) as failed:
        system.processes.command("gateway", "--port", "0", environment=environment)
    assert "AROUTER_ROUTES__BAD: anthropic/claude speaks the dialects of anthropic" in str(failed.value)
    assert str(failed.value).strip().count("\n") <= 1
