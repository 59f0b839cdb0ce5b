"""The table of what goes wrong with a provider: in memory, and with real sockets where a library decides the error."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import TransportFactory, UpstreamClient
from services.gateway.upstream.connection import BadAnswer, ClosedEarly, Unheard
from services.gateway.upstream.errors import translate
from services.gateway.upstream.head import TOO_LARGE
from shared.runtime.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from tests.support.certificates import certificate
from tests.support.serving import Handler, serving


def behind(outer: Exception, *inner: BaseException) -> Exception:
    """The error, raised from the others in turn."""
    error: BaseException = outer
    for cause in inner:
        error.__cause__ = cause
        error = cause
    return outer


def within(outer: Exception, inner: BaseException) -> Exception:
    outer.__context__ = inner
    return outer


SEVERAL = OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 9, 0, 0), [Errno 111] Connect call")
EITHER = [
    (ssl.SSLCertVerificationError("x"), "certificate"),
    (behind(httpx.ConnectError("x"), ssl.SSLCertVerificationError("x")), "certificate"),
    (BadAnswer(TOO_LARGE), "too_large"),
    (BadAnswer("Invalid header token"), "protocol"),
    (behind(httpx.ConnectError("x"), OSError("x"), ssl.SSLError("x")), "tls"),
    (behind(httpx.ConnectError("x"), socket.gaierror("x")), "dns"),
    (behind(httpx.ConnectError("x"), UnicodeError("label too long")), "dns"),
    (behind(httpx.ConnectError("x"), RuntimeError("x"), ConnectionRefusedError("x")), "connect_refused"),
    (behind(httpx.ConnectError("x"), SEVERAL), "connect_refused"),
    (behind(httpx.ConnectError("x"), ExceptionGroup("x", [OSError("x"), ConnectionRefusedError()])), "connect_refused"),
    (behind(httpx.ConnectError("x"), OSError("No route to host")), "connect_failed"),
    (httpx.ConnectError("x"), "connect_failed"),
    (behind(httpx.ConnectError("x"), ConnectionResetError("x")), "connect_failed"),
    (behind(httpx.ReadError("x"), ConnectionResetError("x")), "reset"),
    (within(httpx.ReadError("x"), ssl.SSLError("x")), "tls"),
    (httpx.ReadError("x"), "reset"),
    (httpx.WriteError("x"), "reset"),
    (BrokenPipeError("x"), "reset"),
    (httpx.ProxyError("407 Proxy Authentication Required"), "proxy"),
    (ClosedEarly("x"), "closed_early"),
    (httpx.RemoteProtocolError("Server disconnected without sending a response."), "closed_early"),
    (httpx.RemoteProtocolError("peer closed connection without sending complete message body"), "closed_early"),
    (httpx.RemoteProtocolError("illegal status line"), "protocol"),
    (httpx.LocalProtocolError("Illegal header value"), "request"),
    (httpx.UnsupportedProtocol("x"), "request"),
    (httpx.InvalidURL("x"), "request"),
    (httpx.StreamClosed(), "unknown"),
]


@pytest.mark.parametrize(("error", "cause"), EITHER)
@pytest.mark.parametrize("begun", [False, True])
def test_a_failure(error: Exception, cause: str, begun: bool) -> None:
    ours = translate(error, begun=begun)
    assert (type(ours), ours.cause) == (UpstreamBroken if begun else UpstreamUnreachable, cause)


@pytest.mark.parametrize(
    ("error", "begun", "cause"),
    [
        (httpx.PoolTimeout("x"), False, "pool_timeout"),
        (httpx.ConnectTimeout("x"), False, "connect_timeout"),
        (httpx.WriteTimeout("x"), False, "write_timeout"),
        (httpx.ReadTimeout("x"), False, "first_byte_timeout"),
        (httpx.ReadTimeout("x"), True, "idle_timeout"),
        (within(httpx.ReadTimeout("x"), ConnectionResetError("x")), True, "idle_timeout"),
    ],
)
def test_a_limit(error: Exception, begun: bool, cause: str) -> None:
    ours = translate(error, begun=begun)
    assert (type(ours), ours.cause) == (UpstreamTimeout, cause)


@pytest.mark.parametrize(("inner", "cause"), [(ClosedEarly("x"), "closed_early"), (httpx.ReadError("x"), "reset")])
def test_an_idle_connection_that_was_closed_asks_for_another_try(inner: Exception, cause: str) -> None:
    ours = translate(behind(Unheard("x"), inner), begun=False)
    assert (type(ours), ours.cause, ours.again) == (UpstreamUnreachable, cause, True)
    assert not translate(inner, begun=False).again


SECRET = "https://user:s3cret@host/v1?key=s3cret"
SAID = [
    (behind(httpx.ConnectError(SECRET), ConnectionRefusedError(111, SECRET)), "it refused the connection: Conn"),
    (behind(httpx.ConnectError(SECRET), socket.gaierror(-2, "Name or service not known")), "its host name cannot be"),
    (behind(httpx.ConnectError(SECRET), OSError(SECRET)), "no connection to it"),
    (behind(httpx.ConnectError(SECRET), OSError(113, SECRET)), "no connection to it: No route to host"),
    (behind(httpx.ReadError(SECRET), ConnectionResetError(104, SECRET)), "it reset the connection: Conn"),
    (httpx.ConnectTimeout(SECRET), "no connection to it in time"),
    (httpx.RemoteProtocolError(SECRET), "its answer is not HTTP"),
    (BadAnswer("Invalid header token"), "its answer is not HTTP: Invalid header token"),
    (httpx.ProxyError(SECRET), "the proxy does not connect to it"),
    (httpx.InvalidURL(SECRET), "the request cannot be sent"),
]


@pytest.mark.parametrize(("error", "said"), SAID)
def test_what_the_log_says_names_the_reason_and_no_secret(error: Exception, said: str) -> None:
    message = str(translate(error, begun=False))
    assert message.startswith(said)
    assert "s3cret" not in message


def test_what_was_handled_before_is_not_the_cause() -> None:
    error = within(httpx.ConnectError("x"), ssl.SSLError("x"))
    error.__suppress_context__ = True
    assert translate(error, begun=False).cause == "connect_failed"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"
PATHS: dict[str, TransportFactory | None] = {"pushed": None, "pulled": httpx.AsyncHTTPTransport}


LIMITS = GatewaySettings(first_byte_timeout=0.6, idle_timeout=0.6)


@asynccontextmanager
async def asking(path: str) -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient(LIMITS, PATHS[path])
    yield client
    await client.close()


async def failure(client: UpstreamClient, url: str) -> UpstreamError:
    """How one request ends."""
    try:
        answer = await client.send("p", "POST", url, b"", [], b"{}")
        try:
            await answer.relay(lambda _: None, LIMITS.idle_timeout)
        finally:
            answer.close()
    except UpstreamError as exc:
        return exc
    raise AssertionError("it ended well")


def answering(raw: bytes, *, reset: bool = False, silent: bool = False) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(raw)
        await writer.drain()
        if silent:
            await reader.read()
        if reset:
            await asyncio.sleep(0.05)
            linger = b"\1\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        writer.close()

    return handle


FAILURES: dict[str, tuple[Handler, type[UpstreamError], str]] = {
    "nothing": (answering(b""), UpstreamUnreachable, "closed_early"),
    "another protocol": (answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), UpstreamUnreachable, "protocol"),
    "silence": (answering(b"", silent=True), UpstreamTimeout, "first_byte_timeout"),
    "no status": (answering(b"HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n"), UpstreamUnreachable, "bad_status"),
    "half a body": (answering(HEAD), UpstreamBroken, "closed_early"),
    "half a body, reset": (answering(HEAD, reset=True), UpstreamBroken, "reset"),
    "half a body, silence": (answering(HEAD, silent=True), UpstreamTimeout, "idle_timeout"),
}


@pytest.mark.parametrize("path", PATHS)
async def test_both_paths_give_the_same_cause(path: str) -> None:
    """All at once: two of them take their time."""

    async def one(handler: Handler) -> tuple[type[UpstreamError], str]:
        async with serving(handler) as url:
            error = await failure(client, url)
        return type(error), error.cause

    async with asking(path) as client:
        found = await asyncio.gather(*(one(handler) for handler, _, _ in FAILURES.values()))
    expected = {name: (kind, cause) for name, (_, kind, cause) in FAILURES.items()}
    assert dict(zip(FAILURES, found, strict=True)) == expected


@pytest.mark.parametrize("path", PATHS)
async def test_no_connection_has_a_cause(path: str, tmp_path: Path) -> None:
    tls, _ = certificate(tmp_path)
    async with asking(path) as client:
        async with serving(answering(HEAD), tls) as url:
            assert (await failure(client, url)).cause == "certificate"
        assert (await failure(client, "http://127.0.0.1:9/v1")).cause == "connect_refused"
        assert (await failure(client, f"http://{'x' * 64}.invalid/v1")).cause in {"dns", "request"}
