"""Counters of usage by team and model: what is counted, what is unknown, and how many series there can be."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from services.meter.metrics import MeterMetrics
from services.meter.usage_metrics import UsageMetrics
from tests.support.entries import entry


def sample(
    registry: CollectorRegistry, name: str, team: str = "", model: str = "gpt-4o", **labels: str
) -> float | None:
    return registry.get_sample_value(f"arouter_usage_{name}_total", {"team": team, "model": model, **labels})


def counted(most_series: int, *entries: dict[str, Any]) -> CollectorRegistry:
    registry = CollectorRegistry()
    metrics = UsageMetrics(most_series)
    registry.register(metrics)
    for changes in entries:
        metrics.count(entry("", **changes))
    return registry


def test_tokens_money_and_requests_are_counted_by_team_and_model() -> None:
    one = {"team": "a", "cache_read_tokens": 4, "cost_nanousd": 1_500_000}
    found = counted(10, one, one, {"team": "b", "model": "o3"})
    assert sample(found, "requests", "a") == 2
    assert {
        kind: sample(found, "tokens", "a", kind=kind) for kind in ("input", "output", "cache_read", "reasoning")
    } == {
        "input": 20,
        "output": 40,
        "cache_read": 8,
        "reasoning": None,
    }
    assert sample(found, "cost_usd", "a") == 0.003
    assert sample(found, "requests", "b", "o3") == 1


def test_what_is_unknown_or_without_a_price_is_not_counted_as_nothing() -> None:
    found = counted(10, {}, {"input_tokens": None, "output_tokens": None, "total_tokens": None})
    assert (sample(found, "requests"), sample(found, "unknown_requests")) == (2, 1)
    assert sample(found, "unpriced_requests") == 2
    assert sample(found, "cost_usd") is None


def test_beyond_the_bound_there_is_other() -> None:
    found = counted(2, {"team": "a"}, {"team": "b"}, {"team": "c"}, {"team": "d"}, {"team": "a"})
    assert [sample(found, "requests", team) for team in "abcd"] == [2, 1, None, None]
    assert sample(found, "requests", "other", "other") == 2
    assert sample(counted(0, {}), "requests", "other", "other") == 1


def test_a_model_that_a_caller_makes_up_takes_no_place() -> None:
    refused = {"status": 404, "total_tokens": 0, "input_tokens": 0, "output_tokens": 0}
    found = counted(1, *({**refused, "model": f"made-up-{n}"} for n in range(50)), {}, refused)
    assert sample(found, "requests") == 2
    assert sample(found, "requests", "other", "other") == 50


def test_an_exchange_counts_once_it_is_settled_for_good() -> None:
    metrics = MeterMetrics()
    metrics.settled(entry(""), 0.0, final=False)
    assert sample(metrics.registry, "requests") is None
    metrics.settled(entry(""), 0.0, final=True)
    assert sample(metrics.registry, "requests") == 1
