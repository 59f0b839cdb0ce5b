"""A receiver of posted bodies on loopback, in a thread: it keeps what it gets, and answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Posted(NamedTuple):
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Receiver:
    """`got`: everything; `taken`: what it has said to have. `answers`: statuses in turn, the last one for good;
    `headers` and `said` go with each."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.got: list[Posted] = []
        self.taken: list[Posted] = []
        self.answers = [204]
        self.headers: dict[str, str] = {}
        self.said = b""
        self.silent = threading.Event()  # set: it does not answer at all
        self.ending = threading.Event()

    def take(self, posted: Posted) -> int:
        """Keep it; the status of the answer, 0 for none."""
        self.got.append(posted)
        if self.silent.is_set():
            return 0
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if 200 <= status < 300:
            self.taken.append(posted)
        return status


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """A receiver that takes everything."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # as the library calls it
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take(Posted(self.path, {n.lower(): v for n, v in self.headers.items()}, body))
            if not status:
                receiver.ending.wait()
                return
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(receiver.said)))
            self.end_headers()
            self.wfile.write(receiver.said)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.ending.set()
            server.shutdown()
            thread.join()
