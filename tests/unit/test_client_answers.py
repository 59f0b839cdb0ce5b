"""The server side of HTTP in memory: answers, and everything that happens beside them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.gateway.client.request import ClientRequest
from services.gateway.client.waiting import Limits
from tests.support.memory_client import (
    CHUNKED,
    GET,
    LIMITS,
    Draining,
    MemoryClient,
    Recorder,
    Script,
    post,
    settled,
    sized,
    statuses,
)


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Any:
    return lambda request: request.start(status, list(headers))


def write(body: bytes) -> Any:
    return lambda request: request.write(body)


def finish(request: ClientRequest) -> None:
    request.finish()


def abort(request: ClientRequest) -> None:
    request.abort(flush=True)


LENGTH = (b"content-length", b"5")
HEAD = GET.replace(b"GET", b"HEAD")
OLD = b"GET /x HTTP/1.0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
IN_CHUNKS = b"transfer-encoding: chunked\r\n\r\n"
CLOSE = b"connection: close\r\n"
LAST = GET.replace(b"host", CLOSE + b"host")
ANSWERS: list[tuple[bytes, list[Any], bytes, bool]] = [
    (GET, [start(), write(b"he"), write(b""), finish], OK + IN_CHUNKS + b"2\r\nhe\r\n0\r\n\r\n", False),
    (GET, [start(LENGTH), write(b"hello"), finish], OK + b"content-length: 5\r\n\r\nhello", False),
    (LAST, [start(LENGTH), write(b"hello"), finish], OK + b"content-length: 5\r\n" + CLOSE + b"\r\nhello", True),
    (GET, [start((b"connection", b"close")), finish], OK + CLOSE + IN_CHUNKS + b"0\r\n\r\n", True),
    (OLD, [start(), write(b"hello"), finish], OK + CLOSE + b"\r\nhello", True),
    (HEAD, [start(), write(b"hello"), finish], OK + b"\r\n", False),
    (HEAD, [start(LENGTH), write(b"hello"), finish], OK + b"content-length: 5\r\n\r\n", False),
    (GET, [start(status=204), finish], b"HTTP/1.1 204 No Content\r\n\r\n", False),
    (GET, [start(), write(b"he"), abort], OK + IN_CHUNKS + b"2\r\nhe\r\n", True),
    (GET, [start(), write(b"he")], OK + IN_CHUNKS + b"2\r\nhe\r\n", True),  # nobody ends it
    (GET, [start(LENGTH), write(b"he"), finish], OK + b"content-length: 5\r\n\r\nhe", True),
    (GET, [start(LENGTH), write(b"too long")], OK + b"content-length: 5\r\n\r\n", True),
    (GET, [lambda request: request.respond(200, [], b"hello")], OK + b"content-length: 5\r\n\r\nhello", False),
    (HEAD, [lambda request: request.respond(200, [LENGTH], b"")], OK + b"content-length: 5\r\n\r\n", False),
    (HEAD, [lambda request: request.respond(200, [], b"hello")], OK + b"\r\n", False),
    (GET, [lambda request: request.respond(304, [], b"")], b"HTTP/1.1 304 Not Modified\r\n\r\n", False),
    (GET, [lambda request: request.respond(529, [], b"")], b"HTTP/1.1 529 \r\ncontent-length: 0\r\n\r\n", False),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "calls", "answer", "closed"), ANSWERS)
async def test_answers(sent: bytes, calls: list[Any], answer: bytes, closed: bool) -> None:
    client = MemoryClient(Script(*calls).handle)
    await client.send(sent)
    assert sorted(client.answers.split(b"\r\n")) == sorted(answer.split(b"\r\n"))  # headers in any order
    assert client.answers.endswith(answer[-5:])
    assert client.closed() is closed


FAULTS: dict[str, list[Any]] = {
    "nothing": [],
    "a bug": [lambda _: 1 / 0],
    "a line break": [start((b"x", b"a\r\nset-cookie: b"))],
    "a bare line break": [lambda request: request.respond(200, [(b"x", b"a\nb: c")], b"")],
    "a length that is wrong": [lambda request: request.respond(200, [LENGTH], b"hi")],
    "no head": [write(b"hello")],
    "no response": [finish],
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_handler_that_fails_is_an_answer(name: str) -> None:
    client = MemoryClient(Script(*FAULTS[name]).handle)
    await client.send(GET)
    assert statuses(client.answers) == (500,)
    assert client.closed()


async def test_requests_wait_for_their_turn_and_reading_stops_meanwhile() -> None:
    script = Script(wait=True)
    client = MemoryClient(script.handle)
    await client.send(GET, sized(b"hello"))
    assert len(script.requests) == 1
    assert not client.transport.is_reading()
    script.requests[0].respond(200, [], b"first")
    await settled()
    assert len(script.requests) == 2
    assert client.transport.is_reading()
    assert script.requests[1].whole_body() == b"hello"


async def test_a_handler_that_listens_is_told_though_requests_wait() -> None:
    script = Script(wait=True)
    client = MemoryClient(script.handle)
    await client.send(GET + GET)
    assert client.transport.is_reading()
    client.leave()
    await settled()
    assert script.told == ["gone"]
    assert len(script.requests) == 1


async def test_noise_after_the_last_request_does_not_cost_its_answer() -> None:
    script = Script(wait=True)
    client = MemoryClient(script.handle)
    await client.send(LAST, *[b"x" * 200] * 3)
    script.requests[0].respond(200, [], b"fine")
    assert statuses(client.answers) == (200,)


async def test_all_are_told_when_the_client_leaves() -> None:
    script = Script(wait=True)
    client = MemoryClient(script.handle)
    await client.send(GET)
    client.leave()
    await settled()
    assert script.told == ["gone"]
    late = Script()
    script.requests[0].attach(late)
    assert late.told == ["gone"]
    for call in (start(), write(b"x"), finish, abort, lambda request: request.respond(200, [], b"")):
        call(script.requests[0])  # none raises


async def test_a_body_that_breaks_off_is_an_exception() -> None:
    script = Script()
    client = MemoryClient(script.read)
    await client.send(post(b"he", b"content-length: 5"))
    client.leave()
    await settled()
    assert script.left
    assert client.answers == b""
    assert not client.server.tasks


async def test_a_body_nobody_reads_is_not_taken_in() -> None:
    script = Script(wait=True)
    client = MemoryClient(script.handle)
    await client.send(post(b"", b"content-length: 1000000"))
    await client.send(b"x" * 70_000, b"y" * 70_000)
    assert not client.transport.is_reading()
    assert len(await script.requests[0].read()) == 70_000
    second = asyncio.ensure_future(script.requests[0].read())
    await settled()
    assert await second == b"y" * 70_000


async def test_a_client_that_reads_slowly_is_waited_for() -> None:
    script = Script(start(), wait=True)
    client = MemoryClient(script.handle)
    await client.send(GET)
    client.protocol.pause_writing()
    waiting = asyncio.ensure_future(script.requests[0].writable())
    late = Script()
    await settled()
    assert not waiting.done()
    client.protocol.resume_writing()
    await settled()
    assert waiting.done()
    assert script.told == ["full", "ready"]
    client.protocol.pause_writing()
    script.requests[0].attach(late)
    assert late.told == ["full"]


async def test_continue_is_sent_to_who_waits_for_it() -> None:
    recorder = Recorder()
    client = MemoryClient(recorder.handle)
    await client.send(post(b"", b"content-length: 5", b"expect: 100-continue"))
    assert client.answers == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"hello")
    assert statuses(client.answers) == (100, 200)
    await client.send(sized(b"hello", b"expect: 100-continue"))
    assert statuses(client.answers) == (100, 200, 200)


async def test_a_client_of_http_1_0_is_not_told_to_continue() -> None:
    client = MemoryClient(Recorder().handle)
    sent = post(b"", b"content-length: 5", b"expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    await client.send(sent, b"hello")
    assert statuses(client.answers) == (200,)


async def test_nothing_of_ours_gets_into_a_response_that_has_begun() -> None:
    head, _, rest = post(b"zz\r\n", CHUNKED).partition(b"\r\n\r\n")
    script = Script(start(), write(b"he"), wait=True)
    client = MemoryClient(script.handle)
    await client.send(head + b"\r\n\r\n", rest)
    assert statuses(client.answers) == (200,)
    assert client.answers.endswith(b"2\r\nhe\r\n")
    assert client.closed()
    assert script.told[-1] == "gone"


@pytest.mark.parametrize("bad", [b"nonsense\r\n\r\n", post(b"zz\r\n", CHUNKED), GET[:-2] + b"x" * 400])
async def test_requests_that_are_whole_are_answered_before_bad_bytes_end_the_connection(bad: bytes) -> None:
    script = Script(start(), write(b"he"), wait=True)
    client = MemoryClient(script.handle)
    await client.send(GET + GET + bad, bad)
    assert client.answers.endswith(b"2\r\nhe\r\n")
    for number in range(2):
        assert not client.closed()
        finish(script.requests[number])
        await settled()
    assert statuses(client.answers) == (200, 200)
    assert client.closed()
    assert "gone" not in script.told
    assert len(script.requests) == 2


async def test_a_drain() -> None:
    drain = Draining()
    script = Script(wait=True)
    client, idle = MemoryClient(script.handle, drain=drain), MemoryClient(script.handle, drain=drain)
    await client.send(GET)
    for one in (client, idle):
        one.protocol.shutdown()
    assert (client.closed(), idle.closed()) == (False, True)
    await client.send(GET)
    script.requests[0].respond(200, [], b"")
    await settled()
    assert statuses(client.answers) == (200,)
    assert b"connection: close" in client.answers
    assert client.closed()
    drain.draining = True
    client = MemoryClient(Recorder().handle, drain=drain)
    await client.send(GET + GET)
    assert statuses(client.answers) == (200,)
    assert client.closed()


async def test_what_is_cancelled_gets_an_answer() -> None:
    script = Script(wait=True)
    client = MemoryClient(script.handle)
    await client.send(GET)
    for task in client.server.tasks:
        task.cancel()
    await settled()
    assert statuses(client.answers) == (503,)


async def test_endless_trailers_are_refused() -> None:
    client = MemoryClient(Recorder().handle)
    await client.send(post(b"0\r\n", CHUNKED), *[b"x: y\r\n"] * 200)
    assert statuses(client.answers) == (431,)
    assert client.closed()


async def test_an_early_answer_reads_past_the_body() -> None:
    client = MemoryClient(Script(lambda request: request.respond(200, [], b"")).handle)
    await client.send(post(b"", b"content-length: 200000"), b"x" * 100_000, b"x" * 100_000 + GET)
    assert statuses(client.answers) == (200, 200)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], (408,)),
        ([b"GET /x HT"], (408,)),
        ([GET], (200,)),
        ([GET, b"GE"], (200, 408)),
        ([GET, b"\r\n"], (200,)),
        ([GET + b"GE"], (200,)),
    ],
)
async def test_silence_ends_a_connection(pieces: list[bytes], expected: tuple[int, ...]) -> None:
    client = MemoryClient(Recorder().handle, Limits(300, 10, header_timeout=0.05, keep_alive_timeout=0.06))
    await client.send(*pieces)
    assert not client.closed()
    async with asyncio.timeout(5):
        while not client.closed():
            await asyncio.sleep(0.01)
    assert statuses(client.answers) == expected
    assert not client.transport.ended, "who drips is not waited for any longer"


async def test_time_does_not_run_while_a_client_waits_for_us() -> None:
    script = Script(wait=True)
    client = MemoryClient(script.handle, LIMITS._replace(header_timeout=0.01, keep_alive_timeout=0.01))
    await client.send(GET, b"GE")
    await asyncio.sleep(0.05)
    assert not client.closed()


async def test_a_client_that_does_not_read_gets_no_more_answers() -> None:
    """Each answer is small, and the client could ask for any number of them."""
    script = Script(lambda request: request.respond(200, [], b""))
    client = MemoryClient(script.handle)
    client.protocol.pause_writing()
    await client.send(GET * 100)
    assert len(script.requests) == 1, "the others wait until it has read"
    assert not client.transport.is_reading()
    client.protocol.resume_writing()
    for _ in range(100):
        await settled()
    assert len(script.requests) == 100


async def test_many_waiting_requests_stop_the_reading() -> None:
    script = Script(wait=True)
    client = MemoryClient(script.handle)
    await client.send(GET * 20)
    assert len(script.requests) == 1
    script.requests[0].respond(200, [], b"")
    await settled()
    assert len(script.requests) == 2
    assert not client.transport.is_reading(), "eighteen wait"


async def test_nothing_can_be_written_behind_the_end() -> None:
    script = Script(start(), write(b"all"), lambda request: request.finish(), wait=True)
    client = MemoryClient(script.handle)
    await client.send(GET)
    before = client.answers
    with pytest.raises(RuntimeError):
        script.requests[0].write(b"late")
    assert client.answers == before


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        (b"/llm/v1/models", b"/v1/models"),
        (b"/llm", b"/"),
        (b"/llm/", b"/"),
        (b"/llms/v1", b"/llms/v1"),
        (b"/v1/llm/x", b"/v1/llm/x"),
        (b"/llm/llm/x", b"/llm/x"),
        (b"/", b"/"),
    ],
)
async def test_a_prefix_is_taken_off_where_it_is_there(target: bytes, rest: bytes) -> None:
    script = Script(wait=True)
    await MemoryClient(script.handle).send(GET.replace(b"/x", target + b"?q=/llm/"))
    script.requests[0].remove_prefix(b"/llm")
    assert (script.requests[0].target, script.requests[0].query) == (rest, b"q=/llm/")


async def test_addresses() -> None:
    script = Script(wait=True)
    await MemoryClient(script.handle).send(GET)
    assert (script.requests[0].client, script.requests[0].server) == (("192.0.2.7", 1234), ("192.0.2.1", 80))
