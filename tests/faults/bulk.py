"""Faults by size: answers that are too much for a meter, or for everybody."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import brotli
import httpx

from tests.faults.harness import Broken, Expectation
from tests.support.raw_upstream import RawUpstream
from tests.support.requests import ASKS

_MIB = 1024 * 1024
_ROOM = 256 * _MIB  # what a process may take beyond what it has at rest
_DEATHS = 5  # two in a batch and two alone, and one more where the meters disagree on whose it is
_POISON = "poison"  # the model of an exchange that no meter survives, see `crippled.greedy`


def bomb(system: Broken) -> Expectation:
    """An answer of a kilobyte decodes to a gigabyte. Meters above their limit are killed, as the kernel would."""
    packer, blank = brotli.Compressor(quality=1), bytes(_MIB)
    packed = b"".join((*(packer.process(blank) for _ in range(1024)), packer.finish()))
    with _raw_provider(system, _answer("application/json", packed, "content-encoding: br")):
        with system.load(), _limited_meters(system) as killed:
            _ask(system, "gpt-4o")
            system.until(lambda: killed or _booked(system))
        assert not killed, f"{len(killed)} meters were killed"
    return Expectation()


def meter_poisoned(system: Broken) -> Expectation:
    """One exchange takes all the memory of whoever measures it. It is held after a few deaths, and nobody else is."""
    system.harm = "greedy"
    for number in (0, 1):
        system.kill_meter(number)
    document = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
    with _raw_provider(system, _answer("application/json", document)), _limited_meters(system) as killed:
        with system.load():
            time.sleep(2)
            _ask(system, _POISON)
            time.sleep(2)
        system.until(lambda: not system.backlog() or len(killed) > _DEATHS)
    assert 0 < len(killed) <= _DEATHS, f"{len(killed)} meters were killed, {system.backlog()} records wait"
    return Expectation(quarantined=1)


def giant_download(system: Broken) -> Expectation:
    """A file of 192 MB is downloaded through a provider's path. It leaves a few megabytes, and delays nobody."""
    size = 192 * _MIB
    with _raw_provider(system, _answer("video/mp4", os.urandom(_MIB) * 192)), system.load():
        time.sleep(2)
        processes = [system.redis_pid, *(process.pid for process in (*system.gateways, *system.meters))]
        before, most = [_resident(pid) for pid in processes], [0] * len(processes)
        stored = _stored(system)
        headers = {"authorization": f"Bearer {system.key}"}
        with (
            httpx.Client(trust_env=False, timeout=60) as client,
            client.stream("GET", f"{system.url}/raw/v1/files/f/content", headers=headers) as answer,
        ):
            got = sum(len(part) for part in answer.iter_raw())
            system.received[answer.headers["x-generation-id"]] = got
        for _ in range(50):
            most = [max(one, _resident(pid)) for one, pid in zip(most, processes, strict=True)]
            time.sleep(0.1)
        added = _stored(system) - stored
    assert got == size
    assert added < size // 4, f"{added // _MIB} MB were written to journal and append-only file"
    grown = max(now - then for now, then in zip(most, before, strict=True))
    assert grown < size // 2, f"a process has grown by {grown // _MIB} MB"
    return Expectation()


@contextmanager
def _raw_provider(system: Broken, answer: bytes) -> Iterator[None]:
    """A provider `raw` of both gateways, which answers everything with these bytes."""
    with RawUpstream() as upstream:
        upstream.answer = answer
        system.extra["AROUTER_PROVIDERS__RAW__BASE_URL"] = upstream.url
        for number, url in enumerate(system.urls):
            system.stop(system.gateways[number])
            system.restart_gateway(number)
            system.processes.wait_for(f"{url}/readyz")
        yield


def _answer(content_type: str, body: bytes, *lines: str) -> bytes:
    head = ["HTTP/1.1 200 OK", f"content-type: {content_type}", f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join((*head, *lines, "", "")).encode() + body


def _ask(system: Broken, model: str) -> None:
    ask = ASKS["chat"]
    body = ask.body | {"model": f"raw/{model}"}
    answer = httpx.post(system.url + ask.path, headers=ask.headers(system.key), json=body, trust_env=False, timeout=60)
    assert answer.status_code == 200


def _booked(system: Broken) -> bool:
    """Whether the exchange of the raw provider is."""
    return any(row["provider"] == "raw" for row in system.usage())


@contextmanager
def _limited_meters(system: Broken) -> Iterator[list[int]]:
    """Kill meters that take too much memory, and start others, as Kubernetes would. Yields the pids of the killed."""
    killed: list[int] = []
    over = threading.Event()
    limits = {process.pid: _resident(process.pid) + _ROOM for process in system.meters}
    limit = max(*limits.values(), _ROOM)

    def watch() -> None:
        while not over.wait(0.02):
            for number, process in enumerate(system.meters):
                if _resident(process.pid) > limit:
                    killed.append(process.pid)
                    system.kill_meter(number)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield killed
    finally:
        over.set()
        watching.join(60)


def _resident(pid: int) -> int:
    """Bytes of memory of a process; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _stored(system: Broken) -> int:
    """Bytes in the journals and in the append-only file."""
    files = [*system.folder.glob("journal/*/*"), *system.folder.glob("valkey/appendonlydir/*")]
    return sum(path.stat().st_size for path in files if path.exists())
