import base64

import pytest

from services.gateway.attempts import Candidate
from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.authenticators import Fixed
from services.gateway.routing.configured import upstreams
from services.gateway.routing.routes import choose, family_of, match
from services.gateway.routing.upstreams import Upstream, Upstreams
from services.gateway.settings import GatewaySettings
from shared.contract.dialects import Dialect, Family
from shared.runtime.errors import Refused


def configured(**providers: dict[str, str]) -> Upstreams:
    blocks = {
        name: ProviderSettings.model_validate({"api_key": "top-secret"} | given) for name, given in providers.items()
    }
    return upstreams(GatewaySettings(providers=blocks))


USUAL = configured(
    openai={},
    anthropic={},
    gemini={},
    deepseek={},
    openrouter={},
    groq={},
    azure={"base_url": "https://mine.openai.azure.com"},
    vllm={"base_url": "http://vllm:8000/v1"},
)


def route(
    method: str, path: str, model: str | None = None, headers: dict[bytes, bytes] | None = None, query: bytes = b""
) -> tuple[str, str, str, str]:
    family = family_of(path, headers or {}, query)
    matched = match(method, path, family, USUAL)
    chosen = choose(matched, model, USUAL)
    return matched.dialect, chosen.upstream.provider, chosen.url, chosen.model


OPENAI, ANTHROPIC, GEMINI = (
    "https://api.openai.com",
    "https://api.anthropic.com",
    "https://generativelanguage.googleapis.com",
)


