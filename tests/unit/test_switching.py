"""The answer to a handshake: a 101 switches protocols wherever its bytes are cut; every other answer is an answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from pydantic import SecretStr

from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import Handshakes, UpstreamClient
from services.gateway.upstream.connection import Connection
from services.gateway.upstream.parser import ResponseParser, State
from services.gateway.upstream.switching import HandshakeParser

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
FRAMES = b"\x81\x05Hello\x81\x02\r\n"


def parsed(data: bytes, step: int, parser: ResponseParser) -> bytes:
    parser.begin(b"GET")
    return b"".join(parser.feed(data[at : at + step]) for at in range(0, len(data), step))


@pytest.mark.parametrize("before", [b"", HINTS])
@pytest.mark.parametrize("step", [1, 2, 3, 50, 10_000])
def test_what_stands_behind_a_switch_comes_as_it_is(before: bytes, step: int) -> None:
    parser = HandshakeParser()
    assert parsed(before + SWITCH + FRAMES, step, parser) == FRAMES
    assert (parser.status, parser.switched, parser.complete) == (101, True, False)
    assert [name.lower() for name, _ in parser.headers] == [b"upgrade", b"connection", b"sec-websocket-accept"]
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"


def test_a_bare_switch_is_one_before_anything_follows() -> None:
    parser = HandshakeParser()
    assert parsed(SWITCH.replace(b"\r\n", b"\n"), 10_000, parser) == b""
    assert (parser.status, parser.switched) == (101, True)


@pytest.mark.parametrize("step", [1, 10_000])
def test_another_answer_is_an_answer(step: int) -> None:
    parser = HandshakeParser()
    refused = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nnone"
    assert parsed(HINTS + refused, step, parser) == b"none"
    assert (parser.status, parser.switched, parser.state) == (401, False, State.DONE)


def test_a_switch_that_nobody_asked_for_is_broken() -> None:
    parser = ResponseParser()
    assert parsed(SWITCH + FRAMES, 10_000, parser) == b""
    assert (parser.state, parser.fault) == (State.BROKEN, "the provider switched protocols")


def test_a_switch_without_its_headers_is_broken() -> None:
    parser = HandshakeParser()
    assert parsed(b"HTTP/1.1 101 Switching Protocols\r\nx: y\r\n\r\n" + FRAMES, 10_000, parser) == b""
    assert (parser.status, parser.switched, parser.state) == (0, False, State.BROKEN)


class Board:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def came(self, data: bytes) -> None:
        self.told.append(data)

    def provider_gone(self, exc: Exception | None) -> None:
        self.told.append("gone" if exc is None else "broken")

    def provider_full(self) -> None: ...

    def provider_ready(self) -> None: ...


class Owner:
    """A pool that forgets."""

    tick = 1.0

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def forget(self, connection: Connection) -> None: ...


@pytest.mark.parametrize(("error", "end"), [(None, "gone"), (ConnectionResetError(), "broken")])
async def test_a_provider_that_leaves_at_once_is_heard_all_the_same(error: Exception | None, end: str) -> None:
    connection, board = Connection(cast("Any", Owner()), ("http", "h", 80), HandshakeParser()), Board()
    connection.parser.begin(b"GET")
    connection.data_received(SWITCH + FRAMES)
    connection.data_received(b"\x88\x00")
    connection.connection_lost(error)
    switched = connection.switch(board)
    switched.write(b"to nobody")
    await asyncio.sleep(0)
    assert board.told == [FRAMES + b"\x88\x00", end]


def test_no_tunnel_leads_through_a_proxy() -> None:
    settings = GatewaySettings(upstream_proxy=SecretStr("http://proxy.example:3128"), no_proxy="near.example")
    handshakes = Handshakes(UpstreamClient(settings))
    assert not handshakes.possible("openai", "https://far.example/v1/realtime")
    assert handshakes.possible("openai", "https://near.example/v1/realtime")
