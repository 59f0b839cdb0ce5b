"""Counters of usage by team and model, of what this meter has settled for good. They begin at 0 with the process, and
may miss what was settled as it died: bills are made of the books, and graphs of these."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from shared.contract.entry import Entry

_OTHER = "other"
_KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")
_LABELS = ["team", "model"]


class UsageMetrics:
    """What was used."""

    def __init__(self, registry: CollectorRegistry, most_series: int) -> None:
        """`most_series`: pairs of team and model with labels of their own; what is beyond is `other`."""
        self._most = most_series
        self._known: set[tuple[str, str]] = set()
        self._requests = Counter(
            "arouter_usage_requests",
            "Exchanges that this meter has settled for good, by team and model. Pairs beyond "
            "AROUTER_METRICS_USAGE_SERIES, and those that have not used anything yet, are other.",
            _LABELS,
            registry=registry,
        )
        self._tokens = Counter(
            "arouter_usage_tokens",
            "Their tokens, as far as known, by kind: input, output; within these cache_read, cache_write, reasoning.",
            [*_LABELS, "kind"],
            registry=registry,
        )
        self._unknown = Counter(
            "arouter_usage_unknown_requests", "Those whose tokens nobody knows.", _LABELS, registry=registry
        )
        self._cost = Counter(
            "arouter_usage_cost_usd",
            "Their cost in US dollars, as it was when they were settled; a later price is in the books alone.",
            _LABELS,
            registry=registry,
        )
        self._unpriced = Counter(
            "arouter_usage_unpriced_requests", "Those without a price, which are not free.", _LABELS, registry=registry
        )

    def count(self, entry: Entry) -> None:
        """An exchange is settled for good."""
        pair = self._pair(entry)
        self._requests.labels(*pair).inc()
        for kind in _KINDS:
            tokens = getattr(entry, f"{kind}_tokens")
            if tokens:
                self._tokens.labels(*pair, kind).inc(tokens)
        if entry.total_tokens is None:
            self._unknown.labels(*pair).inc()
        if entry.cost_nanousd is None:
            self._unpriced.labels(*pair).inc()
        else:
            self._cost.labels(*pair).inc(entry.cost_nanousd / 1e9)

    def _pair(self, entry: Entry) -> tuple[str, str]:
        """The labels of an exchange. Callers make up models: one that was never answered gets none of its own."""
        pair = entry.team, entry.model
        if pair in self._known:
            return pair
        if not entry.total_tokens or len(self._known) >= self._most:
            return _OTHER, _OTHER
        self._known.add(pair)
        return pair
