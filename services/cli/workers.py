"""`arouter gateway --workers N`: several gateways on one port, each a process and a boot of its own, and their parent.

The parent serves no request. It starts the workers, passes signals on, starts one anew that has died, and shows the
metrics of all on one port. A worker ends when its parent does.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import FrameType
from typing import Self

from prometheus_client import CollectorRegistry

from services.cli.worker_metrics import WorkerMetrics
from services.gateway.settings import GatewaySettings
from shared.runtime.admin_server import watched
from shared.runtime.errors import SettingsError
from shared.runtime.settings import own_environment
from shared.runtime.sockets import claimed

_LOOK_SECONDS = 0.1
_ANSWER_SECONDS = 2.0
_LEAST_JOURNAL = 16 * 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds until a worker that died is started anew; it doubles
_STABLE_SECONDS = 60.0  # after so long a life the first pause counts again
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"

log = logging.getLogger(__name__)

Start = Callable[[int, socket.socket], "subprocess.Popen[bytes]"]
Clock = Callable[[], float]  # monotonic seconds


class Pause:
    """How long a worker that has died is left alone. Pure."""

    def __init__(self) -> None:
        self._next = _FIRST_PAUSE

    def after(self, lived: float) -> float:
        """Seconds until it is started anew, after a life of `lived` seconds."""
        if lived >= _STABLE_SECONDS:
            self._next = _FIRST_PAUSE
        pause, self._next = self._next, min(_LONGEST_PAUSE, self._next * 2)
        return pause


class Worker:
    """One worker. Its admin server listens on a socket of the parent's, which outlives it."""

    def __init__(self, number: int, start: Start, clock: Clock = time.monotonic) -> None:
        self.number = number
        self.restarts = 0
        self.served = False  # it has answered at least once
        self.admin = socket.socket()  # the worker listens
        self.admin.bind(("127.0.0.1", 0))
        self.told = False  # to end
        self._start = start
        self._clock = clock
        self._pause = Pause()
        self._again: float | None = None
        self._begin()

    def _begin(self) -> None:
        self._began = self._clock()
        self.up = False  # it has answered since then
        self.process = self._start(self.number, self.admin)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def look(self) -> None:
        """Start it anew where it has died, once its pause is over."""
        if self.running:
            return
        now = self._clock()
        if self._again is None:
            pause = self._pause.after(now - self._began)
            self._again = now + pause
            log.error(
                "worker %d has ended with status %d; it is started anew in %.1f s",
                self.number,
                self.process.returncode,
                pause,
            )
        elif now >= self._again:
            self._again = None
            self.restarts += 1
            self._begin()

    def end(self) -> None:
        """Have it drain."""
        if not self.told and self.running:
            self.told = True
            self.process.send_signal(signal.SIGTERM)

    def ask(self, path: str, accept: str = "*/*") -> tuple[int, str] | None:
        """Status and body of its admin server's answer; None where there is none."""
        if not self.running:
            return None
        connection = http.client.HTTPConnection("127.0.0.1", self.admin.getsockname()[1], timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", path, headers={"accept": accept})
            answer = connection.getresponse()
            found = answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException, UnicodeDecodeError):
            return None
        finally:
            connection.close()
        self.served = self.up = True
        return found


