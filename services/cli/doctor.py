"""`arouter doctor`: is everything there that a gateway and a meter need, and does the path to a gateway stream."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from services.cli import seals, sinks
from services.cli.serving import odd_settings
from services.gateway.attempts import Candidate
from services.gateway.credentials.renewal import Renewal
from services.gateway.credentials.sources import sources
from services.gateway.routing.configured import upstreams
from services.gateway.routing.pools import Credential
from services.gateway.routing.upstreams import Upstream
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import UpstreamClient
from services.meter.settings import MeterSettings
from services.sinks.settings import SinkSettings
from shared.access import pepper
from shared.books import streams
from shared.books.books import Books
from shared.contract.dialects import Family
from shared.runtime import embedded, seal_keys, store
from shared.runtime.errors import SettingsError, SinkError, StoreError, UpstreamError

OK, WARNING, WRONG = "ok", "warning", "WRONG"
_EVENTS, _PACE_MS = 10, 200
_SKEW_SECONDS = 2.0
_PROVIDER_SECONDS = 10
_FULL = 0.7
# Where each family lists its models: the cheapest request that needs a credential.
_LISTS = {Family.OPENAI: "/models", Family.ANTHROPIC: "/v1/models", Family.GEMINI: "/v1beta/models"}


# By `services.sinks.look.Tables`.
_TABLES = {
    "missing": (OK, "database", "has no tables yet: the first follower makes them"),
    "earlier": (WARNING, "database", "has the tables of an earlier version: the next follower changes them"),
    "same": (OK, "database", "has the tables of this version"),
    "later": (WRONG, "database", "has the tables of a later version: followers of this one wait; roll forward"),
}


class Finding(NamedTuple):
    """One line of the report. `level` is ok, warning or WRONG."""

    level: str
    about: str
    text: str


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("doctor", help="say what this machine lacks; with --url, whether a path streams")
    parser.add_argument("--url", help="a deployed gateway: measure whether the path to it streams")
    parser.add_argument("--key", help="a key of that gateway")
    parser.add_argument(
        "--silence", type=int, default=0, metavar="SECONDS", help="also keep the stream silent for so long"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 where something is wrong."""
    if arguments.url:
        found = asyncio.run(_collect(_path(arguments.url.rstrip("/"), arguments.key, arguments.silence)))
    else:
        found = asyncio.run(_collect(_machine()))
    for finding in found:
        print(f"{finding.level:8} {finding.about:10} {finding.text}")
    return int(any(finding.level == WRONG for finding in found))


async def _collect(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]


async def _machine() -> AsyncIterator[Finding]:
    settings = GatewaySettings.load()
    MeterSettings.load()
    odd = odd_settings(settings)
    for sentence in odd:
        yield Finding(WARNING, "settings", sentence)
    if not odd:
        yield Finding(OK, "settings", "every AROUTER_ variable is a setting")
    try:
        with embedded.redis_url(settings) as url:
            async for finding in _redis(url):
                yield finding
    except SettingsError as exc:
        yield Finding(WRONG, "redis", str(exc))
    async for finding in _database(SinkSettings.load()):
        yield finding
    for finding in _journal(settings):
        yield finding
    configured = list(upstreams(settings))
    renewal = Renewal(sources(configured, settings))
    await renewal.start(_PROVIDER_SECONDS)
    renewal.stop()
    if not configured:
        yield Finding(WARNING, "providers", "no provider has a credential or a base URL: every request gets 404")
    client = UpstreamClient(settings)  # as a gateway reaches them: its proxies, certificates and addresses
    try:
        asked = [_provider(client, upstream, one) for upstream in configured for one in upstream.pool]
        for finding in await asyncio.gather(*asked):
            yield finding
    finally:
        await client.close()


