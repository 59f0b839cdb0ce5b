"""What a gateway meters is what the provider will do: a path that may be read in two ways is refused."""

from __future__ import annotations

from functools import partial

import pytest

from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.configured import upstreams
from services.gateway.routing.readings import understood
from services.gateway.routing.routes import Match, family_of, match
from services.gateway.settings import GatewaySettings
from shared.contract.dialects import Dialect
from shared.runtime.errors import Refused

BASES = {
    "openai": None,
    "anthropic": None,
    "gemini": None,
    "azure": "https://mine.openai.azure.com",
    "vllm": "http://vllm:8000/v1",
    "vertex": "https://eu-aiplatform.googleapis.com/v1",
    "bedrock": "https://bedrock-runtime.eu-west-1.amazonaws.com",
    "cloudflare": "https://api.cloudflare.com/client/v4",
}
PROVIDERS = {
    name: ProviderSettings.model_validate({"api_key": "s", "base_url": base, "dialects": ""})
    for name, base in BASES.items()
}
UPSTREAMS = upstreams(GatewaySettings(providers=PROVIDERS))
PROJECT = "/vertex/v1/projects/p/locations/eu/publishers"


def read(method: str, path: str) -> Match:
    family = family_of(path, {}, b"")
    return understood(method, path, partial(match, family=family, upstreams=UPSTREAMS))


def refused(method: str, path: str) -> Refused:
    with pytest.raises(Refused) as caught:
        read(method, path)
    return caught.value


@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/Chat/Completions",
        "/openai/V1/chat/completions",
        "/openai/v1/chat%2Fcompletions",
        "/openai/v1/chat%2fcompletions",
        "/openai/v1/chat%252Fcompletions",
        "/openai/v1/chat%5Ccompletions",
        "/openai/v1/chat\\completions",
        "/openai/v1/chat%c0%afcompletions",
        "/openai/v1/chat/completions;x=1",
        "/openai/v1/chat;x/completions",
        "/openai/v1/chat/completions%3Fa=b",
        "/openai/v1/chat/completions%23a",
        "/openai/v1/chat/completions%20",
        "/openai/v1/chat/completions%00",
        "/openai/v1/chat/completions%0A",
        "/openai/v1/chat/completions.",
        "/openai/v1/files/..;/chat/completions",
        "/openai/v1/files%2F..%2Fchat%2Fcompletions",
        "/openai/v1/files/..\\chat/completions",
        "/openai/v1/files/%252e%252e/chat/completions",
        "/openai/v1/files/%c0%ae%c0%ae/x",
        "/openai/v1/files/%2e%2e%2fx",
        "/openai/v1/files/x%2F..%2F..%2Fy",
        "/openai/v1/files/%25252525252e",
        "/openai/v1/%20/x",
        "/openai/v1/...;/x",
        "/anthropic/v1/Messages",
        "/openai/Deployments/d/chat/completions",
        "/openai/deployments/d%2Fx/chat/completions",
        "/gemini/v1beta/models%2Fg:generateContent",
        "/v1beta/models/g;x:generateContent",
        "/v1beta/models/..%2Fg:generateContent",
        "/bedrock/model%2Fnova/converse",
        "/openai/" + "x/" * 65,
        "/openai/v1/" + "x" * 4096,
    ],
)
def test_a_path_that_may_be_read_in_two_ways_is_refused(path: str) -> None:
    assert refused("POST", path).status == 400


