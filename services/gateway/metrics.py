"""Every metric of a gateway, with its meaning. Gauges are read when they are asked for (decision 22).

`docs/metrics.md` is made from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.ended_metrics import Ended
from services.gateway.observers import Observer, Summary
from services.gateway.routing.upstreams import Upstream
from shared.contract.provider_state import Health as State
from shared.runtime.reload_metrics import ReloadMetrics

_GAP = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 20, 60, 300)
# Gaps are measured in one exchange of this many: two clock reads per chunk are too many for all.
GAPS_OF_EVERY = 16


_STATES = {
    "open_streams": "Exchanges running now.",
    "client_connections": "Connections of clients, idle ones included.",
    "read_on_upstreams": "Upstreams read on for their usage though their client has left.",
    "tap_backlog_bytes": "Tail bytes in memory that Redis has not taken yet.",
    "tap_backlog_seconds": "Age of the oldest record that Redis has not taken yet.",
    "journal_bytes": "Size of the journal on disk.",
    "journal_fill_ratio": "The same, as a part of AROUTER_JOURNAL_BYTES, or of its disk; not ready from 0.8.",
    "journal_failed": "1 where the journal is full or its disk refuses.",
    "redis_up": "1 where Redis took the last batch of records.",
    "draining": "1 once the process has been told to end.",
    "limits_waiting_releases": "Releases of reservations under limits that Redis has not heard yet.",
    "limits_served_without_redis": "Requests under limits that were served while Redis was away, so far.",
}


_TOTALS = {
    "lost_tail_bytes": "Body bytes that were relayed and that neither memory nor journal had room for: usage is "
    "partial.",
    "unkept_exchanges": "Exchanges served though the journal did not keep them (AROUTER_JOURNAL_FAILED=serve).",
    "unread_connections": "Connections given up after their answer, because the client took nothing of its rest for "
    "AROUTER_SLOW_READER_TIMEOUT (5 s once the gateway shuts down).",
}


class GatewayMetrics(Observer):
    """The instruments of one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._ended = Ended()
        registry.register(self._ended)
        self._failures = _Failures(registry)
        self._totals = {
            name: Counter(f"arouter_{name}", meaning, registry=registry) for name, meaning in _TOTALS.items()
        }
        gap = Histogram(
            "arouter_event_gap_seconds",
            "Between two reads from the provider (side=provider), between two writes to the client (side=client). "
            f"One exchange of {GAPS_OF_EVERY} is measured. A client that reads slowly slows both sides.",
            ["side"],
            registry=registry,
            buckets=_GAP,
        )
        self._gap = gap.labels("provider"), gap.labels("client")
        self._lag = Histogram(
            "arouter_loop_lag_seconds",
            "How late the event loop is, measured twenty times a second. Every event waits that long.",
            registry=registry,
            buckets=_GAP,
        )
        self._states = {name: Gauge(f"arouter_{name}", meaning, registry=registry) for name, meaning in _STATES.items()}
        self.reloads = ReloadMetrics(registry, "configuration")
        self._timed = 0
        self._credentials = _Credentials()
        registry.register(self._credentials)

    def show(self, **states: Callable[[], float]) -> None:
        """Set the functions that the gauges read. They are called from another thread, and must read in one step."""
        for name, read in states.items():
            self._states[name].set_function(read)

    def ended(self, summary: Summary) -> None:
        self._ended.note(summary)
        if summary.cause or len(summary.attempts) > 1:
            self._failures.ended(summary)
        if summary.lost_bytes:
            self._totals["lost_tail_bytes"].inc(summary.lost_bytes)

    def show_upstreams(self, upstreams: Callable[[], Iterable[Upstream]], unmade: Callable[[], int]) -> None:
        """Set what the metrics of credentials are read from, from another thread: the upstreams, and the number of
        further attempts that there was no budget for."""
        self._credentials.upstreams = upstreams
        self._credentials.unmade = unmade

    def late(self, seconds: float) -> None:
        """A tick of the loop came late by `seconds`."""
        self._lag.observe(seconds)

    def refused(self, status: int) -> None:
        self._failures.refused.labels(status).inc()

    def unkept(self) -> None:
        self._totals["unkept_exchanges"].inc()

    def unread(self) -> None:
        """A connection was given up, because its client did not read the rest of an answer."""
        self._totals["unread_connections"].inc()

    def began(self) -> Gaps | None:
        """The stop watch of a new exchange; None where it is not measured."""
        self._timed = (self._timed + 1) % GAPS_OF_EVERY
        return None if self._timed else Gaps(*self._gap)


