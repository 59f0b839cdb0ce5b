"""The border to Redis: connecting, and translating redis-py's errors into ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as LostConnection,
)
from redis.exceptions import (
    TimeoutError as LateReply,
)

from shared.contract.errors import ARouterError
from shared.runtime.errors import SettingsError, StoreError, StoreRefused, StoreUnavailable

_AWAY = (
    LostConnection,
    LateReply,
    BusyLoadingError,
    ReadOnlyError,
    OutOfMemoryError,
    RedisClusterException,  # no node answers, or a slot has none for a while
    ClusterError,
    AskError,  # and MOVED
    TryAgainError,
    NoScriptError,  # again, after it was loaded: the server has changed meanwhile
    OSError,
)
# Error replies that pass: a script that overruns, a replica without its master, a cluster that is moving or
# incomplete, a disk that is full for a while.
_PASSING = ("BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "LOADING", "OOM", "READONLY")

# What `connect` returns and every module that speaks to Redis takes. It may be a cluster's client, which has the same
# methods as far as this project uses them: no transactions, and no command with keys of two slots (decision 20).
Store = Redis
_CLUSTER = "+cluster://"
_MENDS = (9, 1, 2)  # of Valkey; no Redis does (github.com/valkey-io/valkey/pull/4342)


def connect(url: str, *, timeout: float = 5.0, connections: int = 64) -> Store:
    """A client for `url`; no connection is made yet. `timeout` bounds every reply, in seconds.

    SettingsError where the URL is not redis://, rediss://, redis+cluster://, rediss+cluster:// or unix://.
    """
    try:
        if is_cluster(url):
            plain = url.replace(_CLUSTER, "://", 1)
            cluster: Any = RedisCluster.from_url(
                plain, socket_timeout=timeout, socket_connect_timeout=timeout, max_connections=connections
            )
            return cast("Redis", cluster)
        pool = BlockingConnectionPool.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, max_connections=connections, timeout=timeout
        )
    except ValueError:
        raise SettingsError("REDIS_URL: is not a redis://, rediss://, redis+cluster:// or unix:// URL") from None
    return Redis.from_pool(pool)


def is_cluster(url: str) -> bool:
    """Whether a URL names a Redis Cluster."""
    return _CLUSTER in url


async def info(store: Store, section: str) -> list[dict[str, Any]]:
    """A section of INFO, of every server that takes writes."""
    with translated():
        client: Any = store
        if isinstance(client, RedisCluster):
            return list((await client.info(section, target_nodes=RedisCluster.PRIMARIES)).values())
        return [await client.info(section)]


async def rewrite_append_only_file(store: Store) -> None:
    """Have every server that takes writes begin to write its append-only file anew. StoreRefused where it may not."""
    with translated():
        client: Any = store
        await client.bgrewriteaof(
            **({"target_nodes": RedisCluster.PRIMARIES} if isinstance(client, RedisCluster) else {})
        )


def mends(server: Mapping[str, Any]) -> bool:
    """Whether a server, by its INFO, removes an unfinished script from its append-only file (decision 64)."""
    numbers = re.findall(r"\d+", str(server.get("valkey_version", "")))
    return tuple(map(int, numbers[:3])) >= _MENDS


def translate(error: Exception) -> StoreError:
    """redis-py's error as ours."""
    if isinstance(error, _AWAY):
        return StoreUnavailable(f"{type(error).__name__}: {error}")
    if not isinstance(error, RedisError):  # a bug in the client library, which puts it among a batch's replies
        return StoreUnavailable(f"{type(error).__name__}: {error}")
    if isinstance(error, ResponseError) and str(error).startswith(_PASSING):
        return StoreUnavailable(str(error))
    return StoreRefused(f"{type(error).__name__}: {error}")


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the Redis commands in the block leave it as a StoreError."""
    try:
        yield
    except ARouterError:
        raise
    except (RedisError, RedisClusterException, OSError) as exc:
        raise translate(exc) from exc


async def verify(store: Store) -> bool:
    """SettingsError where this Redis must not hold usage: too old, or free to evict it. One that is away passes.

    Returns whether it has answered.
    """
    try:
        servers, memories = await info(store, "server"), await info(store, "memory")
    except StoreUnavailable:
        return False
    for server in servers:
        version = str(server.get("redis_version", "0"))
        if int(version.split(".", maxsplit=1)[0]) < 7:
            raise SettingsError(f"REDIS_URL: Redis >= 7.0 or Valkey >= 8 is needed, this is {version}")
    for memory in memories:
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise SettingsError(
                f"REDIS_URL: maxmemory-policy must be noeviction, else usage is evicted; it is {policy}"
            )
    return True
