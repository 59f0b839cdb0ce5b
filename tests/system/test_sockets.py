"""WebSockets through real processes: the official SDKs, bytes both ways, and what is booked however they end."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import openai
import pytest
from google import genai
from google.genai import types
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from services.cli.processes import free_port
from tests.support.certificates import certificate
from tests.support.children import ending
from tests.support.frames import frame, sent
from tests.support.raw_socket import RawSockets, Switched, exactly, filled, head_of, to_the_end
from tests.support.requests import connected
from tests.support.system import System

HANDSHAKE = (
    "GET {} HTTP/1.1\r\nhost: g\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "sec-websocket-extensions: permessage-deflate\r\n{}\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3
DONE = {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34}


class Running:
    """A system, and a provider in it whose sockets the test plays."""

    def __init__(self, system: System, provider: RawSockets) -> None:
        self.system = system
        self.provider = provider
        self.opened: list[socket.socket] = []

    def open(
        self, *lines: str, url: str = "", first: bytes = b"", key: str = ""
    ) -> tuple[socket.socket, Switched, str]:
        """A socket to the provider `own`: the client's side, the provider's, and the exchange's id."""
        client = connected(url or self.system.url)
        given = [f"authorization: Bearer {key or self.system.key}", *lines]
        client.sendall(HANDSHAKE.format("/own/v1/realtime?model=m", "".join(f"{line}\r\n" for line in given)).encode())
        switched = self.provider.accept(first=first)
        self.opened += [client, switched.socket]
        head = head_of(client)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"sec-websocket-accept: " + ACCEPTED in head
        [id] = [
            line.partition(b": ")[2].decode() for line in head.split(b"\r\n") if line.startswith(b"x-generation-id")
        ]
        return client, switched, id

    def listed(self, models: str) -> str:
        """A key that may call these models alone."""
        made = json.loads(self.system.command("keys", "create", "--name", models, "--json"))
        self.system.command("keys", "update", made["hash"], "--allow-models", models)
        return str(made["key"])

    def booked(self, id: str) -> dict[str, Any]:
        return self.system.settled([id])[id]


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


def agrees(system: System, dialect: str) -> dict[str, Any]:
    """The last entry of a dialect, whose figures are those that the provider has sent."""
    emitted = system.until(lambda: [one for one in system.emitted().values() if one["dialect"] == dialect])[-1]
    entry = system.settled([emitted["exchange_id"]])[emitted["exchange_id"]]
    assert emitted["usage"] is not None
    assert {name: entry[name] for name in emitted["usage"]} == emitted["usage"]
    assert (entry["source"], entry["ended"], entry["status"]) == ("reported", "whole", 101)
    assert entry["response_bytes"] == emitted["bytes"]
    return entry


# The official SDKs.


async def test_openais_realtime_client(running: Running) -> None:
    client = openai.AsyncOpenAI(api_key=running.system.key, base_url=f"{running.system.url}/v1")
    said, sound = "", 0
    async with client, client.realtime.connect(model="openai/gpt-realtime") as connection:
        assert (await connection.recv()).type == "session.created"
        content: Any = [{"type": "input_text", "text": "hello"}]
        await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        await connection.input_audio_buffer.append(audio="AAAA" * 400)
        await connection.input_audio_buffer.commit()
        for modality in ("text", "audio"):
            await connection.response.create(response={"output_modalities": [modality]})
            async for event in connection:
                if event.type == "response.output_text.delta":
                    said += event.delta
                elif event.type == "response.output_audio.delta":
                    sound += len(event.delta)
                elif event.type == "response.done":
                    break
    assert len(said.split()) >= 12
    assert sound > 100_000
    entry = agrees(running.system, "openai_realtime")
    assert (entry["provider"], entry["model"]) == ("openai", "gpt-realtime")
    assert entry["modalities"]["output_audio"] == 12
    assert entry["modalities"]["transcription_input"] == 17
    assert entry["cost_nanousd"] > 0


async def test_openais_responses_over_a_socket(running: Running) -> None:
    client = openai.AsyncOpenAI(api_key=running.system.key, base_url=f"{running.system.url}/v1")
    async with client, client.responses.connect() as connection:
        for _ in range(3):
            await connection.response.create(model="gpt-5", input="hello")
            async for event in connection:
                if event.type == "response.completed":
                    break
    entry = agrees(running.system, "openai_responses_socket")
    assert (entry["model"], entry["finish"], entry["output_tokens"]) == ("gpt-5", ["completed"] * 3, 36)


