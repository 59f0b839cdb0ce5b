"""Error envelopes: the gateway's own errors, in the form that each family's SDK expects. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shared.contract.dialects import Family

_OPENAI_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "payment_required",
    403: "forbidden_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    426: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    499: "invalid_request_error",
}
_ANTHROPIC_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    426: "invalid_request_error",
    429: "rate_limit_error",
    499: "invalid_request_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_GOOGLE_STATUSES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "INVALID_ARGUMENT",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    426: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_AWS_TYPES: Mapping[int, str] = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    405: "ValidationException",
    408: "ModelTimeoutException",
    413: "ValidationException",
    415: "ValidationException",
    426: "ValidationException",
    429: "ThrottlingException",
    499: "ValidationException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}


_Metadata = Mapping[str, Any] | None


def _openai(status: int, message: str, code: str, metadata: _Metadata) -> dict[str, Any]:
    kind = _OPENAI_TYPES.get(status, "server_error")
    # A spent budget has the form of the public product: its code is the status.
    word: str | int | None = status if status == 402 else code or None
    return {"error": {"message": message, "type": kind, "param": None, "code": word, **_beside(metadata)}}


def _anthropic(status: int, message: str, _: str, metadata: _Metadata) -> dict[str, Any]:
    kind = _ANTHROPIC_TYPES.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message, **_beside(metadata)}}


def _google(status: int, message: str, _: str, metadata: _Metadata) -> dict[str, Any]:
    kind = _GOOGLE_STATUSES.get(status, "INTERNAL")
    return {"error": {"code": status, "message": message, "status": kind, **_beside(metadata)}}


def _aws(status: int, message: str, _: str, metadata: _Metadata) -> dict[str, Any]:
    return {"__type": _AWS_TYPES.get(status, "InternalServerException"), "message": message, **_beside(metadata)}


def _beside(metadata: _Metadata) -> dict[str, Any]:
    return {} if metadata is None else {"metadata": metadata}


_ENVELOPES: Mapping[Family, Callable[[int, str, str, _Metadata], dict[str, Any]]] = {
    Family.OPENAI: _openai,
    Family.ANTHROPIC: _anthropic,
    Family.GEMINI: _google,
    Family.BEDROCK: _aws,
}


def error_body(
    family: Family, status: int, message: str, code: str = "", metadata: Mapping[str, Any] | None = None
) -> bytes:
    """The JSON body of an error. `code`: a machine word; only OpenAI's envelope has a place for it. `metadata`: figures
    that explain it."""
    return msgspec.json.encode(_ENVELOPES[family](status, message, code, metadata))
