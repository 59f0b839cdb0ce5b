"""The official SDKs speak over WebSockets through a real gateway, and every figure that was reported is booked."""

from __future__ import annotations

import asyncio
import json
import ssl
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
from tests.support.sockets import listed
from tests.support.system import System


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    settings = {
        "AROUTER_PROVIDERS__GONE__BASE_URL": f"http://127.0.0.1:{free_port(0)}/v1",
        "AROUTER_PROVIDERS__GONE__API_KEY": "sk-gone",
        "AROUTER_ROUTES__FAST__CANDIDATES": "gone/gpt-realtime,openai/gpt-realtime",
    }
    with System(tmp_path_factory.mktemp("clients"), **settings) as started:
        yield started


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


async def test_openais_realtime_client(system: System) -> None:
    client = openai.AsyncOpenAI(api_key=system.key, base_url=f"{system.url}/v1")
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
    entry = agrees(system, "openai_realtime")
    assert (entry["provider"], entry["model"]) == ("openai", "gpt-realtime")
    assert entry["modalities"]["output_audio"] == 12
    assert entry["modalities"]["transcription_input"] == 17
    assert entry["cost_nanousd"] > 0


@pytest.mark.parametrize("restricted", [False, True])
async def test_a_route_leads_on_where_its_first_candidate_is_gone(system: System, restricted: bool) -> None:
    key = listed(system, "fast") if restricted else system.key
    async with (
        openai.AsyncOpenAI(api_key=key, base_url=f"{system.url}/v1") as client,
        client.realtime.connect(model="fast") as connection,
    ):
        assert (await connection.recv()).type == "session.created"
        await connection.response.create(response={"output_modalities": ["text"]})
        async for event in connection:
            if event.type == "response.done":
                break
    entry = agrees(system, "openai_realtime")
    assert (entry["provider"], entry["model"], entry["requested_model"]) == ("openai", "gpt-realtime", "fast")
    assert [attempt[0] for attempt in entry["attempts"]] == ["gone", "openai"]


async def test_openais_responses_over_a_socket(system: System) -> None:
    client = openai.AsyncOpenAI(api_key=system.key, base_url=f"{system.url}/v1")
    async with client, client.responses.connect() as connection:
        for _ in range(3):
            await connection.response.create(model="gpt-5", input="hello")
            async for event in connection:
                if event.type == "response.completed":
                    break
    entry = agrees(system, "openai_responses_socket")
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


async def test_googles_live_client(system: System, tmp_path: Path) -> None:
    async with in_tls(system.url, tmp_path) as (url, trusting):
        assert isinstance(trusting, ssl.SSLContext)
        options = types.HttpOptions(base_url=url, async_client_args={"ssl": trusting}, api_version="v1beta")
        client = genai.Client(api_key=system.key, http_options=options)
        said = ""
        config = types.LiveConnectConfig(response_modalities=[types.Modality.TEXT])
        async with client.aio.live.connect(model="gemini-live", config=config) as session:
            for _ in range(2):
                turn = types.Content(role="user", parts=[types.Part(text="hello")])
                await session.send_client_content(turns=turn, turn_complete=True)
                async for answer in session.receive():
                    said += answer.text or ""
    assert len(said.split()) >= 24
    entry = agrees(system, "gemini_live")
    assert (entry["provider"], entry["model"], entry["output_tokens"]) == ("gemini", "gemini-live", 24)


async def test_a_browser_shows_its_key_as_a_subprotocol(system: System) -> None:
    url = f"{system.url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime"
    offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{system.key}")]
    async with connect(url, subprotocols=offered) as websocket:
        assert websocket.subprotocol == "realtime"
        assert json.loads(await websocket.recv())["type"] == "session.created"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, subprotocols=[Subprotocol("openai-insecure-api-key.ek_of_somebody")])
    assert refused.value.response.status_code == 401


async def test_an_answer_that_is_no_switch_passes(system: System) -> None:
    url = f"{system.url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime"
    given = {"authorization": f"Bearer {system.key}", "x-demo": "status=429"}
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, additional_headers=given)
    answer = refused.value.response
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "0")
    entry = system.settled([answer.headers["x-generation-id"]])[answer.headers["x-generation-id"]]
    assert (entry["status"], entry["input_tokens"], entry["ended"]) == (429, 0, "error")


async def test_a_list_holds_for_the_messages_of_responses(system: System) -> None:
    key = listed(system, "gpt-5")
    client = openai.AsyncOpenAI(api_key=key, base_url=f"{system.url}/v1", max_retries=0)
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
