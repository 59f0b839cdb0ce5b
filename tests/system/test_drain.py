"""SIGTERM: streams may end; the others are aborted so that no client takes them for whole, and all are booked."""

from __future__ import annotations

import json
import signal
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx

from services.cli.processes import free_port
from tests.support import web
from tests.support.children import ending
from tests.support.requests import ASKS
from tests.support.system import System


def test_a_drain(tmp_path: Path) -> None:
    with System(tmp_path, AROUTER_SHUTDOWN_TIMEOUT="8") as system, ExitStack() as stack:
        url = f"http://127.0.0.1:{free_port(0)}"
        gateway = stack.enter_context(ending(system.start_gateway(url)))
        system.processes.forget(gateway)
        system.processes.wait_for(f"{url}/readyz")
        host, _, port = url.removeprefix("http://").partition(":")
        idle = stack.enter_context(socket.create_connection((host, int(port)), 60))
        idle.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        answered = b""
        while not answered.endswith(b"}"):
            answered += idle.recv(4096)

        outcomes: dict[str, str] = {}
        ids: dict[str, str] = {}
        running = threading.Barrier(3)

        def stream(name: str, directives: str) -> None:
            ask = ASKS["chat stream"]
            headers = ask.headers(system.key, directives)
            with web.stream("POST", url + ask.path, headers=headers, json=ask.body) as response:
                ids[name] = response.headers["x-generation-id"]
                if response.status_code != 200:
                    outcomes[name] = str(response.status_code)
                    return
                running.wait(60)
                try:
                    body = response.read()
                    outcomes[name] = "whole" if body.endswith(b"data: [DONE]\n\n") else "short"
                except httpx.RemoteProtocolError:
                    outcomes[name] = "cut"

        clients = [
            threading.Thread(target=stream, args=("long", "tokens=9000, pace=40")),
            threading.Thread(target=stream, args=("waiting", "hang=600000")),
        ]
        for client in clients:
            client.start()
        system.until(lambda: system.pending() == 2)  # the last of them waits for its provider
        clients.append(threading.Thread(target=stream, args=("short", "tokens=30, pace=40")))
        clients[-1].start()
        running.wait(60)  # the others have their headers
        gateway.send_signal(signal.SIGTERM)
        assert idle.recv(4096) == b"", "an idle connection closes"
        system.until(lambda: not listens(host, int(port)))
        for client in clients:
            client.join(90)
        assert gateway.wait(90) == 0
        assert outcomes == {"short": "whole", "long": "cut", "waiting": "503"}

        book = system.settled(ids.values())
        waiting = book[ids["waiting"]]
        assert (waiting["outcome"], waiting["response_bytes"]) == ("drained", 0)
        short, long = book[ids["short"]], book[ids["long"]]
        assert (short["outcome"], short["source"]) == ("completed", "reported")
        assert (long["outcome"], long["source"]) == ("drained", "partial")
        assert long["response_bytes"] > 0
        assert json.loads(system.command("audit", "--json"))["differences"] == []
        folders = [path for path in (tmp_path / "journal").iterdir() if path.is_dir()]
        assert len(folders) == 1, "the one that left has left no journal"


def listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1):
            return True
    except ConnectionRefusedError:
        return False
