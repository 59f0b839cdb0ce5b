"""A provider that answers each of its credentials in another way, and keeps who asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
_HANG_SECONDS = 60.0  # at most: nothing is left behind


class Reply(NamedTuple):
    """An answer. Status 0 is none: the provider hangs, and -1: it begins a stream and breaks off."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""

    @property
    def body(self) -> bytes:
        choices = [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
        whole = {"id": "c", "object": "chat.completion", "model": "m", "choices": choices, "usage": USAGE}
        failed = {"error": {"message": self.text or f"HTTP {self.status}", "type": "test", "code": None}}
        return json.dumps(whole if self.status == 200 else failed).encode()


class KeyedProvider:
    """Listens on loopback while the block runs. `replies`: by API key; every other one gets 200."""

    def __init__(self) -> None:
        self.asked: list[str] = []  # API keys, in the order of their requests
        self.replies: dict[str, Reply] = {}
        self.ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"provider": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join(60)
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: KeyedProvider

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["authorization"].removeprefix("Bearer ")
        self.provider.asked.append(key)
        reply = self.provider.replies.get(key, Reply())
        if reply.status == 0:
            self.provider.ended.wait(_HANG_SECONDS)
            self.close_connection = True
            return
        if reply.status == -1:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b'data: {"id": "c", "choices": []}\n\n')
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
