"""The admin server: it waits for its port, and does not stop its process."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest
from prometheus_client import CollectorRegistry

from shared.runtime.admin_server import watched
from tests.support import web


@contextmanager
def taken() -> Iterator[int]:
    """A port that another process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def answer(url: str) -> httpx.Response:
    """The answer, as soon as there is one."""
    found: list[httpx.Response] = []

    def asked() -> bool:
        with suppress(httpx.TransportError):
            found.append(web.get(url))
        return bool(found)

    wait_for(asked)
    return found[0]


def test_a_port_that_is_taken_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "shared.runtime.admin_server")
    with ExitStack() as stack:
        with taken() as port:
            watch = watched("127.0.0.1", port, CollectorRegistry(), healthy=list, ready=lambda: ["not yet"], again=0.02)
            stack.enter_context(watch)
            wait_for(lambda: caplog.records)
        assert answer(f"http://127.0.0.1:{port}/healthz").json() == {"ok": True, "reasons": []}
        late = answer(f"http://127.0.0.1:{port}/readyz")
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    ours = [record.levelname for record in caplog.records if record.name == "shared.runtime.admin_server"]
    assert ours == ["ERROR", "INFO"], "a line when it waits, and one when it is there"


def test_a_process_ends_though_it_still_waits_for_its_port() -> None:
    with taken() as port, watched("127.0.0.1", port, CollectorRegistry(), healthy=list, ready=list, again=600):
        pass


@pytest.mark.parametrize("host", ["", "::", "localhost", "127.0.0.1"])
def test_it_is_reached_by_ipv4(host: str) -> None:
    with taken() as port:
        pass
    with watched(host, port, CollectorRegistry(), healthy=list, ready=list):
        assert answer(f"http://127.0.0.1:{port}/readyz").status_code == 200
        assert answer(f"http://127.0.0.1:{port}/metrics").status_code == 200


def test_without_a_port_there_is_none() -> None:
    with watched("127.0.0.1", 0, CollectorRegistry(), healthy=list, ready=list):
        pass
