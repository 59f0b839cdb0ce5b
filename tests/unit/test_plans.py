"""Which routes a request has, in the order of trying: named routes, weights, and models that a request lists."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from services.gateway.client.flags import Flags
from services.gateway.routing.configured import upstreams
from services.gateway.routing.plans import passed_on, plan
from services.gateway.routing.routes import Match, family_of, match
from services.gateway.routing.upstreams import Upstreams
from services.gateway.settings import GatewaySettings
from shared.runtime.errors import Refused, SettingsError

KEYED = {"api_key": "top-secret"}
PROVIDERS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("openai", "anthropic", "gemini", "openrouter", "deepseek"), KEYED),
    "azure": {**KEYED, "base_url": "https://mine.openai.azure.com"},
    "bedrock": {**KEYED, "region": "eu-west-1"},
    "vertex": {"project": "p"},
    "vllm": {"base_url": "http://vllm/v1", "dialects": "openai_chat"},
    "tei": {"base_url": "http://tei/v1", "dialects": "openai_embeddings"},
}
OPENAI, AZURE = "https://api.openai.com/v1", "https://mine.openai.azure.com/openai/v1"
GEMINI = "https://generativelanguage.googleapis.com"
VERTEX = "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global/publishers/google"
BEDROCK = "https://bedrock-runtime.eu-west-1.amazonaws.com"
CHAT = "/v1/chat/completions"


def configured(providers: dict[str, dict[str, str]] | None = None, **routes: Any) -> Upstreams:
    given: Any = {name: route if isinstance(route, dict) else {"candidates": route} for name, route in routes.items()}
    return upstreams(GatewaySettings(providers=providers or PROVIDERS, routes=given))  # type: ignore[arg-type]


USUAL = configured(
    fast=["openai/gpt-4o-mini", "azure/gpt-4o-mini"],
    alias=["azure/gpt-4.1"],
    flash=["gemini/gemini-2.5-flash", "vertex/gemini-2.5-flash"],
    claude=["anthropic/claude-haiku-4-5", "openrouter/anthropic/claude-haiku-4.5"],
    nova=["bedrock/eu.amazon.nova-lite-v1:0", "bedrock/arn:aws:bedrock:eu-west-1:1:inference-profile/nova"],
    local=["vllm/llama", "openai/gpt-4o-mini"],
    mixed={"candidates": ["openai/gpt-4o", "gemini/gemini-2.5-flash"], "dialects": "openai_chat"},
    shared=[{"model": "openai/a", "weight": 6}, {"model": "azure/b", "weight": 3}, {"model": "openai/c", "weight": 1}],
    sticky={"candidates": [{"model": "openai/a", "weight": 1}, {"model": "azure/b", "weight": 1}], "sticky": True},
    spare=[{"model": "azure/b", "weight": 1}, "openai/a"],
)


def matched(path: str, found: Upstreams = USUAL, query: bytes = b"") -> Match:
    return match("POST", path, family_of(path, {}, query), found, dated=b"api-version" in query)


def planned(
    path: str, model: str | None = None, *models: str, found: Upstreams = USUAL, lists: bool = True, query: bytes = b""
) -> list[tuple[str, str, str]]:
    """Provider, model and URL of each route."""
    flags = Flags(model, models=models)
    routes = plan(matched(path, found, query), flags, found, "caller", lists=lists, chance=lambda: 0.0)
    return [(route.upstream.provider, route.model, route.url) for route in routes]


@pytest.mark.parametrize(
    ("path", "model", "expected"),
    [
        # a plain model has one route, as ever
        (CHAT, "gpt-4o", [("openai", "gpt-4o", f"{OPENAI}/chat/completions")]),
        (CHAT, "azure/gpt-4o", [("azure", "gpt-4o", f"{AZURE}/chat/completions")]),
        ("/v1beta/models/g:generateContent", None, [("gemini", "g", f"{GEMINI}/v1beta/models/g:generateContent")]),
        # a route's name, in the body
        (
            CHAT,
            "fast",
            [
                ("openai", "gpt-4o-mini", f"{OPENAI}/chat/completions"),
                ("azure", "gpt-4o-mini", f"{AZURE}/chat/completions"),
            ],
        ),
        (
            "/v1/responses",
            "fast",
            [("openai", "gpt-4o-mini", f"{OPENAI}/responses"), ("azure", "gpt-4o-mini", f"{AZURE}/responses")],
        ),
        (CHAT, "alias", [("azure", "gpt-4.1", f"{AZURE}/chat/completions")]),
        (
            "/v1/images/generations",
            "fast",
            [
                ("openai", "gpt-4o-mini", f"{OPENAI}/images/generations"),
                ("azure", "gpt-4o-mini", f"{AZURE}/images/generations"),
            ],
        ),
        (
            "/v1/messages",
            "claude",
            [
                ("anthropic", "claude-haiku-4-5", "https://api.anthropic.com/v1/messages"),
                ("openrouter", "anthropic/claude-haiku-4.5", "https://openrouter.ai/api/v1/messages"),
            ],
        ),
        (
            "/v1/messages/count_tokens",
            "claude",
            [
                ("anthropic", "claude-haiku-4-5", "https://api.anthropic.com/v1/messages/count_tokens"),
                ("openrouter", "anthropic/claude-haiku-4.5", "https://openrouter.ai/api/v1/messages/count_tokens"),
            ],
        ),
        (
            CHAT,
            "local",
            [
                ("vllm", "llama", "http://vllm/v1/chat/completions"),
                ("openai", "gpt-4o-mini", f"{OPENAI}/chat/completions"),
            ],
        ),
        (
            CHAT,
            "mixed",
            [
                ("openai", "gpt-4o", f"{OPENAI}/chat/completions"),
                ("gemini", "gemini-2.5-flash", f"{GEMINI}/v1beta/openai/chat/completions"),
            ],
        ),
        # in the path
        (
            "/v1beta/models/flash:streamGenerateContent",
            None,
            [
                ("gemini", "gemini-2.5-flash", f"{GEMINI}/v1beta/models/gemini-2.5-flash:streamGenerateContent"),
                ("vertex", "gemini-2.5-flash", f"{VERTEX}/models/gemini-2.5-flash:streamGenerateContent"),
            ],
        ),
        (
            "/v1beta/models/flash:countTokens",
            None,
            [
                ("gemini", "gemini-2.5-flash", f"{GEMINI}/v1beta/models/gemini-2.5-flash:countTokens"),
                ("vertex", "gemini-2.5-flash", f"{VERTEX}/models/gemini-2.5-flash:countTokens"),
            ],
        ),
        # where the path has chosen the provider, the candidates that are there
        (
            "/bedrock/model/nova/converse-stream",
            None,
            [
                (
                    "bedrock",
                    "eu.amazon.nova-lite-v1:0",
                    f"{BEDROCK}/model/eu.amazon.nova-lite-v1%3A0/converse-stream",
                ),
                (
                    "bedrock",
                    "arn:aws:bedrock:eu-west-1:1:inference-profile/nova",
                    f"{BEDROCK}/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Fnova/converse-stream",
                ),
            ],
        ),
        (
            "/gemini/v1beta/models/flash:generateContent",
            None,
            [("gemini", "gemini-2.5-flash", f"{GEMINI}/v1beta/models/gemini-2.5-flash:generateContent")],
        ),
        (
            "/openai/deployments/fast/chat/completions",
            "whatever",
            [
                (
                    "azure",
                    "gpt-4o-mini",
                    "https://mine.openai.azure.com/openai/deployments/gpt-4o-mini/chat/completions",
                )
            ],
        ),
        # no candidate there, or the body names the model: the path has said it all (decision 4)
        ("/bedrock/model/fast/converse", None, [("bedrock", "fast", f"{BEDROCK}/model/fast/converse")]),
        ("/openai/v1/chat/completions", "fast", [("openai", "fast", f"{OPENAI}/chat/completions")]),
        ("/azure/openai/v1/chat/completions", "fast", [("azure", "fast", f"{AZURE}/chat/completions")]),
        # a prefix names a provider's model, and no route
        (CHAT, "openai/fast", [("openai", "fast", f"{OPENAI}/chat/completions")]),
        (CHAT, "FAST", [("openai", "FAST", f"{OPENAI}/chat/completions")]),
    ],
)
def test_a_name_leads_to_its_candidates(path: str, model: str | None, expected: list[tuple[str, str, str]]) -> None:
    query = b"api-version=2024-10-21" if "/deployments/" in path else b""
    assert planned(path, model, query=query) == expected


def test_the_body_of_a_route_is_changed_and_a_path_is_not_repeated_in_it() -> None:
    def renamed(path: str, model: str | None) -> list[bool]:
        return [route.renamed for route in plan(matched(path), Flags(model), USUAL, "", lists=True)]

    assert renamed(CHAT, "fast") == [True, True]
    assert renamed(CHAT, "gpt-4o") == [False]
    assert renamed("/v1beta/models/flash:generateContent", None) == [False, False]
    assert renamed("/bedrock/model/nova/converse", None) == [False, False]


@pytest.mark.parametrize(
    ("path", "model", "dialect"),
    [
        ("/v1/messages", "fast", "anthropic_messages"),
        ("/v1/responses", "local", "openai_responses"),  # vllm is for chat alone
        ("/v1/responses", "mixed", "openai_responses"),  # named for chat alone
        ("/v1beta/models/fast:generateContent", None, "gemini"),
    ],
)
def test_a_route_is_refused_in_dialects_that_not_all_of_its_candidates_serve(
    path: str, model: str | None, dialect: str
) -> None:
    with pytest.raises(Refused, match=f"not every candidate of route '.*' serves {dialect}") as refused:
        planned(path, model)
    assert refused.value.status == 404


def test_the_first_candidate_is_drawn_by_weight_and_the_others_follow_in_order() -> None:
    def drawn(name: str, draw: float) -> str:
        routes = plan(matched(CHAT), Flags(name), USUAL, "", lists=True, chance=lambda: draw)
        return " ".join(route.model for route in routes)

    assert [drawn("shared", draw) for draw in (0.0, 0.59, 0.61, 0.89, 0.91, 0.999)] == [
        *("a b c", "a b c", "b a c", "b a c", "c a b", "c a b")
    ]
    assert {drawn("spare", draw) for draw in (0.0, 0.5, 0.999)} == {"b a"}, "without a weight it is a fallback"
    assert {drawn("fast", draw) for draw in (0.0, 0.999)} == {"gpt-4o-mini gpt-4o-mini"}


def test_a_key_keeps_its_candidate_where_the_route_is_sticky() -> None:
    def drawn(caller: str) -> str:
        def no_chance() -> float:
            raise AssertionError("it is not drawn again")

        return plan(matched(CHAT), Flags("sticky"), USUAL, caller, lists=True, chance=no_chance)[0].model

    callers = [f"key {number}" for number in range(400)]
    once = {caller: drawn(caller) for caller in callers}
    assert once == {caller: drawn(caller) for caller in callers}
    assert 150 < Counter(once.values())["a"] < 250


def test_a_request_lists_models_of_its_own() -> None:
    assert planned(CHAT, "gpt-4o", "azure/gpt-4o", "anthropic/claude") == [
        ("openai", "gpt-4o", f"{OPENAI}/chat/completions"),
        ("azure", "gpt-4o", f"{AZURE}/chat/completions"),
        ("anthropic", "claude", "https://api.anthropic.com/v1/chat/completions"),
    ]
    # a route's name stands for its candidates, and each model is tried once
    assert [(provider, model) for provider, model, _ in planned(CHAT, "azure/gpt-4o-mini", "fast", "gpt-4o")] == [
        ("azure", "gpt-4o-mini"),
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-4o"),
    ]
    assert planned(CHAT, "gpt-4o", "gpt-5", lists=False) == [("openai", "gpt-4o", f"{OPENAI}/chat/completions")]
    assert planned("/openai/v1/chat/completions", "a", "b") == [("openai", "a", f"{OPENAI}/chat/completions")]


@pytest.mark.parametrize(
    ("model", "models", "status"),
    [
        ("gpt-4o", [f"m{number}" for number in range(9)], 400),
        ("gpt-4o", ["groq/llama"], 404),  # it is not configured
        (None, ["gpt-4o"], 400),  # names no model
    ],
)
def test_a_list_that_leads_nowhere_is_refused(model: str | None, models: list[str], status: int) -> None:
    with pytest.raises(Refused) as refused:
        planned(CHAT, model, *models)
    assert refused.value.status == status


def test_a_provider_that_takes_lists_gets_them_as_they_came() -> None:
    def passed(*models: str) -> list[tuple[str, bool]]:
        routes = plan(matched(CHAT), Flags(models[0], models=models[1:]), USUAL, "", lists=True)
        return [(route.model, route.unlisted) for route in passed_on(routes)]

    known = configured({"openrouter": KEYED})
    routes = plan(matched(CHAT, known), Flags("openai/a", models=("anthropic/b",)), known, "", lists=True)
    assert [(route.model, route.renamed, route.unlisted) for route in passed_on(routes)] == [("openai/a", False, False)]
    # nobody else takes a list, and a name with our prefix would be none of the provider's
    assert passed("gpt-4o", "gpt-5") == [("gpt-4o", True), ("gpt-5", True)]
    assert passed("openrouter/a/x", "openrouter/b/y") == [("a/x", True), ("b/y", True)]
    assert passed("openrouter/a/x", "gpt-4o") == [("a/x", True), ("gpt-4o", True)]


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (["openai/gpt-4o", "anthropic/claude"], "anthropic/claude speaks the dialects of anthropic, and openai/gpt-4o"),
        (["anthropic/claude", "openai/gpt-4o"], "anthropic/claude speaks the dialects of anthropic, and openai/gpt-4o"),
        (["openai/gpt-4o", "gemini/flash"], "gemini/flash speaks the dialects of gemini, and openai/gpt-4o does not"),
        (["openai/x", "bedrock/openai.gpt-oss-120b"], "speaks the dialects of bedrock, and openai/x does not"),
        (["vllm/llama", "tei/bge"], "there is no dialect that all candidates serve"),
        (
            {"candidates": ["openai/gpt-4o", "vllm/llama"], "dialects": "openai_responses"},
            "vllm/llama does not serve openai_responses",
        ),
        (
            {"candidates": ["openai/gpt-4o"], "dialects": "bedrock_converse"},
            "openai/gpt-4o does not serve bedrock_converse",
        ),
    ],
)
def test_candidates_of_different_dialects_are_refused(candidates: Any, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        configured(fast=candidates)
    assert message in str(refused.value)
    assert str(refused.value).startswith("AROUTER_ROUTES__FAST: ")
    assert str(refused.value).endswith("; nothing is translated")
