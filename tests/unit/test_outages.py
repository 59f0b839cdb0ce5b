"""Outages of the demo provider: what is ordered, whom it befalls, and when it is over."""

from __future__ import annotations

import json

import pytest

from services.demo import outages
from services.demo.outages import Outages
from services.demo.routes import answer, understand
from tests.support.clock import Clock

SIGNED = {
    "authorization": "AWS4-HMAC-SHA256 Credential=AKIATESTS/20260101/eu-west-1/bedrock/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}",
    "x-amz-date": "20260101T000000Z",
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def running(clock: Clock) -> Outages:
    return Outages(clock.time)


def test_an_outage_lasts_as_long_as_it_is_to(running: Outages, clock: Clock) -> None:
    running.begin(outages.parse("status=529, retry-after=2, seconds=60"))
    clock.now += 59
    assert running.directives("any") == "status=529,retry-after=2"
    clock.now += 1
    assert running.directives("any") == ""
    running.begin(outages.parse("down"))
    clock.now += 1e9
    assert running.door == "down"
    running.end()
    assert running.running() == []


def test_of_two_outages_that_of_the_credential_befalls_a_request(running: Outages) -> None:
    running.begin(outages.parse("status=503"))
    running.begin(outages.parse("status=401, credential=spare"))
    running.begin(outages.parse("status=403, credential=are"))
    assert running.directives("spare") == "status=401"
    assert running.directives("share") == "status=403"
    assert running.directives("main") == "status=503"
    running.begin(outages.parse("hang"))
    assert running.directives("main") == "hang"


@pytest.mark.parametrize("order", ["", "seconds=5", "credential=x", "sttus=503", "down, credential=x", "tls, status=5"])
def test_an_order_that_makes_no_sense_is_refused(order: str) -> None:
    with pytest.raises(ValueError, match=r"says what|unknown|stands alone"):
        outages.parse(order)


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"authorization": "Bearer sk-openai-spare"}, "spare"),
        ({"x-api-key": "sk-spare"}, "spare"),
        ({"x-goog-api-key": "abc"}, "abc"),
        (SIGNED, "AKIATESTS/eu-west-1"),
        ({}, ""),
    ],
)
def test_a_credential_is_known_by_its_end(headers: dict[str, str], shown: str) -> None:
    assert understand("POST", "/v1/responses", headers, b"{}").credential == shown


@pytest.mark.parametrize(
    ("target", "headers", "kind"),
    [
        ("/v1/chat/completions", {}, {"error": {"type": "invalid_request_error"}}),
        ("/v1/messages", {}, {"type": "error", "error": {"type": "authentication_error"}}),
        ("/v1beta/models/g:generateContent", {}, {"error": {"code": 401}}),
        (
            "/v1/projects/demo/locations/global/publishers/google/models/g:generateContent",
            {"authorization": "Bearer t"},
            {"error": {"code": 401}},
        ),
        ("/model/nova/converse", SIGNED, {"__type": "UnrecognizedClientException"}),
        ("/demo-tokens=3/v1/chat/completions", {}, {"error": {"code": "demo_401"}}),
    ],
)
def test_it_befalls_every_dialect_in_its_form(target: str, headers: dict[str, str], kind: dict[str, object]) -> None:
    request = understand("POST", target, headers, b"{}", lambda credential: "status=401")
    script = answer(request, target, headers)
    assert script.status == 401
    found = json.loads(script.pieces[0].data)
    for name, value in kind.items():
        assert value.items() <= found[name].items() if isinstance(value, dict) else found[name] == value