async def _redis(url: str) -> AsyncIterator[Finding]:
    redis = store.connect(url)
    try:
        started = time.monotonic()
        before = time.time()
        server_ms = await streams.now_ms(redis)
        took = time.monotonic() - started
        servers = await store.info(redis, "server")
        kind = "cluster" if store.is_cluster(url) else "server"
        version = str(servers[0].get("valkey_version") or servers[0].get("redis_version"))
        yield Finding(OK, "redis", f"{kind} of version {version} answers in {took * 1000:.1f} ms")
        try:
            await store.verify(redis)
            yield Finding(OK, "redis", "evicts nothing")
        except SettingsError as exc:
            yield Finding(WRONG, "redis", str(exc))
        try:
            await pepper.check(redis, GatewaySettings.load())
            yield Finding(OK, "pepper", "fits the keys in Redis")
        except SettingsError as exc:
            yield Finding(WRONG, "pepper", str(exc))
        yield await _sealed(redis, GatewaySettings.load())
        for finding in _kept(await store.info(redis, "persistence"), await store.info(redis, "memory")):
            yield finding
        if not all(map(store.mends, servers)):
            text = (
                "may run half a script again after its power failed twice, unless a meter runs; Valkey 9.1.2 does not"
            )
            yield Finding(WARNING, "redis", text)
        if store.is_cluster(url) and MeterSettings.load().arq_redis_url is None:
            yield Finding(WRONG, "redis", "AROUTER_ARQ_REDIS_URL is needed with a cluster, which arq cannot use")
        skew = server_ms / 1000 - before - took / 2
        level = OK if abs(skew) < _SKEW_SECONDS else WARNING
        yield Finding(level, "clock", f"is {abs(skew):.1f} s {'behind' if skew > 0 else 'ahead of'} Redis's")
    except StoreError as exc:
        yield Finding(WRONG, "redis", f"does not answer: {exc}")
    finally:
        await redis.aclose()


async def _database(settings: SinkSettings) -> AsyncIterator[Finding]:
    try:
        database = sinks.database(settings)
        if database is None:
            yield Finding(OK, "database", "there is none: AROUTER_DATABASE_URL is not set")
            return
        from services.sinks.look import look  # noqa: PLC0415  # its libraries take a while

        started = time.monotonic()
        try:
            found = await asyncio.to_thread(look, database)
        finally:
            database.close()
    except (SettingsError, SinkError) as exc:
        text = str(exc) if isinstance(exc, SettingsError) else f"does not answer: {exc}"
        yield Finding(WRONG, "database", text)
        return
    yield Finding(OK, "database", f"{found.server} answers in {(time.monotonic() - started) * 1000:.1f} ms")
    if not found.fit:
        yield Finding(WRONG, "database", f"{found.server} is too old: 14 is the oldest that will do")
    yield Finding(*_TABLES[found.tables])
    creates = Finding(OK, "database", "tables can be made and written there")
    cannot = Finding(WRONG, "database", "its user may not make tables, which the first follower and every month need")
    yield creates if found.creates else cannot


async def _sealed(redis: store.Store, settings: GatewaySettings) -> Finding:
    try:
        keys = seal_keys.load(settings.seal_keys_file)
    except SettingsError as exc:
        return Finding(WRONG, "seals", str(exc))
    missing = await seals.missing(Books(redis, settings.shards), keys)
    if missing:
        held = ", ".join(f"{number} with {key}" for key, number in sorted(missing.items()))
        text = f"exchanges in quarantine are sealed with keys that are not here: {held}"
        return Finding(WARNING, "seals", f"{text}; retry them where the keys are, or drop them")
    return Finding(OK, "seals", seals.said_of(keys))


def _kept(persistence: list[dict[str, Any]], memory: list[dict[str, Any]]) -> Iterator[Finding]:
    if all(server.get("aof_enabled") for server in persistence):
        yield Finding(OK, "redis", "writes an append-only file")
    else:
        yield Finding(WRONG, "redis", "does not write an append-only file (appendonly no): a restart loses usage")
    for server in persistence:
        if server.get("aof_last_write_status", "ok") != "ok":
            yield Finding(WRONG, "redis", "cannot write its append-only file: is its disk full?")
    for server in memory:
        limit, used = int(server.get("maxmemory", 0)), int(server.get("used_memory", 0))
        if limit and used > _FULL * limit:
            yield Finding(
                WARNING, "redis", f"uses {used / limit:.0%} of its maxmemory; when it is full it accepts nothing new"
            )
        if not limit:
            yield Finding(WARNING, "redis", "has no maxmemory: out of memory, it is killed instead of refusing writes")


def _journal(settings: GatewaySettings) -> Iterator[Finding]:
    folder = settings.journal_dir or settings.data_dir.expanduser() / "journal"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
        free = shutil.disk_usage(folder).free
    except OSError as exc:
        yield Finding(WRONG, "journal", f"cannot write to {folder}: {exc.strerror}")
        return
    mib = 1024 * 1024
    if free < settings.journal_bytes:
        text = f"{folder} has {free // mib} MiB free, AROUTER_JOURNAL_BYTES allows {settings.journal_bytes // mib}"
        yield Finding(WARNING, "journal", text)
    else:
        yield Finding(OK, "journal", f"{folder} can be written, {free // mib} MiB are free")
    if _file_system(folder) == "tmpfs":
        yield Finding(
            WARNING, "journal", f"{folder} is in memory: it uses memory, and a restart of the machine loses it"
        )


