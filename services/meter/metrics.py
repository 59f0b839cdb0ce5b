"""Every metric of a meter, with its meaning. `docs/metrics.md` is made from here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.meter.usage_metrics import UsageMetrics
from shared.books.audit import Conservation
from shared.books.followers import State
from shared.books.work import Summary
from shared.contract.entry import Entry
from shared.runtime.reload_metrics import ReloadMetrics

_LAG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)


class BooksMetrics:
    """Gauges of the books. Those about all of Redis come from the meter that holds shard 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._backlog = Gauge(
            "arouter_backlog_records",
            "Records in a shard's tail stream: of exchanges that run, or wait to be settled. Said by who reads it.",
            ["shard"],
            registry=registry,
        )
        self._conservation = Gauge(
            "arouter_conservation_exchanges",
            "Every exchange of the last 35 days, each side counted on its own: opened, settled, in_flight, "
            "quarantined. gap: opened, and nowhere to be found; 0 but for what is on its way from a gateway.",
            ["side"],
            registry=registry,
        )
        self._work = Gauge(
            "arouter_work",
            "Work that ends elsewhere (background responses, batches), by state. open: begun, and its result is not "
            "booked, so that its cost is not known; expired: nobody has fetched it for 35 days, since there are books.",
            ["state"],
            registry=registry,
        )
        self._oldest_work = Gauge(
            "arouter_oldest_open_work_seconds", "Since the oldest open work began; 0 for none.", registry=registry
        )
        self._lags = Gauge(
            "arouter_follower_lag_seconds",
            "Since the oldest ledger entry was settled that a follower has not read; 0 for none.",
            ["follower"],
            registry=registry,
        )
        self._failing = Gauge(
            "arouter_follower_failing",
            "1 where the last round of a follower has failed: arouter books status says why.",
            ["follower"],
            registry=registry,
        )
        self._missing = Gauge(
            "arouter_follower_gaps",
            "Shards whose ledger was trimmed before this follower had read it, and entries that nobody can read.",
            ["follower"],
            registry=registry,
        )
        self._overshoot = Gauge(
            "arouter_limits_worst_overshoot_ratio",
            "By how much a scope has exceeded a hard budget, as a share of the budget: the worst that was ever seen.",
            registry=registry,
        )

    def backlog(self, lengths: Iterable[tuple[int, int]]) -> None:
        """How long the streams are that this meter reads, by shard."""
        self._backlog.clear()
        for shard, length in lengths:
            self._backlog.labels(shard).set(length)

    def conservation(self, found: Conservation | None) -> None:
        """The sides that this meter counted; None where another meter counts."""
        self._conservation.clear()
        if found is not None:
            for side in ("opened", "settled", "in_flight", "quarantined", "gap"):
                self._conservation.labels(side).set(getattr(found, side))

    def followers(self, found: Iterable[State]) -> None:
        """How the followers do; none where another meter looks."""
        for gauge in (self._lags, self._failing, self._missing):
            gauge.clear()
        for state in found:
            self._lags.labels(state.name).set(max(0, state.lag_ms) / 1000)
            self._failing.labels(state.name).set(int(state.failing))
            self._missing.labels(state.name).set(len(state.gaps) + state.skipped)

    def limits(self, overshoot: float) -> None:
        """The worst overshoot of a limit, as a share of it."""
        self._overshoot.set(overshoot)

    def work(self, found: Summary | None, now_ms: int = 0) -> None:
        """Work that ends elsewhere, at a time of Redis's clock; None where another meter counts."""
        self._work.clear()
        if found is None:
            self._oldest_work.set(0)
            return
        self._work.labels("open").set(found.open)
        self._work.labels("expired").set(found.expired)
        age = 0 if found.oldest_ms is None else max(0, now_ms - found.oldest_ms)
        self._oldest_work.set(age / 1000)


class LeaseMetrics:
    """Gauges of the shards of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._shards = Gauge("arouter_leased_shards", "Shards this meter reads.", registry=registry)
        self._round = Gauge(
            "arouter_last_round_seconds", "Since the leases were last renewed; they last 10 s.", registry=registry
        )

    def show(self, *, shards: Callable[[], float], last_round: Callable[[], float]) -> None:
        """What they say when they are asked; from another thread, so that it must be read in one step."""
        self._shards.set_function(shards)
        self._round.set_function(last_round)


class MeterMetrics:
    """The metrics of one process."""

    def __init__(self, usage_series: int = 200) -> None:
        """`usage_series`: pairs of team and model with labels of their own."""
        self.registry = registry = CollectorRegistry()
        self.books = BooksMetrics(registry)
        self.reloads = ReloadMetrics(registry, "price_book")
        self._settled = Counter(
            "arouter_settled_exchanges",
            "Exchanges settled for good, by outcome, by the source of their usage, and by how the answer ended "
            "(whole, truncated, error, cut).",
            ["outcome", "source", "ended"],
            registry=registry,
        )
        self._marked = Counter(
            "arouter_marked_exchanges",
            "Exchanges whose figures are marked, by mark and provider: placeholder, half_report, inconsistent, "
            "unreadable (each time one is put into quarantine), billed_units, unpriced, open_work, work_booked, "
            "cost_differs, price_incomplete.",
            ["mark", "provider"],
            registry=registry,
        )
        self._provisional = Counter(
            "arouter_provisional_settlements",
            "Settlements of exchanges whose gateway is gone; late records amend them.",
            registry=registry,
        )
        self._duplicates = Counter(
            "arouter_duplicate_exchanges",
            "Exchanges that were settled already and came again; they change nothing.",
            registry=registry,
        )
        self._quarantined = Counter(
            "arouter_quarantined_records", "Records put into quarantine because they cannot be read.", registry=registry
        )
        self._drifted = Counter(
            "arouter_drifted_exchanges",
            "Exchanges whose reported output is more than AROUTER_DRIFT_LIMIT times off what was counted, "
            "among those that were counted too (AROUTER_SAMPLE).",
            ["provider"],
            registry=registry,
        )
        self._lag = Histogram(
            "arouter_settle_lag_seconds",
            "From the last record of an exchange arriving in Redis until it was settled.",
            registry=registry,
            buckets=_LAG,
        )
        self.leases = LeaseMetrics(registry)
        self._usage = UsageMetrics(usage_series)
        registry.register(self._usage)

    def settled(self, entry: Entry, lag: float, *, final: bool) -> None:
        """An exchange has been settled, `lag` seconds after its last record came."""
        if not final:
            self._provisional.inc()
            return
        self._settled.labels(entry.outcome, entry.source, entry.ended).inc()
        self._mark(entry)
        self._usage.count(entry)
        self._lag.observe(max(0.0, lag))
        if entry.drift:
            self._drifted.labels(entry.provider).inc()

    def unreadable(self, entry: Entry) -> None:
        """An exchange of which nothing could be read is booked provisionally, and goes into quarantine."""
        self._mark(entry)

    def _mark(self, entry: Entry) -> None:
        for mark in entry.marks:
            self._marked.labels(mark, entry.provider).inc()

    def duplicate(self) -> None:
        self._duplicates.inc()

    def quarantined(self, records: int) -> None:
        self._quarantined.inc(records)