@pytest.mark.parametrize(
    ("path", "model", "expected"),
    [
        ("/v1/chat/completions", "gpt-4o", ("openai_chat", "openai", f"{OPENAI}/v1/chat/completions", "gpt-4o")),
        ("/v1/v1/chat/completions", "gpt-4o", ("openai_chat", "openai", f"{OPENAI}/v1/chat/completions", "gpt-4o")),
        ("/v1/completions", "x", ("openai_completions", "openai", f"{OPENAI}/v1/completions", "x")),
        ("/v1/responses", "x", ("openai_responses", "openai", f"{OPENAI}/v1/responses", "x")),
        ("/v1/embeddings", "x", ("openai_embeddings", "openai", f"{OPENAI}/v1/embeddings", "x")),
        ("/v1/messages", "claude", ("anthropic_messages", "anthropic", f"{ANTHROPIC}/v1/messages", "claude")),
        ("/v1/v1/messages", "claude", ("anthropic_messages", "anthropic", f"{ANTHROPIC}/v1/messages", "claude")),
        ("/v1/messages/count_tokens", "c", ("count_tokens", "anthropic", f"{ANTHROPIC}/v1/messages/count_tokens", "c")),
        # a prefix picks the provider of that dialect's endpoint
        (
            "/v1/chat/completions",
            "anthropic/claude",
            ("openai_chat", "anthropic", f"{ANTHROPIC}/v1/chat/completions", "claude"),
        ),
        (
            "/v1/chat/completions",
            "gemini/g",
            ("openai_chat", "gemini", f"{GEMINI}/v1beta/openai/chat/completions", "g"),
        ),
        (
            "/v1/chat/completions",
            "vllm/meta-llama/Llama-3",
            ("openai_chat", "vllm", "http://vllm:8000/v1/chat/completions", "meta-llama/Llama-3"),
        ),
        (
            "/v1/chat/completions",
            "azure/dep",
            ("openai_chat", "azure", "https://mine.openai.azure.com/openai/v1/chat/completions", "dep"),
        ),
        (
            "/v1/messages",
            "deepseek/deepseek-chat",
            ("anthropic_messages", "deepseek", "https://api.deepseek.com/anthropic/v1/messages", "deepseek-chat"),
        ),
        # no configured provider: no prefix
        (
            "/v1/chat/completions",
            "meta-llama/Llama-3",
            ("openai_chat", "openai", f"{OPENAI}/v1/chat/completions", "meta-llama/Llama-3"),
        ),
        # Gemini names the model in the path
        (
            "/v1beta/models/g:generateContent",
            None,
            ("gemini", "gemini", f"{GEMINI}/v1beta/models/g:generateContent", "g"),
        ),
        (
            "//v1beta/models/g:streamGenerateContent",
            None,
            ("gemini", "gemini", f"{GEMINI}/v1beta/models/g:streamGenerateContent", "g"),
        ),
        ("/v1/models/g:embedContent", None, ("gemini", "gemini", f"{GEMINI}/v1/models/g:embedContent", "g")),
        ("/v1/models/g:countTokens", None, ("count_tokens", "gemini", f"{GEMINI}/v1/models/g:countTokens", "g")),
        (
            "/v1beta/models/gemini/g:generateContent",
            None,
            ("gemini", "gemini", f"{GEMINI}/v1beta/models/g:generateContent", "g"),
        ),
        # any path of one provider, with one version segment
        ("/openai/v1/chat/completions", "a/b", ("openai_chat", "openai", f"{OPENAI}/v1/chat/completions", "a/b")),
        ("/openai/chat/completions", "x", ("openai_chat", "openai", f"{OPENAI}/v1/chat/completions", "x")),
        ("/openai/v1/audio/speech", None, ("passthrough", "openai", f"{OPENAI}/v1/audio/speech", "")),
        ("/openai/images/generations", None, ("passthrough", "openai", f"{OPENAI}/v1/images/generations", "")),
        ("/anthropic/v1/messages", "c", ("anthropic_messages", "anthropic", f"{ANTHROPIC}/v1/messages", "c")),
        ("/anthropic/messages", "c", ("anthropic_messages", "anthropic", f"{ANTHROPIC}/v1/messages", "c")),
        ("/anthropic/v1/messages/batches", None, ("passthrough", "anthropic", f"{ANTHROPIC}/v1/messages/batches", "")),
        (
            "/deepseek/anthropic/v1/messages",
            "d",
            ("anthropic_messages", "deepseek", "https://api.deepseek.com/anthropic/v1/messages", "d"),
        ),
        (
            "/gemini/v1beta/models/g:generateContent",
            None,
            ("gemini", "gemini", f"{GEMINI}/v1beta/models/g:generateContent", "g"),
        ),
        (
            "/gemini/v1beta/openai/chat/completions",
            "g",
            ("openai_chat", "gemini", f"{GEMINI}/v1beta/openai/chat/completions", "g"),
        ),
        (
            "/openrouter/api/v1/credits",
            None,
            ("passthrough", "openrouter", "https://openrouter.ai/api/v1/credits", ""),
        ),
        # a base URL's own path may be repeated; another version is another place
        ("/groq/openai/v1/models", None, ("passthrough", "groq", "https://api.groq.com/openai/v1/models", "")),
        ("/groq/v1/audio/speech", None, ("passthrough", "groq", "https://api.groq.com/openai/v1/audio/speech", "")),
        ("/vllm/v2/rerank", None, ("passthrough", "vllm", "http://vllm:8000/v2/rerank", "")),
        ("/vllm/v2/chat", None, ("cohere_v2_chat", "vllm", "http://vllm:8000/v2/chat", "")),
        ("/vllm/api/chat", "llama3", ("ollama_chat", "vllm", "http://vllm:8000/api/chat", "llama3")),
        ("/deepseek/anthropic/v1/x", None, ("passthrough", "deepseek", "https://api.deepseek.com/anthropic/v1/x", "")),
        ("/openai/v1/files/", None, ("passthrough", "openai", f"{OPENAI}/v1/files/", "")),
        # needless escapes do not hide a call
        ("/openai/v1/chat/completion%73", "x", ("openai_chat", "openai", f"{OPENAI}/v1/chat/completions", "x")),
        (
            "/v1beta/models/M%3AgenerateContent",
            None,
            ("gemini", "gemini", f"{GEMINI}/v1beta/models/M:generateContent", "M"),
        ),
        ("/v1beta/interactions", "g", ("gemini_interactions", "gemini", f"{GEMINI}/v1beta/interactions", "g")),
        # the Azure SDK's paths
        (
            "/openai/deployments/dep/chat/completions",
            None,
            ("openai_chat", "azure", "https://mine.openai.azure.com/openai/deployments/dep/chat/completions", "dep"),
        ),
    ],
)
def test_posts(path: str, model: str | None, expected: tuple[str, str, str, str]) -> None:
    assert route("POST", path, model) == expected


@pytest.mark.parametrize(
    ("path", "headers", "query", "url"),
    [
        ("/v1/models", {}, b"", f"{OPENAI}/v1/models"),
        ("/v1/models/gpt-4o", {}, b"", f"{OPENAI}/v1/models/gpt-4o"),
        ("/v1/models", {b"anthropic-version": b"2023-06-01"}, b"", f"{ANTHROPIC}/v1/models"),
        ("/v1/models", {b"x-goog-api-key": b"k"}, b"", f"{GEMINI}/v1/models"),
        ("/v1beta/models", {}, b"key=k", f"{GEMINI}/v1beta/models"),
        ("/openai/v1/files", {}, b"", f"{OPENAI}/v1/files"),
        ("/v1/responses/resp_1", {}, b"", f"{OPENAI}/v1/responses/resp_1"),
    ],
)
def test_gets_are_metadata(path: str, headers: dict[bytes, bytes], query: bytes, url: str) -> None:
    dialect, _, to, _ = route("GET", path, headers=headers, query=query)
    assert (dialect, to) == (Dialect.METADATA, url)


