"""Bodies of control requests, in memory and without a Redis: nobody sends one without a key."""

from __future__ import annotations

import pytest

from services.control.app import ControlApp
from services.gateway.client import asgi
from shared.runtime.settings import Settings
from tests.support.memory_client import CHUNKED, MemoryClient, post, statuses

TARGET = b"/api/v1/keys"
LENGTH = b"content-length: 250000"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([LENGTH], 401),
        ([CHUNKED], 401),
        ([LENGTH, b"authorization: Bearer nobody"], 401),
        ([LENGTH, b"expect: 100-continue"], 401),
        ([b"content-length: 9999999"], 401),
    ],
)
async def test_a_body_without_a_key_is_not_waited_for(lines: list[bytes], status: int) -> None:
    control = ControlApp(Settings(), "redis://127.0.0.1:9", frozenset())
    client = MemoryClient(lambda request: asgi.run(control, request))
    await client.send(post(b"", *lines, target=TARGET))
    assert statuses(client.answers) == (status,)
    assert client.transport.ended
    await client.send(b"x")
    assert statuses(client.answers) == (status,)
    await control.close()
