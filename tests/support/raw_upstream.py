"""An upstream that answers every request with the same raw bytes, which no decent server would send, and closes."""

from __future__ import annotations

import re
import socket
import threading
from types import TracebackType
from typing import Self


class RawUpstream:
    """Listens on loopback while the block runs. `answer` may be changed meanwhile, and so may the moment at which a
    connection closes: after its answer, or when the next request has come on it."""

    def __init__(self) -> None:
        self.answer = b""
        self.closes_under_the_next = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                _read_request(connection)
                connection.sendall(self.answer)
                if self.closes_under_the_next:
                    _read_request(connection)


def _read_request(connection: socket.socket) -> None:
    """Read the whole request: closing with unread bytes would reset the connection."""
    data = b""
    while b"\r\n\r\n" not in data and (part := connection.recv(65536)):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]) and (part := connection.recv(65536)):
        body += part
