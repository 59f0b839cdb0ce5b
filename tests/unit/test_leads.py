"""Where the headers of an answer lead a client: back to the gateway, or nowhere."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from services.gateway.client.leads import elsewhere, turned
from services.gateway.routing.configured import upstreams
from services.gateway.routing.inward import inward
from services.gateway.settings import GatewaySettings
from shared.contract.tail import Outcome
from tests.support.playbook import Answer, Stage

UPSTREAMS = upstreams(
    GatewaySettings.model_validate(
        {
            "providers": {
                "openai": {"api_key": "x"},
                "groq": {"api_key": "x"},
                "anthropic": {"api_key": "x"},
                "gemini": {"api_key": "x"},
                "azure": {"api_key": "x", "base_url": "https://mine.openai.azure.com"},
                "raw": {"base_url": "http://127.0.0.1:21525/v1"},
                "bare": {"base_url": "https://bare.test"},
            }
        }
    )
)


def path(provider: str, url: str) -> str | None:
    upstream = UPSTREAMS.get(provider)
    assert upstream is not None
    return inward(url, upstream, UPSTREAMS)


@pytest.mark.parametrize(
    ("provider", "url", "expected"),
    [
        ("raw", "http://127.0.0.1:21525/v1/landed", "/raw/v1/landed"),
        ("raw", "http://127.0.0.1:21525/v1/landed?a=1&b=%2F#c", "/raw/v1/landed?a=1&b=%2F#c"),
        ("raw", "http://127.0.0.1:21525/v1/%7Eme/a%2Fb", "/raw/v1/%7Eme/a%2Fb"),
        ("raw", "http://127.0.0.1:21526/v1/landed", None),
        ("raw", "https://127.0.0.1:21525/v1/landed", None),
        ("raw", "http://127.0.0.1:21525/admin", None),  # our /raw/admin leads to /v1/admin
        ("raw", "http://127.0.0.1:21525//v1/landed", None),
        ("raw", "http://127.0.0.1:21525/v1/../admin", None),
        ("raw", "http://127.0.0.1:99999/v1/landed", None),
        ("raw", "http://[/v1/landed", None),
        ("raw", "landed", None),
        ("openai", "https://API.openai.com:443/v1/files/f/content", "/openai/v1/files/f/content"),
        ("openai", "https://user:pass@api.openai.com/v1/files", "/openai/v1/files"),
        ("openai", "https://api.openai.com.evil.org/v1/files", None),
        ("openai", "https://api.openai.com@evil.org/v1/files", None),
        ("groq", "https://api.groq.com/openai/v1/files", "/groq/openai/v1/files"),
        ("groq", "https://api.groq.com/v1/files", None),
        ("anthropic", "https://api.anthropic.com/v1/files", "/anthropic/v1/files"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/files/x", "/gemini/v1beta/files/x"),
        ("bare", "https://bare.test/v1/x/", "/bare/v1/x/"),
        ("bare", "https://bare.test/", "/bare/"),
    ],
)
def test_the_path_that_leads_to_a_url(provider: str, url: str, expected: str | None) -> None:
    assert path(provider, url) == expected


ASKED = "http://127.0.0.1:21525/v1/files/f"


@pytest.mark.parametrize("here", ["/raw/v1/files/f", "/v1/files/f", "/", "/raw/v1/files/f/"])
@pytest.mark.parametrize("prefix", ["", "/llm", "/a/b"])
@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://127.0.0.1:21525/v1/landed?a=b/c", "/raw/v1/landed?a=b/c"),
        ("//127.0.0.1:21525/v1/landed", "/raw/v1/landed"),
        ("/v1/landed", "/raw/v1/landed"),
        ("landed", "/raw/v1/files/landed"),
        ("?page=2", "/raw/v1/files/f?page=2"),
        ("../models/x:generate#y", "/raw/v1/models/x:generate#y"),
        ("/v1/files/x:y", "/raw/v1/files/x:y"),
        ("/v1/files/", "/raw/v1/files/"),
        ("/v1/", "/raw/v1/"),
        ("/v1/files/f", "/raw/v1/files/f"),
    ],
)
def test_a_client_that_follows_comes_back_whatever_is_before_the_path(
    location: str, expected: str, here: str, prefix: str
) -> None:
    given = [(b"location", location.encode()), (b"x-a", b"http://127.0.0.1:21525/v1/a")]
    [(name, value), other] = turned(given, ASKED, here, lambda url: path("raw", url))
    assert (name, other) == (b"location", given[1])
    assert urljoin(f"https://gateway.test{prefix}{here}", value.decode()) == f"https://gateway.test{prefix}{expected}"


def test_a_path_with_an_empty_segment_is_not_climbed() -> None:
    [(_, value)] = turned([(b"location", b"/v1/landed")], ASKED, "/raw//v1/files/f", lambda url: path("raw", url))
    assert value == b"/raw/v1/landed"


OUTWARDS = [
    "https://evil.test/v1/x",
    "//evil.test/v1/x",
    "http://127.0.0.1:21525@evil.test/",
    "ftp://127.0.0.1:21525/v1/x",
    "javascript:alert(1)",
    "/admin",
    "http://[::1",
    "\\\\evil.test\\x",
    "v1\\..\\x",
]


@pytest.mark.parametrize("location", OUTWARDS)
def test_what_leads_elsewhere_is_left_out_and_a_redirect_there_is_known(location: str) -> None:
    value = location.encode()
    given = [(name, value) for name in (b"location", b"content-location", b"operation-location")]
    assert turned([*given, (b"x-a", b"b")], ASKED, "/raw/v1/f", lambda url: path("raw", url)) == [(b"x-a", b"b")]
    for status in (301, 302, 303, 307, 308):
        assert elsewhere(status, location, ASKED, lambda url: path("raw", url)) is not None
    for status in (200, 201, 202, 304):
        assert elsewhere(status, location, ASKED, lambda url: path("raw", url)) is None


def test_a_redirect_inwards_or_without_a_place_is_none_of_that() -> None:
    for location in (None, "/v1/landed", "http://127.0.0.1:21525/v1/landed"):
        assert elsewhere(307, location, ASKED, lambda url: path("raw", url)) is None


def test_links_are_turned_one_by_one() -> None:
    link = b'<http://127.0.0.1:21525/v1/f?p=2>; rel="next", <https://docs.test/x>; rel="help", </v1/f>; rel=first'
    [(_, value)] = turned([(b"link", link)], ASKED, "/raw/v1/f", lambda url: path("raw", url))
    assert value == b'<f?p=2>; rel="next", <https://docs.test/x>; rel="help", <f>; rel=first'


async def test_an_exchange_turns_a_redirect_and_refuses_one_that_leads_away() -> None:
    stage = Stage()
    stage.given = redirect(b"https://provider/v1/other")
    assert await stage.play("answer end") is Outcome.COMPLETED
    assert stage.client.headers[b"location"] == b"../openai/v1/other"
    stage = Stage()
    stage.given = redirect(b"https://evil.test/v1/other")
    assert await stage.play("answer") is Outcome.UPSTREAM_FAILED
    assert (stage.client.seen, stage.given.closed) == (["whole 502"], True)
    assert b"location" not in stage.client.headers
    [end] = stage.tap.ends
    assert (end.cause, [attempt.status for attempt in end.attempts]) == ("redirect", [307])


def redirect(location: bytes) -> Answer:
    answer = Answer()
    answer.status = 307
    answer.headers.append((b"Location", location))
    return answer