def _file_system(folder: Path) -> str:
    """The name of its file system; "" where it is unknown."""
    table = Path("/proc/mounts")
    mounts = [line.split()[1:3] for line in table.read_text().splitlines()] if table.exists() else []
    inside = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(inside, default=(0, ""))[1]


async def _provider(client: UpstreamClient, upstream: Upstream, credential: Credential) -> Finding:
    provider = upstream.provider
    about = f"{provider} ({credential.name})" if credential.name else provider
    family = next(iter(upstream.endpoints))
    headers = [(b"accept", b"*/*"), (b"user-agent", b"arouter-doctor")]
    if family is Family.ANTHROPIC:
        headers.append((b"anthropic-version", b"2023-06-01"))
    url = upstream.paths.check or upstream.endpoints[family] + _LISTS[family]
    authenticator = credential.authenticators[family]
    request = Candidate(provider, "", "", "GET", url, b"", headers, b"", authenticator)
    proxy = client.proxy(provider, url)
    by = f" through the proxy {proxy}" if proxy else ""
    try:
        async with asyncio.timeout(_PROVIDER_SECONDS):
            signed = [*headers, *authenticator.prepare(request)]
            answer = await client.send(provider, "GET", url, b"", signed, b"")
    except (UpstreamError, TimeoutError) as exc:
        why = str(exc) or f"no answer within {_PROVIDER_SECONDS} s"
        return Finding(WRONG, about, f"{upstream.base_url} cannot be reached{by}: {why}")
    answer.close()
    return _judged(about, answer.status, by, asked=authenticator.asks)


def _judged(about: str, status: int, by: str, *, asked: bool) -> Finding:
    """What a provider's status says. `by`: how it was reached; `asked`: with a credential."""
    # Gemini and xAI answer a malformed key with 400.
    if status in (401, 403) or (status == 400 and asked):
        return Finding(WRONG, about, f"does not accept the credential (HTTP {status})")
    if status != 200:
        return Finding(WARNING, about, f"answers{by}, and does not list its models (HTTP {status})")
    if not asked:
        return Finding(OK, about, f"is reachable{by}; no credential was sent")
    return Finding(OK, about, f"is reachable{by} and accepts the credential")


async def _path(url: str, key: str | None, silence: int) -> AsyncIterator[Finding]:
    """What the path to a gateway does to the probe stream."""
    if not key:
        raise SettingsError("--key: needed with --url")
    query = {"events": _EVENTS, "pace_ms": _PACE_MS, "silence": silence}
    arrivals: list[float] = []
    ended = False
    started = time.monotonic()
    try:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(20, read=silence + 20)) as client,
            client.stream("GET", f"{url}/api/v1/pulse", params=query, headers={"authorization": f"Bearer {key}"}) as on,
        ):
            if on.status_code != 200:
                yield Finding(WRONG, "path", f"{url} answers HTTP {on.status_code}: {(await on.aread())[:200]!r}")
                return
            encoding = on.headers.get("content-encoding")
            async for line in on.aiter_lines():
                if line == "data: [DONE]":
                    ended = True
                elif line.startswith("data:"):
                    arrivals.append(time.monotonic() - started)
    except httpx.HTTPError as exc:
        if not arrivals:
            yield Finding(WRONG, "path", f"{url} cannot be reached: {type(exc).__name__}")
            return
    if encoding:
        yield Finding(WRONG, "path", f"a proxy compresses the stream ({encoding}), which delays events")
    yield _evenness(arrivals)
    if ended:
        yield Finding(OK, "path", f"the stream came to its end{f' after {silence} s of silence' if silence else ''}")
    else:
        where = (
            "while it was silent: an idle timeout on the way is too short"
            if len(arrivals) == _EVENTS
            else "before its end"
        )
        yield Finding(WRONG, "path", f"the stream was cut off {where}")


def _evenness(arrivals: list[float]) -> Finding:
    if len(arrivals) < 2:
        return Finding(WRONG, "path", "the stream hardly began")
    expected = (len(arrivals) - 1) * _PACE_MS / 1000
    spread = arrivals[-1] - arrivals[0]
    worst = max(later - earlier for earlier, later in itertools.pairwise(arrivals))
    if spread < expected / 2:
        text = f"a proxy buffers: {len(arrivals)} events sent over {expected:.1f} s arrived within {spread:.2f} s"
        return Finding(WRONG, "path", text)
    if worst > 3 * _PACE_MS / 1000:
        return Finding(WARNING, "path", f"events sent every {_PACE_MS} ms arrived up to {worst * 1000:.0f} ms apart")
    return Finding(OK, "path", f"events pass at once: sent every {_PACE_MS} ms, at most {worst * 1000:.0f} ms apart")
