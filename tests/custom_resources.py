"""Schemas of what the Kubernetes files use of KEDA and of the Prometheus Operator."""

from __future__ import annotations

from typing import Any


def _closed(required: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


_TEXT, _NUMBER = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
_NAMED = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": {"type": "object"}}
# What is used of other makers' kinds (https://keda.sh/docs/2.16/reference/scaledobject-spec/,
# https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.ServiceMonitor).
CUSTOM = {
    "ScaledObject": _closed(
        "spec",
        **_NAMED,
        spec=_closed(
            "scaleTargetRef triggers",
            scaleTargetRef=_closed("name", name=_TEXT, kind=_TEXT, apiVersion=_TEXT),
            minReplicaCount=_NUMBER,
            maxReplicaCount=_NUMBER,
            pollingInterval=_NUMBER,
            cooldownPeriod=_NUMBER,
            triggers={
                "type": "array",
                "items": _closed(
                    "type metadata",
                    type={"const": "metrics-api"},
                    metadata=_closed(
                        "url valueLocation targetValue", url=_TEXT, valueLocation=_TEXT, targetValue=_TEXT
                    ),
                ),
            },
        ),
    ),
    "ServiceMonitor": _closed(
        "spec",
        **_NAMED,
        spec=_closed(
            "selector endpoints",
            selector={"type": "object"},
            endpoints={
                "type": "array",
                "items": _closed("port", port=_TEXT, path=_TEXT, interval=_TEXT, scrapeTimeout=_TEXT),
            },
        ),
    ),
}
