"""Whether an object is of its kind's schema, unknown fields refused.

Kubernetes' own kinds: kubernetes-validate, its oldest version that the chart takes and its newest. KEDA and the
Prometheus operator: the models of cloudcoil. LeaderWorkerSet, GRPCRoute and InferencePool come in no package: the
schemas beside this file describe the fields that the chart uses, written after their CRDs (LeaderWorkerSet v0.10,
Gateway API v1.6, Inference Extension v1.6), and let no other pass. Pod templates inside a LeaderWorkerSet are checked
as Kubernetes' own.
"""

import functools
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

KUBERNETES_VERSIONS = ("1.30", "1.37")
SCHEMAS = Path(__file__).resolve().parent / "schemas"

CORE = "kubernetes"
KINDS = {
    "ConfigMap": CORE,
    "Deployment": CORE,
    "HorizontalPodAutoscaler": CORE,
    "NetworkPolicy": CORE,
    "Pod": CORE,
    "PodDisruptionBudget": CORE,
    "Service": CORE,
    "ServiceAccount": CORE,
    "ScaledObject": ScaledObject,
    "PrometheusRule": PrometheusRule,
    "ServiceMonitor": ServiceMonitor,
    "GRPCRoute": "grpcroute.json",
    "InferencePool": "inferencepool.json",
    "LeaderWorkerSet": "leaderworkerset.json",
}


def check(item):
    """Raises what the first fault is."""
    source = KINDS[item["kind"]]
    if source == CORE:
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(item, version, strict=True)
        return
    jsonschema.validate(
        item, _schema_of_file(source) if isinstance(source, str) else _schema_of_model(source)
    )
    for role in ("leaderTemplate", "workerTemplate"):
        if template := item["spec"].get("leaderWorkerTemplate", {}).get(role):
            check({"apiVersion": "v1", "kind": "Pod", **template})


@functools.cache
def _schema_of_file(name):
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8"))


@functools.cache
def _schema_of_model(model):
    return _closed(model.model_json_schema(by_alias=True))


def _closed(schema):
    """The schema, with objects of named fields taking no others."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if isinstance(schema, str):
        return schema.replace("^(?i)", "(?i)^")  # Go's way to write a pattern
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if "properties" in closed and isinstance(schema.get("type"), str):
        closed.setdefault("additionalProperties", False)
    return closed