@asynccontextmanager
async def in_tls(url: str, folder: Path) -> Any:
    """Google's client speaks TLS alone: a port that passes its bytes on to the gateway, and a context that trusts
    it."""
    server, trusting = certificate(folder)
    host, _, port = url.removeprefix("http://").partition(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while data := await reader.read(65536):
                writer.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer), return_exceptions=True)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=server)
    try:
        yield f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}", trusting
    finally:
        listening.close()


async def test_googles_live_client(running: Running, tmp_path: Path) -> None:
    async with in_tls(running.system.url, tmp_path) as (url, trusting):
        assert isinstance(trusting, ssl.SSLContext)
        options = types.HttpOptions(base_url=url, async_client_args={"ssl": trusting}, api_version="v1beta")
        client = genai.Client(api_key=running.system.key, http_options=options)
        said = ""
        config = types.LiveConnectConfig(response_modalities=[types.Modality.TEXT])
        async with client.aio.live.connect(model="gemini-live", config=config) as session:
            for _ in range(2):
                turn = types.Content(role="user", parts=[types.Part(text="hello")])
                await session.send_client_content(turns=turn, turn_complete=True)
                async for answer in session.receive():
                    said += answer.text or ""
    assert len(said.split()) >= 24
    entry = agrees(running.system, "gemini_live")
    assert (entry["provider"], entry["model"], entry["output_tokens"]) == ("gemini", "gemini-live", 24)


async def test_a_browser_shows_its_key_as_a_subprotocol(running: Running) -> None:
    url = f"{running.system.url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime"
    offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{running.system.key}")]
    async with connect(url, subprotocols=offered) as websocket:
        assert websocket.subprotocol == "realtime"
        assert json.loads(await websocket.recv())["type"] == "session.created"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, subprotocols=[Subprotocol("openai-insecure-api-key.ek_of_somebody")])
    assert refused.value.response.status_code == 401


async def test_an_answer_that_is_no_switch_passes(running: Running) -> None:
    url = f"{running.system.url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime"
    given = {"authorization": f"Bearer {running.system.key}", "x-demo": "status=429"}
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, additional_headers=given)
    answer = refused.value.response
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "0")
    entry = running.booked(answer.headers["x-generation-id"])
    assert (entry["status"], entry["input_tokens"], entry["ended"]) == (429, 0, "error")


# Bytes.


def test_what_goes_upstream_and_comes_back(running: Running) -> None:
    early = frame(b'{"type":"session.created"}')
    protocols = f"sec-websocket-protocol: realtime, openai-insecure-api-key.{running.system.key}, openai-project.p"
    client, provider, id = running.open(protocols, "openai-beta: realtime=v1", first=early)
    head = provider.head.lower()
    assert head.startswith(b"get /v1/realtime?model=m http/1.1\r\n")
    assert b"\r\nauthorization: bearer sk-own\r\n" in head
    assert b"\r\nsec-websocket-protocol: realtime\r\n" in head
    assert b"\r\nupgrade: websocket\r\n" in head
    assert b"\r\nconnection: upgrade\r\n" in head
    assert b"\r\nopenai-beta: realtime=v1\r\n" in head
    assert f"\r\nx-generation-id: {id.lower()}\r\n".encode() in head
    assert b"sec-websocket-extensions" not in head
    assert running.system.key.lower().encode() not in head
    assert exactly(client, len(early)) == early
    end(client, provider)


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


async def test_a_list_holds_for_the_messages_of_responses(running: Running) -> None:
    key = running.listed("gpt-5")
    client = openai.AsyncOpenAI(api_key=key, base_url=f"{running.system.url}/v1", max_retries=0)
    async with client, client.responses.connect() as connection:
        await connection.response.create(model="gpt-5", input="hello")
        async for event in connection:
            if event.type == "response.completed":
                break
        await connection.response.create(model="gpt-5-pro", input="hello")
        with pytest.raises(ConnectionClosedError) as closed:
            await connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


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
