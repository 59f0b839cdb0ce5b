"""The parts of a gateway process, and the order in which they start and stop."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec

from services.gateway.admission import Admission
from services.gateway.bulletin import Bulletin
from services.gateway.capture.copy_budget import CopyLimits
from services.gateway.capture.journal import Journal
from services.gateway.capture.recovery import JournalRecovery
from services.gateway.capture.tap import Tap
from services.gateway.capture.writer import RecordWriter
from services.gateway.client import asgi
from services.gateway.client.request import ClientRequest
from services.gateway.configuration import Configuration, Load
from services.gateway.configured import Configured
from services.gateway.dataplane import DataPlane
from services.gateway.health import Health
from services.gateway.limiting.limiter import Limiter
from services.gateway.metrics import GatewayMetrics
from services.gateway.observers import AccessLog, Observers
from services.gateway.redis_check import RedisCheck
from services.gateway.running import Running
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.client import TransportFactory
from shared.access.keyring import KeyRing
from shared.books import running
from shared.contract import paths
from shared.contract.ids import ExchangeIds, new_boot
from shared.contract.running import Reloaded, Result, Service
from shared.runtime import seal_keys, store
from shared.runtime.errors import StoreError
from shared.runtime.reloading import Change, Reloading
from shared.runtime.tasks import Tasks

_FLUSH_SECONDS = 15.0

log = logging.getLogger(__name__)


class Control(Protocol):
    """The control plane, where it is served on the gateway's port: an ASGI application."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def close(self) -> None: ...


class Gateway:
    """One gateway. Between `start` and `stop` it handles every request."""

    def __init__(
        self,
        settings: GatewaySettings,
        redis_url: str,
        control: Control | None = None,
        transport: TransportFactory | None = None,
        load: Load | None = None,
    ) -> None:
        """`transport`: a factory of httpx transports, in place of our own connections. `load`: reads the settings
        again; None where nothing is reloaded."""
        self._redis = store.connect(redis_url)
        self._control = control
        sealer = seal_keys.load(settings.seal_keys_file).sealer()
        if sealer is not None:
            log.info("tails are sealed with the key %s", sealer.id)
        ids = ExchangeIds(new_boot(), settings.shards)
        root = settings.journal_dir or settings.data_dir.expanduser() / "journal"
        self._journal = Journal(root, ids.boot, limit=settings.journal_bytes, keep=settings.journal_keep)
        self._writer = RecordWriter(self._redis, self._journal, settings.tap_memory)
        self.metrics = GatewayMetrics()
        unkept = self.metrics.unkept if settings.journal_failed == "serve" else None
        limits = CopyLimits(settings.tap_bytes, settings.tap_file_bytes)
        self._tap = Tap(ids, self._writer, self._journal, unkept=unkept, limits=limits, sealer=sealer)
        needed = settings.journal_failed == "refuse"
        self.health = Health(self._journal, self._tap, RedisCheck(self._redis, settings), needs_journal=needed)
        self._configuration = Configuration(settings, load, transport, lambda: self.health.draining)
        serve = settings.limits_without_redis_seconds if settings.limits_without_redis == "serve" else None
        limiter = Limiter(self._redis, lambda: ids.boot, settings.shards, serve)
        admission = Admission(KeyRing(self._redis, settings), self._tap, limiter)
        observer = Observers([self.metrics, AccessLog()]) if settings.access_log else self.metrics
        self._plane = DataPlane(settings, self._configuration.configured, admission, observer)
        self.reloading = Reloading(
            self._reload,
            lambda: self._configuration.settings.reloaded_files() if load is not None else (),
            self.metrics.reloads,
            self._configuration.digest,
        )
        self.reloading.answer = partial(self._answer, ids)
        what_runs = Running(self._redis, self._plane.open, ids.opened)
        bulletin = Bulletin(self._plane.providers, self.reloading, what_runs)
        self._recovery = JournalRecovery(self._redis, self._journal, root, self._writer, ids, bulletin)
        self._show()

    async def start(self) -> None:
        """Start the tasks that run beside the exchanges, once the credentials that expire are here."""
        await self._configuration.start()
        tasks = Tasks()
        writing = tasks.start(self._writer.run(), "record writer")
        forever = [
            tasks.start(self._tap.run(self.metrics.late), "tap ticker"),
            tasks.start(self._plane.watch(), "watchdog"),
            tasks.start(self.health.check.run(), "check of Redis"),
            tasks.start(self._recovery.beat(), "heartbeat"),
            tasks.start(self._recovery.resend(), "journal recovery"),
            tasks.start(self.reloading.run(), "reloads"),
            tasks.start(self._plane.limiter.refresh(), "limits"),
            tasks.start(self._plane.limiter.releases.run(), "releases of limits"),
        ]
        self._running = writing, forever

    async def stop(self) -> None:
        """End the running exchanges, flush their records and close every connection."""
        # uvicorn does not wait for the tasks that it has just cancelled; their end records must be queued first.
        await self._plane.drained(_FLUSH_SECONDS)
        writing, forever = self._running
        for task in forever:
            task.cancel()
        with suppress(StoreError):  # else they end with the boot
            await self._plane.limiter.releases.flush()
        flushed = await self._writer.close(writing, _FLUSH_SECONDS)
        # A journal that is not accounted for stays on the disk, and another gateway adopts it.
        self._journal.close(complete=await self._recovery.leave(complete=flushed))
        await self._configuration.close()
        if self._control is not None:
            await self._control.close()
        await self._redis.aclose()

    async def handle(self, request: ClientRequest) -> None:
        """Answer a request."""
        path = asgi.path(request.target)
        if path in paths.PROBES and request.method in ("GET", "HEAD"):
            self._probe(path, request)
        elif self._control is not None and path.startswith(paths.CONTROL) and path not in paths.CALLS:
            await asgi.run(self._control, request)
        else:
            await self._plane.handle(request)

    async def _reload(self) -> Change:
        def use(configured: Configured) -> None:
            self._plane.configured = configured

        return await self._configuration.reload(use)

    async def _answer(self, ids: ExchangeIds, number: int, result: Result, said: str) -> None:
        reloaded = Reloaded(Service.GATEWAY, result, socket.gethostname(), said)
        await running.note_reload(self._redis, number, ids.boot, reloaded)

    def _probe(self, path: str, request: ClientRequest) -> None:
        """Answer a probe. /readyz says whether a new exchange would be taken, and why not; the others say 200."""
        reasons = self.health.ready() if path == "/readyz" else []
        answer = {"ready": not reasons, "reasons": reasons} if path == "/readyz" else {"status": "ok"}
        headers = [(b"content-type", b"application/json")]
        if reasons:
            headers.append((b"retry-after", b"1"))
        request.respond(503 if reasons else 200, headers, msgspec.json.encode(answer))

    def _show(self) -> None:
        self.metrics.show_upstreams(
            lambda: self._plane.configured.upstreams, lambda: self._plane.configured.retries.unmade
        )
        self.metrics.show(
            open_streams=lambda: len(self._plane.open),
            read_on_upstreams=lambda: self._plane.read_on,
            tap_backlog_bytes=lambda: self._writer.pending_bytes,
            tap_backlog_seconds=lambda: time.monotonic() - self._writer.shipped,
            journal_bytes=lambda: self._journal.size,
            journal_fill_ratio=lambda: self._journal.fill,
            journal_failed=lambda: self._journal.failed,
            redis_up=lambda: self._writer.available,
            draining=lambda: self.health.draining,
            limits_waiting_releases=lambda: len(self._plane.limiter.releases),
            limits_served_without_redis=lambda: self._plane.limiter.away.served,
        )