class _Failures:
    """Counts refusals, and what went wrong by its cause: a word of a short list (`shared/runtime/errors.py`)."""

    __slots__ = ("_failed", "_maybe_paid", "_retried", "refused")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refused = Counter(
            "arouter_refused_requests",
            "Requests for a provider turned away before they were an exchange, by the HTTP status they got.",
            ["status"],
            registry=registry,
        )
        self._failed = Counter(
            "arouter_failed_exchanges",
            "Exchanges that did not end well, by provider and cause: connect_refused, dns, certificate, reset, "
            "idle_timeout, client_gone and the like.",
            ["provider", "cause"],
            registry=registry,
        )
        self._retried = Counter(
            "arouter_retried_requests",
            "Attempts that were followed by another one, by their provider and cause: an idle connection that the "
            "provider closed as they went out (closed_early, reset), or by policy: rate_limited, overloaded, error, "
            "refused, connect_refused and the like.",
            ["provider", "cause"],
            registry=registry,
        )
        self._maybe_paid = Counter(
            "arouter_maybe_paid_attempts",
            "Of these, the ones that the provider may have worked for, and may bill, beside the one that is booked.",
            ["provider", "cause"],
            registry=registry,
        )

    def ended(self, summary: Summary) -> None:
        if summary.cause:
            self._failed.labels(summary.provider, summary.cause).inc()
        for attempt in summary.attempts[:-1]:
            self._retried.labels(attempt.provider, attempt.cause).inc()
            if attempt.maybe_paid:
                self._maybe_paid.labels(attempt.provider, attempt.cause).inc()


class _Credentials(Collector):
    """What is known of credentials. It is kept where attempts are made, and read when it is asked for."""

    def __init__(self) -> None:
        self.unmade: Callable[[], int] = int
        self.upstreams: Callable[[], Iterable[Upstream]] = tuple

    def collect(self) -> Iterator[Metric]:
        made = CounterMetricFamily(
            "arouter_attempts", "Attempts, by provider and credential.", labels=["provider", "credential"]
        )
        failed = CounterMetricFamily(
            "arouter_failed_attempts",
            "Attempts that got no answer, 401, 402, 403, 408, 429 or 5xx, by provider and credential.",
            labels=["provider", "credential"],
        )
        health = GaugeMetricFamily(
            "arouter_credential_health",
            "1 for what each credential is now: healthy, cooling or out.",
            labels=["provider", "credential", "health"],
        )
        for upstream in self.upstreams():
            for one in upstream.pool:
                names = [upstream.provider, one.name]
                made.add_metric(names, one.health.requests)
                failed.add_metric(names, one.health.failures)
                for state in State:
                    health.add_metric([*names, state], one.health.state is state)
        unmade = CounterMetricFamily(
            "arouter_unmade_attempts", "Further attempts that were not made, because their budget was spent."
        )
        unmade.add_metric([], self.unmade())
        yield from (made, failed, health, unmade)


class Gaps:
    """Measures the gaps of one exchange, on both sides."""

    __slots__ = ("_came", "_from_provider", "_to_client", "_went")

    def __init__(self, from_provider: Histogram, to_client: Histogram) -> None:
        self._from_provider = from_provider
        self._to_client = to_client
        self._came: float | None = None
        self._went: float | None = None

    def came(self) -> None:
        """Bytes have come from the provider."""
        now = time.monotonic()
        if self._came is not None:
            self._from_provider.observe(now - self._came)
        self._came = now

    def went(self) -> None:
        """Bytes have gone to the client."""
        now = time.monotonic()
        if self._went is not None:
            self._to_client.observe(now - self._went)
        self._went = now
