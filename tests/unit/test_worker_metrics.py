"""The workers of one gateway without processes: their pages as one, and how long one that died is left alone."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.parser import text_string_to_metric_families

from services.cli.worker_metrics import WorkerMetrics
from services.cli.workers import Pause


def open_metrics(registry: CollectorRegistry) -> bytes:
    page: bytes = exposition.generate_latest(registry)  # type: ignore[no-untyped-call]  # it has no types
    return page


def page(value: float, *, more: bool = False) -> str:
    registry = CollectorRegistry()
    Counter("arouter_a", "Counted.", ["provider"], registry=registry).labels("openai").inc(value)
    Gauge("arouter_b", "Measured.", registry=registry).set(value)
    Histogram("arouter_c", "Observed.", registry=registry, buckets=(1, 2)).observe(value)
    if more:
        Gauge("arouter_d", "Of one alone.", registry=registry).set(value)
    return open_metrics(registry).decode()


def shown(pages: dict[int, str | None]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(lambda: pages, lambda: {1: 0, 2: 3}))
    return registry


def test_samples_of_one_name_are_together_with_their_workers() -> None:
    registry = shown({1: page(1), 2: page(2, more=True)})
    text = generate_latest(registry).decode()
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    found = {
        (sample.name, sample.labels["worker"], sample.labels.get("le", "")): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }
    assert [found["arouter_a_total", worker, ""] for worker in "12"] == [1, 2]
    assert [found["arouter_b", worker, ""] for worker in "12"] == [1, 2]
    assert [found["arouter_c_bucket", worker, "1.0"] for worker in "12"] == [1, 0]
    assert found["arouter_d", "2", ""] == 2
    assert ("arouter_d", "1", "") not in found
    assert [found["arouter_worker_restarts_total", worker, ""] for worker in "12"] == [0, 3]
    assert open_metrics(registry).endswith(b"# EOF\n")


def test_a_worker_that_does_not_answer_is_down_and_has_no_samples() -> None:
    registry = shown({1: None, 2: page(2)})
    assert registry.get_sample_value("arouter_worker_up", {"worker": "1"}) == 0
    assert registry.get_sample_value("arouter_worker_up", {"worker": "2"}) == 1
    assert registry.get_sample_value("arouter_b", {"worker": "1"}) is None
    assert registry.get_sample_value("arouter_b", {"worker": "2"}) == 2


def test_one_that_dies_again_and_again_is_left_alone_for_longer() -> None:
    pause = Pause()
    assert [pause.after(1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [pause.after(61), pause.after(1)] == [0.5, 1]
