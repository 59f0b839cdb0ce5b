"""The relay's contract: the pushed path (our transport) and the pulled one (any httpx transport) do the same.

Every case runs on both, over the demo provider's whole list of misbehaviours: same bytes, same end, same outcome, same
error. How many ran on each is printed with the results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from services.cli.processes import free_port
from services.demo.scenario import Scenario
from services.gateway.assembly import Gateway
from services.gateway.server import configured
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import TransportFactory
from shared.runtime.sockets import bound
from tests.support import web
from tests.support.paths import RAN
from tests.support.raw_upstream import RawUpstream
from tests.support.requests import ASKS, connected, raw_request
from tests.support.system import System

PATHS: dict[str, TransportFactory | None] = {"pushed": None, "pulled": lambda: httpx.AsyncHTTPTransport(retries=0)}
# Reached by what stalls, and not by what is slow because the machine is busy.
LIMITS = {"AROUTER_FIRST_BYTE_TIMEOUT": "4", "AROUTER_IDLE_TIMEOUT": "4", "AROUTER_SLOW_READER_TIMEOUT": "5"}
STREAMED = ["chat stream", "messages stream", "gemini array"]
CASES = [
    *((name, directives) for name in ASKS for directives in ("", "bytewise", "close-delimited", "status=429")),
    *(
        (name, directives)
        for name in [*STREAMED, "chat"]
        for directives in (
            "split=7, tokens=40",
            "tools",
            "no-usage",
            "huge=2000000, split=70000",
            "pace=3",
            "gzip",
            "deflate, split=5",
            "br",
            "zstd",
            "hang=50",
            "refuse",
            "status=500",
            "error",
            "truncate",
            "cut",
            "cut, after=0",
            "cut, close-delimited",
            "reset",
            "stall=100",
        )
    ),
    ("chat stream", "status=429, retry-after=2"),
    ("chat stream", "hang"),
    ("chat stream", "stall"),
    ("messages stream", "stall, gzip"),
]


@pytest.fixture(scope="module")
def both(system: System) -> Iterator[dict[str, str]]:
    """A gateway of each kind in front of the same provider and the same books; their URLs."""
    with ExitStack() as stack:
        yield {path: stack.enter_context(gateway(system, factory)) for path, factory in PATHS.items()}


@contextmanager
def gateway(system: System, factory: TransportFactory | None, **variables: str) -> Iterator[str]:
    port = free_port(0)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**system.environment, **LIMITS, **variables, "AROUTER_PORT": str(port)}.items():
            patch.setenv(name, value)
        settings = GatewaySettings.load()
    server = configured(settings, Gateway(settings, system.redis_url, transport=factory))
    thread = threading.Thread(target=server.run, kwargs={"sockets": bound("127.0.0.1", port)})
    thread.start()
    url = f"http://127.0.0.1:{port}"
    try:
        system.processes.wait_for(f"{url}/readyz")
        yield url
    finally:
        server.should_exit = True
        thread.join(90)
    assert not thread.is_alive()


def test_every_misbehaviour_is_among_the_cases() -> None:
    tried = {part.split("=")[0].strip() for _, directives in CASES for part in directives.split(",")}
    known = {field.name.replace("_", "-") for field in dataclasses.fields(Scenario)}
    # Which words are said, and their order; and background work, whose paths tests/system/test_work.py takes.
    assert known - tried == {"seed", "say", "work"}


@pytest.mark.parametrize(("name", "directives"), CASES)
def test_both_paths_do_the_same(system: System, both: dict[str, str], name: str, directives: str) -> None:
    seen = {path: observe(system, path, url, name, directives) for path, url in both.items()}
    assert seen["pushed"] == seen["pulled"]


def observe(system: System, path: str, url: str, name: str, directives: str) -> dict[str, Any]:
    """What a client and the books see of one exchange."""
    RAN[path] += 1
    ask = ASKS[name]
    body = b""
    proper = True
    with web.stream("POST", url + ask.path, headers=ask.headers(system.key, directives), json=ask.body) as response:
        try:
            for part in response.iter_raw():
                body += part
        except httpx.RemoteProtocolError:
            proper = False
    id = response.headers["x-generation-id"]
    entry = system.settled([id])[id]
    line = system.until(lambda: system.emitted().get(id)) if directives != "hang" else None
    by_us = entry["status"] is None  # the provider gave no answer, so that we did
    sent = None if by_us or "reset" in directives else line and hashlib.sha256(body).hexdigest() == line["sha256"]
    assert sent in (True, None), "not the provider's bytes"
    assert proper is (entry["outcome"] == "completed" or by_us)
    ignored = {"date", "x-generation-id", "x-request-id", "request-id", "content-length", "transfer-encoding"}
    ignored.add("x-arouter-attempts")  # only one of the two paths sends a request once more on a new connection
    kept = ("outcome", "source", "status", "complete", "input_tokens", "output_tokens", "total_tokens", "lost_bytes")
    return {
        "status": response.status_code,
        "headers": sorted((name, value) for name, value in response.headers.items() if name not in ignored),
        "error": body if by_us else None,
        "proper": proper,
        **{field: entry[field] for field in kept if not (field == "output_tokens" and "reset" in directives)},
    }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path_of", ["/v1/models", "/openai/v1/models/x"])
def test_bodiless_answers(both: dict[str, str], system: System, method: str, path_of: str) -> None:
    seen = {}
    for path, url in both.items():
        RAN[path] += 1
        with web.client(trust_env=False) as client:
            answers = [
                client.request(method, url + path_of, headers={"authorization": f"Bearer {system.key}"})
                for _ in range(3)  # on one connection: what is left of one answer would begin the next
            ]
        own = re.compile(rb"[0-9A-Z]{26}\.\d+\.\d+")  # the id of the exchange, which this provider repeats
        seen[path] = [(answer.status_code, own.sub(b"", answer.content)) for answer in answers]
    assert seen["pushed"] == seen["pulled"]


RAW = {
    "204 with a length": b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
    "no length, no end": b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nuntil it closes",
    "too short": b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf",
    "interim first": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "no http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    "nothing": b"",
    "trailers": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n",
}


def test_strange_answers(system: System) -> None:
    seen: dict[str, dict[str, Any]] = {}
    with RawUpstream() as upstream:
        for path, factory in PATHS.items():
            with gateway(system, factory, AROUTER_PROVIDERS__DEEPSEEK__BASE_URL=upstream.url) as url:
                for name, raw in RAW.items():
                    RAN[path] += 1
                    upstream.answer = raw
                    seen.setdefault(name, {})[path] = strange(url, system.key)
    for name, answers in seen.items():
        assert answers["pushed"] == answers["pulled"], name


def strange(url: str, key: str) -> tuple[int, bytes, bool]:
    """Status, body, and whether the body came to a proper end."""
    body = b""
    try:
        with web.stream(
            "POST", f"{url}/deepseek/v1/x", headers={"authorization": f"Bearer {key}"}, json={}
        ) as response:
            for part in response.iter_raw():
                body += part
    except httpx.RemoteProtocolError:
        return response.status_code, body, False
    return response.status_code, body, True


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_does_not_read_pauses_the_provider(system: System, both: dict[str, str], path: str) -> None:
    RAN[path] += 1
    host, _, port = both[path].removeprefix("http://").partition(":")
    ask = raw_request("/v1/chat/completions", system.key, ASKS["chat stream"].body, "x-demo: huge=60000000")
    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(ask)
        head = client.recv(2000)
        id = head.partition(b"x-generation-id: ")[2].split(b"\r\n")[0].decode()
        entry = system.settled([id])[id]  # cut by the slow-reader limit
    assert entry["outcome"] == "timed_out"
    assert 0 < entry["response_bytes"] < 30_000_000  # most of it was never read from the provider


@pytest.mark.parametrize("path", PATHS)
def test_a_slow_reader_gets_everything(system: System, both: dict[str, str], path: str) -> None:
    RAN[path] += 1
    ask = ASKS["chat stream"]
    digest = hashlib.sha256()
    with web.stream(
        "POST", both[path] + ask.path, headers=ask.headers(system.key, "huge=12000000"), json=ask.body
    ) as response:
        for number, part in enumerate(response.iter_raw()):
            digest.update(part)
            if number % 8 == 0:
                time.sleep(0.01)
    id = response.headers["x-generation-id"]
    assert system.until(lambda: system.emitted().get(id))["sha256"] == digest.hexdigest()


def new_exchanges(system: System, before: set[str]) -> set[str]:
    return set(system.ledger()) - before


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_leaves_ends_the_exchange(system: System, both: dict[str, str], path: str) -> None:
    RAN[path] += 1
    key = system.command("keys", "create", "--name", "leaves").strip()
    for directives in ("tokens=5000, pace=20", "tokens=30, after=6, stall", "hang=600000"):
        before = set(system.ledger())
        ask = raw_request("/v1/chat/completions", key, ASKS["chat stream"].body, f"x-demo: {directives}")
        with connected(both[path]) as client:
            client.sendall(ask)
            system.until(partial(system.pending, key))
        [id] = system.until(partial(new_exchanges, system, before))
        assert system.ledger()[id]["outcome"] == "client_gone"
