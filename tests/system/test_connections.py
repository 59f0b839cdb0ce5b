"""Clients' connections to one real gateway: how they begin, how they are kept, and how they end."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.cli.processes import free_port
from shared.runtime.settings import own_environment
from tests.support import web
from tests.support.children import ending
from tests.support.nginx import nginx
from tests.support.requests import ASKS, connected, exchange_bytes, raw_request
from tests.support.system import System

CHAT = ASKS["chat"]
UPLOAD = b"x" * 20_000_000
HANDSHAKE = (
    "GET {} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\n"
    "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    settings = {
        "AROUTER_MAX_BODY_BYTES": "1000",
        "AROUTER_MAX_UPLOAD_BYTES": "1000",
        "AROUTER_SLOW_READER_TIMEOUT": "4",
        "AROUTER_BODY_TOTAL_TIMEOUT": "4",
        "AROUTER_BASE_PATH": "/llm",
        "AROUTER_HOST": "::",
    }
    with System(tmp_path_factory.mktemp("connections"), **settings) as system:
        yield system


def port_of(system: System) -> int:
    return int(system.url.rpartition(":")[2])


@pytest.mark.parametrize(
    ("path", "good", "status"),
    [
        (CHAT.path, True, 413),
        (CHAT.path, False, 401),
        ("/openai/v1/files", True, 413),
        ("/nobody/v1/files", True, 404),
        ("/api/v1/keys", False, 401),
    ],
)
def test_a_refusal_arrives_though_its_client_still_sends(running: System, path: str, good: bool, status: int) -> None:
    """As http.client does: it sends everything before it reads."""
    client = http.client.HTTPConnection("127.0.0.1", port_of(running), timeout=60)
    for _ in range(3):
        client.request("POST", path, UPLOAD, CHAT.headers(running.key if good else "nobody"))
        answer = client.getresponse()
        assert (answer.status, answer.getheader("connection")) == (status, "close")
        assert json.loads(answer.read())["error"]["message"]
    client.close()


def test_it_arrives_through_a_proxy_that_passes_uploads_on(running: System, tmp_path: Path) -> None:
    with nginx(tmp_path, [running.url]) as url:
        for key, status in ((running.key, 413), ("nobody", 401)) * 3:
            # Each on a connection of its own: nginx says keep-alive, and closes.
            client = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=60)
            client.request("POST", CHAT.path, UPLOAD, CHAT.headers(key))
            answer = client.getresponse()
            assert (answer.status, bool(json.loads(answer.read())["error"]["message"])) == (status, True)
            client.close()


def test_so_does_a_refused_chunk(running: System) -> None:
    head = raw_request(CHAT.path, running.key, {}, "transfer-encoding: chunked").partition(b"\r\n\r\n")[0]
    head = head.replace(b"content-length: 2\r\n", b"") + b"\r\n\r\n"
    for body, status in ((b"zz\r\n" + UPLOAD, b"400"), (b"ffffff\r\n" + UPLOAD, b"413")):
        assert exchange_bytes(running.url, head + body).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/openai/v1/realtime/x?model=m", "/nobody/x", "/llm/v1/chat/completions"]
)
def test_a_websocket_handshake_on_another_path_gets_426_at_once(running: System, path: str) -> None:
    before = len(running.ledger())
    answers = []
    for key in (running.key, "nobody"):
        with connected(running.url) as client:
            client.sendall(HANDSHAKE.format(path, key).encode())
            answers.append(client.recv(65536))
            client.sendall(b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200"), "the connection stays"
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
        assert b"\r\nupgrade: HTTP/1.1\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "no_websockets"
    assert len(running.ledger()) == before
    assert running.pending() == 0


def test_a_base_path_is_taken_off_and_not_demanded(running: System) -> None:
    for prefix in ("", "/llm"):
        answer = web.post(f"{running.url}{prefix}{CHAT.path}", headers=CHAT.headers(running.key), json=CHAT.body)
        assert answer.status_code == 200
        assert web.get(f"{running.url}{prefix}/openai/v1/models", headers=CHAT.headers(running.key)).status_code == 200
        assert web.get(f"{running.url}{prefix}/readyz").status_code == 200
        assert web.get(f"{running.url}{prefix}/api/v1/key", headers=CHAT.headers(running.key)).status_code == 200
        assert '"/llm/api/openapi.json"' in web.get(f"{running.url}{prefix}/api/docs").text.replace("'", '"')
    document = web.get(f"{running.url}/llm/api/openapi.json").json()
    assert document["servers"] == [{"url": "/llm"}]


def test_both_families_are_served(running: System) -> None:
    hosts = ["127.0.0.1"]
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        hosts.append("[::1]")
    except OSError:
        pass  # this machine has no IPv6
    for host in hosts:
        assert web.get(f"http://{host}:{port_of(running)}/healthz").status_code == 200


def test_connections_are_kept_alive_by_the_kernel(running: System) -> None:
    with connected(running.url) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n")
        client.recv(65536)
        assert timer(running.gateway.pid, port_of(running), client.getsockname()[1]) == "02", "keepalive"


def timer(pid: int, local: int, remote: int) -> str:
    """The timer of a connection of a process: the sixth column of its table of connections."""
    rows = [row for table in ("tcp", "tcp6") for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]]
    ends = f":{local:04X}", f":{remote:04X}"
    [found] = [row.split() for row in rows if (row.split()[1][-5:], row.split()[2][-5:]) == ends]
    return found[5].partition(":")[0]


def test_a_body_that_drips_is_given_up(running: System) -> None:
    """Each byte comes in time, the whole does not."""
    with connected(running.url) as client:
        client.sendall(raw_request(CHAT.path, running.key, {}, "x: y").replace(b"length: 2", b"length: 900"))
        client.settimeout(0.5)
        answer = b""
        while not answer:
            try:
                client.sendall(b" ")
                answer = client.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")


def unread(system: System, url: str, size: int) -> socket.socket:
    """A client that never reads its answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    client.sendall(raw_request(CHAT.path, system.key, CHAT.body, f"x-demo: huge={size}"))
    return client


