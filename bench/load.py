"""Clients for the relay's bench: `python -m bench.load PORT KEY CONNECTIONS SECONDS EVENTS GAP BODY`.

Each connection asks again as soon as it has its answer; GAP is in milliseconds, BODY the bytes of the request. EVENTS 0
asks for a plain JSON answer. Prints one JSON object; delays are in microseconds.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

import uvloop

_SENT = re.compile(rb" t(\d{20})")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Results:
    """The counts of all connections. Only requests sent after `start` count."""

    def __init__(self) -> None:
        self.requests = self.events = self.errors = 0
        self.delays: list[int] = []
        self.first: list[int] = []


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, results: Results, streamed: bool) -> None:
        self._request = request
        self._results = results
        self._streamed = streamed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's are none by inheritance
        self._ask()

    def _ask(self) -> None:
        self._asked = time.monotonic_ns()
        self._head = b""
        self._body: int | None = None
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._body is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._results.errors += not head.startswith(b"HTTP/1.1 200")
            length = _LENGTH.search(head)
            self._left = int(length[1]) if length else None
            self._body = 0
        if data and not self._body:
            self._results.first.append((now - self._asked) // 1000)
        self._body += len(data)
        for sent in _SENT.findall(data):
            self._results.events += 1
            self._results.delays.append((now - int(sent)) // 1000)
        if data.endswith(b"0\r\n\r\n") if self._left is None else self._body >= self._left:
            self._results.requests += 1
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._results.errors += 1


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[int(share * (len(values) - 1))] if values else 0


async def main() -> None:
    port, key, connections, seconds, events, gap, size = sys.argv[1:]
    streamed = int(events) > 0
    message = "a" * int(size)
    body = json.dumps({"model": "gpt-4o", "stream": streamed, "messages": [{"role": "user", "content": message}]})
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: bench",
        f"authorization: Bearer {key}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *([f"x-bench: events={events} gap={gap}"] if streamed else []),
    ]
    request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body.encode()
    results = Results()
    loop = asyncio.get_running_loop()
    for number in range(int(connections)):
        await loop.create_connection(lambda: Client(request, results, streamed), "127.0.0.1", int(port))
        if number % 20 == 0:
            await asyncio.sleep(0.002)
    await asyncio.sleep(float(seconds))
    print(
        json.dumps(
            {
                "requests": results.requests,
                "events": results.events,
                "errors": results.errors,
                "delay_p50": percentile(results.delays, 0.5),
                "delay_p99": percentile(results.delays, 0.99),
                "first_p50": percentile(results.first, 0.5),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    uvloop.run(main())
