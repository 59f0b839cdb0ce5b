"""Bodies that go upstream as they arrive: in memory, and over sockets on both paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from services.gateway.client.intake import Intake, Wanted
from services.gateway.client.received import Received
from services.gateway.client.request import ClientLeft, ClientRequest
from services.gateway.client.upload import Upload, UploadLimits
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import TransportFactory, UpstreamClient
from services.gateway.upstream.ways import Answer
from shared.runtime.errors import Refused, UploadBroken, UpstreamError
from tests.support.memory_client import MemoryClient, settled
from tests.support.serving import serving

LIMITS = UploadLimits(bytes=1000, idle=60)
PATHS: dict[str, TransportFactory | None] = {"pushed": None, "pulled": httpx.AsyncHTTPTransport}
paths = pytest.mark.parametrize("path", PATHS)


class Client:
    """A client that sends what the test says."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []  # b"": the end
        self.left = self.dropped = False
        self.taken = 0
        self._changed: Callable[[], None] = lambda: None

    def take(self) -> bytes | None:
        if self.left:
            raise ClientLeft
        if not self.parts:
            return None
        self.taken += 1
        return self.parts.pop(0)

    def tell(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def drop_body(self) -> None:
        self.dropped = True

    def sends(self, *parts: bytes) -> None:
        self.parts += parts
        self._changed()

    def leaves(self) -> None:
        self.left = True
        self._changed()


async def broken(upload: Upload) -> UploadBroken:
    with pytest.raises(UploadBroken) as raised:
        while await upload.read():
            pass
    upload.close()
    return raised.value


async def test_an_upload_is_its_first_part_and_what_follows() -> None:
    client = Client()
    upload = Upload(b"first", client, 10, LIMITS)
    assert (upload.take(), upload.take(), upload.sent) == (b"first", None, 5)
    client.sends(b"then ", b"")
    assert [await upload.read(), await upload.read()] == [b"then ", b""]
    assert (upload.sent, upload.ended) == (10, True)
    upload.close()
    assert not client.dropped


async def test_its_end_is_remembered_and_no_more() -> None:
    client = Client()
    client.parts = [b"x" * 9000, b"y" * 7000, b"z" * 5000, b"end", b""]
    upload = Upload(b"first", client, None, UploadLimits(100_000, 60))
    while await upload.read():
        pass
    assert upload.end == b"y" * 7000 + b"z" * 5000 + b"end"
    upload.close()


async def test_another_first_part_changes_the_length() -> None:
    upload = Upload(b"first", Client(), 10, LIMITS)
    upload.replace_first(b"1st")
    assert (upload.take(), upload.length) == (b"1st", 8)
    endless = Upload(b"first", Client(), None, LIMITS)
    endless.replace_first(b"1st")
    assert endless.length is None


async def test_one_that_stands_still_or_grows_too_large_is_broken_off() -> None:
    still = await broken(Upload(b"", Client(), None, UploadLimits(1000, 0.01)))
    assert (still.cause, still.refused and still.refused.status) == ("body_timeout", 408)
    client = Client()
    client.parts = [b"x" * 999, b"y" * 2]
    large = await broken(Upload(b"", client, None, LIMITS))
    assert (large.cause, large.refused and large.refused.status) == ("body_too_large", 413)
    assert client.dropped
    client = Client()
    waiting = asyncio.get_running_loop().create_task(broken(Upload(b"", client, None, LIMITS)))
    await asyncio.sleep(0)
    client.leaves()
    gone = await waiting
    assert (gone.cause, gone.refused) == ("client_gone", None)


@asynccontextmanager
async def asking(path: str) -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient(GatewaySettings(first_byte_timeout=60, idle_timeout=60), PATHS[path])
    yield client
    await client.close()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def got(answer: Answer) -> bytes:
    parts: list[bytes] = []
    whole = answer.whole()
    if whole is None:
        await answer.relay(parts.append, 60)
        whole = b"".join(parts)
    answer.close()
    return whole


@paths
@pytest.mark.parametrize("length", [11, None])
async def test_parts_go_upstream_while_the_rest_is_still_to_come(path: str, length: int | None) -> None:
    client = Client()
    seen: list[bytes] = []

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_head(reader))
        seen.append(await reader.readexactly(5 if length else 10))
        client.sends(b" world", b"")  # only now
        seen.append(await reader.readexactly(6 if length else 11 + 5))
        writer.write(OK)
        await writer.drain()

    async with serving(provider) as url, asking(path) as upstream:
        answer = await upstream.send("p", "POST", url, b"", [], Upload(b"hello", client, length, LIMITS))
        assert await got(answer) == b"ok"
    head, first, rest = seen
    if length:
        assert (first, rest, b"content-length: 11\r\n" in head) == (b"hello", b" world", True)
    else:
        assert (first, rest) == (b"5\r\nhello\r\n", b"6\r\n world\r\n0\r\n\r\n")
        assert b"transfer-encoding: chunked\r\n" in head
        assert b"content-length" not in head


@paths
async def test_a_provider_that_does_not_read_holds_the_client_back(path: str) -> None:
    client = Client()
    client.parts = [b"x" * 65536] * 2000
    reading = asyncio.Event()

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reading.wait()
        await reader.readexactly(65536 * 2000)
        writer.write(OK)
        await writer.drain()

    async with serving(provider) as url, asking(path) as upstream:
        upload = Upload(b"", client, 65536 * 2000, UploadLimits(1 << 30, 60))
        sending = asyncio.get_running_loop().create_task(upstream.send("p", "POST", url, b"", [], upload))
        before = -1
        while client.taken != before:  # until the sockets' buffers are full
            before = client.taken
            await asyncio.sleep(0.2)
        assert before < 1000
        reading.set()
        client.sends(b"")
        assert await got(await sending) == b"ok"


