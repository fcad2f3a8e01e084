"""The Kubernetes files: a cluster takes them, the worker understands them, and mistakes are noticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkers import absent
from tests.kubernetes import FOLDER, Document, built, container, copied, kubectl, of, problems, workloads

PRODUCTION = FOLDER / "overlays" / "production"
PREVIEW = FOLDER / "overlays" / "preview"


def with_components(folder: Path, overlay: Path, *components: str) -> list[Document]:
    """An overlay and further components."""
    folder.mkdir(exist_ok=True)
    up = "/".join([".."] * (len(folder.resolve().parts) - 1))
    kustomization = {
        "resources": [f"{up}{overlay}"],
        "components": [f"{up}{FOLDER / 'components' / name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return built(folder)


def built_with_keda(folder: Path) -> list[Document]:
    """Production with one component in the place of the other."""
    shutil.copytree(FOLDER, folder)
    file = folder / "overlays" / "production" / "kustomization.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("components/hpa", "components/keda"))
    return built(file.parent)


@pytest.fixture(scope="module")
def production() -> list[Document]:
    """What a cluster gets in production; nothing without a kubectl."""
    return built(PRODUCTION) if kubectl() else []


async def test_both_overlays_and_the_scaler_by_what_waits_are_right(
    tmp_path: Path, production: list[Document], capsys: pytest.CaptureFixture[str]
) -> None:
    if not production:
        absent(capsys, "kubectl (1.24 or newer)")
        return
    preview = built(PREVIEW)
    by_lag = built_with_keda(tmp_path / "k8s")
    for documents in (production, preview, by_lag):
        assert problems(documents) == []
    sizes = {"200m": "512Mi", "500m": "1Gi"}
    for documents, cpu, replicas in ((preview, "200m", 1), (production, "500m", 3)):
        for workload in workloads(documents):
            requests = container(workload)["resources"]["requests"]
            assert requests == {"cpu": cpu, "memory": sizes[cpu]}
            scalers = [each["spec"]["minReplicas"] for each in of(documents, "HorizontalPodAutoscaler")]
            assert workload["spec"].get("replicas", *scalers) == replicas
            assert workload["spec"]["template"]["metadata"]["labels"]["app"].endswith("-worker")
    for path, wrong in (("scale", "queues"), ("-production.svc", "-preview.svc")):
        changed = copied(by_lag)
        (trigger,) = of(changed, "ScaledObject")[0]["spec"]["triggers"]
        trigger["metadata"]["url"] = trigger["metadata"]["url"].replace(path, wrong)
        assert any(wrong in problem for problem in problems(changed))
    assert problems([*production, *of(by_lag, "ScaledObject")]) == ["two autoscalers pull at one Deployment"]
    with pytest.raises(AssertionError, match="Unable to remove nonexistent key: replicas"):
        with_components(tmp_path / "both", PREVIEW, "hpa", "keda")


def put(kind: str, path: str, value: Any) -> Callable[[list[Document]], None]:
    """Sets a field, or removes it, in the first object of a kind; a number is a place in a list."""

    def change(documents: list[Document]) -> None:
        *way, last = (int(part) if part.isdigit() else part for part in path.split("/"))
        at: Any = of(documents, kind)[0]
        for part in way:
            at = at[part]
        if value is None:
            del at[last]
        else:
            at[last] = value

    return change


POD = "spec/template/spec"
ITS = f"{POD}/containers/0"
MUTATIONS = {
    "replica": put("Deployment", "spec/replica", 2),
    "maxSurge": put("Deployment", "spec/strategy/rollingUpdate/maxSurge", True),
    "containerPort": put("Deployment", f"{ITS}/ports/0/containerPort", "5555"),
    "'selector' is a required property": put("StatefulSet", "spec/selector", None),
    "targetPath": put("ServiceMonitor", "spec/endpoints/0/targetPath", "/metrics"),
    "maxReplicas": put("HorizontalPodAutoscaler", "spec/maxReplicas", "ten"),
    "podSelectors": put("NetworkPolicy", "spec/podSelectors", {}),
    "does not match its own pods": put("Deployment", "spec/selector/matchLabels/app", "worker"),
    "shorter than preStop": put("Deployment", f"{POD}/terminationGracePeriodSeconds", 37),
    "CONCURENCY": put("Deployment", f"{ITS}/env/0/name", "ENRICHER_JOBS__CONCURENCY"),
    "log.format": put("ConfigMap", "data/ENRICHER_LOG__FORMAT", "yaml"),
    "web.listen": put("ConfigMap", "data/ENRICHER_WEB__LISTEN", "0.0.0.0:8080"),
    "livenessProbe asks for /healthz": put("Deployment", f"{ITS}/livenessProbe/httpGet/path", "/healthz"),
    "asks for /readyz on http": put("StatefulSet", f"{ITS}/readinessProbe/httpGet/port", "http"),
    "0/3 of 2 replicas": put("StatefulSet", "spec/replicas", 2),
    "more than half of the memory": put("Deployment", f"{ITS}/resources/limits/memory", "256Mi"),
    "user of the image": put("StatefulSet", f"{POD}/securityContext/runAsUser", 1),
    "may write to its image": put("Deployment", f"{ITS}/securityContext/readOnlyRootFilesystem", False),
    "selects no pod": put("Service", "spec/selector/app", "web"),
    "a port that no pod has": put("Service", "spec/ports/0/targetPort", "http"),
    "has no service": put("StatefulSet", "spec/serviceName", "shards"),
    "leaves out some pods": put("NetworkPolicy", "spec/podSelector/matchLabels/app", "enricher-worker"),
    "reach another port": put("NetworkPolicy", "spec/ingress/0/ports/0/port", 80),
    "names, Redis or MongoDB": put("NetworkPolicy", "spec/egress/1/ports/0/port", 6380),
    "find every service": put("ServiceMonitor", "spec/selector/matchLabels/app", "enricher-worker"),
    "has no Deployment": put("HorizontalPodAutoscaler", "spec/scaleTargetRef/name", "worker"),
    "and so does its autoscaler": put("Deployment", "spec/replicas", 3),
    "never lets a node be drained": put("PodDisruptionBudget", "spec/maxUnavailable", 0),
}


async def test_mistakes_are_noticed(production: list[Document]) -> None:
    for wrong, change in MUTATIONS.items() if production else ():
        changed = copied(production)
        change(changed)
        found = problems(changed)
        assert any(wrong in problem for problem in found), (wrong, found)


async def test_a_budget_of_as_many_as_there_are_and_a_password_in_the_open_are_noticed(
    production: list[Document],
) -> None:
    if not production:
        return
    changed = copied(production)
    for budget in of(changed, "PodDisruptionBudget"):
        budget["spec"] = {"minAvailable": 3, "selector": budget["spec"]["selector"]}
    for each in container(workloads(changed)[0])["env"]:
        if each["name"] == "ENRICHER_REDIS__URL":
            each.pop("valueFrom")
            each["value"] = "redis://:secret@redis:6379/0"
    assert problems(changed) == [
        "enricher-worker: ENRICHER_REDIS__URL is written out, and not by reference",
        "budget enricher-shard never lets a node be drained",
        "budget enricher-worker never lets a node be drained",
    ]
