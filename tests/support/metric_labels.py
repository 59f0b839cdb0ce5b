"""What queries may name: every metric of the services, with its labels."""

from __future__ import annotations

import re

from services.cli import metrics_doc
from services.gateway.metrics import GatewayMetrics
from services.meter.metrics import MeterMetrics

# Every way to name labels: in a selector, and in what a sum is grouped by.
_SELECTED = re.compile(r"(arouter_\w+)(\{[^}]*\})?")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
_OF_HISTOGRAMS = re.compile(r"_(bucket|sum|count)$")


def labels() -> dict[str, set[str]]:
    """The labels of each metric, by the name that it has in queries."""
    return {
        metrics_doc.sample_name(metric): set(vars(collector).get("_labelnames") or vars(metric).get("_labelnames", ()))
        for registry in (GatewayMetrics().registry, MeterMetrics().registry)
        for collector in registry._collector_to_names  # noqa: SLF001  # the library tells labels in no other way
        for metric in collector.collect()
    }


def mistakes(query: str, known: dict[str, set[str]]) -> list[str]:
    """What a query names that does not exist."""
    found, here = [], {"pod", "le"}
    used = _SELECTED.findall(query)
    for name, selected in used:
        declared = name if name in known else _OF_HISTOGRAMS.sub("", name)
        if declared not in known:
            found.append(f"there is no metric {name}")
            continue
        here |= known[declared]
        asked = re.findall(r"(\w+)\s*(?:=|!)", re.sub(r'"[^"]*"', "", selected))
        found += [f"{name} has no label {label}" for label in asked if label not in known[declared]]
    grouped = [label.strip() for part in _GROUPED.findall(query) for label in part.split(",")]
    found += [f"nothing here has the label {label}" for label in grouped if label not in here]
    return found if used else ["it names no metric"]
