"""The faults: each breaks a system under load, and says what may be left behind. They can be run one by one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution

import httpx
import pytest

from shared.books import boots
from shared.books.boots import BootState
from shared.contract import names
from shared.runtime import embedded, store
from shared.runtime.settings import Settings
from tests.faults import bad_days, bulk, followed, posted
from tests.faults.harness import Broken, Expectation, NotHere
from tests.support.requests import ASKS, raw_request
from tests.support.system import SHARDS

Fault = Callable[[Broken], Expectation]


def gateway_killed(system: Broken) -> Expectation:
    """kill -9 of a gateway; it starts again and adopts its own journal, or its orphan does."""
    with system.load():
        for number in (0, 1, 0):
            time.sleep(1.5)
            system.kill_gateway(number)
            system.restart_gateway(number)
        time.sleep(2)
    return Expectation()


def gateway_gone(system: Broken) -> Expectation:
    """kill -9 of a gateway that never comes back: its orphan adopts."""
    with system.load():
        time.sleep(2)
        system.kill_gateway(1)
        time.sleep(2)
    return Expectation()


def gateway_gone_without_redis(system: Broken) -> Expectation:
    """kill -9 of a gateway while Redis is away: all that is left of its last seconds is its journal."""
    with system.load():
        time.sleep(1)
        system.kill_redis()
        time.sleep(2)
        system.kill_gateway(1)
        time.sleep(0.5)
        system.restart_redis()
        time.sleep(1)
    return Expectation()


def journal_lost(system: Broken) -> Expectation:
    """kill -9 of a gateway together with its disk: what was running is booked provisionally, from what was shipped."""
    with system.load():
        time.sleep(2)
        with system.frozen(system.gateways[0].pid):  # so that it cannot adopt
            mine = {path.name for path in (system.folder / "journal").iterdir()}
            system.kill_gateway(1)
            dead = [name for name in mine if _dead(system, name)]
            for name in dead:
                shutil.rmtree(system.folder / "journal" / name)
    time.sleep(28)  # until its boot counts as gone, and the sweep has come by
    lost = 6  # clients: what each had asked for in the last 25 ms
    system.settle(Expectation(provisional=True, unbooked=lost, bound=None))

    async def give_up() -> None:
        redis = store.connect(system.redis_url)
        await boots.heartbeat(redis, {name.partition(".")[0]: {} for name in dead}, BootState.ADOPTED)
        await redis.aclose()

    asyncio.run(give_up())  # an operator's word that nothing more will come
    return Expectation(unbooked=lost, bound=None)


def _dead(system: Broken, name: str) -> bool:
    """Whether nobody holds the lock of this journal, by the kernel's table of locks."""
    inode = (system.folder / "journal" / name / "lock").stat().st_ino
    with open("/proc/locks") as locks:
        return not any(f":{inode} " in line for line in locks)


def journal_torn(system: Broken) -> Expectation:
    """kill -9 of a gateway in the middle of a write: the end of its journal is torn."""
    with system.load():
        time.sleep(2)
        with system.frozen(system.gateways[0].pid):
            system.kill_gateway(1)
            for path in (system.folder / "journal").glob("*/*.journal"):
                if _dead(system, path.parent.name) and path.stat().st_size > 100:
                    os.truncate(path, path.stat().st_size - system.rng.randint(1, 60))
    return Expectation(unbooked=1, bound=None)  # what is torn may be an open, whose exchange had just begun


def meter_killed(system: Broken) -> Expectation:
    """kill -9 of meters, again and again."""
    with system.load():
        for _ in range(5):
            time.sleep(0.8)
            system.kill_meter(system.rng.randrange(2))
    return Expectation()


def meter_frozen(system: Broken) -> Expectation:
    """A meter stops beyond its leases and wakes up as a zombie."""
    with system.load():
        time.sleep(1)
        with system.frozen(system.meters[0].pid):
            time.sleep(13)
        time.sleep(1)
    return Expectation()


def gateway_frozen(system: Broken) -> Expectation:
    """A gateway stops for so long that it counts as gone, is booked provisionally, and wakes up."""
    with system.load():
        time.sleep(1)
        with system.frozen(system.gateways[0].pid):
            time.sleep(28)
        time.sleep(1)
    return Expectation()


def redis_killed(system: Broken) -> Expectation:
    """kill -9 of Redis, again and again."""
    with system.load():
        for _ in range(3):
            time.sleep(1.5)
            system.kill_redis()
            time.sleep(0.5)
            system.restart_redis()
        time.sleep(1)
    return Expectation()


