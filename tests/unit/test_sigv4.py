"""Signatures against the vectors that AWS publishes ("Signature Version 4 test suite"), and against botocore."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from services.gateway.routing.sigv4 import Keys, Signer

EXAMPLE = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW = datetime(2015, 8, 30, 12, 36, 0, tzinfo=UTC)
SUITE = Signer("us-east-1", "service")


class Vector(NamedTuple):
    """A request of the suite, and its signature."""

    name: str
    method: str
    query: bytes
    signature: str
    path: str = "/"


VECTORS = [
    Vector("get-vanilla", "GET", b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    Vector("post-vanilla", "POST", b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    Vector(
        "get-vanilla-query-order-key-case",
        "GET",
        b"Param2=value2&Param1=value1",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
]


def signature(headers: list[tuple[bytes, bytes]]) -> str:
    return dict(headers)[b"authorization"].decode().rpartition("Signature=")[2]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector.name for vector in VECTORS])
def test_aws_own_vectors(vector: Vector) -> None:
    url = f"https://example.amazonaws.com{vector.path}"
    assert signature(SUITE.headers(EXAMPLE, NOW, vector.method, url, vector.query, [], b"")) == vector.signature


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body"),
    [
        ("POST", "/model/anthropic.claude-3%3A0/converse", b"", [], b'{"messages":[]}'),
        ("POST", "/model/anthropic.claude-3:0/invoke", b"", [], b"\xff\x00"),
        ("POST", "/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Ax%2Fy/converse-stream", b"", [], b"{}"),
        ("GET", "/async-invoke", b"maxResults=3&nextToken=a%2Bb%3D&statusEquals=In%20Progress", [], b""),
        ("GET", "/async-invoke", b"b=2&a=1&a=0&c", [], b""),
        ("GET", "/~a/b%20c/", b"", [(b"x-amz-meta", b"  two   words "), (b"x-other", b"unsigned")], b""),
    ],
)
@pytest.mark.parametrize("token", [None, "session-token"])
def test_botocore_signs_alike(
    method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes, token: str | None
) -> None:
    url = f"https://bedrock-runtime.eu-west-1.amazonaws.com{path}"
    keys = Keys("AKIA", "secret", token)
    now = datetime.now(UTC)
    ours = Signer("eu-west-1", "bedrock").headers(keys, now, method, url, query, headers, body)
    amz = {name.decode(): value.decode() for name, value in headers if name.startswith(b"x-amz-")}
    whole = url + (f"?{query.decode()}" if query else "")
    request: Any = AWSRequest(method, whole, headers=amz, data=body)
    request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
    theirs: Any = SigV4Auth(Credentials("AKIA", "secret", token), "bedrock", "eu-west-1")
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = theirs.canonical_request(request)
    text = theirs.string_to_sign(request, canonical)
    assert signature(ours) == theirs.signature(text, request)
    assert hashlib.sha256(body).hexdigest() in canonical


def test_what_is_signed_is_named_and_the_port_counts() -> None:
    given = [(b"x-amz-meta", b"1"), (b"content-type", b"application/json")]
    sent = dict(SUITE.headers(Keys("A", "s", "t"), NOW, "POST", "http://HOST:8080/x", b"", given, b""))
    assert b"SignedHeaders=host;x-amz-date;x-amz-meta;x-amz-security-token, " in sent[b"authorization"]
    assert sent[b"x-amz-date"] == b"20150830T123600Z"
    places = ["http://host:8080/x", "http://host/x", "http://host:80/x", "https://host:443/x"]
    signed = [signature(SUITE.headers(EXAMPLE, NOW, "GET", url, b"", [], b"")) for url in places]
    assert signed[1] == signed[2] == signed[3] != signed[0]


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(Keys("A", "hidden", "hidden"))
