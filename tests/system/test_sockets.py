"""WebSockets through real processes: bytes both ways, and what is booked however they end."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from services.cli.processes import free_port
from tests.support.children import ending
from tests.support.frames import frame, sent
from tests.support.raw_socket import RawSockets, Switched, exactly, filled, head_of, to_the_end
from tests.support.requests import connected
from tests.support.sockets import HANDSHAKE, Running
from tests.support.system import System

DONE = {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("sockets")
    with RawSockets() as provider:
        settings = {
            "AROUTER_PROVIDERS__OWN__BASE_URL": provider.url,
            "AROUTER_PROVIDERS__OWN__API_KEY": "sk-own",
            "AROUTER_SLOW_READER_TIMEOUT": "4",
        }
        with System(folder, **settings) as system:
            yield Running(system, provider)


@pytest.fixture(autouse=True)
def _closed(running: Running) -> Iterator[None]:
    """What a test has opened is closed behind it."""
    yield
    while running.opened:
        running.opened.pop().close()


def message(document: dict[str, Any]) -> bytes:
    return frame(json.dumps(document).encode())


def response(kind: str, id: str, usage: dict[str, int] | None = None) -> bytes:
    return message({"type": f"response.{kind}", "response": {"id": id, "usage": usage}})


def counts(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["input_tokens"], entry["output_tokens"], entry["source"], entry["outcome"]


# Bytes.


def test_what_goes_upstream_and_comes_back(running: Running) -> None:
    early = frame(b'{"type":"session.created"}')
    protocols = f"sec-websocket-protocol: realtime, openai-insecure-api-key.{running.system.key}, openai-project.p"
    client, provider, id = running.open(protocols, "openai-beta: realtime=v1", "x-arouter-user: ann", first=early)
    head = provider.head.lower()
    assert head.startswith(b"get /v1/realtime?model=m http/1.1\r\n")
    assert b"\r\nauthorization: bearer sk-own\r\n" in head
    assert b"\r\nsec-websocket-protocol: realtime\r\n" in head
    assert b"\r\nupgrade: websocket\r\n" in head
    assert b"\r\nconnection: upgrade\r\n" in head
    assert b"\r\nopenai-beta: realtime=v1\r\n" in head
    assert f"\r\nx-generation-id: {id.lower()}\r\n".encode() in head
    assert b"sec-websocket-extensions" not in head
    assert b"x-arouter" not in head
    assert running.system.key.lower().encode() not in head
    assert exactly(client, len(early)) == early
    end(client, provider)
    assert running.booked(id)["user"] == "ann"


def end(client: socket.socket, provider: Switched) -> None:
    """A closing handshake, as the RFC has it."""
    client.sendall(sent(struct.pack(">H", 1000), 8))
    assert exactly(provider.socket, 8) == sent(struct.pack(">H", 1000), 8)
    provider.socket.sendall(frame(struct.pack(">H", 1000), 8))
    provider.socket.close()
    assert to_the_end(client) == frame(struct.pack(">H", 1000), 8)
    client.close()


def test_bytes_pass_unchanged_in_both_directions(running: Running) -> None:
    rng = random.Random(6455)
    down = response("created", "a") + response("done", "a", DONE)
    up = b""
    for _ in range(200):
        payload = rng.randbytes(rng.choice([0, 1, 125, 126, 3000, 70_000]))
        final = rng.random() < 0.5
        down += frame(payload, 2, final=final) + (b"" if final else frame(b"!", 9) + frame(payload, 0))
        up += sent(payload[:300], rng.choice([1, 2, 9]) if len(payload) < 126 else 2)
    client, provider, id = running.open()

    async def both() -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        sending = [
            loop.run_in_executor(None, part.sendall, data) for part, data in ((client, up), (provider.socket, down))
        ]
        reading = [
            loop.run_in_executor(None, exactly, part, size)
            for part, size in ((client, len(down)), (provider.socket, len(up)))
        ]
        await asyncio.gather(*sending)
        got = await asyncio.gather(*reading)
        return got[0], got[1]

    assert asyncio.run(both()) == (down, up)
    end(client, provider)
    entry = running.booked(id)
    assert (entry["response_bytes"], entry["request_bytes"]) == (len(down) + 4, len(up) + 8)
    # Bytes that are no JSON may have been anything.
    assert counts(entry) == (30, 4, "partial", "completed")


@pytest.mark.parametrize("side", ["provider", "client"])
def test_a_frame_of_16_megabytes(running: Running, side: str) -> None:
    client, provider, id = running.open()
    payload = b'{"type":"conversation.item.create","item":"' + b"x" * (16 << 20) + b'"}'
    data, writer, reader = frame(payload), provider.socket, client
    if side == "client":  # with a mask of zeros
        writer, reader = client, provider.socket
        data = data[:1] + bytes([data[1] | 0x80]) + data[2:10] + bytes(4) + data[10:]

    async def carried() -> bytes:
        loop = asyncio.get_running_loop()
        sending = loop.run_in_executor(None, writer.sendall, data)
        got = await loop.run_in_executor(None, exactly, reader, len(data))
        await sending
        return got

    assert asyncio.run(carried()) == data
    provider.socket.sendall(response("done", "a", DONE))
    assert exactly(client, len(response("done", "a", DONE))) == response("done", "a", DONE)
    end(client, provider)
    assert counts(running.booked(id)) == (30, 4, "reported", "completed")


# How sockets end.


def test_a_provider_that_resets(running: Running) -> None:
    client, provider, id = running.open()
    client.sendall(sent('{"type":"response.create"}'))
    begun = response("created", "a") + message(
        {"type": "response.output_text.delta", "response_id": "a", "delta": "hello you"}
    )
    provider.socket.sendall(response("done", "z", DONE) + begun)
    exactly(client, len(response("done", "z", DONE) + begun))
    provider.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    provider.socket.close()
    assert to_the_end(client) == b""
    entry = running.booked(id)
    assert (entry["source"], entry["outcome"], entry["cause"]) == ("partial", "upstream_failed", "reset")
    assert entry["input_tokens"] > 30
    assert entry["output_tokens"] > 4


def test_a_client_that_leaves(running: Running) -> None:
    client, provider, id = running.open()
    provider.socket.sendall(response("created", "a"))
    exactly(client, len(response("created", "a")))
    client.close()
    assert to_the_end(provider.socket) == b"", "the provider's connection is closed at once"
    provider.socket.close()
    entry = running.booked(id)
    assert (entry["source"], entry["outcome"], entry["ended"]) == ("partial", "client_gone", "cut")


def test_a_client_that_does_not_read(running: Running) -> None:
    client, provider, id = running.open()
    taken = filled(provider.socket, frame(bytes(60_000), 2) * 16)
    assert taken < 64 << 20, "the provider is held back"
    assert to_the_end(provider.socket) == b""
    provider.socket.close()
    entry = running.booked(id)
    assert (entry["outcome"], entry["cause"]) == ("timed_out", "slow_reader")
    client.close()


def test_a_provider_that_does_not_read(running: Running) -> None:
    client, provider, id = running.open()
    data = sent(bytes(60_000), 2) * 16
    taken = filled(client, data)
    assert taken < 64 << 20, "the client is held back"

    got = exactly(provider.socket, taken)
    assert got == (data * (taken // len(data) + 1))[:taken], "and nothing is lost"
    client.close()
    to_the_end(provider.socket)
    provider.socket.close()
    assert running.booked(id)["outcome"] == "client_gone"


# Lists of models.


def test_a_key_with_a_list_is_held_to_it(running: Running) -> None:
    system = running.system
    key = running.listed("m,gpt-realtime")
    client, provider, id = running.open(key=key)
    good = sent('{"type":"session.update","session":{"model":"gpt-realtime"}}')
    client.sendall(good)
    assert exactly(provider.socket, len(good)) == good
    client.sendall(sent('{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"other"}}}}}'))
    assert to_the_end(provider.socket) == b""
    told = to_the_end(client)
    assert told[0] == 0x88
    assert struct.unpack(">H", told[2:4]) == (1008,)
    entry = running.booked(id)
    assert (entry["outcome"], entry["cause"]) == ("client_gone", "model_not_allowed")
    with connected(system.url) as refused:
        refused.sendall(HANDSHAKE.format("/own/v1/realtime?model=other", f"authorization: Bearer {key}\r\n").encode())
        assert head_of(refused).startswith(b"HTTP/1.1 403 ")


# The gateway's own end.


def test_a_gateway_that_is_killed(running: Running) -> None:
    url = f"http://127.0.0.1:{free_port(0)}"
    gateway = running.system.start_gateway(url)
    running.system.processes.wait_for(f"{url}/readyz")
    client, provider, id = running.open(url=url)
    seen = response("created", "a") + response("done", "a", DONE) + response("created", "b")
    provider.socket.sendall(seen)
    exactly(client, len(seen))
    [journal] = (running.system.folder / "journal").glob(f"{id.partition('.')[0]}.*")
    running.system.until(lambda: any(b"response.done" in file.read_bytes() for file in journal.iterdir()))
    running.system.kill(gateway)
    assert to_the_end(client) == b""
    provider.socket.close()
    entry = running.booked(id)
    assert (entry["outcome"], entry["source"]) == ("gateway_lost", "partial")
    assert entry["input_tokens"] >= 30
    assert entry["output_tokens"] >= 4


def test_a_drain(running: Running) -> None:
    url = f"http://127.0.0.1:{free_port(0)}"
    running.system.extra["AROUTER_SHUTDOWN_TIMEOUT"] = "2"
    with ending(running.system.start_gateway(url)) as gateway:
        running.system.processes.forget(gateway)
        running.system.processes.wait_for(f"{url}/readyz")
        client, provider, id = running.open(url=url)
        provider.socket.sendall(response("created", "a"))
        exactly(client, len(response("created", "a")))
        gateway.send_signal(signal.SIGTERM)
        provider.socket.sendall(response("done", "a", DONE))
        assert exactly(client, len(response("done", "a", DONE))) == response("done", "a", DONE), "it goes on meanwhile"
        told = to_the_end(client)
        assert told[0] == 0x88
        assert struct.unpack(">H", told[2:4]) == (1012,)
        assert to_the_end(provider.socket) == b""
        assert gateway.wait(60) == 0
    del running.system.extra["AROUTER_SHUTDOWN_TIMEOUT"]
    assert counts(running.booked(id)) == (30, 4, "partial", "drained")
