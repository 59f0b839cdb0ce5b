"""A system that is controlled over HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support import web
from tests.support.requests import ASKS
from tests.support.system import System


class Controlled(System):
    """A system with a management key, and a second gateway."""

    manager: httpx.Client
    second: str


def made(system: Controlled, **given: Any) -> tuple[str, dict[str, Any]]:
    """A new key and what is said of it."""
    answer = system.manager.post("/api/v1/keys", json={"name": "made", **given})
    assert answer.status_code == 201, answer.text
    return answer.json()["key"], answer.json()["data"]


def ask(url: str, key: str, name: str = "chat", directives: str = "", **changes: Any) -> httpx.Response:
    asked = ASKS[name]
    return web.post(url + asked.path, headers=asked.headers(key, directives), json=asked.body | changes)
