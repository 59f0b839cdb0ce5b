"""A Redis Cluster of three servers on loopback."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from services.cli.processes import free_port, stop
from shared.runtime import embedded
from shared.runtime.settings import Settings

_NODES = 3
_SLOTS = 16384


@contextmanager
def cluster_url(folder: Path) -> Iterator[str]:
    """Servers that know each other and share all slots, for as long as the block runs."""
    with ExitStack() as stack:
        ports = [free_port(0) for _ in range(_NODES)]
        for port in ports:
            stack.callback(stop, _start(folder / str(port), port))
        nodes = [stack.enter_context(_client(port)) for port in ports]
        for number, node in enumerate(nodes):
            first, last = number * _SLOTS // _NODES, (number + 1) * _SLOTS // _NODES - 1
            _ask(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
            _ask(node, "CLUSTER", "MEET", "127.0.0.1", ports[0])
        deadline = time.monotonic() + 90
        while not all(map(_is_up, nodes)):
            assert time.monotonic() < deadline, "the cluster does not come up"
            time.sleep(0.1)
        yield f"redis+cluster://127.0.0.1:{ports[0]}"


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    folder.mkdir()
    options = {"port": port, "dir": folder, "appendonly": "yes", "save": "", "cluster-enabled": "yes"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    server = embedded.find_server(Settings.load())
    return subprocess.Popen([server, *arguments], stdout=subprocess.DEVNULL, start_new_session=True)


@contextmanager
def _client(port: int) -> Iterator[redis.Redis]:
    client = redis.Redis(port=port)
    deadline = time.monotonic() + 90
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            assert time.monotonic() < deadline, "a node does not come up"
            time.sleep(0.05)
    yield client
    client.close()


def _ask(node: redis.Redis, *command: str | int) -> object:
    answer: object = node.execute_command(*command)  # type: ignore[no-untyped-call]
    return answer


def _is_up(node: redis.Redis) -> bool:
    found = _ask(node, "CLUSTER", "INFO")  # a dictionary or a text, by the version of redis-py
    return re.search(r"cluster_state\W+ok", str(found)) is not None