def redis_frozen(system: Broken) -> Expectation:
    """Redis does not answer; what was sent is answered late, or twice."""
    with system.load():
        for seconds in (1, 7):
            time.sleep(1)
            with system.frozen(system.redis_pid):
                time.sleep(seconds)
        time.sleep(1)
    return Expectation()


def redis_away(system: Broken, seconds: float = 60) -> Expectation:
    """Redis is gone for a minute; clients never notice."""
    with system.load():
        time.sleep(1)
        before = system.served
        system.kill_redis()
        time.sleep(seconds)
        assert system.served > before + seconds, "the gateways have stopped serving"
        system.restart_redis()
    return Expectation()


def redis_power_lost(system: Broken) -> Expectation:
    """Redis dies, and the end of its append-only file with it."""
    with system.load():
        for _ in range(2):
            time.sleep(3)
            system.kill_redis()
            files = sorted((system.folder / "valkey" / "appendonlydir").glob("*.incr.aof"))
            size = files[-1].stat().st_size
            os.truncate(files[-1], size - min(size // 2, system.rng.randint(1, 64 * 1024)))
            system.restart_redis()
        time.sleep(1)
    return Expectation()


def redis_failed_over(system: Broken) -> Expectation:
    """Another server takes over, from a copy of the files that is some seconds old."""
    folder, copy = system.folder / "valkey" / "appendonlydir", system.folder / "replica"
    with system.load():
        time.sleep(2)
        system.until(lambda: not system.redis.info("persistence")["aof_rewrite_in_progress"])  # type: ignore[index]
        shutil.copytree(folder, copy)
        time.sleep(5)
        system.kill_redis()
        shutil.rmtree(folder)
        shutil.move(copy, folder)
        system.restart_redis()
        time.sleep(1)
    return Expectation()


def redis_full(system: Broken) -> Expectation:
    """Redis is full for a while; settling goes on."""
    with system.load():
        time.sleep(1)
        system.redis.config_set("maxmemory", "1mb")
        time.sleep(4)
        system.redis.config_set("maxmemory", "0")
        time.sleep(1)
    return Expectation()


def scripts_flushed(system: Broken) -> Expectation:
    """Redis forgets its scripts."""
    with system.load():
        for _ in range(10):
            time.sleep(0.3)
            system.redis.script_flush()
    return Expectation()


def duplicates(system: Broken) -> Expectation:
    """Every record comes twice and out of order, some long after their exchange was settled."""
    seen: list[tuple[int, dict[bytes, bytes]]] = []
    with system.load():
        end = time.monotonic() + 4
        while time.monotonic() < end:
            for shard in range(SHARDS):
                entries: list[tuple[bytes, dict[bytes, bytes]]] = system.redis.xrange(names.tail(shard))  # type: ignore[assignment]
                seen += [(shard, fields) for _, fields in entries]
            time.sleep(0.05)
            for shard, fields in system.rng.sample(seen, min(len(seen), 20)):
                system.redis.xadd(names.tail(shard), fields)  # type: ignore[arg-type]
    system.rng.shuffle(seen)
    for shard, fields in seen[:1000]:
        system.redis.xadd(names.tail(shard), fields)  # type: ignore[arg-type]
    assert len(seen) > 100
    return Expectation()


def poison(system: Broken) -> Expectation:
    """Stream entries that are not records."""
    with system.load():
        for number in range(20):
            system.redis.xadd(names.tail(number % SHARDS), {b"x": b"nonsense %d" % number, b"r": os.urandom(50)})
            time.sleep(0.1)
    return Expectation(quarantined=20)


def clocks_stepped(system: Broken) -> Expectation:
    """The clocks of gateways, meters and Redis jump ahead and back, by hours and by days, under running streams."""
    library = next((path for path in distribution("libfaketime").files or () if path.name == "libfaketime.so.1"), None)
    assert library is not None
    clock = system.folder / "clock"
    clock.write_text("+0")
    server = embedded.find_server(Settings.load())
    stepping = {
        "LD_PRELOAD": str(library.locate()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    system.kill_redis()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in stepping.items():
            environment.setenv(name, value)
        if embedded.describe(server) is None:
            raise NotHere(f"{server} does not run under libfaketime")
        system.restart_redis()
    system.extra |= stepping
    for number in (0, 1):
        system.stop(system.gateways[number])
        system.restart_gateway(number)
        system.kill_meter(number)
    for url in system.urls:
        system.processes.wait_for(f"{url}/readyz")
    ask = ASKS["chat stream"]
    headers = ask.headers(system.key, "tokens=40, pace=500")  # runs through all of it
    with ThreadPoolExecutor() as pool, httpx.Client(trust_env=False, timeout=60) as client, system.load():
        running = [pool.submit(client.post, url + ask.path, headers=headers, json=ask.body) for url in system.urls]
        for hours in (3, -2, 26, 0):
            clock.write_text(f"{hours * 3600:+}")
            time.sleep(4)
        for answer in (stream.result() for stream in running):
            system.received[answer.headers["x-generation-id"]] = len(answer.content)
    booked = [json.loads(line) for line in system.command("ledger", "export").splitlines()]
    days = {entry["opened_ms"] // 86_400_000 for entry in booked}
    assert len(days) > 1, "no clock has stepped"
    return Expectation()


def shards_changed(system: Broken) -> Expectation:
    """A new version rolls out with more shards, one gateway at a time; the meters keep their settings."""
    with system.load():
        time.sleep(1)
        system.extra["AROUTER_SHARDS"] = str(SHARDS + 3)
        for number in (0, 1):
            system.stop(system.gateways[number])
            system.restart_gateway(number)
            time.sleep(2)
    return Expectation()


def journal_full(system: Broken) -> Expectation:
    """The journal reaches its limit while Redis is away: not ready, then 503, and no record is lost."""
    system.extra["AROUTER_JOURNAL_BYTES"] = str(16 * 1024 * 1024)
    system.stop(system.gateways[0])
    system.restart_gateway(0)
    system.processes.wait_for(f"{system.url}/readyz")
    ask = ASKS["chat"]
    headers = ask.headers(system.key, "huge=400000, seed=1")
    with httpx.Client(trust_env=False, timeout=20) as client:
        client.post(system.url + ask.path, headers=headers, json=ask.body)  # its key is known from here on
        system.kill_redis()
        seen: list[int] = []
        while 503 not in seen and len(seen) < 500:
            answer = client.post(
                system.url + ask.path, headers=headers | {"x-demo": f"huge=400000, seed={len(seen)}"}, json=ask.body
            )
            seen.append(answer.status_code)
            if answer.status_code == 200:
                system.received[answer.headers["x-generation-id"]] = len(answer.content)
        assert set(seen) == {200, 503}, f"{len(seen)} requests were answered, the journal is not full"
        assert client.get(f"{system.url}/readyz").status_code == 503
        system.restart_redis()
        system.until(lambda: client.get(f"{system.url}/readyz").status_code == 200)
        assert client.post(system.url + ask.path, headers=headers, json=ask.body).status_code == 200
    return Expectation()


def cancel_storm(system: Broken) -> Expectation:
    """Ten thousand clients that leave at any moment: before the head, in the body, at its end. Nothing leaks."""
    before = open_files(system.gateways[0].pid)
    host, _, port = system.url.removeprefix("http://").partition(":")
    request = raw_request("/v1/chat/completions", system.key, ASKS["chat stream"].body, "x-demo: tokens=50, pace=3")
    with system.load():
        for _ in range(250):
            storm = []
            for _ in range(40):
                client = socket.create_connection((host, int(port)), 10)
                client.sendall(request[: system.rng.choice([len(request), len(request), len(request) - 5])])
                storm.append(client)
            time.sleep(system.rng.random() * 0.2)
            for client in storm:
                client.close()
    system.until(lambda: open_files(system.gateways[0].pid) <= before + 3)  # connections to Redis may be more
    return Expectation()


def open_files(pid: int) -> int:
    """The number of sockets and files that a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        gateway_killed,
        gateway_gone,
        gateway_gone_without_redis,
        gateway_frozen,
        journal_lost,
        journal_torn,
        meter_killed,
        meter_frozen,
        redis_killed,
        redis_frozen,
        redis_away,
        redis_power_lost,
        redis_failed_over,
        redis_full,
        scripts_flushed,
        duplicates,
        poison,
        clocks_stepped,
        shards_changed,
        journal_full,
        cancel_storm,
        bad_days.redis_emptied,
        bad_days.redis_silent,
        bad_days.disk_full,
        bad_days.arq_away,
        bad_days.sealed,
        bad_days.cancelled,
        bulk.bomb,
        bulk.meter_poisoned,
        bulk.giant_download,
        followed.follower_killed,
        followed.follower_frozen,
        followed.database_away,
        followed.cursor_lost,
        followed.followed_redis_failed_over,
        posted.receivers_away,
    )
}
