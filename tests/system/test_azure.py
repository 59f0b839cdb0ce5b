"""Azure's SDK with a key of ours in the place of an Entra token, and Entra's tokens on the way to the provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from services.demo.scenario import Scenario
from services.demo.script import words
from tests.support import web
from tests.support.system import System
from tests.support.tokens import TokenServer

SAID = "".join(words(Scenario()))
ASK: list[Any] = [{"role": "user", "content": "Tell me a story."}]
VERSIONS = ["2024-10-21", "2025-04-01-preview", "preview", "2031-01-01"]

Azure = Callable[..., openai.AzureOpenAI]


@pytest.fixture(scope="module")
def tokens() -> Iterator[TokenServer]:
    with TokenServer() as server:
        yield server


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer) -> Iterator[System]:
    """A system whose gateway has a managed identity for Azure, and no key."""
    settings = {
        "AROUTER_PROVIDERS__AZURE__AUTH": "entra",
        "IDENTITY_ENDPOINT": f"{tokens.url}/azure",
        "IDENTITY_HEADER": "x",
    }
    with System(tmp_path_factory.mktemp("azure"), **settings) as running:
        yield running


@pytest.fixture(params=["azure_ad_token", "azure_ad_token_provider", "api_key"])
def client(azure: System, request: pytest.FixtureRequest) -> Azure:
    """Makes a client of Azure's SDK that shows our key, as an Entra token or as an API key."""
    given: Any = (lambda: azure.key) if request.param == "azure_ad_token_provider" else azure.key

    def made(version: str, **place: str) -> openai.AzureOpenAI:
        place = place or {"azure_endpoint": azure.url}
        return openai.AzureOpenAI(api_version=version, max_retries=0, **{request.param: given}, **place)  # type: ignore[call-overload, no-any-return]

    return made


def booked(system: System, raw: Any) -> dict[str, Any]:
    """The entry of an answer; the provider has seen Entra's token, and has booked the same."""
    exchange_id = raw.headers["x-generation-id"]
    assert raw.headers["x-demo-credential"] == "ure-1"  # azure-1
    entry = system.settled([exchange_id])[exchange_id]
    line = system.until(lambda: system.emitted().get(exchange_id))
    assert (entry["provider"], entry["source"]) == ("azure", "reported")
    assert (entry["input_tokens"], entry["output_tokens"]) == (line["usage"]["input_tokens"], 12)
    return entry


@pytest.mark.parametrize("version", VERSIONS)
def test_chat_by_deployment(azure: System, client: Azure, version: str) -> None:
    with client(version) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model="dep", messages=ASK)
    assert raw.parse().choices[0].message.content == SAID
    entry = booked(azure, raw)
    assert (entry["dialect"], entry["model"], entry["streamed"]) == ("openai_chat", "dep", False)


def test_a_streamed_chat_by_deployment(azure: System, client: Azure) -> None:
    with client(VERSIONS[0]) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(
            model="dep", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(raw.parse())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SAID
    assert booked(azure, raw)["streamed"]


@pytest.mark.parametrize("stream", [False, True])
def test_responses_by_api_version(azure: System, client: Azure, stream: bool) -> None:
    with client(VERSIONS[1]) as sdk:
        raw = sdk.responses.with_raw_response.create(model="dep", input="Tell me a story.", stream=stream)
        said: Any = raw.parse()
        text = (
            "".join(event.delta for event in said if event.type.endswith("text.delta")) if stream else said.output_text
        )
    assert text == SAID
    entry = booked(azure, raw)
    assert (entry["dialect"], entry["model"], entry["streamed"]) == ("openai_responses", "dep", stream)


@pytest.mark.parametrize("version", ["preview", "latest"])
def test_responses_at_the_v1_path(azure: System, client: Azure, version: str) -> None:
    with client(version, base_url=f"{azure.url}/openai/v1") as sdk:
        raw = sdk.responses.with_raw_response.create(model="dep", input="Tell me a story.")
    assert raw.parse().output_text == SAID
    assert booked(azure, raw)["model"] == "dep"


@pytest.mark.parametrize("version", [None, "preview"])
@pytest.mark.parametrize("base", ["/openai/v1", "/azure/openai/v1"])
def test_the_v1_path_with_openais_own_client(azure: System, version: str | None, base: str) -> None:
    """As Azure's pages have it, with a token that is asked for each time. Without a version only its own prefix says
    that Azure is meant."""
    query = {"api-version": version} if version else {}
    with openai.OpenAI(base_url=azure.url + base, api_key=lambda: azure.key, default_query=query, max_retries=0) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model="dep", messages=ASK)
    assert raw.parse().choices[0].message.content == SAID
    if version or base.startswith("/azure"):
        assert booked(azure, raw)["model"] == "dep"
    else:
        assert raw.headers["x-demo-credential"] == "ntial"  # openai's key


def test_nothing_of_a_caller_reaches_the_provider(azure: System, tokens: TokenServer) -> None:
    headers = {"authorization": f"Bearer {azure.key}", "api-key": "theirs"}
    seen = web.get(f"{azure.url}/openai/files/f?api-version=2024-10-21", headers=headers).json()
    assert seen["target"] == "/openai/files/f?api-version=2024-10-21"
    assert seen["headers"]["authorization"] == "Bearer azure-1"
    assert "api-key" not in seen["headers"]
    assert azure.key not in str(seen)
    assert len(tokens.asked) == 1  # at the start, and for no request


def test_a_token_that_is_no_key_of_ours_is_refused(azure: System) -> None:
    with (
        openai.AzureOpenAI(
            azure_endpoint=azure.url, azure_ad_token="eyJ0eXAi.e30.x", api_version=VERSIONS[0], max_retries=0
        ) as sdk,
        pytest.raises(openai.AuthenticationError) as error,
    ):
        sdk.chat.completions.create(model="dep", messages=ASK)
    assert error.value.code == "invalid_api_key"