async def test_an_early_answer_is_passed_on_and_its_connection_not_used_again() -> None:
    client = Client()
    connections: list[asyncio.StreamReader] = []

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(reader)
        while await read_head(reader):
            writer.write(OK)
            await writer.drain()

    async with serving(provider) as url, asking("pushed") as upstream:
        upload = Upload(b"hello", client, 100, LIMITS)
        assert await got(await upstream.send("p", "POST", url, b"", [], upload)) == b"ok"
        assert not upload.ended
        for count in (2, 2):  # an ordinary request leaves its connection for the next one
            assert await got(await upstream.send("p", "GET", url, b"", [], b"")) == b"ok"
            assert len(connections) == count


@paths
async def test_an_upload_that_breaks_off_is_no_failure_of_the_provider(path: str) -> None:
    client = Client()
    ended = asyncio.Event()

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(5)
        client.leaves()
        assert await reader.read() == b""  # the connection closes without the rest
        ended.set()

    async with serving(provider) as url, asking(path) as upstream:
        with pytest.raises(UploadBroken):
            await upstream.send("p", "POST", url, b"", [], Upload(b"hello", client, 100, LIMITS))
        await ended.wait()


async def test_a_provider_that_closes_ends_an_upload_that_waits_for_its_client() -> None:
    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(5)
        writer.close()

    async with serving(provider) as url, asking("pushed") as upstream:
        with pytest.raises(UpstreamError):
            await upstream.send("p", "POST", url, b"", [], Upload(b"hello", Client(), 100, LIMITS))


class Taking:
    """A handler that takes a body in, and keeps it."""

    def __init__(self, wanted: Wanted, most: int = 200_000, most_of_upload: int = 400_000) -> None:
        self.intake = Intake(most, most_of_upload, 60)
        self.wanted = wanted
        self.received: list[Received] = []
        self.refused: list[int] = []
        self.rest = b""

    async def handle(self, request: ClientRequest) -> None:
        try:
            received = await self.intake.receive(request, dict(request.headers), self.wanted)
        except Refused as refused:
            self.refused.append(refused.status)
            request.respond(refused.status, [(b"connection", b"close")], b"")
            return
        self.received.append(received)
        if received.rest is not None:
            while part := await received.rest.read():
                self.rest += part
        request.respond(200, [], b"")


def post(length: int | None, *lines: bytes) -> bytes:
    framing = b"content-length: %d" % length if length is not None else b"transfer-encoding: chunked"
    return b"\r\n".join([b"POST /x HTTP/1.1", b"host: h", framing, *lines, b"", b""])


@pytest.mark.parametrize(
    ("length", "kind", "whole", "streams"),
    [
        (300_000, b"", False, False),  # small, and can be sent again
        (2_000_000, b"", False, True),
        (2_000_000, b"multipart/form-data; boundary=b", False, True),
        (100_000, b"application/json", False, False),
        (2_000_000, b"application/json", False, True),  # more than is held
        (None, b"application/json", False, False),
        (None, b"application/jsonl", False, True),
        (None, b"", False, True),
        (None, b"", True, False),  # it has to be checked
    ],
)
async def test_what_is_held_and_what_passes(length: int | None, kind: bytes, whole: bool, streams: bool) -> None:
    taking = Taking(Wanted(whole=whole, read=False), most_of_upload=4_000_000)
    client = MemoryClient(taking.handle)
    size = length or 100_000
    chunk = b"%x\r\n%b\r\n" % (70_000, b"x" * 70_000) if length is None else b"x" * 70_000
    await client.send(post(length, *([b"content-type: " + kind] if kind else [])), chunk)
    assert bool(taking.received) == streams  # 64 KiB are enough to begin
    left = size - 70_000
    while left:
        part = min(left, 60_000)
        left -= part
        await client.send(b"%x\r\n%b\r\n" % (part, b"x" * part) if length is None else b"x" * part)
    await client.send(*([b"0\r\n\r\n"] if length is None else []))
    await settled()
    [received] = taking.received
    assert (received.rest is not None) == streams
    assert len(taking.rest) == (size if streams else 0)
    assert len(received.sent) < 200_000 if streams else len(received.sent) == size
    client.leave()
    await settled()


@pytest.mark.parametrize(
    ("length", "whole"), [(400_001, False), (200_001, True), (None, True)], ids=["declared", "held", "in chunks"]
)
async def test_limits_of_what_is_held_and_of_what_passes(length: int | None, whole: bool) -> None:
    taking = Taking(Wanted(whole=whole, read=False))
    client = MemoryClient(taking.handle)
    await client.send(post(length))
    if length is None:
        for _ in range(4):
            await client.send(b"%x\r\n%b\r\n" % (60_000, b"x" * 60_000))
    assert taking.refused == [413]
    await settled()


async def test_what_is_held_must_come_in_time() -> None:
    refused: list[int] = []

    async def handle(request: ClientRequest) -> None:
        try:
            await Intake(100, 100, idle=60, total=0.01).receive(request, {}, Wanted(whole=True, read=False))
        except Refused as exc:
            refused.append(exc.status)
        request.respond(408, [(b"connection", b"close")], b"")

    client = MemoryClient(handle)
    await client.send(post(10), b"half")
    while not refused:
        await asyncio.sleep(0.01)
    assert refused == [408]
    await settled()
