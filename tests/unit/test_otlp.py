"""Spans and metrics of OpenTelemetry, made from entries: names, places in traces, and histograms."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, HistogramDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from services.cli.main import parse
from services.sinks.otlp.exporter import headers
from services.sinks.otlp.histograms import Histograms
from services.sinks.otlp.spans import place, span
from services.sinks.settings import SinkSettings
from shared.contract.entry import Entry
from shared.runtime.errors import SettingsError
from tests.support.entries import entry

ID = "01K0000000000000000000G01D.0.7"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def exchange(**changes: Any) -> Entry:
    return entry(ID, **changes)


def spanned(**changes: Any) -> Span:
    found = span(exchange(**changes), 1)
    assert found is not None
    return found


def said(found: Any) -> dict[str, Any]:
    """Attributes as Python has them."""
    values = {one.key: one.value for one in found.attributes}
    return {name: getattr(value, str(value.WhichOneof("value"))) for name, value in values.items()}


def test_an_exchange_is_told_in_the_words_of_the_conventions() -> None:
    found = spanned(provider="vertex", session="s-1", cache_read_tokens=4, duration_ms=1500, tags=("a", "b"))
    attributes = said(found)
    assert (found.name, found.kind) == ("chat gpt-4o", Span.SPAN_KIND_CLIENT)
    assert found.end_time_unix_nano - found.start_time_unix_nano == 1_500_000_000
    assert attributes["gen_ai.provider.name"] == "gcp.vertex_ai"
    assert attributes["gen_ai.request.model"] == "gpt-4o"
    assert attributes["gen_ai.response.model"] == "gpt-4o-2024-08-06"
    assert attributes["gen_ai.conversation.id"] == "s-1"
    assert attributes["gen_ai.usage.input_tokens"] == 10
    assert attributes["gen_ai.usage.output_tokens"] == 20
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 4
    assert [one.string_value for one in attributes["arouter.tags"].values] == ["a", "b"]
    assert [one.string_value for one in attributes["gen_ai.response.finish_reasons"].values] == ["stop"]
    assert "gen_ai.usage.reasoning.output_tokens" not in attributes, "unknown, and not 0"
    assert "arouter.cost_nanousd" not in attributes, "it has no price, and is not free"
    assert found.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize(
    ("dialect", "operation"),
    [
        ("openai_chat", "chat"),
        ("anthropic_messages", "chat"),
        ("openai_completions", "text_completion"),
        ("openai_embeddings", "embeddings"),
        ("gemini", "generate_content"),
        ("count_tokens", "count_tokens"),
        ("a dialect of a later version", "chat"),
    ],
)
def test_an_operation_follows_the_wire_shape(dialect: str, operation: str) -> None:
    assert said(spanned(dialect=dialect))["gen_ai.operation.name"] == operation


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, ""),
        ({"ended": "whole"}, ""),
        ({"outcome": "client_gone", "cause": "client_gone", "ended": "cut"}, ""),
        ({"outcome": "upstream_failed", "cause": "reset", "ended": "cut"}, "reset"),
        ({"outcome": "gateway_lost", "ended": "cut"}, "gateway_lost"),
        ({"status": 429, "ended": "error"}, "429"),
        ({"ended": "truncated"}, "truncated"),
    ],
)
def test_an_error_has_its_type(changes: dict[str, Any], error: str) -> None:
    found = spanned(**changes)
    assert said(found).get("error.type", "") == error
    assert (found.status.code == Status.STATUS_CODE_ERROR) == bool(error)


def test_a_span_is_below_the_callers() -> None:
    found = spanned(traceparent=f"00-{TRACE}-{PARENT}-01")
    assert (found.trace_id.hex(), found.parent_span_id.hex()) == (TRACE, PARENT)
    assert found.span_id == spanned().span_id, "it is the exchange's own"
    assert span(exchange(traceparent=f"00-{TRACE}-{PARENT}-00"), 1) is None, "its caller does not sample this trace"


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
    ],
)
def test_without_a_callers_span_it_is_the_root_of_a_trace_of_its_own(traceparent: str) -> None:
    found = place(ID, traceparent)
    assert found == place(ID, "")
    assert (len(found.trace), len(found.span), found.parent, found.sampled) == (16, 8, b"", True)
    assert found.span not in found.trace
    assert place(ID[:-1] + "8", "") != found


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known() -> None:
    assert place(ID, f"01-{TRACE}-{PARENT}-01-more").trace.hex() == TRACE


def test_what_a_provider_says_does_not_break_a_span() -> None:
    found = spanned(
        model="m" * 5000, response_id="half \ud83d", finish=[{"a": 1}, "stop"], total_tokens=3, input_tokens=2**70
    )
    attributes = said(found)
    assert attributes["gen_ai.usage.input_tokens"] == str(2**70)
    assert len(attributes["gen_ai.request.model"]) == 1024
    assert Span.FromString(found.SerializeToString()) == found


def points(histograms: Histograms, metric: str) -> list[HistogramDataPoint]:
    found = {one.name: one.histogram for one in histograms.changed(1, 2)}
    if metric not in found:
        return []
    assert found[metric].aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    return list(found[metric].data_points)


def test_tokens_and_durations_are_counted_in_the_conventions_buckets() -> None:
    histograms = Histograms()
    for tokens in (1, 2, 4, 5):
        histograms.observe(exchange(input_tokens=tokens, output_tokens=None, duration_ms=20))
    [point] = points(histograms, "gen_ai.client.token.usage")
    assert list(point.bucket_counts)[:4] == [1, 2, 1, 0]
    assert (point.count, point.sum) == (4, 12)
    assert list(point.explicit_bounds)[:3] == [1, 4, 16]
    assert point.explicit_bounds[-1] == 67_108_864
    assert said(point)["gen_ai.token.type"] == "input"
    [point] = points(histograms, "gen_ai.client.operation.duration")
    assert (point.count, list(point.bucket_counts)[:2], point.explicit_bounds[-1]) == (4, [0, 4], pytest.approx(81.92))
    assert (point.start_time_unix_nano, point.time_unix_nano) == (1, 2)


def test_only_what_has_changed_is_reported_again_with_all_that_was_before() -> None:
    histograms = Histograms()
    histograms.observe(exchange())
    histograms.observe(exchange(model="other-model"))
    assert len(points(histograms, "gen_ai.client.operation.duration")) == 2
    histograms.reported()
    assert histograms.changed(1, 2) == []
    histograms.observe(exchange())
    [point] = points(histograms, "gen_ai.client.operation.duration")
    assert point.count == 2


def test_models_that_callers_make_up_end_as_one() -> None:
    histograms = Histograms(most_series=6)
    for n in range(100):
        histograms.observe(exchange(model=f"made-up-{n}"))
    found = points(histograms, "gen_ai.client.operation.duration")
    assert {said(point)["gen_ai.request.model"] for point in found} == {"made-up-0", "made-up-1", "other"}
    assert sum(point.count for point in found) == 100


def test_requests_that_buy_no_tokens_are_not_in_the_tokens() -> None:
    histograms = Histograms()
    histograms.observe(exchange(dialect="metadata", input_tokens=0, output_tokens=0))
    assert points(histograms, "gen_ai.client.token.usage") == []
    assert len(points(histograms, "gen_ai.client.operation.duration")) == 1


def test_headers_are_written_as_the_standard_variable_has_them() -> None:
    assert headers("authorization=Bearer%20a%3Db, X-Scope = team ,") == {
        "authorization": "Bearer a=b",
        "x-scope": "team",
    }
    assert headers("") == {}
    for wrong in ("authorization", "a b=c", "=c", "a=b%0Ac", "a=é"):
        with pytest.raises(SettingsError, match="AROUTER_OTLP_HEADERS") as caught:
            headers(wrong)
        assert "b%0Ac" not in str(caught.value)


def test_the_endpoint_is_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"AROUTER_OTLP_ENDPOINT: .* https:// or http:// URL"):
        SinkSettings.load(otlp_endpoint="collector:4317")
    monkeypatch.delenv("AROUTER_OTLP_ENDPOINT", raising=False)
    given = parse(["follow", "otlp"])
    with pytest.raises(SettingsError, match="AROUTER_OTLP_ENDPOINT: the follower otlp needs it"):
        given.run(given)
