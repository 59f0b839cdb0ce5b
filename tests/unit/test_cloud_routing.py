"""Routes to Bedrock and Vertex: places of the operator's, whatever callers write."""

import pytest

from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.configured import upstreams
from services.gateway.routing.routes import choose, family_of, match
from services.gateway.routing.upstreams import Upstreams
from services.gateway.settings import GatewaySettings
from shared.contract.dialects import Dialect, Family
from shared.runtime.errors import Refused


def configured(**providers: dict[str, str]) -> Upstreams:
    blocks = {name: ProviderSettings.model_validate({"api_key": "k"} | given) for name, given in providers.items()}
    return upstreams(GatewaySettings(providers=blocks))


IN_CLOUDS = configured(bedrock={"region": "eu-west-1"}, vertex={"project": "p", "location": "europe-west1"})
BEDROCK, VERTEX = "https://bedrock-runtime.eu-west-1.amazonaws.com", "https://europe-west1-aiplatform.googleapis.com"
SCOPE = "projects/p/locations/europe-west1"


@pytest.mark.parametrize(
    ("path", "model", "url"),
    [
        ("/bedrock/model/nova/converse", None, f"{BEDROCK}/model/nova/converse"),
        ("/bedrock/guardrail/g/version/1/apply", None, f"{BEDROCK}/guardrail/g/version/1/apply"),
        ("/v1/chat/completions", "bedrock/openai.x", f"{BEDROCK}/openai/v1/chat/completions"),
        ("/bedrock/openai/v1/chat/completions", "openai.x", f"{BEDROCK}/openai/v1/chat/completions"),
        ("/v1/chat/completions", "vertex/google/g", f"{VERTEX}/v1/{SCOPE}/endpoints/openapi/chat/completions"),
        (
            "/vertex/v1/publishers/google/models/g:predict",
            None,
            f"{VERTEX}/v1/{SCOPE}/publishers/google/models/g:predict",
        ),
        (
            "/v1beta/models/vertex/g:generateContent",
            None,
            f"{VERTEX}/v1beta1/{SCOPE}/publishers/google/models/g:generateContent",
        ),
        (
            "/vertex/v1/projects/theirs/locations/us/publishers/anthropic/models/c@1:rawPredict",
            None,
            f"{VERTEX}/v1/{SCOPE}/publishers/anthropic/models/c@1:rawPredict",
        ),
        (
            "/vertex/upload/v1/projects/theirs/locations/us/ragCorpora/1/ragFiles:upload",
            None,
            f"{VERTEX}/upload/v1/{SCOPE}/ragCorpora/1/ragFiles:upload",
        ),
        ("/vertex/v1/chat/completions", "google/g", f"{VERTEX}/v1/{SCOPE}/endpoints/openapi/chat/completions"),
        (
            "/vertex/v1beta/models/g:generateContent",
            None,
            f"{VERTEX}/v1beta1/{SCOPE}/publishers/google/models/g:generateContent",
        ),
        ("/vertex/v1/projects/theirs/x", None, f"{VERTEX}/v1/{SCOPE}/projects/theirs/x"),
    ],
)
def test_clouds_are_in_the_operators_place(path: str, model: str | None, url: str) -> None:
    matched = match("POST", path, family_of(path, {}, b""), IN_CLOUDS)
    assert choose(matched, model, IN_CLOUDS).url == url


@pytest.mark.parametrize("path", ["/vertex/projects/theirs/locations/us/x", "/vertex/", "/vertex/v1"])
def test_a_path_that_would_leave_that_place_is_refused(path: str) -> None:
    with pytest.raises(Refused, match="begins with its version"):
        match("POST", path, Family.GEMINI, IN_CLOUDS)


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us-east5", "us-east5-aiplatform.googleapis.com"),
    ],
)
def test_locations_have_hosts(location: str, host: str) -> None:
    vertex = configured(vertex={"project": "p", "location": location}).get("vertex")
    assert vertex is not None
    assert vertex.base_url == f"https://{host}"


def test_counting_tokens_in_clouds_is_no_call() -> None:
    vertex = "/vertex/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict"
    for path in (vertex, "/bedrock/model/claude/count-tokens"):
        assert match("POST", path, Family.OPENAI, IN_CLOUDS).dialect is Dialect.COUNT_TOKENS


def test_a_base_url_is_taken_as_it_is() -> None:
    mine = configured(mine={"base_url": "http://x/{project}/{0}"}).get("mine")
    assert mine is not None
    assert mine.endpoints == {Family.OPENAI: "http://x/{project}/{0}"}


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/bedrock/model/nova/converse", Family.BEDROCK),
        ("/mine/model/arn%3Ax%2Fy/invoke-with-response-stream", Family.BEDROCK),
        ("/v1/model/nova/chat", Family.OPENAI),
        ("/bedrock/openai/v1/chat/completions", Family.OPENAI),
    ],
)
def test_bedrocks_calls_show_in_their_path(path: str, family: Family) -> None:
    assert family_of(path, {}, b"") is family


@pytest.mark.parametrize("base", ["https://front/google", "https://front/google/v1"])
def test_a_front_of_vertex_may_hold_the_version(base: str) -> None:
    fronted = configured(vertex={"project": "p", "base_url": base})
    scope = "https://front/google/v1/projects/p/locations/global"
    chat = match("POST", "/v1/chat/completions", Family.OPENAI, fronted)
    assert choose(chat, "vertex/google/g", fronted).url == f"{scope}/endpoints/openapi/chat/completions"
    raw = match("POST", "/vertex/v1/publishers/anthropic/models/c:rawPredict", Family.OPENAI, fronted)
    assert choose(raw, None, fronted).url == f"{scope}/publishers/anthropic/models/c:rawPredict"
