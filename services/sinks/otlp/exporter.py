"""The follower `otlp`: spans and metrics to a collector, over OTLP/HTTP with protobuf."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any
from urllib.parse import unquote

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics, ScopeMetrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from services.sinks.otlp.histograms import Histograms
from services.sinks.otlp.spans import describe, span
from services.sinks.posting import Answer, Poster
from services.sinks.present import FromNow
from shared.books.follow import Batch
from shared.runtime.errors import SettingsError, SinkError, SinkRefused, SinkUnavailable
from shared.runtime.store import Store

NAME = "otlp"
_MOST_SPANS = 500  # in a request
_LATER = (429, 502, 503, 504)
_NEVER = (400, 413, 415, 422)  # what is wrong is in the request, and will be
_MOST_WAIT = 300.0

log = logging.getLogger(__name__)


def sink(store: Store, endpoint: str, headers: Mapping[str, str]) -> FromNow:
    """What sends entries of the ledger to a collector."""
    exporter = Exporter(endpoint, headers)
    return FromNow(store, NAME, exporter.write, exporter.close)


class Exporter:
    """Sends to one collector. `now_ns`: UTC nanoseconds since the epoch."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], now_ns: Callable[[], int] = time.time_ns) -> None:
        base = endpoint.rstrip("/")
        self._traces, self._metrics = Poster(f"{base}/v1/traces"), Poster(f"{base}/v1/metrics")
        self._headers = {"content-type": "application/x-protobuf", "user-agent": "arouter", **headers}
        self._now_ns = now_ns
        self._begun_ns = now_ns()
        self._histograms = Histograms()
        about = [("service.name", "arouter"), ("service.version", version("arouter"))]
        self._resource = Resource()
        describe(self._resource, [*about, ("service.instance.id", str(uuid.uuid4()))])
        self._scope = InstrumentationScope(name="arouter")

    async def write(self, batches: Sequence[Batch]) -> None:
        """Send the spans of these entries, then the metrics that they change.

        SinkUnavailable or SinkRefused where the spans are to be sent again; metrics are in the next report, too.
        """
        entries = list(chain.from_iterable(batch.entries for batch in batches))
        spans = [found for entry in entries if (found := span(entry.entry, entry.revision)) is not None]
        for start in range(0, len(spans), _MOST_SPANS):
            await self._send_spans(spans[start : start + _MOST_SPANS])
        for entry in entries:
            if entry.revision == 1:  # later ones correct what is counted, which a histogram cannot
                self._histograms.observe(entry.entry)
        try:
            await self._send_metrics()
        except SinkError as exc:
            log.warning("otlp: metrics wait: %s", exc)

    async def close(self) -> None:
        """Close the connections."""
        await self._traces.close()
        await self._metrics.close()

    async def _send_spans(self, spans: Sequence[Span]) -> None:
        request = ExportTraceServiceRequest(
            resource_spans=[
                ResourceSpans(resource=self._resource, scope_spans=[ScopeSpans(scope=self._scope, spans=spans)])
            ]
        )
        answer = await self._post(self._traces, request.SerializeToString())
        _warn(answer, ExportTraceServiceResponse(), "rejected_spans", len(spans))

    async def _send_metrics(self) -> None:
        metrics = self._histograms.changed(self._begun_ns, self._now_ns())
        if not metrics:
            return
        request = ExportMetricsServiceRequest(
            resource_metrics=[
                ResourceMetrics(
                    resource=self._resource, scope_metrics=[ScopeMetrics(scope=self._scope, metrics=metrics)]
                )
            ]
        )
        answer = await self._post(self._metrics, request.SerializeToString())
        _warn(answer, ExportMetricsServiceResponse(), "rejected_data_points", len(metrics))
        self._histograms.reported()

    async def _post(self, poster: Poster, body: bytes) -> Answer:
        answer = await poster.post(body, self._headers)
        if answer.taken or answer.status in _NEVER:
            return answer
        if answer.status in _LATER:
            raise SinkUnavailable(f"the collector answers {answer.status}", min(_MOST_WAIT, answer.retry_after))
        raise SinkRefused(f"the collector answers {answer.status}")


def _warn(answer: Answer, response: Any, rejected: str, sent: int) -> None:
    """Say what the collector has not taken, and will not."""
    if not answer.taken:
        log.error("otlp: the collector answers %d, and %s of %d are lost", answer.status, rejected, sent)
        return
    try:
        response.ParseFromString(answer.body)
    except DecodeError:  # JSON, or nothing of the kind
        return
    partial = response.partial_success
    lost = getattr(partial, rejected)
    if lost or partial.error_message:
        said = " ".join(partial.error_message.split())[:200]
        log.warning("otlp: %s: %d of %d: %s", rejected, lost, sent, said)


def headers(text: str) -> dict[str, str]:
    """`name=value,name=value`, percent-encoded, as OTEL_EXPORTER_OTLP_HEADERS has them. SettingsError for others."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if not equals or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise SettingsError("AROUTER_OTLP_HEADERS: must be name=value, with commas between them")
        if not value.isascii() or not value.isprintable():
            raise SettingsError(f"AROUTER_OTLP_HEADERS: the value of {name} must be printable ASCII")
        found[name] = value
    return found