class Workers:
    """All workers of one parent, from the start to the end of the block."""

    def __init__(self, count: int, start: Start) -> None:
        self.ending = False
        self.status = 0
        self._workers = [Worker(number, start) for number in range(1, count + 1)]
        self._asking = ThreadPoolExecutor(count, thread_name_prefix="worker")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.process.wait()
            worker.admin.close()
        self._asking.shutdown()

    def send(self, number: signal.Signals) -> None:
        """Pass a signal on. Not to a worker that is starting: it has no handler yet, and would end of it."""
        for worker in self._workers:
            if worker.running and worker.up:
                worker.process.send_signal(number)

    def end(self) -> None:
        """End all of them, from the next look on: they drain."""
        self.ending = True

    def look(self) -> bool:
        """Start anew what has died. Returns whether there is anything left to look at."""
        if self.ending:
            for worker in self._workers:
                worker.end()
            return any(worker.running for worker in self._workers)
        for worker in self._workers:
            if not worker.running and not worker.served:
                log.error("worker %d does not start, and the others end", worker.number)
                self.status = worker.process.returncode or 1
                self.end()
                return True
            worker.look()
            if worker.running and not worker.up:
                worker.ask("/healthz")
        return True

    def healthy(self) -> list[str]:
        """Why a worker that runs is not alive. One that has died is not a reason: it is started anew."""
        return self._reasons("/healthz")

    def ready(self) -> list[str]:
        """Why not every worker takes new requests."""
        dead = [f"worker {worker.number}: it does not run" for worker in self._workers if not worker.running]
        return dead + self._reasons("/readyz")

    def scrape(self) -> Mapping[int, str | None]:
        """The metrics of each worker that runs."""
        running = [worker for worker in self._workers if worker.running]
        answers = self._asking.map(lambda worker: worker.ask("/metrics", _OPENMETRICS), running)
        return {worker.number: answer and answer[1] for worker, answer in zip(running, answers, strict=True)}

    def restarts(self) -> Mapping[int, int]:
        return {worker.number: worker.restarts for worker in self._workers}

    def _reasons(self, path: str) -> list[str]:
        running = [worker for worker in self._workers if worker.running]
        found = []
        for worker, answer in zip(running, self._asking.map(lambda one: one.ask(path), running), strict=True):
            said = ["its admin server does not answer"] if answer is None else json.loads(answer[1])["reasons"]
            found += [f"worker {worker.number}: {reason}" for reason in said]
        return found


def run(settings: GatewaySettings, count: int) -> int:
    """Run `count` workers until SIGTERM or SIGINT; their exit status. SettingsError where the port is taken, or where
    the journal is too small to be shared."""
    share = settings.journal_bytes // count
    if share < _LEAST_JOURNAL:
        raise SettingsError(f"AROUTER_JOURNAL_BYTES: {count} workers need {count * _LEAST_JOURNAL} bytes at least")
    with ExitStack() as stack:
        port = _reserved(stack, settings)
        reading, writing = os.pipe()  # nothing is written: the workers see its end when this process is gone
        stack.callback(os.close, writing)
        stack.callback(os.close, reading)

        def start(number: int, admin: socket.socket) -> subprocess.Popen[bytes]:
            fds = admin.fileno(), reading
            return subprocess.Popen(
                [*_command(settings.host, port), "--worker", ",".join(map(str, (number, *fds)))],
                env=own_environment({"AROUTER_JOURNAL_BYTES": str(share), "AROUTER_REUSE_PORT": "true"}),
                pass_fds=fds,
                start_new_session=True,  # Ctrl-C reaches the parent alone
            )

        workers = stack.enter_context(Workers(count, start))
        _handle(workers)
        registry = CollectorRegistry()
        registry.register(WorkerMetrics(workers.scrape, workers.restarts))
        stack.enter_context(
            watched(
                settings.metrics_host,
                settings.metrics_port,
                registry,
                healthy=workers.healthy,
                ready=workers.ready,
            )
        )
        log.info("%d workers on port %d", count, port)
        while workers.look():
            time.sleep(_LOOK_SECONDS)
        return workers.status


def follow_parent(pipe: int) -> None:
    """End this worker as SIGTERM does once its parent is gone. `pipe`: what it inherited."""

    def wait() -> None:
        os.read(pipe, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _handle(workers: Workers) -> None:
    def end(signum: int, frame: FrameType | None) -> None:
        workers.end()

    def reload(signum: int, frame: FrameType | None) -> None:
        workers.send(signal.SIGHUP)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGHUP, reload)


def _reserved(stack: ExitStack, settings: GatewaySettings) -> int:
    """The port that the workers share. It stays this process's: nothing listens on these sockets."""
    if not settings.reuse_port:
        for taken in claimed("AROUTER_PORT", settings.host, settings.port):
            taken.close()
    held = claimed("AROUTER_PORT", settings.host, settings.port, shared=True)
    for one in held:
        stack.callback(one.close)
    return int(held[0].getsockname()[1])


def _command(host: str, port: int) -> Sequence[str]:
    return [sys.executable, "-m", "services.cli", "gateway", "--host", host, "--port", str(port)]
