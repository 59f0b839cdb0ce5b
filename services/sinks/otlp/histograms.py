"""Histograms of what this process has followed, cumulative since its start. Pure.

Cumulative, because what could not be sent is in the next report, and one that is sent twice counts once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Histogram, HistogramDataPoint, Metric

from services.sinks.otlp import conventions
from services.sinks.otlp.spans import describe
from shared.contract.dialects import TOKENLESS
from shared.contract.entry import Entry

MOST_SERIES = 2000  # then models are called `other`: callers make up their names
_OTHER = "other"
_UNITS = {conventions.TOKEN_USAGE: "{token}", conventions.DURATION: "s"}
_BOUNDS = {conventions.TOKEN_USAGE: conventions.TOKEN_BOUNDS, conventions.DURATION: conventions.SECOND_BOUNDS}
_MODELS = ("gen_ai.request.model", "gen_ai.response.model")

Labels = tuple[tuple[str, str], ...]


class _Series:
    __slots__ = ("counts", "sum")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.sum = 0.0


class Histograms:
    """Series by metric and attributes. `changed`: whether any has changed since it was last reported."""

    def __init__(self, most_series: int = MOST_SERIES) -> None:
        self._most = most_series
        self._series: dict[tuple[str, Labels], _Series] = {}
        self._changed: set[tuple[str, Labels]] = set()

    def observe(self, entry: Entry) -> None:
        """Count an exchange."""
        labels: Labels = (
            ("gen_ai.operation.name", conventions.operation(entry)),
            ("gen_ai.provider.name", conventions.PROVIDERS.get(entry.provider, entry.provider)),
            ("gen_ai.request.model", entry.model),
            ("gen_ai.response.model", entry.response_model),
        )
        error = conventions.error_type(entry)
        self._add(conventions.DURATION, (*labels, ("error.type", error)), entry.duration_ms / 1000)
        if entry.dialect in TOKENLESS:
            return
        for kind, tokens in (("input", entry.input_tokens), ("output", entry.output_tokens)):
            if tokens is not None:
                self._add(conventions.TOKEN_USAGE, (*labels, ("gen_ai.token.type", kind)), tokens)

    def _add(self, metric: str, labels: Labels, value: float) -> None:
        key = metric, labels
        if key not in self._series and len(self._series) >= self._most:
            key = metric, tuple((name, _OTHER if name in _MODELS else said) for name, said in labels)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(len(_BOUNDS[metric]))
        series.counts[bisect_left(_BOUNDS[metric], value)] += 1
        series.sum += value
        self._changed.add(key)

    def changed(self, since_ns: int, now_ns: int) -> list[Metric]:
        """The series that have changed since they were last `reported`, as OTLP has them."""
        return [
            Metric(
                name=metric,
                unit=_UNITS[metric],
                histogram=Histogram(
                    aggregation_temporality=AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE,
                    data_points=points,
                ),
            )
            for metric in _BOUNDS
            if (points := list(self._points(metric, since_ns, now_ns)))
        ]

    def reported(self) -> None:
        """What `changed` has said has arrived."""
        self._changed.clear()

    def _points(self, metric: str, since_ns: int, now_ns: int) -> Iterator[HistogramDataPoint]:
        for name, labels in sorted(self._changed):
            if name == metric:
                series = self._series[name, labels]
                point = HistogramDataPoint(
                    start_time_unix_nano=since_ns,
                    time_unix_nano=now_ns,
                    count=sum(series.counts),
                    sum=series.sum,
                    bucket_counts=series.counts,
                    explicit_bounds=_BOUNDS[metric],
                )
                describe(point, ((label, value) for label, value in labels if value))
                yield point
