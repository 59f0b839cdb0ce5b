"""Faults of the follower that keeps the books in a database, and of that database: a PostgreSQL of this machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time

import psycopg

from shared.contract import names
from tests.faults.harness import Broken, Expectation, NotHere
from tests.support import postgres
from tests.support.postgres import NoPostgres, Postgres
from tests.support.system import SHARDS


def _followed(system: Broken, followers: int = 1) -> tuple[Postgres, list[subprocess.Popen[bytes]]]:
    """A database, and processes that follow the ledger for it. From now on every audit compares it."""
    try:
        server = system.enter(postgres.running())
    except NoPostgres as exc:
        raise NotHere(str(exc)) from None
    system.extra["AROUTER_DATABASE_URL"] = server.url
    processes = [system.start_follower() for _ in range(followers)]
    system.until(lambda: any(system.redis.exists(names.follow(shard, "sql")) for shard in range(SHARDS)))
    return server, processes


def follower_killed(system: Broken) -> Expectation:
    """kill -9 of the follower, again and again."""
    _, [follower] = _followed(system)
    with system.load():
        for _ in range(6):
            time.sleep(system.rng.uniform(1.0, 2.5))
            system.kill(follower)
            follower = system.start_follower()
    return Expectation()


def follower_frozen(system: Broken) -> Expectation:
    """A follower stops beyond its leases, wakes up, and finds that another one has gone on."""
    _, followers = _followed(system, 2)
    with system.load():
        time.sleep(4)
        for follower in followers:
            with system.frozen(follower.pid):
                time.sleep(13)
        time.sleep(1)
    return Expectation()


def database_away(system: Broken) -> Expectation:
    """The database crashes and is away, then does not answer for longer than anybody waits for it."""
    server, _ = _followed(system)
    with system.load():
        time.sleep(3)
        server.stop(signal.SIGQUIT)
        time.sleep(10)
        server.start()
        time.sleep(3)
        with system.frozen(*server.pids()):
            time.sleep(40)
        time.sleep(1)
    return Expectation()


def cursor_lost(system: Broken) -> Expectation:
    """Somebody deletes the cursors, twice: all of the ledger is read again, and nothing counts twice."""
    server, _ = _followed(system)
    with system.load(), psycopg.connect(server.url, autocommit=True) as connection:
        for _ in range(2):
            time.sleep(3)
            deleted = connection.execute("DELETE FROM follower_cursors").rowcount
            assert deleted > 0, "nothing was followed"
        time.sleep(3)
    return Expectation()


def followed_redis_failed_over(system: Broken) -> Expectation:
    """Another Redis takes over, from an older copy: what it has lost is settled anew, and followed again."""
    _followed(system)
    folder, copy = system.folder / "valkey" / "appendonlydir", system.folder / "replica"
    with system.load():
        time.sleep(3)
        system.until(lambda: not system.redis.info("persistence")["aof_rewrite_in_progress"])  # type: ignore[index]
        shutil.copytree(folder, copy)
        time.sleep(5)
        system.kill_redis()
        shutil.rmtree(folder)
        shutil.move(copy, folder)
        system.restart_redis()
        time.sleep(2)
    return Expectation()
