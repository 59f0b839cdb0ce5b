"""Who may use the control API, and its errors: in OpenAI's envelope, with the name of the wrong field."""

from __future__ import annotations

import logging
import re
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from services.control.plane import Plane
from shared.access.credentials import caller_key
from shared.access.envelopes import error_body
from shared.access.key_format import PREFIXES, Kind
from shared.access.keys import KeyRecord
from shared.books.exchanges import BadToken
from shared.books.periods import BadRange
from shared.books.summing import TooMuch
from shared.contract.dialects import Family
from shared.contract.errors import ARouterError
from shared.runtime.errors import Refused, SettingsError, SinkError, StoreError

log = logging.getLogger(__name__)

_NO_DATABASE = "the database does not answer, or not in time; ask for a shorter time, or try again"
_documented = HTTPBearer(auto_error=False, description="Your key; other headers (x-api-key, …) work too.")


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """Every error of this API."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The request is wrong; the message names the field."},
    401: {"model": ErrorAnswer, "description": "The key is missing, or is not one of ours."},
    403: {"model": ErrorAnswer, "description": "The key is disabled or expired, or may not do this."},
    404: {"model": ErrorAnswer, "description": "It does not exist, or is not yours."},
    413: {"model": ErrorAnswer, "description": "The body is too large."},
    503: {"model": ErrorAnswer, "description": "Redis or the database is away."},
}


async def caller(request: Request, plane: Plane, _: Annotated[object, Depends(_documented)]) -> KeyRecord:
    """The key of the request."""
    scope = request.scope
    return await plane.keyring.authenticate(caller_key(dict(scope["headers"]), scope["query_string"]))


Caller = Annotated[KeyRecord, Depends(caller)]


async def manager(key: Caller) -> KeyRecord:
    """The same key, where it may manage. Refused with 403 otherwise."""
    if key.kind is not Kind.MANAGEMENT:
        raise Refused(403, "this needs a management key")
    return key


Manager = Annotated[KeyRecord, Depends(manager)]


def handle_errors(app: FastAPI) -> None:
    """Translate what control routes raise, once."""

    @app.exception_handler(Refused)
    async def refused(_: Request, exc: Refused) -> Response:
        headers = {name.decode(): value.decode() for name, value in exc.headers}
        return _error(exc.status, exc.message, headers, exc.code)

    @app.exception_handler(BadRange)
    @app.exception_handler(BadToken)
    @app.exception_handler(TooMuch)
    async def wrong(_: Request, exc: ARouterError) -> Response:
        return _error(400, str(exc))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, exc: RequestValidationError) -> Response:
        return _error(400, "; ".join(_describe(error) for error in exc.errors()[:5]))

    @app.exception_handler(HTTPException)
    async def other(request: Request, exc: HTTPException) -> Response:
        headers = exc.headers
        if exc.status_code == 405:  # Starlette names the methods of the first route alone
            headers = {"allow": ", ".join(sorted(_methods(app, request.url.path)))}
        return _error(exc.status_code, str(exc.detail).lower(), headers)

    @app.exception_handler(StoreError)
    async def away(_: Request, exc: StoreError) -> Response:
        return _error(503, "Redis is away; try again", {"retry-after": "1"})

    @app.exception_handler(SinkError)
    async def no_database(_: Request, exc: SinkError) -> Response:
        log.error("the database does not answer a question: %s", exc)
        return _error(503, _NO_DATABASE, {"retry-after": "1"})

    @app.exception_handler(SettingsError)
    async def misconfigured(_: Request, exc: SettingsError) -> Response:
        log.error("%s", exc)
        return _error(503, "the settings of this process are wrong; its log says which")


def known_parameters(request: Request) -> None:
    """Refused with 400 for a parameter that the route does not have, or that comes twice: a misspelt filter would be no
    filter, and of two one."""
    route = request.scope["route"].path
    operation = request.app.openapi()["paths"][route][request.method.lower()]
    known = {parameter["name"] for parameter in operation.get("parameters", ())}
    for name, value in request.query_params.items():
        if name not in known and not (name == "key" and value.startswith(PREFIXES)):  # the caller's key
            raise Refused(400, f"{name[:60]}: there is no such parameter")
        if len(request.query_params.getlist(name)) > 1:
            raise Refused(400, f"{name[:60]}: is there twice")


def _methods(app: FastAPI, path: str) -> set[str]:
    """The methods of a path, by the OpenAPI document."""
    return {
        method.upper()
        for template, operations in app.openapi()["paths"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        for method in operations
    }


def _describe(error: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path"))
    return f"{field or 'body'}: {error['msg']}"


def _error(status: int, message: str, headers: Any = None, code: str = "") -> Response:
    return Response(error_body(Family.OPENAI, status, message, code), status, headers, media_type="application/json")
