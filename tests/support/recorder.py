"""A provider that takes uploads: it counts and hashes bodies as they come, and keeps none of them."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_PIECE = 65536


@dataclass
class Taken:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    size: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)
    whole: bool = False
    first: bytes = b""  # of the body


class Recorder:
    """Listens on loopback while the block runs. `taken`: the requests, in order."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                self.close_connection = not self.raw_requestline or not self.parse_request()
                if not self.close_connection:
                    recorder._take(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: a test says what it saw."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        taken = Taken(request.command, request.path, headers)
        self.taken.append(taken)
        if "x-early" in headers:  # answered before the body is read, and left open until the other end closes
            self._answer(request, taken)
            while request.rfile.read1(_PIECE):
                taken.size += 1
            request.close_connection = True
            return
        chunked = headers.get("transfer-encoding") == "chunked"
        left = int(headers.get("content-length", 0))
        while left or chunked:
            if chunked and not left:
                left = int(request.rfile.readline(), 16)
                if not left:
                    request.rfile.readline()
                    break
            piece = request.rfile.read(min(left, _PIECE))
            if not piece:
                request.close_connection = True
                return
            left -= len(piece)
            taken.size += len(piece)
            taken.sha256.update(piece)
            taken.first = taken.first or piece
            if chunked and not left:
                request.rfile.readline()
        taken.whole = True
        self._answer(request, taken)

    def _answer(self, request: BaseHTTPRequestHandler, taken: Taken) -> None:
        document: dict[str, Any] = {"id": "x-1", "object": "thing", "bytes": taken.size}
        if taken.target.endswith("/chat/completions"):  # an answer that reports no usage
            message = {"role": "assistant", "content": "ok"}
            document |= {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        given = {"content-type": "application/json"}
        if taken.headers.get("x-goog-upload-command") == "start":
            given["x-goog-upload-url"] = f"{self.url}/upload/v1beta/files?upload_id=1&upload_protocol=resumable"
            given["x-goog-upload-status"] = "active"
        elif "finalize" in taken.headers.get("x-goog-upload-command", ""):
            given["x-goog-upload-status"] = "final"
            document = {"file": {"name": "files/f", "uri": f"{self.url}/v1beta/files/f", "sizeBytes": str(taken.size)}}
        elif "x-goog-upload-command" in taken.headers:
            given["x-goog-upload-status"] = "active"
        body = json.dumps(document).encode()
        lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in given.items())]
        request.wfile.write("\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body)
