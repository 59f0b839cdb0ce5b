"""Bedrock and Vertex with the credentials people have there, asked by the clouds' own SDKs with a key of ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from google import genai
from google.genai import types as genai_types
from google.oauth2.credentials import Credentials

from services.cli.processes import ProcessFailed
from services.demo.scenario import Scenario
from services.demo.script import words
from tests.support import web
from tests.support.clouds import settings
from tests.support.guide import Snippet, snippets
from tests.support.system import System
from tests.support.tokens import TokenServer, service_account

SAID = "".join(words(Scenario()))
ASK: list[Any] = [{"role": "user", "content": "Tell me a story."}]
CONVERSE: Any = {"modelId": "nova:0", "messages": [{"role": "user", "content": [{"text": "Tell me a story."}]}]}
CLAUDE = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": ASK})


@pytest.fixture(scope="module")
def tokens() -> Iterator[TokenServer]:
    with TokenServer() as server:
        yield server


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer) -> Iterator[System]:
    """A system whose gateway has a region of AWS, a project of Google's, and keys for both."""
    folder = tmp_path_factory.mktemp("clouds")
    system = System(folder)
    system.extra |= {**settings(system.provider, folder, tokens), "AROUTER_MAX_BODY_BYTES": "100000"}
    with system:
        yield system


@pytest.fixture
def bedrock(clouds: System) -> Iterator[Any]:
    config = Config(retries={"total_max_attempts": 1})
    session = boto3.Session(clouds.key, "anything", region_name="eu-west-1")
    client: Any = session.client("bedrock-runtime", endpoint_url=f"{clouds.url}/bedrock", config=config)
    yield client
    client.close()


@pytest.fixture
def claude(clouds: System) -> Iterator[anthropic.AnthropicBedrock]:
    with anthropic.AnthropicBedrock(
        base_url=f"{clouds.url}/bedrock", api_key=clouds.key, aws_region="eu-west-1", max_retries=0
    ) as client:
        yield client


@pytest.fixture
def vertex(clouds: System) -> Iterator[anthropic.AnthropicVertex]:
    with anthropic.AnthropicVertex(
        base_url=f"{clouds.url}/vertex/v1", access_token=clouds.key, project_id="any", region="global", max_retries=0
    ) as client:
        yield client


@pytest.fixture
def gemini(clouds: System) -> Iterator[genai.Client]:
    """With credentials, as its users have them; they are a key of ours."""
    ours = Credentials(token=clouds.key)  # type: ignore[no-untyped-call]
    options = genai_types.HttpOptions(base_url=f"{clouds.url}/vertex")
    with genai.Client(
        vertexai=True, project="any", location="anywhere", credentials=ours, http_options=options
    ) as client:
        yield client


_seen: set[str] = set()


def booked(system: System, dialect: str) -> dict[str, Any]:
    """An exchange of a dialect that was not asked for yet; both books have to state it alike."""

    def fresh() -> tuple[str, dict[str, Any]] | None:
        """The provider writes its book behind the answer."""
        lines = system.emitted().items()
        return next((pair for pair in lines if pair[1]["dialect"] == dialect and pair[0] not in _seen), None)

    exchange_id, line = system.until(fresh)
    _seen.add(exchange_id)
    entry = system.settled([exchange_id])[exchange_id]
    assert entry["source"] == "reported"
    assert line["usage"] is not None
    assert {name: entry[name] for name in ("input_tokens", "output_tokens")} == {
        name: line["usage"][name] for name in ("input_tokens", "output_tokens")
    }
    assert entry["cache_read_tokens"] == line["usage"]["cache_read_tokens"]
    return entry


