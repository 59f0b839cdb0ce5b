"""Connections and their pool against real sockets: pooling, cancelling, backpressure, TLS."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from services.gateway.attempt_settings import AttemptSettings
from services.gateway.attempts import Attempts, Candidate, Plan
from services.gateway.retries import Retries
from services.gateway.routing.authenticators import Fixed
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import UpstreamClient
from services.gateway.upstream.connection import Connection
from services.gateway.upstream.pool import Ages, Pool
from shared.runtime.errors import SettingsError, UpstreamUnreachable
from tests.support.certificates import PEM, certificate
from tests.support.serving import serving

TIMEOUTS = {"connect": 2.0, "pool": 0.3, "read": 2.0, "write": 2.0}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def pooled(
    connections: int = 10, tls: ssl.SSLContext | None = None, keep_alive: float = 5
) -> AsyncIterator[Pool]:
    pool = Pool(tls or ssl.create_default_context(), connections, Ages(keep_alive, 5), tick=0.05)
    yield pool
    pool.close()
    await asyncio.sleep(0.05)
    assert len(pool) == 0


async def ask(pool: Pool, url: str, /, **timeouts: float) -> Connection:
    place = httpx.URL(url)
    origin = (place.scheme, place.host, place.port or 80)
    return await pool.open(origin, b"GET", b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n", b"", TIMEOUTS | timeouts)


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(OK)


async def body_of(connection: Connection) -> bytes:
    parts: list[bytes] = []
    try:
        await connection.push(parts.append, 2)
    finally:
        connection.release()
    return b"".join(parts)


def chunked(rng: random.Random) -> tuple[bytes, bytes]:
    """A body that looks like chunks itself, and the same body in chunks."""
    words = [
        b"a\r\n",
        b"1",
        b"\r\n",
        b"0\r\n\r\n",
        b"data: x\n\n",
        b"1a;q=1\r\n",
        b"\r",
        b"\n",
        b"00a\r\n0123456789\r\n",
    ]
    body, encoded = b"", b""
    for _ in range(rng.randint(0, 12)):
        chunk = b"".join(rng.choices(words, k=rng.randint(1, 8)))
        size = rng.choice([b"%x", b"%X", b"00%x", b"%x;ext=1"]) % len(chunk)
        body += chunk
        encoded += size + b"\r\n" + chunk + b"\r\n"
    return body, encoded + rng.choice([b"0\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n", b"000\r\n\r\n"])


async def test_chunks_are_read_the_same_however_they_arrive() -> None:
    rng = random.Random(5)
    wanted = b""

    async def split(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal wanted
        while await reader.readuntil(b"\r\n\r\n"):
            wanted, encoded = chunked(rng)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            ends = [match.end() for match in re.finditer(rb"\r\n", encoded)]
            cuts = rng.choices([*ends, *range(len(encoded))], k=rng.randint(0, 6)) if rng.random() < 0.7 else ends
            for start, end in pairwise([0, *sorted(cuts), len(encoded)]):
                await writer.drain()
                await asyncio.sleep(0.0005)  # one read at the other end, most of the time
                writer.write(encoded[start:end])

    async with serving(split) as url, pooled() as pool:
        for _ in range(30):
            assert await body_of(await ask(pool, url)) == wanted
        assert len(pool) == 1


async def test_connections_are_used_again_until_they_expire() -> None:
    async with serving(answering) as url, pooled(keep_alive=0.2) as pool:
        for _ in range(5):
            assert await body_of(await ask(pool, url)) == b"ok"
            assert len(pool) == 1
        await asyncio.sleep(0.4)
        assert len(pool) == 0


async def test_one_that_the_server_has_closed_is_not_used_again() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)

    async with serving(once) as url, pooled() as pool:
        for _ in range(5):
            assert await body_of(await ask(pool, url)) == b"ok"
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_request_that_meets_a_closing_connection_is_answered_on_a_new_one(reset: bool) -> None:
    """The provider closes every connection when its second request has come, without a byte."""
    connections = 0

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"{}")
        writer.write(OK)
        await reader.readuntil(b"{}")
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

    client = UpstreamClient(GatewaySettings())
    async with serving(twice) as url:
        candidate = Candidate("mine", "gpt", "", "POST", url, b"", [], b"{}", Fixed())
        made = []
        for _ in range(6):
            attempts = Attempts(Plan(candidate), client, Retries(AttemptSettings()))
            answer = await attempts.first_answer([])
            assert (answer.status, answer.whole()) == (200, b"ok")
            answer.close()
            made.append([attempt.cause for attempt in attempts.made])
        await client.close()
    cause = "reset" if reset else "closed_early"
    assert made == [[""], *[[cause, ""]] * 5]
    assert connections == 6


async def test_a_full_pool_is_waited_for_and_then_given_up() -> None:
    async with serving(answering) as url, pooled(connections=1) as pool:
        held = await ask(pool, url)
        with pytest.raises(httpx.PoolTimeout):
            await ask(pool, url)
        held.release()
        assert await body_of(await ask(pool, url)) == b"ok"


async def test_cancelling_at_any_moment_leaks_nothing() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(random.random() * 0.01)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(5):
                writer.write(b"3\r\nabc\r\n")
                await asyncio.sleep(random.random() * 0.005)
            writer.write(b"0\r\n\r\n")

    async def whole(pool: Pool, url: str) -> bytes:
        return await body_of(await ask(pool, url, pool=2))

    rng = random.Random(3)
    async with serving(slow) as url, pooled(connections=20) as pool:
        for _ in range(12):
            tasks = [asyncio.get_running_loop().create_task(whole(pool, url)) for _ in range(15)]
            await asyncio.sleep(rng.random() * 0.04)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result == b"abc" * 5 or isinstance(result, asyncio.CancelledError)
        assert await asyncio.gather(*(whole(pool, url) for _ in range(20))) == [b"abc" * 5] * 20
        held = [await ask(pool, url) for _ in range(20)]  # every place is free again
        with pytest.raises(httpx.PoolTimeout):
            await ask(pool, url)
        for connection in held:
            connection.release()


async def test_an_answer_nobody_reads_is_not_taken_in() -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 60000000\r\n\r\n")
        while written < 60_000_000:
            writer.write(b"x" * 100_000)
            written += 100_000
            await writer.drain()

    async with serving(flood) as url, pooled() as pool:
        response = await ask(pool, url)
        await asyncio.sleep(0.3)
        assert written < 30_000_000
        assert len(await body_of(response)) == 60_000_000


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-le", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", httpx.RemoteProtocolError),
        (b"nonsense\r\n\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", httpx.RemoteProtocolError),
    ],
)
async def test_a_broken_answer_is_an_error(answer: bytes, error: type[httpx.TransportError]) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with serving(broken) as url, pooled() as pool:
        with pytest.raises(error):
            await body_of(await ask(pool, url))


async def test_silence_is_a_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as url, pooled() as pool:
        with pytest.raises(httpx.ReadTimeout):
            await ask(pool, url, read=0.2)
        with pytest.raises(httpx.ConnectError):
            await ask(pool, "http://127.0.0.1:9/")


async def test_a_second_answer_to_one_question_spoils_the_connection() -> None:
    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK + b"HTTP/1.1 500 Evil\r\ncontent-length: 5\r\n\r\nEVI")

    async with serving(twice) as url, pooled() as pool:
        for _ in range(3):
            answer = await ask(pool, url)
            assert (answer.parser.status, await body_of(answer)) == (200, b"ok")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_sessions_are_resumed(tmp_path: Path, version: ssl.TLSVersion) -> None:
    server, client = certificate(tmp_path)
    server.minimum_version = server.maximum_version = version
    resumed: list[bool] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        resumed.append(writer.get_extra_info("ssl_object").session_reused)
        writer.write(OK.replace(b"content-length", b"connection: close\r\ncontent-length"))

    async with serving(once, server) as url, pooled(tls=client) as pool:
        for _ in range(3):
            assert await body_of(await ask(pool, url)) == b"ok"
            await asyncio.sleep(0.05)
    assert resumed == [False, True, True]


@pytest.mark.parametrize(("listens", "host"), [("127.0.0.1", "localhost"), ("::1", "localhost"), ("::1", "[::1]")])
async def test_both_address_families(listens: str, host: str) -> None:
    if host == "localhost" and not _resolves_to(listens):
        pytest.skip(f"localhost is not {listens} here")
    try:
        async with serving(answering, listens=listens, host=host) as url, pooled() as pool:
            assert await body_of(await ask(pool, url)) == b"ok"
    except OSError:
        pytest.skip(f"this machine has no {listens}")


def _resolves_to(address: str) -> bool:
    return any(info[4][0] == address for info in socket.getaddrinfo("localhost", 80))


async def test_a_provider_that_asks_for_a_certificate(tmp_path: Path) -> None:
    server, _ = certificate(tmp_path)
    pem = tmp_path / PEM
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(pem)

    def client(**files: str) -> UpstreamClient:
        mine = {"base_url": "https://x", **files}
        return UpstreamClient(GatewaySettings.model_validate({"providers": {"mine": mine}}))

    async with serving(answering, server) as url:
        both, stranger, anonymous = client(ca_file=str(pem), client_cert=str(pem)), client(), client(ca_file=str(pem))
        answer = await both.send("mine", "GET", url, b"", [], b"")
        assert (answer.status, answer.whole()) == (200, b"ok")
        answer.close()
        # asyncio's server closes where others send an alert.
        for other, causes in ((stranger, {"certificate"}), (anonymous, {"tls", "closed_early", "reset"})):
            with pytest.raises(UpstreamUnreachable) as refused:
                await other.send("mine", "GET", url, b"", [], b"")
            assert refused.value.cause in causes
        with pytest.raises(UpstreamUnreachable):  # what one provider trusts, another does not
            await both.send("another", "GET", url, b"", [], b"")
        for made in (both, stranger, anonymous):
            await made.close()


@pytest.mark.parametrize("setting", ["ca_file", "client_cert"])
@pytest.mark.parametrize("content", [None, "no PEM"])
def test_a_file_that_is_no_use_stops_the_start(tmp_path: Path, setting: str, content: str | None) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    mine = {"base_url": "https://x", setting: str(file)}
    with pytest.raises(SettingsError, match=f"^AROUTER_PROVIDERS__MINE__{setting.upper()}: cannot be used: .+$"):
        UpstreamClient(GatewaySettings.model_validate({"providers": {"mine": mine}}))


async def test_tls_is_verified(tmp_path: Path) -> None:
    server, client = certificate(tmp_path)
    async with serving(answering, server) as url:
        async with pooled(tls=client) as pool:
            for _ in range(3):
                assert await body_of(await ask(pool, url)) == b"ok"
            assert len(pool) == 1
        async with pooled() as stranger:
            with pytest.raises(httpx.ConnectError):
                await ask(stranger, url)
