"""Handshakes: what they are, where the key stands in them, where they lead, and what goes upstream."""

from __future__ import annotations

from functools import partial

import pytest
from pydantic import SecretStr

from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.configured import upstreams
from services.gateway.routing.readings import understood
from services.gateway.routing.routes import choose, match
from services.gateway.routing.sockets import Socket, socket_of
from services.gateway.settings import GatewaySettings
from services.gateway.websocket import handshake
from shared.contract.dialects import Dialect, Family
from shared.runtime.errors import Refused

CONFIGURED = upstreams(
    GatewaySettings(
        providers={
            "openai": ProviderSettings(api_key=SecretStr("k")),
            "gemini": ProviderSettings(api_key=SecretStr("k")),
            "xai": ProviderSettings(api_key=SecretStr("k")),
            "azure": ProviderSettings(base_url="https://a.example", api_key=SecretStr("k")),
            "vertex": ProviderSettings(project="p", location="global"),
        }
    )
)
LIVE = "ws/google.ai.generativelanguage.{}.GenerativeService.BidiGenerateContent"


def found(target: str) -> Socket | None:
    path, _, query = target.partition("?")
    dated = "api-version=" in query
    read = partial(match, family=Family.OPENAI, upstreams=CONFIGURED, dated=dated)
    return socket_of(path, lambda path: understood("POST", path, read), CONFIGURED)


SERVED = [
    ("/v1/realtime", Dialect.OPENAI_REALTIME, "https://api.openai.com/v1/realtime"),
    ("/realtime", Dialect.OPENAI_REALTIME, "https://api.openai.com/v1/realtime"),
    ("/openai/v1/realtime", Dialect.OPENAI_REALTIME, "https://api.openai.com/v1/realtime"),
    ("/xai/v1/realtime", Dialect.OPENAI_REALTIME, "https://api.x.ai/v1/realtime"),
    ("/azure/openai/v1/realtime", Dialect.OPENAI_REALTIME, "https://a.example/openai/v1/realtime"),
    ("/openai/realtime?api-version=2026-01-01", Dialect.OPENAI_REALTIME, "https://a.example/openai/realtime"),
    ("/v1/responses", Dialect.OPENAI_RESPONSES_SOCKET, "https://api.openai.com/v1/responses"),
    ("/api/v1/responses", Dialect.OPENAI_RESPONSES_SOCKET, "https://api.openai.com/v1/responses"),
    ("/xai/v1/responses", Dialect.OPENAI_RESPONSES_SOCKET, "https://api.x.ai/v1/responses"),
    (
        "/" + LIVE.format("v1beta"),
        Dialect.GEMINI_LIVE,
        "https://generativelanguage.googleapis.com/" + LIVE.format("v1beta"),
    ),
    (
        "//" + LIVE.format("v1alpha"),
        Dialect.GEMINI_LIVE,
        "https://generativelanguage.googleapis.com/" + LIVE.format("v1alpha"),
    ),
    (
        "/gemini/" + LIVE.format("v1"),
        Dialect.GEMINI_LIVE,
        "https://generativelanguage.googleapis.com/" + LIVE.format("v1"),
    ),
]
NOT_SERVED = [
    "/v1/chat/completions",
    "/v1/realtime/calls",
    "/v1/Realtime",
    "/v1/realtime;x",
    "/v1/responses/resp_1",
    "/v1/messages",
    "/nobody/v1/realtime",
    "/vertex/" + LIVE.format("v1"),
    "/openai/" + LIVE.format("v1"),
    "/" + LIVE.format("v1") + "Constrained",
    "/",
]


@pytest.mark.parametrize(("target", "dialect", "url"), SERVED)
def test_where_a_handshake_leads(target: str, dialect: Dialect, url: str) -> None:
    socket = found(target)
    assert socket is not None
    assert socket.match.dialect is dialect
    assert choose(socket.match, None, CONFIGURED).url == url


