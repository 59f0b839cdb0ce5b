"""What is counted of every exchange that ends. Each request comes by here: plain numbers are counted, and the metrics
library gets them when it asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from services.gateway.observers import Summary

# Seconds. A gateway's own share is in the first ones; reasoning models are silent for minutes.
_FIRST_BYTE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class _Times:
    """How many observations lie in each bucket, and their sum in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(_FIRST_BYTE) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(_FIRST_BYTE, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """The buckets as the format has them: each with its bound, and with those below it."""
        bounds = [*map(floatToGoString, _FIRST_BYTE), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class Ended(Collector):
    """Exchanges that have ended, their bytes, and how soon they began to answer. It is read from another thread."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._from_provider, self._to_client = _Times(), _Times()
        self._relayed = 0

    def note(self, summary: Summary) -> None:
        """Count an exchange."""
        labels = summary.outcome, summary.provider, summary.status or 0
        self._counts[labels] = self._counts.get(labels, 0) + 1
        self._relayed += summary.response_bytes
        if summary.first_byte is not None and summary.first_byte_to_client is not None:
            self._from_provider.observe(summary.first_byte)
            self._to_client.observe(summary.first_byte_to_client)

    def collect(self) -> Iterator[Metric]:
        ended = CounterMetricFamily(
            "arouter_exchanges",
            "Exchanges that have ended, by outcome, provider and the provider's HTTP status (0: it sent none).",
            labels=["outcome", "provider", "status"],
        )
        for (outcome, provider, status), count in self._counts.copy().items():
            ended.add_metric([outcome, provider, str(status)], count)
        relayed = CounterMetricFamily("arouter_relayed_bytes", "Body bytes of answers, as they came.")
        relayed.add_metric([], self._relayed)
        first_byte = HistogramMetricFamily(
            "arouter_first_byte_seconds",
            "Until the first body byte. side=provider: from the request going out until it came; "
            "side=client: from the client's request head until it was passed on.",
            labels=["side"],
        )
        for side, times in (("provider", self._from_provider), ("client", self._to_client)):
            first_byte.add_metric([side], times.buckets(), times.sum)
        yield from (ended, relayed, first_byte)
