"""Refusals: the gateway's own errors, in the caller's dialect."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway.client import headers
from services.gateway.client.headers import Header
from services.gateway.client.request import ClientRequest
from shared.access.envelopes import error_body
from shared.contract.dialects import Family
from shared.runtime.errors import Refused


def refuse(
    client: ClientRequest,
    family: Family,
    refused: Refused,
    generation_id: str | None = None,
    *,
    unread: bool = False,
    extra: Sequence[Header] = (),
) -> None:
    """Answer with an error. `unread`: the request's body was not read, so the connection closes."""
    body = error_body(family, refused.status, refused.message, refused.code, refused.metadata)
    given: list[Header] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *refused.headers,
        *extra,
    ]
    if unread:
        given.append((b"connection", b"close"))
    if generation_id is not None:
        given.append((headers.GENERATION_ID, generation_id.encode()))
    client.respond(refused.status, given, body)