@pytest.mark.parametrize("target", NOT_SERVED)
def test_other_paths_are_not_served(target: str) -> None:
    assert found(target) is None


def test_a_handshake_is_a_get_that_asks_for_it() -> None:
    usual = [(b"connection", b"keep-alive, Upgrade"), (b"upgrade", b"WebSocket")]
    assert handshake.is_handshake("GET", "1.1", usual)
    assert handshake.is_handshake("GET", "1.1", [*usual, (b"connection", b"close")])
    assert not handshake.is_handshake("POST", "1.1", usual)
    assert not handshake.is_handshake("GET", "1.0", usual)
    assert not handshake.is_handshake("GET", "1.1", [usual[0], (b"upgrade", b"h2c")])
    assert not handshake.is_handshake("GET", "1.1", [(b"connection", b"keep-alive"), usual[1]])
    assert not handshake.is_handshake("GET", "1.1", usual[1:])
    assert handshake.not_served().status == 426


@pytest.mark.parametrize(
    ("given", "query", "shown"),
    [
        ({b"authorization": b"Bearer a"}, b"api-key=b", b"Bearer a"),
        ({b"sec-websocket-protocol": b"realtime, openai-insecure-api-key.lr_live_x"}, b"", b"Bearer lr_live_x"),
        ({b"sec-websocket-protocol": b"realtime"}, b"model=m&api-key=lr%5Flive", b"Bearer lr_live"),
        ({b"api-key": b"a"}, b"api-key=b", None),
        ({}, b"key=a", None),  # every request may have it there
    ],
)
def test_where_the_key_stands(given: dict[bytes, bytes], query: bytes, shown: bytes | None) -> None:
    assert handshake.with_key(given, query).get(b"authorization") == shown


def test_neither_keys_nor_accounts_nor_extensions_go_upstream() -> None:
    given = [
        (b"sec-websocket-key", b"abc"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
        (b"sec-websocket-protocol", b"realtime, openai-insecure-api-key.lr_live_x,openai-project.p"),
        (b"sec-websocket-protocol", b"openai-beta.realtime-v1"),
    ]
    kept = [(b"sec-websocket-key", b"abc"), (b"sec-websocket-protocol", b"realtime, openai-beta.realtime-v1")]
    assert handshake.cleaned(given, frozenset()) == kept
    allowed = handshake.cleaned(given, frozenset({b"openai-project"}))
    assert allowed[-1] == (b"sec-websocket-protocol", b"realtime, openai-project.p, openai-beta.realtime-v1")
    assert handshake.cleaned([(b"sec-websocket-protocol", b"openai-insecure-api-key.x")], frozenset()) == []
    assert handshake.cleaned([(b"sec-websocket-protocol", b"OpenAI-Insecure-API-Key.x")], frozenset()) == []


@pytest.mark.parametrize(
    ("query", "model"),
    [
        (b"model=gpt-realtime", "gpt-realtime"),
        (b"a=1&mod%65l=openai%2Fgpt", "openai/gpt"),
        (b"model=", None),
        (b"intent=transcription", None),
        (b"", None),
    ],
)
def test_the_model_of_a_query(query: bytes, model: str | None) -> None:
    assert handshake.model_of(query, (b"model",)) == model


@pytest.mark.parametrize("query", [b"model=a&model=b", b"model=a&MODEL=b", b"a=1;model=b", b"model=a;model=b"])
def test_a_query_that_may_name_two_models_is_refused(query: bytes) -> None:
    with pytest.raises(Refused) as refused:
        handshake.model_of(query, (b"model",))
    assert refused.value.status == 400


def test_a_prefix_is_taken_off_and_nothing_else_changes() -> None:
    query = b"a=%20&model=openai%2Fgpt-realtime&b"
    assert handshake.with_model(query, (b"model",), "gpt-realtime") == b"a=%20&model=gpt-realtime&b"
