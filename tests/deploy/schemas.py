"""Schemas of the custom resources we use: only the fields we set, so that a misspelt one fails.

From their documentation: keda.sh (ScaledObject, redis-streams), prometheus-operator (PrometheusRule, PodMonitor).
"""

from __future__ import annotations

from typing import Any

_NAME = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def _resource(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {"apiVersion": {}, "kind": {}, "metadata": _NAME, "spec": spec},
        "additionalProperties": False,
    }


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_WHOLE = {"type": "integer", "minimum": 0}

SCHEMAS = {
    "ScaledObject": _resource(
        _object(
            ["scaleTargetRef", "triggers"],
            scaleTargetRef=_object(["name"], name={"type": "string"}, kind={"type": "string"}),
            minReplicaCount=_WHOLE,
            maxReplicaCount=_WHOLE,
            pollingInterval=_WHOLE,
            cooldownPeriod=_WHOLE,
            triggers={
                "type": "array",
                "minItems": 1,
                "items": _object(
                    ["type", "metadata"],
                    type={"const": "redis-streams"},
                    # Everything in a trigger's metadata is a string.
                    metadata=_object(
                        ["address", "stream", "streamLength"],
                        address={"type": "string", "pattern": r"^[^/:]+:\d+$"},
                        stream={"type": "string"},
                        streamLength={"type": "string", "pattern": r"^\d+$"},
                    ),
                ),
            },
        )
    ),
    "PodMonitor": _resource(
        _object(
            ["selector", "podMetricsEndpoints"],
            selector={"type": "object"},
            podMetricsEndpoints={"type": "array", "items": _object(["port"], port={"type": "string"})},
        )
    ),
    "PrometheusRule": _resource(
        _object(
            ["groups"],
            groups={
                "type": "array",
                "items": _object(
                    ["name", "rules"],
                    name={"type": "string"},
                    rules={
                        "type": "array",
                        "items": _object(
                            ["alert", "expr", "labels", "annotations"],
                            alert={"type": "string"},
                            expr={"type": "string"},
                            **{"for": {"type": "string", "pattern": r"^\d+[smh]$"}},
                            labels=_STRINGS,
                            annotations=_STRINGS,
                        ),
                    },
                ),
            },
        )
    ),
}