@pytest.mark.parametrize(
    ("method", "path", "model", "status"),
    [
        ("POST", "/", "x", 404),
        ("POST", "/v1/nothing", "x", 404),
        ("PUT", "/v1/chat/completions", None, 404),
        ("POST", "/unknown/v1/chat/completions", "x", 404),
        ("POST", "/v1/chat/completions", None, 400),
        ("POST", "/v1/chat/completions", "", 400),
        ("POST", "/v1/messages", "gemini/g", 404),
        ("POST", "/openai/v1/x/../chat/completions", "x", 400),
        ("POST", "/v1/responses/%2e%2E/chat/completions", "x", 400),
        ("POST", "/openai/./v1/chat/completions", "x", 400),
    ],
)
def test_refusals(method: str, path: str, model: str | None, status: int) -> None:
    with pytest.raises(Refused) as refused:
        route(method, path, model)
    assert refused.value.status == status


def test_the_only_provider_of_a_dialect_is_its_default() -> None:
    alone = configured(vllm={"base_url": "http://vllm:8000/v1"})
    matched = match("POST", "/v1/chat/completions", Family.OPENAI, alone)
    assert choose(matched, "llama", alone).upstream.provider == "vllm"
    two = configured(vllm={"base_url": "http://a/v1"}, ollama={"base_url": "http://b/v1"})
    with pytest.raises(Refused, match="no provider is configured"):
        choose(matched, "llama", two)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/chat/completions", "mistral/mistral-small"),
        ("/v1/messages", "minimax/m"),
        ("/v1beta/models/mistral/m:generateContent", None),
    ],
)
def test_a_known_provider_that_is_not_configured_is_not_the_name_of_a_model(path: str, model: str | None) -> None:
    with pytest.raises(Refused, match="is not configured") as refused:
        route("POST", path, model)
    assert (refused.value.status, refused.value.code) == (404, "provider_not_configured")


def test_where_the_default_has_models_of_many_their_names_pass() -> None:
    alone = configured(openrouter={})
    matched = match("POST", "/v1/chat/completions", Family.OPENAI, alone)
    chosen = choose(matched, "mistral/mistral-small", alone)
    assert (chosen.upstream.provider, chosen.model) == ("openrouter", "mistral/mistral-small")


def test_a_provider_of_your_own_speaks_the_dialects_you_name() -> None:
    mine = configured(mine={"base_url": "http://mine/v1", "dialects": "anthropic_messages, openai_chat"})
    messages = match("POST", "/v1/messages", Family.ANTHROPIC, mine)
    assert choose(messages, "mine/x", mine).url == "http://mine/v1/messages"
    embeddings = match("POST", "/v1/embeddings", Family.OPENAI, mine)
    with pytest.raises(Refused, match="does not serve"):
        choose(embeddings, "mine/x", mine)


def sent(upstream: Upstream, family: Family) -> tuple[bytes, bytes]:
    (header,) = upstream.authenticators[family].prepare(Candidate("", "", "", "GET", "", b"", [], b"", Fixed()))
    return header


def test_credentials_are_sent_as_the_endpoint_takes_them() -> None:
    anthropic, azure = USUAL.get("anthropic"), USUAL.get("azure")
    assert anthropic is not None
    assert azure is not None
    assert sent(anthropic, Family.ANTHROPIC) == (b"x-api-key", b"top-secret")
    assert sent(anthropic, Family.OPENAI) == (b"authorization", b"Bearer top-secret")
    assert sent(azure, Family.OPENAI) == (b"api-key", b"top-secret")
    assert "top-secret" not in repr(anthropic)


def test_http_basic_takes_the_place_of_the_credential() -> None:
    mine = ProviderSettings.model_validate(
        {"base_url": "https://us%40er:pass:word@x", "dialects": "anthropic_messages"}
    )
    upstream = upstreams(GatewaySettings(providers={"mine": mine})).get("mine")
    assert upstream is not None
    expected = b"authorization", b"Basic " + base64.b64encode(b"us@er:pass:word")
    assert [sent(upstream, family) for family in Family] == [expected] * len(Family)
    assert upstream.base_url == "https://x"
    assert "pass:word" not in repr(upstream)


