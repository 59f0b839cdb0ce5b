"""The providers' real SDKs, with the base URL and the key changed and nothing else."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.api_core.exceptions import GoogleAPIError, TooManyRequests
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from services.demo.scenario import Scenario
from services.demo.script import words
from tests.support import web
from tests.support.system import System

legacy: Any = importlib.import_module("google.generativeai")  # untyped in parts
SAID = "".join(words(Scenario()))
ASK: list[Any] = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture
def openai_client(system: System) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{system.url}/v1", api_key=system.key, max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(system: System) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=system.url, api_key=system.key, max_retries=0) as client:
        yield client


@pytest.fixture
def genai_client(system: System) -> genai.Client:
    return genai.Client(api_key=system.key, http_options=genai_types.HttpOptions(base_url=system.url))


@pytest.fixture
def legacy_model(system: System) -> Any:
    legacy.configure(api_key=system.key, transport="rest", client_options={"api_endpoint": system.url})
    return legacy.GenerativeModel("gemini-2.0-flash")


class TestOpenAI:
    def test_chat(self, openai_client: openai.OpenAI) -> None:
        answer = openai_client.chat.completions.create(model="gpt-4o", messages=ASK)
        assert answer.choices[0].message.content == SAID
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 12

    def test_chat_stream_with_usage(self, openai_client: openai.OpenAI) -> None:
        stream = openai_client.chat.completions.create(
            model="gpt-4o", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SAID
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 12

    def test_tool_calls(self, openai_client: openai.OpenAI) -> None:
        stream = openai_client.chat.completions.create(model="demo-tools", messages=ASK, stream=True)
        calls = [chunk.choices[0].delta.tool_calls for chunk in stream if chunk.choices]
        arguments = "".join((call[0].function.arguments or "") for call in calls if call and call[0].function)
        assert json.loads(arguments) == {"city": "São Paulo", "days": 3}

    def test_responses(self, openai_client: openai.OpenAI) -> None:
        assert openai_client.responses.create(model="gpt-4o", input="hi").output_text == SAID
        with openai_client.responses.stream(model="gpt-4o", input="hi") as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response()
        assert text == final.output_text == SAID
        assert final.usage is not None
        assert final.usage.output_tokens == 12

    def test_completions_and_embeddings(self, openai_client: openai.OpenAI) -> None:
        stream = openai_client.completions.create(model="gpt-3.5-turbo-instruct", prompt="hi", stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == SAID
        embedding = openai_client.embeddings.create(model="text-embedding-3-small", input="hi")
        assert embedding.data[0].embedding == [1.0, 2.0, 3.0]

    def test_models(self, openai_client: openai.OpenAI) -> None:
        assert "gpt-4o" in [model.id for model in openai_client.models.list()]

    def test_a_prefix_picks_the_provider(self, openai_client: openai.OpenAI, system: System) -> None:
        raw = openai_client.chat.completions.with_raw_response.create(model="anthropic/claude-x", messages=ASK)
        assert raw.parse().model == "claude-x-2026-01-01"
        entry = system.settled([raw.headers["x-generation-id"]]).popitem()[1]
        assert (entry["provider"], entry["model"], entry["dialect"]) == ("anthropic", "claude-x", "openai_chat")
        other = openai_client.chat.completions.with_raw_response.create(model="gemini/gemini-x", messages=ASK)
        assert system.settled([other.headers["x-generation-id"]]).popitem()[1]["provider"] == "gemini"

    def test_azure(self, system: System) -> None:
        with openai.AzureOpenAI(
            azure_endpoint=system.url, api_key=system.key, api_version="2024-10-21", max_retries=0
        ) as client:
            raw = client.chat.completions.with_raw_response.create(model="dep", messages=ASK)
        assert raw.parse().choices[0].message.content == SAID
        entry = system.settled([raw.headers["x-generation-id"]]).popitem()[1]
        assert (entry["provider"], entry["model"], entry["output_tokens"]) == ("azure", "dep", 12)

    def test_errors_are_the_providers(self, openai_client: openai.OpenAI) -> None:
        with pytest.raises(openai.RateLimitError) as error:
            openai_client.chat.completions.create(model="demo-status=429", messages=ASK)
        assert error.value.code == "demo_429"

    def test_errors_of_ours(self, system: System, openai_client: openai.OpenAI) -> None:
        stranger = openai.OpenAI(base_url=f"{system.url}/v1", api_key="lr_live_" + "0" * 48, max_retries=0)
        with pytest.raises(openai.AuthenticationError, match="invalid api key"):
            stranger.models.list()
        stranger.close()
        with pytest.raises(openai.BadRequestError, match="names no model"):
            openai_client.post("/chat/completions", body={"messages": ASK}, cast_to=object)
        with pytest.raises(openai.InternalServerError) as error:
            openai_client.chat.completions.create(model="dead/x", messages=ASK)
        assert error.value.status_code == 502

    @pytest.mark.parametrize("how", ["cut", "reset"])
    def test_a_stream_that_breaks_off_raises(self, openai_client: openai.OpenAI, how: str) -> None:
        got: list[str] = []
        with pytest.raises(openai.APIError):
            for chunk in openai_client.chat.completions.create(model=f"demo-{how}", messages=ASK, stream=True):
                got.append(chunk.choices[0].delta.content or "")
        assert "".join(got)
        assert SAID.startswith("".join(got))

    def test_an_error_in_the_stream_raises(self, openai_client: openai.OpenAI) -> None:
        with pytest.raises(openai.APIError, match="The server had an error"):
            list(openai_client.chat.completions.create(model="demo-error", messages=ASK, stream=True))


class TestAnthropic:
    def test_messages(self, anthropic_client: anthropic.Anthropic) -> None:
        message = anthropic_client.messages.create(model="claude-x", max_tokens=50, messages=ASK)
        assert message.content[0].text == SAID  # type: ignore[union-attr]
        assert message.usage.output_tokens == 12

    def test_stream(self, anthropic_client: anthropic.Anthropic) -> None:
        with anthropic_client.messages.stream(model="claude-x", max_tokens=50, messages=ASK) as stream:
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
        assert text == SAID
        assert message.usage.output_tokens == 12
        assert message.stop_reason == "end_turn"

    def test_tool_use(self, anthropic_client: anthropic.Anthropic) -> None:
        with anthropic_client.messages.stream(model="demo-tools", max_tokens=50, messages=ASK) as stream:
            message = stream.get_final_message()
        assert message.content[0].input == {"city": "São Paulo", "days": 3}  # type: ignore[union-attr]

    def test_count_tokens_and_models(self, anthropic_client: anthropic.Anthropic) -> None:
        assert anthropic_client.messages.count_tokens(model="claude-x", messages=ASK).input_tokens > 7
        assert [model.id for model in anthropic_client.models.list()] == ["claude-demo"]

    def test_errors(self, system: System, anthropic_client: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.RateLimitError):
            anthropic_client.messages.create(model="demo-status=429", max_tokens=5, messages=ASK)
        with anthropic.Anthropic(base_url=system.url, api_key="lr_live_nonsense", max_retries=0) as stranger:
            with pytest.raises(anthropic.AuthenticationError, match="invalid api key"):
                stranger.messages.create(model="claude-x", max_tokens=5, messages=ASK)
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            with anthropic_client.messages.stream(model="demo-error", max_tokens=5, messages=ASK) as stream:
                stream.until_done()

    def test_a_stream_that_breaks_off_raises(self, anthropic_client: anthropic.Anthropic) -> None:
        with pytest.raises(Exception, match=r"peer closed|incomplete|Connection"):
            with anthropic_client.messages.stream(model="demo-cut", max_tokens=5, messages=ASK) as stream:
                stream.until_done()


class TestGenai:
    def test_generate_and_stream(self, genai_client: genai.Client) -> None:
        answer = genai_client.models.generate_content(model="gemini-x", contents="hi")
        assert answer.text == SAID
        chunks = list(genai_client.models.generate_content_stream(model="gemini-x", contents="hi"))
        assert "".join(chunk.text or "" for chunk in chunks) == SAID
        assert chunks[-1].usage_metadata is not None
        assert chunks[-1].usage_metadata.candidates_token_count == 12

    def test_tools_tokens_embeddings(self, genai_client: genai.Client) -> None:
        answer = genai_client.models.generate_content(model="demo-tools", contents="hi")
        assert answer.function_calls is not None
        assert answer.function_calls[0].args == {"city": "São Paulo", "days": 3}
        counted = genai_client.models.count_tokens(model="gemini-x", contents="hi")
        assert counted.total_tokens is not None
        assert counted.total_tokens > 7
        embedded = genai_client.models.embed_content(model="embed-x", contents="hi")
        assert embedded.embeddings is not None
        assert embedded.embeddings[0].values == [1.0, 2.0, 3.0]

    def test_streams_that_fail_raise(self, genai_client: genai.Client) -> None:
        with pytest.raises(genai_errors.APIError, match="demo error 503"):
            list(genai_client.models.generate_content_stream(model="demo-error", contents="hi"))
        with pytest.raises(Exception, match=r"peer closed|incomplete|Connection"):
            list(genai_client.models.generate_content_stream(model="demo-cut", contents="hi"))

    def test_errors(self, system: System, genai_client: genai.Client) -> None:
        with pytest.raises(genai_errors.APIError) as error:
            genai_client.models.generate_content(model="demo-status=429", contents="hi")
        assert error.value.code == 429
        stranger = genai.Client(api_key="nonsense", http_options=genai_types.HttpOptions(base_url=system.url))
        with pytest.raises(genai_errors.ClientError, match="invalid api key"):
            stranger.models.generate_content(model="gemini-x", contents="hi")


class TestGenerativeAi:
    def test_generate_and_stream(self, legacy_model: Any) -> None:
        assert legacy_model.generate_content("hi").text == SAID
        chunks = list(legacy_model.generate_content("hi", stream=True))
        assert "".join(chunk.text for chunk in chunks) == SAID
        assert chunks[-1].usage_metadata.candidates_token_count == 12
        assert legacy_model.count_tokens("hi").total_tokens > 7

    def test_tools(self, legacy_model: Any) -> None:
        answer = legacy.GenerativeModel("demo-tools").generate_content("hi")
        call = answer.candidates[0].content.parts[0].function_call
        assert (call.name, dict(call.args)) == ("weather", {"city": "São Paulo", "days": 3})

    def test_a_stream_that_breaks_off_raises(self, legacy_model: Any) -> None:
        with pytest.raises(Exception, match=r"Unfinished stream|Connection broken|prematurely"):
            list(legacy.GenerativeModel("demo-cut").generate_content("hi", stream=True))

    def test_errors(self, system: System, legacy_model: Any) -> None:
        limited = legacy.GenerativeModel("demo-status=429")
        with pytest.raises(TooManyRequests):
            limited.generate_content("hi", request_options={"retry": None})
        legacy.configure(api_key="nonsense", transport="rest", client_options={"api_endpoint": system.url})
        with pytest.raises(GoogleAPIError, match="invalid api key"):
            legacy.GenerativeModel("gemini-x").generate_content("hi", request_options={"retry": None})


def test_who_asks_is_booked(
    system: System, openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    """As the SDKs say it, and as programs say it by themselves."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"x-arouter-session": "s-1", "x-arouter-tags": "nightly, eval", "X-Title": "App", "traceparent": trace}
    claude_code = json.dumps({"device_id": "d", "account_uuid": "ann-2", "session_id": "s-2"})
    asked: list[Any] = [
        openai_client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=ASK, user="ann", extra_headers=headers
        ),
        openai_client.responses.with_raw_response.create(model="gpt-4o", input="Hi", safety_identifier="ann-1"),
        anthropic_client.messages.with_raw_response.create(
            model="claude-x", max_tokens=99, messages=ASK, metadata={"user_id": claude_code}
        ),
        anthropic_client.messages.with_raw_response.create(
            model="claude-x", max_tokens=99, messages=ASK, extra_headers={"X-OpenWebUI-User-Id": "17"}
        ),
    ]
    ids = [answer.headers["x-generation-id"] for answer in asked]
    booked = system.settled(ids)
    first, second, third, fourth = (booked[id] for id in ids)
    assert (first["user"], first["session"], first["tags"], first["app"]) == ("ann", "s-1", ["nightly", "eval"], "App")
    assert (first["traceparent"], first["client_address"]) == (trace, "127.0.0.0")
    assert first["user_agent"].startswith("OpenAI/Python")
    assert (second["user"], "session" in second) == ("ann-1", False)
    assert (third["user"], third["session"]) == ("ann-2", "s-2")
    assert fourth["user"] == "17"
    shown = web.get(f"{system.url}/api/v1/generation?id={ids[0]}", headers={"x-api-key": system.key}).json()
    wanted = ("team", "user", "session", "tags", "app", "client_address", "user_agent", "traceparent")
    assert {name: shown[name] for name in wanted} == {name: first.get(name, "") for name in wanted}
