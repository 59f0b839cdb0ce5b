"""`docs/metrics.md`, written from the services' metrics by `python -m services.cli.metrics_doc`, checked by a test."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import Metric

from services.cli.worker_metrics import WorkerMetrics
from services.gateway.metrics import GatewayMetrics
from services.meter.metrics import MeterMetrics

PATH = Path("docs/metrics.md")

_INTRODUCTION = """# Metrics

The admin server of each process serves `/metrics`, `/healthz` and `/readyz` on a port of its own: a gateway's on 9090
(`AROUTER_METRICS_PORT`), a meter's on 9091 (`AROUTER_METER_METRICS_PORT`). `/readyz` answers 503 with its reasons.
Where a gateway has several workers, its parent shows the metrics of all, each sample with the label `worker`, and the
last section's; it is ready when all of them are. A gateway answers both probes on its own port too, and so does
`arouter control`. Alert rules:
[deploy/k8s/components/monitoring](../deploy/k8s/components/monitoring/rules.yaml).
"""


def declared() -> dict[str, list[Metric]]:
    """Every metric by the service that has it."""
    return {
        "Gateway": list(GatewayMetrics().registry.collect()),
        "Meter": list(MeterMetrics().registry.collect()),
        "Workers": list(WorkerMetrics(dict, dict).collect()),
    }


def render() -> str:
    """The whole page."""
    lines = [_INTRODUCTION]
    for service, metrics in declared().items():
        lines += [f"## {service}\n", "| metric | kind | meaning |", "|---|---|---|"]
        lines += [f"| `{sample_name(metric)}` | {metric.type} | {metric.documentation} |" for metric in metrics]
        lines.append("")
    return "\n".join(lines)


def sample_name(metric: Metric) -> str:
    """The name it has in `/metrics` and in queries."""
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


if __name__ == "__main__":
    PATH.write_text(render())