@pytest.mark.parametrize(
    ("path", "dialect", "model"),
    [
        ("/v1/chat/completions", Dialect.OPENAI_CHAT, None),
        ("//v1//chat/completions/", Dialect.OPENAI_CHAT, None),
        ("/openai/v1/chat/completion%73", Dialect.OPENAI_CHAT, None),
        ("/openai/v1/files/File_A%20b%2Fc.TXT", Dialect.PASSTHROUGH, None),
        ("/openai/v1/threads/thread_Ab/runs", Dialect.PASSTHROUGH, None),
        ("/v1beta/models/Gemini-X%3AgenerateContent", Dialect.GEMINI, "Gemini-X"),
        ("/v1beta/models/gemini%2Fg:streamGenerateContent", Dialect.GEMINI, "gemini/g"),
        ("/v1beta/models/g:GENERATEContent", Dialect.GEMINI, "g"),
        ("/v1beta/models/m%C3%A4:generateContent", Dialect.GEMINI, "mä"),
        ("/v1beta/tunedModels/My-1:generateContent", Dialect.GEMINI, "My-1"),
        ("/openai/deployments/My%20GPT/chat/completions", Dialect.OPENAI_CHAT, "My%20GPT"),
        (f"{PROJECT}/google/models/G%40001:streamGenerateContent", Dialect.GEMINI, "G@001"),
        (
            "/bedrock/model/arn%3Aaws%3Ab%3A%3Aprofile%2FUs.x/converse-stream",
            Dialect.BEDROCK_CONVERSE_STREAM,
            "arn:aws:b::profile/Us.x",
        ),
        ("/bedrock/model/eu.x-v1%3A0/invoke", Dialect.BEDROCK_INVOKE, "eu.x-v1:0"),
        ("/cloudflare/accounts/A/ai/run/@cf/meta/Llama-x", Dialect.PASSTHROUGH, "@cf/meta/Llama-x"),
        ("/vllm/API/chat", Dialect.OLLAMA_CHAT, None),
        ("/vllm/V2Rerank", Dialect.PASSTHROUGH, None),
    ],
)
def test_what_every_server_reads_alike_passes(path: str, dialect: Dialect, model: str | None) -> None:
    matched = read("POST", path)
    assert (matched.dialect, matched.path_model) == (dialect, model)


@pytest.mark.parametrize("method", ["TRACE", "PURGE", "FOO", "PROPFIND", "post"])
def test_a_method_that_no_api_has_is_not_passed_on(method: str) -> None:
    answer = refused(method, "/openai/v1/x")
    assert answer.status == 405
    assert dict(answer.headers)[b"allow"] == b"GET, HEAD, POST, PUT, PATCH, DELETE"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/openai/v1/chat/completions"),
        ("PATCH", "/anthropic/v1/messages"),
        ("DELETE", "/vllm/v1/embeddings"),
        ("PUT", "/openai/v1/responses"),
        ("PUT", "/vllm/api/chat"),
        ("GET", "/v1beta/models/g:generateContent"),
        ("HEAD", "/v1/models/g:generateContent"),
        ("GET", "/gemini/v1beta/models/g:countTokens"),
        ("GET", f"{PROJECT}/google/models/g:generateContent"),
        ("GET", "/bedrock/model/nova/converse"),
        ("GET", "/openai/deployments/d/chat/completions"),
        ("PUT", "/openai/v1/Chat/Completions"),
    ],
)
def test_a_call_is_made_with_post_alone(method: str, path: str) -> None:
    answer = refused(method, path)
    assert answer.status == 405
    assert dict(answer.headers)[b"allow"] == b"POST"


@pytest.mark.parametrize(
    ("method", "path", "lists"),
    [
        ("GET", "/openai/v1/chat/completions", True),
        ("GET", "/openai/v1/Chat/Completions", True),
        ("HEAD", "/openai/v1/responses", True),
        ("GET", "/openai/v1/responses/resp_Ab", False),
        ("DELETE", "/openai/v1/responses/resp_Ab", False),
        ("GET", "/v1/models/meta-llama%2FLlama-3", False),
        ("GET", "/v1/models", False),
        ("GET", "/gemini/v1beta/files/abc:download", False),
        ("PATCH", "/gemini/v1beta/cachedContents/x", False),
        ("GET", "/openai/deployments/d/files", False),
    ],
)
def test_reading_stays(method: str, path: str, lists: bool) -> None:
    matched = read(method, path)
    assert (matched.dialect, matched.lists) == (Dialect.METADATA, lists)