CLOUDS = configured(
    vertex={"base_url": "https://eu-aiplatform.googleapis.com/v1"},
    bedrock={"base_url": "https://bedrock-runtime.eu-west-1.amazonaws.com"},
    cloudflare={"base_url": "https://api.cloudflare.com/client/v4"},
)
PROJECT = "/vertex/v1/projects/p/locations/eu/publishers"


@pytest.mark.parametrize(
    ("path", "dialect", "model", "streamed"),
    [
        (f"{PROJECT}/google/models/gemini-x:generateContent", Dialect.GEMINI, "gemini-x", False),
        (f"{PROJECT}/google/models/gemini-x:streamGenerateContent", Dialect.GEMINI, "gemini-x", True),
        (f"{PROJECT}/google/models/gemini-x:countTokens", Dialect.COUNT_TOKENS, "gemini-x", False),
        (f"{PROJECT}/google/models/embedding-x:predict", Dialect.PASSTHROUGH, "embedding-x", False),
        (
            f"{PROJECT}/anthropic/models/claude-x@20250219:rawPredict",
            Dialect.ANTHROPIC_MESSAGES,
            "claude-x@20250219",
            False,
        ),
        (f"{PROJECT}/anthropic/models/claude-x:streamRawPredict", Dialect.ANTHROPIC_MESSAGES, "claude-x", True),
        (f"{PROJECT}/mistralai/models/small:rawPredict", Dialect.OPENAI_CHAT, "small", False),
        (f"{PROJECT}/someone/models/small:rawPredict", Dialect.PASSTHROUGH, "small", False),
        ("/bedrock/model/eu.amazon.nova-x-v1%3A0/converse", Dialect.BEDROCK_CONVERSE, "eu.amazon.nova-x-v1:0", False),
        ("/bedrock/model/nova-x/converse-stream", Dialect.BEDROCK_CONVERSE_STREAM, "nova-x", True),
        ("/bedrock/model/nova-x/invoke", Dialect.BEDROCK_INVOKE, "nova-x", False),
        ("/bedrock/model/nova-x/invoke-with-response-stream", Dialect.BEDROCK_INVOKE_STREAM, "nova-x", True),
        ("/bedrock/model/nova-x/something", Dialect.PASSTHROUGH, "", False),
        ("/cloudflare/accounts/a/ai/run/@cf/meta/llama-x", Dialect.PASSTHROUGH, "@cf/meta/llama-x", False),
    ],
)
def test_clouds_name_the_model_in_the_path(path: str, dialect: Dialect, model: str, streamed: bool) -> None:
    matched = match("POST", path, Family.OPENAI, CLOUDS)
    chosen = choose(matched, None, CLOUDS)
    assert (matched.dialect, chosen.model, matched.streamed) == (dialect, model, streamed)
    assert chosen.url.endswith(
        path.partition("/v1/")[2] or path.partition("/")[2].partition("/")[2].replace("%3A", ":")
    )
    assert match("GET", path, Family.OPENAI, CLOUDS).dialect is Dialect.METADATA


@pytest.mark.parametrize(
    ("path", "headers", "query", "family"),
    [
        ("/v1/files", {}, b"", Family.OPENAI),
        ("/v1/messages", {}, b"", Family.ANTHROPIC),
        ("/v1/files", {b"anthropic-version": b"2023-06-01"}, b"", Family.ANTHROPIC),
        ("/v1/models", {b"x-goog-api-key": b"x"}, b"", Family.GEMINI),
        ("/v1/models", {}, b"a=b&key=x", Family.GEMINI),
        ("/v1beta/files", {}, b"", Family.GEMINI),
        ("/gemini/v1beta/files/f", {}, b"", Family.GEMINI),
        ("/upload/v1beta/files", {}, b"upload_id=a&arouter_upload=b", Family.GEMINI),
        ("/gemini/upload/v1beta/files", {}, b"upload_id=a&arouter_upload=b", Family.GEMINI),
        ("/v1/models/gemini-x:generateContent", {}, b"", Family.GEMINI),
        ("/v1/models/ft:gpt-4o:me", {}, b"", Family.OPENAI),
    ],
)
def test_the_family_whose_errors_a_caller_understands(
    path: str, headers: dict[bytes, bytes], query: bytes, family: Family
) -> None:
    assert family_of(path, headers, query) is family
