"""Counters of usage by team and model, of what this meter has settled for good. They begin at 0 with the process, and
may miss what was settled as it died: bills are made of the books, and graphs of these.

Each settlement comes by here: plain numbers are counted, and the metrics library gets them when it asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.contract.entry import Entry

_OTHER = "other", "other"
_LABELS = ("team", "model")
_KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")


class _Used:
    """What one pair of team and model has used. `nanousd`: of the requests that have a price."""

    __slots__ = ("nanousd", "requests", "tokens", "unknown", "unpriced")

    def __init__(self) -> None:
        self.requests = self.unknown = self.unpriced = self.nanousd = 0
        self.tokens = [0] * len(_KINDS)

    def add(self, entry: Entry) -> None:
        self.requests += 1
        tokens = self.tokens
        tokens[0] += entry.input_tokens or 0
        tokens[1] += entry.output_tokens or 0
        tokens[2] += entry.cache_read_tokens or 0
        tokens[3] += entry.cache_write_tokens or 0
        tokens[4] += entry.reasoning_tokens or 0
        if entry.total_tokens is None:
            self.unknown += 1
        if entry.cost_nanousd is None:
            self.unpriced += 1
        else:
            self.nanousd += entry.cost_nanousd


class UsageMetrics(Collector):
    """What was used. It is read from another thread."""

    def __init__(self, most_series: int) -> None:
        """`most_series`: pairs of team and model with labels of their own; what is beyond is `other`."""
        self._most = most_series
        self._used: dict[tuple[str, str], _Used] = {}

    def count(self, entry: Entry) -> None:
        """An exchange is settled for good."""
        used = self._used.get((entry.team, entry.model))
        if used is None:
            pair = self._pair(entry)
            used = self._used.get(pair) or self._used.setdefault(pair, _Used())
        used.add(entry)

    def _pair(self, entry: Entry) -> tuple[str, str]:
        """The labels of a pair that has none yet. Callers make up models: one that was never answered gets none."""
        full = len(self._used) - (_OTHER in self._used) >= self._most
        return _OTHER if full or not entry.total_tokens else (entry.team, entry.model)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "arouter_usage_requests",
            "Exchanges that this meter has settled for good, by team and model. Pairs beyond "
            "AROUTER_METRICS_USAGE_SERIES, and those that have not used anything yet, are other.",
            labels=_LABELS,
        )
        tokens = CounterMetricFamily(
            "arouter_usage_tokens",
            "Their tokens, as far as known, by kind: input, output; within these cache_read, cache_write, reasoning.",
            labels=(*_LABELS, "kind"),
        )
        unknown = CounterMetricFamily(
            "arouter_usage_unknown_requests", "Those whose tokens nobody knows.", labels=_LABELS
        )
        cost = CounterMetricFamily(
            "arouter_usage_cost_usd",
            "Their cost in US dollars, as it was when they were settled; a later price is in the books alone.",
            labels=_LABELS,
        )
        unpriced = CounterMetricFamily(
            "arouter_usage_unpriced_requests", "Those without a price, which are not free.", labels=_LABELS
        )
        for pair, used in self._used.copy().items():
            requests.add_metric(pair, used.requests)
            for kind, count in zip(_KINDS, used.tokens, strict=True):
                if count:
                    tokens.add_metric((*pair, kind), count)
            unknown.add_metric(pair, used.unknown)
            if used.requests > used.unpriced:
                cost.add_metric(pair, used.nanousd / 1e9)
            unpriced.add_metric(pair, used.unpriced)
        yield from (requests, tokens, unknown, cost, unpriced)
