"""The metrics of several workers as one page: each sample with the number of its worker as a label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

LABEL = "worker"


class WorkerMetrics(Collector):
    """What the parent shows. `scrape`: the page of each worker that runs, by its number, in OpenMetrics' format; None
    for one that does not answer. `restarts`: how often each was started anew."""

    def __init__(
        self, scrape: Callable[[], Mapping[int, str | None]], restarts: Callable[[], Mapping[int, int]]
    ) -> None:
        self._scrape = scrape
        self._restarts = restarts

    def collect(self) -> Iterator[Metric]:
        pages = self._scrape()
        up = GaugeMetricFamily("arouter_worker_up", "1 where a worker answers its parent.", labels=[LABEL])
        restarts = CounterMetricFamily(
            "arouter_worker_restarts", "How often a worker was started anew after it had died.", labels=[LABEL]
        )
        for number, count in sorted(self._restarts().items()):
            up.add_metric([str(number)], pages.get(number) is not None)
            restarts.add_metric([str(number)], count)
        yield from (up, restarts)
        yield from merged({number: page for number, page in pages.items() if page is not None})


def merged(pages: Mapping[int, str]) -> list[Metric]:
    """The metrics of these pages as one list. Those of one name are together, as the format asks for."""
    found: dict[str, Metric] = {}
    for number, page in sorted(pages.items()):
        for metric in text_string_to_metric_families(page):  # type: ignore[no-untyped-call]  # it has no types
            together = found.get(metric.name)
            if together is None:
                together = found[metric.name] = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            for sample in metric.samples:
                together.samples.append(sample._replace(labels={**sample.labels, LABEL: str(number)}))
    return list(found.values())
