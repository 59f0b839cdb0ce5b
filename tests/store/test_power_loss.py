"""A server that loses its power: its append-only file is cut anywhere, in a settlement too, and the books hold.

What a server does by itself with such a file is in decision 64: most leave the beginning of a script in it.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.meter.append_only import rewrite
from services.meter.settle import Ledger, Verdict
from shared.books.audit import audit
from shared.books.books import Books
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime import append_only, embedded, store
from shared.runtime.errors import StoreError
from shared.runtime.settings import Settings
from shared.runtime.store import Store
from tests.store.test_settle import assembled
from tests.support.children import ending

_CUTS = 12
BOOT = new_boot()


def started(folder: Path) -> subprocess.Popen[bytes]:
    options = {
        "port": "0",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
        "dir": str(folder),
        "unixsocket": str(folder / "socket"),
        "enable-debug-command": "yes",
        "logfile": str(folder / "log"),
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return subprocess.Popen([embedded.find_server(Settings.load()), *arguments])


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[Store]:
    """A client of a server on the file in a folder, which is killed with the block. Nothing mends the file."""
    with ending(started(folder)) as process:
        client = store.connect(f"unix://{folder}/socket")
        while not await _answers(client):
            assert process.poll() is None, (folder / "log").read_text()
            await asyncio.sleep(0.01)
        yield client
        await client.aclose()
        process.kill()


async def _answers(client: Store) -> bool:
    try:
        with store.translated():
            return bool(await client.ping())
    except StoreError:
        return False


async def settle(redis: Store, n: int) -> None:
    """Settle an exchange, from its records on."""
    id = ExchangeId(BOOT, 0, n)
    assert await Ledger(redis).settle([await assembled(redis, id)]) == [Verdict.SETTLED]


def newest(folder: Path) -> Path:
    [path] = (folder / "appendonlydir").glob("*.incr.aof")
    return path


Defence = Callable[[Path, Store | None], Awaitable[None]]
"""What is done to a folder before a server is started there, and to the server (None before it is there)."""


async def neither(folder: Path, redis: Store | None) -> None:
    return


async def mended(folder: Path, redis: Store | None) -> None:
    if redis is None:
        append_only.mend(folder)


async def rewritten(folder: Path, redis: Store | None) -> None:
    if redis is None:
        return
    await rewrite(redis)
    while (await store.info(redis, "persistence"))[0]["aof_rewrite_in_progress"]:
        await asyncio.sleep(0.01)


async def differences(tmp_path: Path, defend: Defence) -> tuple[list[str], bool]:
    """What a second load changes after a cut anywhere in a settlement, and whether the server mends its file itself.

    Between the two loads another exchange is settled, whose EXEC would end a script that was left open.
    """
    folder = tmp_path / "whole"
    folder.mkdir()
    async with server(folder) as redis:
        mends = all(map(store.mends, await store.info(redis, "server")))
        await settle(redis, 0)
        begins = newest(folder).stat().st_size
        await settle(redis, 1)
    size = newest(folder).stat().st_size
    found: list[str] = []
    for cut in random.Random(1).sample(range(begins, size), _CUTS):
        copy = tmp_path / "cut"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("socket"))
        os.truncate(newest(copy), cut)
        await defend(copy, None)
        async with server(copy) as redis:
            await defend(copy, redis)
            await settle(redis, 2)
            before = await redis.execute_command("DEBUG", "DIGEST")  # type: ignore[no-untyped-call]
        async with server(copy) as redis:
            if await redis.execute_command("DEBUG", "DIGEST") != before:  # type: ignore[no-untyped-call]
                found.append(f"{cut}: another content")
            found += [line for line in (await audit(Books(redis, 1))).differences if "stored" in line]
        shutil.rmtree(copy)
    return found, mends


async def test_a_server_that_does_not_mend_its_file_is_known(tmp_path: Path) -> None:
    """This shows, too, that the defences below are needed."""
    found, mends = await differences(tmp_path, neither)
    assert mends == (found == [])


@pytest.mark.parametrize("defend", [mended, rewritten])
async def test_totals_and_ledger_never_part(tmp_path: Path, defend: Defence) -> None:
    found, _ = await differences(tmp_path, defend)
    assert found == []
