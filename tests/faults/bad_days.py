"""Faults of what a system stands on: Redis emptied or silent, a small disk, arq's Redis away, sealed tails."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from services.cli.processes import free_port
from tests.faults.harness import Broken, Expectation, NotHere
from tests.support import web
from tests.support.requests import ASKS

CHAT = ASKS["chat"]
# In every answer of some dialect, and in every request that is kept.
_SAID = (b"chat.completion", b"message_start", b"response.created", b"Tell me a story.")


def redis_emptied(system: Broken) -> Expectation:
    """Redis loses everything, once with its files and once by a command. Its keys are gone, too; new ones work."""
    with system.load():
        time.sleep(2)
        system.kill_redis()
        shutil.rmtree(system.folder / "valkey" / "appendonlydir")
        system.restart_redis()
        _new_key(system)
        time.sleep(2)
        system.redis.flushall()
        _new_key(system)
        time.sleep(2)
    return Expectation()


def _new_key(system: Broken) -> None:
    """A key that gateways accept, though they had others before."""
    system.key = system.command("keys", "create", "--name", "new").strip()
    asyncio.run(system.make_teams())  # those of before are gone, too
    for url in system.urls:
        system.until(partial(_serves, system, url))


def _serves(system: Broken, url: str) -> bool:
    return web.post(url + CHAT.path, headers=CHAT.headers(system.key), json=CHAT.body).is_success


def redis_silent(system: Broken) -> Expectation:
    """Redis takes connections and commands, and says nothing. Callers whose keys are known do not wait for it."""
    asked = 24
    headers = CHAT.headers(system.key)
    with httpx.Client(trust_env=False, timeout=60) as client:

        def ask(url: str) -> None:
            answer = client.post(url + CHAT.path, headers=headers, json=CHAT.body)
            assert answer.status_code == 200, answer.text
            system.received[answer.headers["x-generation-id"]] = len(answer.content)

        for url in system.urls:
            ask(url)
        started = time.monotonic()
        with system.frozen(system.redis_pid):
            time.sleep(1.5)  # what was known is no longer fresh
            for number in range(asked):
                ask(system.urls[number % 2])
        # Not a limit for each: five seconds of a reply would come to more than three times as much.
        assert time.monotonic() - started < asked * 1.5, "callers wait for Redis"
    return Expectation()


def disk_full(system: Broken) -> Expectation:
    """The journal's disk is small, and Redis well: it fills and is emptied again; /readyz says what answers say."""
    with _small_disk(system.folder / "small") as disk:
        system.extra["AROUTER_JOURNAL_DIR"] = str(disk)
        system.stop(system.gateways[0])
        system.restart_gateway(0)
        system.processes.wait_for(f"{system.url}/readyz")
        # Without usage the request goes along in the end record, in case it has to be estimated.
        body = {**CHAT.body, "messages": [{"role": "user", "content": os.urandom(600_000).hex()}]}
        headers = CHAT.headers(system.key, "no-usage, tokens=5")
        served: list[bool] = []
        with httpx.Client(trust_env=False, timeout=60) as client:

            def ready() -> bool:
                return client.get(f"{system.url}/readyz").is_success

            def ask() -> bool:
                before = ready()
                answer = client.post(system.url + CHAT.path, headers=headers, json=body)
                if answer.is_success:
                    system.received[answer.headers["x-generation-id"]] = len(answer.content)
                else:
                    assert answer.status_code == 503, answer.text
                    assert not (before and ready()), "ready, and refused"
                served.append(answer.is_success)
                return answer.is_success

            for _ in range(2):
                system.until(lambda: not ask())
                system.until(ask)
        turns = sum(before != after for before, after in itertools.pairwise(served))
        assert turns == 4, f"{turns} turns instead of 4: answers alternate"
        system.stop(system.gateways[0])  # before its disk goes
        del system.extra["AROUTER_JOURNAL_DIR"]
    system.restart_gateway(0)
    return Expectation()


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False, timeout=30
    )
    if mounted.returncode:
        raise NotHere("no small disk can be mounted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


def arq_away(system: Broken) -> Expectation:
    """Meters start while arq's Redis is away, and never see it."""
    system.extra["AROUTER_ARQ_REDIS_URL"] = f"redis://127.0.0.1:{free_port(0)}/0"
    for number in (0, 1):
        system.kill_meter(number)
    with system.load():
        time.sleep(3)
    return Expectation()


def sealed(system: Broken) -> Expectation:
    """kill -9 of gateways and meters whose tails are sealed; one gateway does not come back. The key changes meanwhile,
    and the disk never has a word of what was said."""
    keys = system.folder / "keys"
    first, second = (system.command("seal-key").strip() for _ in range(2))
    keys.write_text(f"{first}\n{second}\n")
    system.extra["AROUTER_SEAL_KEYS_FILE"] = str(keys)
    for number in (0, 1):
        system.kill_meter(number)
        system.kill_gateway(number)
        system.restart_gateway(number)
    for url in system.urls:
        system.processes.wait_for(f"{url}/readyz")
    with system.load():
        time.sleep(1.5)
        system.kill_gateway(0)
        system.kill_meter(0)
        keys.write_text(f"{second}\n{first}\n")
        system.restart_gateway(0)
        time.sleep(1.5)
        system.kill_redis()
        time.sleep(1)
        system.kill_gateway(1)
        system.kill_meter(1)
        system.restart_redis()
        time.sleep(2)
    found = [path.name for path in system.folder.rglob("*") if path.is_file() and _says(path)]
    assert not found, f"text is on the disk: {found}"
    return Expectation()


def _says(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # a journal that was adopted meanwhile
        return False
    return any(said in data for said in _SAID)
