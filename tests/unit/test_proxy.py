"""Providers by way of an outbound proxy: through it, byte for byte, and as it comes."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import UpstreamClient
from shared.runtime.errors import UpstreamError, UpstreamUnreachable
from tests.support.certificates import PEM, certificate
from tests.support.proxy import Proxy
from tests.support.serving import serving

PARTS = [b"data: 1\n\n", b"\x00\xff\r\n0\r\n\r\n", b"data: [DONE]\n\n"]
BODY = b'{"model": "gpt-4o",  "stream":true}\r\n'
QUERY = b'a=%41&b=c|d&&e="{}'
AUTHORIZATION = b"Basic " + base64.b64encode(b"user:se@cret")


@dataclass
class Provider:
    """Streams its parts; each waits until the part before has reached the client."""

    requests: list[bytes] = field(default_factory=list)
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head + await reader.readexactly(len(BODY)))
            writer.write(b"HTTP/1.1 200 OK\r\nX-Odd-Case: yes\r\ntransfer-encoding: chunked\r\n\r\n")
            for part in PARTS:
                async with asyncio.timeout(5):
                    await self.arrived.acquire()
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            writer.write(b"0\r\n\r\n")


@dataclass
class Setup:
    proxy: Proxy
    provider: Provider
    client: UpstreamClient
    url: str  # the provider's

    async def ask(self) -> list[bytes]:
        """The parts of a streamed answer, as they came."""
        answer = await self.client.send("p", "POST", f"{self.url}/%7Ev1//chat", QUERY, [(b"x-a", b"B")], BODY)
        parts: list[bytes] = []

        def sink(part: bytes) -> None:
            parts.append(part)
            self.provider.arrived.release()

        try:
            assert (answer.status, answer.headers[0]) == (200, (b"X-Odd-Case", b"yes"))
            await answer.relay(sink, 5)
            assert answer.ended
        finally:
            answer.close()
        return parts


@asynccontextmanager
async def proxied(folder: Path, *, provider_tls: bool, proxy_tls: bool) -> AsyncIterator[Setup]:
    server, _ = certificate(folder)
    proxy, provider = Proxy(), Provider()

    def tls(wanted: bool) -> ssl.SSLContext | None:
        return server if wanted else None

    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(serving(provider.handle, tls(provider_tls)))
        via = await stack.enter_async_context(serving(proxy.handle, tls(proxy_tls)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(folder / PEM))
            setting = via.removesuffix("/x").replace("://", "://user:se%40cret@")
            client = UpstreamClient(GatewaySettings.model_validate({"upstream_proxy": setting}))
        stack.push_async_callback(client.close)
        yield Setup(proxy, provider, client, there.removesuffix("/x"))


@pytest.mark.parametrize("proxy_tls", [False, True])
@pytest.mark.parametrize("provider_tls", [False, True])
async def test_a_stream_through_the_proxy(tmp_path: Path, provider_tls: bool, proxy_tls: bool) -> None:
    async with proxied(tmp_path, provider_tls=provider_tls, proxy_tls=proxy_tls) as setup:
        assert await setup.ask() == PARTS
        assert await setup.ask() == PARTS
        place = setup.url.partition("://")[2].encode()
        sent = b"POST /%7Ev1//chat?" + QUERY + b" HTTP/1.1\r\nhost: " + place
        for request in setup.provider.requests:
            assert request.startswith(sent)
            assert request.endswith(b"\r\nx-a: B\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
            assert b"roxy" not in request
        assert len(setup.provider.requests) == 2
        assert len(setup.proxy.heads) == (1 if provider_tls else 2)  # one tunnel serves both
        wanted = b"CONNECT " + place if provider_tls else b"POST http://" + place + b"/%7Ev1//chat?" + QUERY
        for head in setup.proxy.heads:
            assert head.startswith(wanted + b" HTTP/1.1\r\n")
            assert b"\r\nProxy-Authorization: " + AUTHORIZATION + b"\r\n" in head


def test_a_proxy_is_named_without_its_password() -> None:
    client = UpstreamClient(GatewaySettings.model_validate({"https_proxy": "http://user:s3cret@proxy:3128/"}))
    assert client.proxy("openai", "https://api.openai.com/v1/models") == "proxy:3128"
    assert client.proxy("vllm", "http://vllm:8000/v1/models") == ""


async def test_a_proxy_that_refuses(tmp_path: Path) -> None:
    async with proxied(tmp_path, provider_tls=True, proxy_tls=False) as setup:
        setup.proxy.refuses = b"407 Proxy Authentication Required"
        with pytest.raises(UpstreamUnreachable) as refused:
            await setup.ask()
        assert refused.value.cause == "proxy"
        assert setup.provider.requests == []


async def test_a_proxy_that_is_not_there() -> None:
    client = UpstreamClient(GatewaySettings.model_validate({"upstream_proxy": "http://user:se%40cret@127.0.0.1:9"}))
    with pytest.raises(UpstreamError) as refused:
        await client.send("p", "GET", "http://127.0.0.1:1/", b"", [], b"")
    assert refused.value.cause == "connect_refused"
    assert "cret" not in repr(refused.value)
    await client.close()
