"""Who may use the control API, and how its errors look: always OpenAI's envelope, with the field that is wrong."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from services.gateway.credentials import caller_key
from services.gateway.envelopes import error_body
from services.gateway.keyring import KeyRing
from shared.dialects import Family
from shared.errors import Refused, StoreError
from shared.keys import KeyRecord


async def caller(request: Request) -> KeyRecord:
    """The key of the request."""
    keyring: KeyRing = request.app.state.keyring
    scope = request.scope
    return await keyring.authenticate(caller_key(dict(scope["headers"]), scope["query_string"]))


Caller = Annotated[KeyRecord, Depends(caller)]


def handle_errors(app: FastAPI) -> None:
    """Translate what control routes raise, once."""

    @app.exception_handler(Refused)
    async def refused(_: Request, exc: Refused) -> Response:
        return _error(exc.status, exc.message)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, exc: RequestValidationError) -> Response:
        return _error(400, "; ".join(_describe(error) for error in exc.errors()[:5]))

    @app.exception_handler(StoreError)
    async def away(_: Request, exc: StoreError) -> Response:
        return _error(503, "Redis is away; try again")


def _describe(error: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path"))
    return f"{field or 'body'}: {error['msg']}"


def _error(status: int, message: str) -> Response:
    return Response(error_body(Family.OPENAI, status, message), status, media_type="application/json")
