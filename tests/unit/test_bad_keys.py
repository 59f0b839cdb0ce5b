"""What refusals of providers say about a key."""

from __future__ import annotations

import pytest

from services.gateway.bad_keys import BEGINNING, BadKey
from shared.contract.providers import PROVIDERS


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("gemini", b'{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"},{"locale":"en"}]}}', True),
        ("gemini", b'[{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}]', True),
        ("gemini", b'{"error":{"code":400,"details":[{"reason":["API_KEY_INVALID"]}]}}', True),
        ("gemini", b'{"error":{"code":400,"message":"API_KEY_INVALID","status":"INVALID_ARGUMENT"}}', False),
        ("gemini", b'{"error":{"details":{"fieldViolations":[{"reason":"API_KEY_INVALID"}]}}}', False),
        ("gemini", b'{"error":{"details":[{"reason":"API_KEY_INVALID"', False),
        ("gemini", b"", False),
        ("gemini", b"[" * BEGINNING, False),
        ("xai", b'{"code":"an invalid argument","error":"Incorrect API key provided: na***ys."}', True),
        ("xai", b'{"error":{"message":"Incorrect API key provided: na***ys."}}', True),
        ("xai", b'{"code":"x","error":"The model does not know \\"Incorrect API key provided\\""}', False),
        ("xai", b'{"error":7}', False),
        ("xai", b"null", False),
    ],
)
def test_how_providers_say_that_they_do_not_know_a_key(name: str, body: bytes, expected: bool) -> None:
    assert BadKey(PROVIDERS[name].bad_key, {}).told(400, body) is expected


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("openai", b'{"error":{"message":"Incorrect API key provided: sk-x.","code":"invalid_api_key"}}', True),
        ("openai", b'{"error":{"message":"You have insufficient permissions for this operation. Missing s"}}', False),
        ("openai", b'{"error":"You have insufficient permissions for this operation. Missing scopes: x"}', False),
        ("openai", b"", True),
        ("azure", b'{"error":{"code":"PermissionDenied","message":"The principal lacks the action"}}', False),
        ("azure", b'{"error":{"code":"401","message":"Access denied due to invalid subscription key."}}', True),
    ],
)
def test_how_providers_say_that_a_good_key_may_not_do_something(name: str, body: bytes, expected: bool) -> None:
    assert BadKey({}, PROVIDERS[name].forbids).told(401, body) is expected
