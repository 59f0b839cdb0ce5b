"""The control API put together: its routes, its errors, and the document that describes them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.control import (
    access,
    exchanges,
    generation,
    keys,
    limits,
    probe_stream,
    providers,
    streams,
    teams,
    usage,
)
from services.control.plane import ControlPlane
from shared.contract import paths

OPENAPI = f"{paths.CONTROL}openapi.json"
DOCS = f"{paths.CONTROL}docs"

_ABOUT = """
Keys, teams, usage and single exchanges of this gateway. Keys that begin with `lr_mgmt_` manage (they are made with
`arouter keys create --management`), keys that begin with `lr_live_` call models and read their own usage;
neither can do the other's work. Every error looks like OpenAI's and names the wrong field.
"""


def include(app: FastAPI, plane: ControlPlane) -> None:
    """Add everything to an application."""
    app.state.control = plane
    access.handle_errors(app)
    for module in (keys, teams, limits, usage, exchanges, generation, streams, providers, probe_stream):
        app.include_router(module.router)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    app.openapi()  # now: it takes a tenth of a second


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title="arouter", version="1", description=_ABOUT, routes=app.routes)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # FastAPI's own; here it is 400
        for unused in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
