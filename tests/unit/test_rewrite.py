"""Which servers a meter asks to write their append-only file anew."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.meter.append_only import rewrite

REDIS = {"redis_version": "7.0.15"}
VALKEY = {"redis_version": "7.2.4", "valkey_version": "9.1.2"}
NEW = {"aof_enabled": 1, "aof_rewrites": 0, "aof_last_bgrewrite_status": "ok"}


class Server:
    """What a server says of itself, and whether it was asked."""

    def __init__(self, server: dict[str, Any], persistence: dict[str, Any]) -> None:
        self._sections = {"server": server, "persistence": persistence}
        self.asked = 0

    async def info(self, section: str) -> dict[str, Any]:
        return self._sections[section]

    async def bgrewriteaof(self) -> None:
        self.asked += 1


@pytest.mark.parametrize(
    ("server", "changes", "asked"),
    [
        (REDIS, {}, 1),
        (REDIS, {"aof_enabled": 0}, 0),
        (REDIS, {"loading": 1}, 0),
        (REDIS, {"aof_rewrites": 1}, 0),  # by somebody, after its start
        (REDIS, {"aof_rewrites": 1, "aof_last_bgrewrite_status": "err"}, 1),
        (REDIS, {"aof_rewrite_in_progress": 1}, 0),
        (REDIS, {"aof_rewrite_scheduled": 1}, 0),
        (VALKEY, {}, 0),
        (VALKEY | {"valkey_version": "9.1.10"}, {}, 0),
        (VALKEY | {"valkey_version": "10.0.0-rc1"}, {}, 0),
        (VALKEY | {"valkey_version": "9.1.1"}, {}, 1),
        (VALKEY | {"valkey_version": "8.1.9"}, {}, 1),
        (REDIS | {"redis_version": "99.0.0"}, {}, 1),
    ],
)
async def test_a_server_that_keeps_half_a_script_is_asked_once(
    server: dict[str, Any], changes: dict[str, Any], asked: int
) -> None:
    it = Server(server, NEW | changes)
    assert await rewrite(cast("Any", it)) == bool(asked)
    assert it.asked == asked
