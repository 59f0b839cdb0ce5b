"""The border to Redis: connecting, and translating redis-py's errors into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import (
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as LostConnection,
)
from redis.exceptions import (
    TimeoutError as LateReply,
)

from shared.errors import ARouterError, SettingsError, StoreError, StoreRefused, StoreUnavailable

# Error replies that pass: a script that overruns, a replica without its master, a cluster that is moving or
# incomplete, a disk that is full for a while.
_PASSING = ("BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "LOADING", "OOM", "READONLY")

Store = Redis  # what `connect` returns and every module that speaks to Redis takes


def connect(url: str, *, timeout: float = 5.0, connections: int = 64) -> Store:
    """A client for `url`; no connection is made yet. `timeout` bounds every reply, in seconds.

    SettingsError where the URL is none of redis://, rediss:// and unix://.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, max_connections=connections, timeout=timeout
        )
    except ValueError:
        raise SettingsError("REDIS_URL: is no redis://, rediss:// or unix:// URL") from None
    return Redis.from_pool(pool)


def translate(error: Exception) -> StoreError:
    """redis-py's error as ours; what came from neither redis-py nor the network is a bug and comes out as it is."""
    if isinstance(error, (LostConnection, LateReply, BusyLoadingError, ReadOnlyError, OutOfMemoryError, OSError)):
        return StoreUnavailable(f"{type(error).__name__}: {error}")
    if isinstance(error, ResponseError) and str(error).startswith(_PASSING):
        return StoreUnavailable(str(error))
    return StoreRefused(f"{type(error).__name__}: {error}")


@contextmanager
def translated() -> Iterator[None]:
    """Run Redis commands inside; what they raise comes out as a StoreError."""
    try:
        yield
    except ARouterError:
        raise
    except (RedisError, OSError) as exc:
        raise translate(exc) from exc


async def verify(store: Store) -> None:
    """SettingsError where this Redis must not hold usage: too old, or free to evict it. One that is away passes."""
    try:
        with translated():
            info = await store.info("server")
            memory = await store.info("memory")
    except StoreUnavailable:
        return
    version = str(info.get("redis_version", "0"))
    if int(version.split(".", maxsplit=1)[0]) < 7:
        raise SettingsError(f"REDIS_URL: Redis >= 7.0 or Valkey >= 8 is needed, this is {version}")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise SettingsError(f"REDIS_URL: maxmemory-policy must be noeviction, or usage is evicted; it is {policy}")
