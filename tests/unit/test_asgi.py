"""An ASGI application behind the protocol, in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.gateway.client import asgi
from services.gateway.client.asgi import Application, Message, Receive, Send
from tests.support.memory_client import CHUNKED, GET, MemoryClient, post, settled, sized, statuses


def client_of(app: Application) -> MemoryClient:
    return MemoryClient(lambda request: asgi.run(app, request))


class App:
    """An application that reads the body and sends the given messages."""

    def __init__(self, *messages: Message) -> None:
        self._messages = messages
        self.scope: dict[str, Any] = {}
        self.received: list[Message] = []

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scope = scope
        while not self.received or self.received[-1].get("more_body"):
            self.received.append(await receive())
        for message in self._messages:
            await send(message)


START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"X-Case", b"1"), (b"Transfer-Encoding", b"chunked")],
}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_what_an_application_is_told() -> None:
    app = App(START, body(b"fine"))
    client = client_of(app)
    await client.send(sized(b"hello", b"X-Mine: 1").replace(b"/x", b"/a%20b?c=%2F"))
    scope = app.scope
    assert (scope["type"], scope["method"], scope["http_version"], scope["scheme"]) == ("http", "POST", "1.1", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=%2F")
    assert (scope["client"], scope["server"]) == (("192.0.2.7", 1234), ("192.0.2.1", 80))
    assert (b"x-mine", b"1") in scope["headers"]
    assert app.received == [{"type": "http.request", "body": b"hello", "more_body": False}]
    assert client.answers.count(b"chunked") == 1
    assert b"\r\nx-case: 1\r\n" in client.answers


async def test_a_body_in_parts() -> None:
    app = App(START, body(b"fine"))
    client = client_of(app)
    await client.send(post(b"", CHUNKED), b"2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n")
    assert [message["body"] for message in app.received] == [b"he", b"llo", b""]
    assert statuses(client.answers) == (200,)


async def test_chunks_go_out_at_once() -> None:
    go_on = asyncio.Event()

    async def app(_scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(body(b"one", more=True))
        await go_on.wait()
        await send(body(b"two"))

    client = client_of(app)
    await client.send(GET)
    assert client.answers.endswith(b"3\r\none\r\n")
    go_on.set()
    await settled()
    assert client.answers.endswith(b"3\r\ntwo\r\n0\r\n\r\n")
    assert not client.closed()


async def test_a_client_that_reads_slowly_is_waited_for() -> None:
    client = client_of(App(START, body(b"one", more=True), body(b"two")))
    client.protocol.pause_writing()
    await client.send(GET)
    assert client.answers.endswith(b"\r\n\r\n")
    client.protocol.resume_writing()
    await settled()
    assert client.answers.endswith(b"two\r\n0\r\n\r\n")


@pytest.mark.parametrize("sent", [GET, post(b"he", b"content-length: 5")])
async def test_a_client_that_leaves_is_a_message(sent: bytes) -> None:
    received: list[Message] = []

    async def app(_scope: Any, receive: Receive, send: Send) -> None:
        while not received or received[-1]["type"] != "http.disconnect":
            received.append(await receive())
        await send(START)
        await send(body(b"nobody hears it"))

    client = client_of(app)
    await client.send(sent)
    client.leave()
    await settled()
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]
    assert client.answers == b""
    assert not client.server.tasks


async def test_so_is_the_end_of_the_answer() -> None:
    last: list[Message] = []

    async def app(_scope: Any, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b""))
        last.append(await receive())

    client = client_of(app)
    await client.send(GET)
    assert last == [{"type": "http.disconnect"}]


@pytest.mark.parametrize(("messages", "status"), [((), 500), ((START,), 200), ((START, body(b"x", more=True)), 200)])
async def test_an_application_that_does_not_end_its_answer(messages: tuple[Message, ...], status: int) -> None:
    client = client_of(App(*messages))
    await client.send(GET)
    assert statuses(client.answers) == (status,)
    assert not client.answers.endswith(b"0\r\n\r\n")
    assert client.closed()
