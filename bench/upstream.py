"""A paced provider for the relay's bench: `python -m bench.upstream PORT`.

The request says what it wants in `x-bench: events=100 gap=20` (milliseconds; 0 writes back to back). Every event
carries the monotonic time it was sent at, so that a client on the same machine knows how long it took.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time

import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o","choices":'
    b'[{"index":0,"delta":{"content":" t%020d and a few more words"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_USAGE = b'{"prompt_tokens":17,"completion_tokens":100,"total_tokens":117}'
_LAST = b'data: {"choices":[],"usage":' + _USAGE + b"}\n\ndata: [DONE]\n\n"
_JSON = b'{"id":"chatcmpl-bench","object":"chat.completion","model":"gpt-4o","choices":[],"usage":' + _USAGE + b"}"
_REQUEST = re.compile(rb"(?is).*?\r\ncontent-length: *(\d+)(?=\r\n).*?\r\n\r\n")
_WANTED = re.compile(rb"(?i)\r\nx-bench: *events=(\d+) gap=(\d+)")


class Provider(asyncio.Protocol):
    """One connection, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's are none by inheritance
        self._missing = 0
        self._head = b""
        self._left = 0

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            head = _REQUEST.match(self._head)
            if head is None:
                return
            self._missing = int(head[1]) - (len(self._head) - head.end())
            wanted = _WANTED.search(head[0])
            self._left, self._gap = (int(wanted[1]), int(wanted[2]) / 1000) if wanted else (0, 0.0)
            self._head = b""
        if self._missing <= 0:
            self._missing = 0
            self._answer()

    def _answer(self) -> None:
        if not self._left:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_JSON)
            self._transport.write(head + _JSON)
            return
        self._transport.write(_HEAD)
        self._due = asyncio.get_running_loop().time()
        self._next()

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._transport.is_closing():
            return
        if not self._left:
            self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(_LAST), _LAST))
            return
        self._left -= 1
        event = _EVENT % time.monotonic_ns()
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        self._due += self._gap
        if self._gap:
            loop.call_at(self._due, self._next)
        else:
            loop.call_soon(self._next)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