class TestBedrock:
    def test_converse(self, clouds: System, bedrock: Any) -> None:
        answer = bedrock.converse(**CONVERSE)
        assert answer["output"]["message"]["content"][0]["text"] == SAID
        entry = booked(clouds, "bedrock_converse")
        assert (entry["provider"], entry["model"], entry["output_tokens"]) == ("bedrock", "nova:0", 12)

    def test_converse_stream(self, clouds: System, bedrock: Any) -> None:
        events = list(bedrock.converse_stream(**CONVERSE)["stream"])
        said = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
        assert "".join(said) == SAID
        assert events[-1]["metadata"]["usage"]["outputTokens"] == 12
        assert booked(clouds, "bedrock_converse_stream")["streamed"]

    def test_invoke(self, clouds: System, bedrock: Any) -> None:
        answer = json.loads(bedrock.invoke_model(modelId="anthropic.claude-3:0", body=CLAUDE)["body"].read())
        assert answer["content"][0]["text"] == SAID
        assert booked(clouds, "bedrock_invoke")["model"] == "anthropic.claude-3:0"

    def test_invoke_with_response_stream(self, clouds: System, bedrock: Any) -> None:
        answer = bedrock.invoke_model_with_response_stream(modelId="anthropic.claude-3:0", body=CLAUDE)
        events = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
        assert "".join(event["delta"].get("text", "") for event in events if "delta" in event) == SAID
        assert booked(clouds, "bedrock_invoke_stream")["output_tokens"] == 12

    def test_anthropic(self, clouds: System, claude: anthropic.AnthropicBedrock) -> None:
        message = claude.messages.create(model="anthropic.claude-3:0", max_tokens=9, messages=ASK)
        assert message.content[0].type == "text"
        assert message.content[0].text == SAID
        with claude.messages.stream(model="anthropic.claude-3:0", max_tokens=9, messages=ASK) as stream:
            assert "".join(stream.text_stream) == SAID
        assert booked(clouds, "bedrock_invoke_stream")["provider"] == "bedrock"

    def test_frames_pass_byte_for_byte(self, clouds: System, bedrock: Any) -> None:
        headers = {"authorization": f"Bearer {clouds.key}", "x-demo": "split=7"}
        url = f"{clouds.url}/bedrock/model/nova%3A0/converse-stream"
        answer = web.post(url, headers=headers, json={"messages": []})
        assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
        direct = web.post(f"{clouds.provider}/model/nova%3A0/converse-stream", headers=headers, json={"messages": []})
        assert answer.content == direct.content

    def test_refusals_are_in_its_form(self, clouds: System, bedrock: Any) -> None:
        with pytest.raises(ClientError) as failed:
            bedrock.converse(**CONVERSE | {"modelId": "m" * 257})
        assert failed.value.response["Error"] == {
            "Code": "ValidationException",
            "Message": "the model name is longer than 256 characters",
        }
        answer = web.post(f"{clouds.url}/bedrock/model/x/converse", json={})
        assert (answer.status_code, answer.json()["__type"]) == (401, "UnrecognizedClientException")

    def test_openai_dialect_is_signed_too(self, clouds: System) -> None:
        body = {"model": "bedrock/openai.gpt-oss-120b", "messages": ASK}
        answer = web.post(
            f"{clouds.url}/v1/chat/completions", headers={"authorization": f"Bearer {clouds.key}"}, json=body
        )
        assert answer.status_code == 200
        assert answer.json()["model"].startswith("openai.gpt-oss-120b")

    def test_what_is_signed_for_us_stays_here(self, clouds: System) -> None:
        """What the provider sees: our signature, and nothing of a caller's."""
        headers = {"x-api-key": clouds.key, "authorization": "AWS4-HMAC-SHA256 Credential=theirs/x, Signature=0"}
        headers |= {
            "x-amz-date": "20000101T000000Z",
            "x-amz-security-token": "theirs",
            "x-amzn-bedrock-trace": "ENABLED",
        }
        seen = web.post(f"{clouds.url}/bedrock/guardrail/x/apply", headers=headers, json={}).json()["headers"]
        assert seen["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIATESTS/")
        assert (
            "/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, "
            in (seen["authorization"])
        )
        assert seen["x-amz-security-token"] == "session"
        assert seen["x-amzn-bedrock-trace"] == "ENABLED"
        assert "theirs" not in json.dumps(seen)

    def test_bodies_are_signed_whole(self, clouds: System) -> None:
        """Below the provider's path what would be an upload is held; at the root nothing says so in time."""
        headers = {"authorization": f"Bearer {clouds.key}", "content-type": "application/json"}
        url = f"{clouds.url}/bedrock/guardrail/x/apply"
        seen = web.post(url, headers=headers, content=iter([b'"', b"x" * 90_000, b'"'])).json()
        assert "transfer-encoding" not in seen["headers"]
        assert len(seen["body"]) == 90_002
        assert web.post(url, headers=headers, content=b"x" * 100_001).status_code == 413
        large = json.dumps({"model": "bedrock/nova", "prompt": "x" * 2_000_000})
        answer = web.post(f"{clouds.url}/v1/images/generations", headers=headers, content=large)
        assert answer.status_code == 400
        assert "signs bodies" in answer.text