def metric(port: int, name: str) -> float:
    lines = web.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_who_never_reads_is_given_up_seen_and_not_waited_for(running: System) -> None:
    """Some of these answers fit into the kernel's buffers but for their last bytes, which wait in the gateway."""
    url, port = f"http://127.0.0.1:{free_port(0)}", free_port(0)
    usual = running.extra
    running.extra = usual | {"AROUTER_METRICS_PORT": str(port), "AROUTER_KEEP_ALIVE_TIMEOUT": "600"}
    gateway = running.start_gateway(url)
    running.processes.forget(gateway)
    running.extra = usual
    with ending(gateway), ExitStack() as stack:
        running.processes.wait_for(f"{url}/readyz")
        for size in range(2_450_000, 3_050_000, 20_000):
            stack.enter_context(unread(running, url, size))
        running.until(lambda: metric(port, "arouter_client_connections") >= 30)
        running.until(lambda: metric(port, "arouter_unread_connections_total") > 0)
        running.until(lambda: metric(port, "arouter_open_streams") == 0)
        held = metric(port, "arouter_client_connections")
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(60) == 0
        assert held < 31


def test_a_hangup_signal_reloads_and_ends_nobody(running: System, tmp_path: Path) -> None:
    url, said = f"http://127.0.0.1:{free_port(0)}", tmp_path / "log"
    command = [sys.executable, "-m", "services.cli"]
    port = free_port(0)
    environment = own_environment({**running.environment, "AROUTER_METER_METRICS_PORT": str(port)})
    environment["AROUTER_LOG_LEVEL"] = "info"
    with ExitStack() as stack:
        log = stack.enter_context(open(said, "wb"))
        gateway, meter = (
            stack.enter_context(ending(subprocess.Popen([*command, *arguments], env=environment, stderr=log)))
            for arguments in (["gateway", "--port", url.rpartition(":")[2]], ["meter"])
        )
        running.processes.wait_for(f"{url}/readyz")
        running.processes.wait_for(f"http://127.0.0.1:{port}/healthz")
        for process in (gateway, meter):
            process.send_signal(signal.SIGHUP)
        # A meter that was not ready for it says so.
        heard = re.compile("settings were reloaded: unchanged|SIGHUP changes nothing here")
        running.until(lambda: len(heard.findall(said.read_text())) == 2)
        answer = web.post(url + CHAT.path, headers=CHAT.headers(running.key), json=CHAT.body)
        id = answer.headers["x-generation-id"]
        assert running.settled([id])[id]["outcome"] == "completed"
        assert (gateway.poll(), meter.poll()) == (None, None)
