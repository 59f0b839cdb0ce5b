"""Spans and metrics over OTLP/HTTP: from a real Redis to a collector that reads what it gets."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.meter.settle import Ledger, Settlement
from services.sinks.otlp.exporter import Exporter
from services.sinks.present import FromNow
from shared.books.follow import Follower
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.errors import SinkRefused, SinkUnavailable
from shared.runtime.store import Store
from tests.support.entries import entry
from tests.support.receiver import Receiver, receiving

BOOT = new_boot()


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiving() as found:
        found.answers = [200]
        yield found


def spans(collector: Receiver) -> list[Span]:
    """Every span that it got, in order."""
    requests = [
        ExportTraceServiceRequest.FromString(one.body) for one in collector.got if one.path == "/base/v1/traces"
    ]
    scopes = [scope for request in requests for resource in request.resource_spans for scope in resource.scope_spans]
    return [span for scope in scopes for span in scope.spans]


def counts(collector: Receiver) -> list[int]:
    """Of each report of metrics, how many operations it counts."""
    reports = [
        ExportMetricsServiceRequest.FromString(one.body) for one in collector.got if one.path == "/base/v1/metrics"
    ]
    found = []
    for report in reports:
        [scope] = report.resource_metrics[0].scope_metrics
        [durations] = [one for one in scope.metrics if one.name == "gen_ai.client.operation.duration"]
        found.append(sum(point.count for point in durations.histogram.data_points))
    return found


@asynccontextmanager
async def following(redis: Store, collector: Receiver) -> AsyncIterator[Follower]:
    """A follower that has begun."""
    exporter = Exporter(f"{collector.url}/base/", {"authorization": "Bearer to-ken"})
    sink = FromNow(redis, "otlp", exporter.write, exporter.close)
    found = Follower(redis, sink, back_ms=60_000)
    await found.round([0, 1])
    yield found
    await sink.close()


async def book(redis: Store, n: int, **changes: Any) -> str:
    id = ExchangeId(BOOT, n % 2, n)
    await Ledger(redis).settle([Settlement(id, entry(id, **changes), [])])
    return str(id)


async def test_every_exchange_is_a_span(redis: Store, collector: Receiver) -> None:
    await book(redis, 0)
    async with following(redis, collector) as follower:
        ids = [await book(redis, n) for n in range(1, 8)]
        await follower.round([0, 1])
    found = [one.value.string_value for span in spans(collector) for one in span.attributes if one.key == EXCHANGE]
    assert sorted(found) == sorted(ids)
    assert counts(collector) == [7]
    assert {one.headers["content-type"] for one in collector.got} == {"application/x-protobuf"}
    assert {one.headers["authorization"] for one in collector.got} == {"Bearer to-ken"}


EXCHANGE = "arouter.exchange.id"


@pytest.mark.parametrize(("status", "error"), [(503, SinkUnavailable), (429, SinkUnavailable), (401, SinkRefused)])
async def test_a_collector_that_is_away_gets_the_same_spans_later(
    redis: Store, collector: Receiver, status: int, error: type[Exception]
) -> None:
    async with following(redis, collector) as follower:
        await book(redis, 1)
        collector.answers, collector.headers = [status], {"retry-after": "7"}
        with pytest.raises(error, match=f"the collector answers {status}$") as caught:
            await follower.round([0, 1])
        assert getattr(caught.value, "after", 7) == 7
        collector.answers = [200]
        follower.forget()
        await follower.round([0, 1])
    first, again = spans(collector)
    assert first == again
    assert counts(collector) == [1], "it was counted once"


async def test_metrics_that_did_not_arrive_are_in_the_next_report(redis: Store, collector: Receiver) -> None:
    async with following(redis, collector) as follower:
        collector.answers = [200, 503, 200]
        for n in (1, 2):
            await book(redis, n)
            await follower.round([0, 1])
    assert len(spans(collector)) == 2
    assert counts(collector) == [1, 2]


@pytest.mark.parametrize("status", [400, 413])
async def test_what_a_collector_will_never_take_is_said_and_holds_nothing(
    redis: Store, collector: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(redis, collector) as follower:
        await book(redis, 1)
        collector.answers = [status, 200]
        await follower.round([0, 1])
        assert await follower.round([0, 1]) == 0
    assert f"the collector answers {status}, and rejected_spans of 1 are lost" in caplog.text


async def test_what_a_collector_takes_in_part_is_said(
    redis: Store, collector: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=1, error_message="too\nold")
    collector.said = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    async with following(redis, collector) as follower:
        await book(redis, 1)
        with caplog.at_level(logging.WARNING):
            await follower.round([0, 1])
    assert "rejected_spans: 1 of 1: too old" in caplog.text
