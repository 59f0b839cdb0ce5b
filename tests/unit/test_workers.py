"""Workers as their parent sees them, with processes in memory."""

from __future__ import annotations

import json
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast

from services.cli.workers import Workers


class Process:
    """A process that takes signals."""

    returncode = 0

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []

    def poll(self) -> None:
        return None

    def wait(self) -> int:
        return 0

    def send_signal(self, number: signal.Signals) -> None:
        self.signals.append(number)


class _Admin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"reasons": []}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def test_a_worker_that_is_starting_gets_no_hangup() -> None:
    """It would end of it: a process that has just begun has no handler yet."""
    process, listeners = Process(), []

    def start(number: int, admin: socket.socket) -> Any:
        listeners.append(admin)
        return process

    with Workers(1, cast("Any", start)) as workers:
        workers.send(signal.SIGHUP)
        assert process.signals == []
        server = HTTPServer(listeners[0].getsockname(), _Admin, bind_and_activate=False)
        server.socket.close()
        server.socket = listeners[0].dup()
        server.socket.listen()
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        assert workers.look()
        thread.join(30)
        server.server_close()
        workers.send(signal.SIGHUP)
        assert process.signals == [signal.SIGHUP]