class TestVertex:
    def test_anthropic(self, clouds: System, vertex: anthropic.AnthropicVertex, tokens: TokenServer) -> None:
        message = vertex.messages.create(model="claude-sonnet-4-5@20250929", max_tokens=9, messages=ASK)
        assert message.content[0].type == "text"
        assert message.content[0].text == SAID
        with vertex.messages.stream(model="claude-sonnet-4-5@20250929", max_tokens=9, messages=ASK) as stream:
            assert "".join(stream.text_stream) == SAID
        entry = booked(clouds, "anthropic_messages")
        assert (entry["provider"], entry["model"]) == ("vertex", "claude-sonnet-4-5@20250929")
        assert tokens.asked == ["/token"]  # at the start, and for no request

    def test_gemini(self, clouds: System, gemini: genai.Client) -> None:
        answer = gemini.models.generate_content(model="gemini-2.5-flash", contents="Tell me a story.")
        assert answer.text == SAID
        entry = booked(clouds, "gemini")
        assert (entry["provider"], entry["model"], entry["streamed"]) == ("vertex", "gemini-2.5-flash", False)
        chunks = list(gemini.models.generate_content_stream(model="gemini-2.5-flash", contents="Tell me a story."))
        assert "".join(chunk.text or "" for chunk in chunks) == SAID
        assert booked(clouds, "gemini")["streamed"]

    def test_gemini_with_an_api_key(self, clouds: System) -> None:
        options = genai_types.HttpOptions(base_url=f"{clouds.url}/vertex")
        client = genai.Client(vertexai=True, api_key=clouds.key, http_options=options)
        answer = client.models.generate_content(model="gemini-2.5-flash", contents="Tell me a story.")
        assert answer.text == SAID
        assert booked(clouds, "gemini")["provider"] == "vertex"
        client.close()

    def test_other_dialects_reach_it_by_prefix(self, clouds: System) -> None:
        headers = {"authorization": f"Bearer {clouds.key}"}
        url = f"{clouds.url}/v1beta/models/vertex/gemini-2.5-flash:generateContent"
        assert web.post(url, headers=headers, json={"contents": []}).status_code == 200
        body = {"model": "vertex/google/gemini-2.5-flash", "messages": ASK}
        answer = web.post(f"{clouds.url}/v1/chat/completions", headers=headers, json=body)
        assert answer.status_code == 200
        assert answer.json()["model"].startswith("google/gemini-2.5-flash")


def test_without_a_credential_only_that_provider_fails(tmp_path: Path) -> None:
    """The token endpoint is away: the gateway starts and is ready, and the books say why."""
    system = System(tmp_path)
    system.extra |= {
        "AROUTER_PROVIDERS__VERTEX__PROJECT": "demo",
        "AROUTER_PROVIDERS__VERTEX__BASE_URL": system.provider,
        "AROUTER_PROVIDERS__VERTEX__CREDENTIALS_FILE": str(service_account(tmp_path, "http://127.0.0.1:9/token")),
    }
    with system:
        headers = {"authorization": f"Bearer {system.key}"}
        path = "/vertex/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:generateContent"
        answer = web.post(system.url + path, headers=headers, json={"contents": []})
        assert answer.status_code == 502
        entry = system.settled([answer.headers["x-generation-id"]])[answer.headers["x-generation-id"]]
        assert entry["cause"] == "credential"
        assert web.get(f"{system.url}/v1/models", headers=headers).status_code == 200


def test_a_bad_credentials_file_stops_the_start_in_one_line(clouds: System) -> None:
    environment = {**clouds.environment, "AROUTER_PROVIDERS__VERTEX__CREDENTIALS_FILE": "/nowhere.json"}
    with pytest.raises(ProcessFailed) as failed:
        clouds.processes.command("gateway", "--port", "0", environment=environment)
    assert str(failed.value) == (
        "arouter: AROUTER_PROVIDERS__VERTEX__CREDENTIALS_FILE: cannot be used: No such file or directory"
    )


@pytest.mark.parametrize("snippet", snippets("python", page="providers.md"), ids=range(5))
def test_a_snippet_of_the_page(clouds: System, tmp_path: Path, snippet: Snippet) -> None:
    snippet.check([sys.executable, "-W", "ignore", "-c", snippet.aimed_at(clouds)], tmp_path)
