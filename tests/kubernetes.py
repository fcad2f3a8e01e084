"""The Kubernetes files as a cluster gets them, and what is wrong with them, in sentences."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import yaml

from enricher.assembly import planned
from enricher.cli.watchdog import MARGIN
from enricher.config import Settings
from enricher.config.listen import parse
from enricher.errors import ConfigError
from enricher.systems import load
from enricher.web.operations import Operations
from tests.checkers import tool
from tests.custom_resources import CUSTOM
from tests.pages import ROOT

FOLDER = ROOT / "deploy" / "k8s"
VERSION = "1.32"
# What the secrets of a cluster hold.
SECRETS = {
    "redis-url": "redis://redis:6379/0",
    "mongo-url": "mongodb://mongo:27017/deltastream",
    "web-tokens": "operator=t0ken",
}
SERVERS = (6379, 27017)

Document = dict[str, Any]
Documents = Sequence[Document]


@cache
def kubectl() -> str | None:
    """A kubectl that knows components; that of Debian 12 does not."""
    found = tool("kubectl")
    if found is None:
        return None
    version = subprocess.run(
        [found, "version", "--client", "-o", "json"], capture_output=True, timeout=60, check=False
    )
    return found if b"kustomizeVersion" in version.stdout else None


def built(folder: Any) -> list[Document]:
    """The objects of a kustomization."""
    command = [str(kubectl()), "kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of(documents: Documents, *kinds: str) -> list[Document]:
    """The objects of some kinds."""
    return [document for document in documents if document["kind"] in kinds]


def workloads(documents: Documents) -> list[Document]:
    return of(documents, "Deployment", "StatefulSet")


def container(workload: Document) -> Document:
    """The one container of a workload."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(workload: Document, documents: Documents, index: int = 0) -> dict[str, str]:
    """What the pod number ``index`` of a workload finds in its environment."""
    maps = {each["metadata"]["name"]: each["data"] for each in of(documents, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container(workload)["envFrom"]:
        found |= maps[source["configMapRef"]["name"]]
    fields = {
        "metadata.name": f"{workload['metadata']['name']}-{index}",
        "metadata.labels['apps.kubernetes.io/pod-index']": str(index),
    }
    for each in container(workload)["env"]:
        match each:
            case {"value": value}:
                # A variable is known to those after it.
                for name, known in found.items():
                    value = value.replace(f"$({name})", known)
                found[each["name"]] = value
            case {"valueFrom": {"secretKeyRef": {"key": key}}}:
                found[each["name"]] = SECRETS[key]
            case {"valueFrom": {"fieldRef": {"fieldPath": path}}}:
                found[each["name"]] = fields[path]
    return found


def problems(documents: Documents) -> list[str]:
    """What a cluster would refuse, and what it would take and we should not. Call it inside a loop."""
    found = [*_of_schemas(documents)]
    # Whatever is not even of the right shape is not looked into.
    return found or [*_of_pods(documents), *_of_services(documents), *_of_scaling(documents)]


def _of_schemas(documents: Documents) -> Iterator[str]:
    for document in documents:
        yield from _of_schema(json.dumps(document))


@cache
def _of_schema(text: str) -> tuple[str, ...]:
    document = json.loads(text)
    kind = document["kind"]
    try:
        if kind in CUSTOM:
            jsonschema.validate(document, CUSTOM[kind])
        else:
            kubernetes_validate.validate(document, VERSION, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return (f"{kind}: {'/'.join(map(str, error.path))}: {error.message}",)
    return ()


@cache
def _settings(environ: tuple[tuple[str, str], ...]) -> tuple[Settings, float]:
    """The settings of an environment, and the longest drain. Raises `ConfigError`."""
    settings = load(ROOT / "config.toml", environ=dict(environ))
    drains = [route.drain_deadline or 0 for plan in planned(settings) for route in plan.routes]
    return settings, max(settings.service.drain_deadline, *drains) + MARGIN


def _of_pods(documents: Documents) -> Iterator[str]:
    for workload in workloads(documents):
        name, spec = workload["metadata"]["name"], workload["spec"]
        pod, its = spec["template"]["spec"], container(workload)
        if not _selects(spec["selector"], spec["template"]["metadata"]["labels"]):
            yield f"{name}: the selector does not match its own pods"
        try:
            settings, longest = _settings(tuple(environment(workload, documents).items()))
        except ConfigError as error:
            yield f"{name}: {error}"
            continue
        if pod["terminationGracePeriodSeconds"] <= longest + its["lifecycle"]["preStop"]["sleep"]["seconds"]:
            yield f"{name}: the grace period is shorter than preStop and the longest drain, {longest:g} s"
        yield from (f"{name}: {each}" for each in _of_ports(its, settings))
        yield from (f"{name}: {each}" for each in _of_safety(pod, its))
        memory = its["resources"]["limits"]["memory"]
        size = int(memory[:-2]) * {"Mi": 2**20, "Gi": 2**30}[memory[-2:]]
        if 2 * settings.pool.max_bytes > size:
            yield f"{name}: pool.max_bytes takes more than half of the memory"
        if workload["kind"] == "StatefulSet" and settings.streams.shard != f"0/{spec['replicas']}":
            yield f"{name}: shard {settings.streams.shard} of {spec['replicas']} replicas"


def _of_ports(its: Document, settings: Settings) -> Iterator[str]:
    ports = {port["name"]: port["containerPort"] for port in its["ports"]}
    if list(ports.values()) != [parse(settings.web.listen).port]:
        yield f"port {list(ports.values())} is not that of web.listen, {settings.web.listen}"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = its[probe]["httpGet"]
        if asked["path"] not in _pages() or asked["port"] not in ports:
            yield f"{probe} asks for {asked['path']} on {asked['port']}, which the worker has not"


def _pages() -> set[str]:
    return {route.path for route in Operations(None, []).routes()}  # type: ignore[arg-type,attr-defined]


def _of_safety(pod: Document, its: Document) -> Iterator[str]:
    user = (ROOT / "Dockerfile").read_text(encoding="utf-8").partition("\nUSER ")[2].split(":")[0]
    if not pod["securityContext"]["runAsNonRoot"] or pod["securityContext"]["runAsUser"] != int(user):
        yield f"it does not run as the user of the image, {user}"
    context = its["securityContext"]
    if context["allowPrivilegeEscalation"] or not context["readOnlyRootFilesystem"]:
        yield "it may write to its image, or become more than it is"
    for each in its["env"]:
        if each["name"].endswith(("URL", "TOKENS")) and "value" in each:
            yield f"{each['name']} is written out, and not by reference"


def _of_services(documents: Documents) -> Iterator[str]:
    pods = [workload["spec"]["template"] for workload in workloads(documents)]
    labels = [pod["metadata"]["labels"] for pod in pods]
    ports = {port["name"] for pod in pods for port in pod["spec"]["containers"][0]["ports"]}
    numbers = {port["containerPort"] for pod in pods for port in pod["spec"]["containers"][0]["ports"]}
    services = of(documents, "Service")
    for service in services:
        if not any(_selects({"matchLabels": service["spec"]["selector"]}, each) for each in labels):
            yield f"service {service['metadata']['name']} selects no pod"
        if not {port["targetPort"] for port in service["spec"]["ports"]} <= ports:
            yield f"service {service['metadata']['name']} leads to a port that no pod has"
    for workload in of(documents, "StatefulSet"):
        if workload["spec"]["serviceName"] not in {each["metadata"]["name"] for each in services}:
            yield f"{workload['metadata']['name']} has no service {workload['spec']['serviceName']}"
    for policy in of(documents, "NetworkPolicy"):
        spec = policy["spec"]
        if not all(_selects(spec["podSelector"], each) for each in labels):
            yield "the network policy leaves out some pods"
        if {port["port"] for rule in spec["ingress"] for port in rule["ports"]} != numbers:
            yield "the network policy lets others reach another port"
        if not {port["port"] for rule in spec["egress"] for port in rule["ports"]} >= {53, *SERVERS}:
            yield "the network policy lets pods not reach names, Redis or MongoDB"
    for monitor in of(documents, "ServiceMonitor"):
        seen = [s for s in services if _selects(monitor["spec"]["selector"], s["metadata"]["labels"])]
        named = {port["name"] for service in seen for port in service["spec"]["ports"]}
        if seen != services or any(e["port"] not in named for e in monitor["spec"]["endpoints"]):
            yield "the monitor does not find every service and its port"


def _of_scaling(documents: Documents) -> Iterator[str]:
    scalers = of(documents, "HorizontalPodAutoscaler", "ScaledObject")
    targets = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]
    known = {workload["metadata"]["name"]: workload for workload in of(documents, "Deployment")}
    if len(set(targets)) < len(targets):
        yield "two autoscalers pull at one Deployment"
    for target in targets:
        if target not in known:
            yield f"an autoscaler has no Deployment {target}"
        elif "replicas" in known[target]["spec"]:
            yield f"{target} says how many there are, and so does its autoscaler"
    services = {
        "{name}.{namespace}.svc".format(**service["metadata"]): service["spec"]
        for service in of(documents, "Service")
    }
    for trigger in (each for scaler in of(documents, "ScaledObject") for each in scaler["spec"]["triggers"]):
        url = urlsplit(trigger["metadata"]["url"])
        if url.hostname not in services or url.port != services[url.hostname]["ports"][0]["port"]:
            yield f"the scaler asks {url.netloc}, which is no service"
        if url.path not in _pages():
            yield f"the scaler asks for {url.path}, which the worker has not"
    least = {
        scaler["spec"]["scaleTargetRef"]["name"]: scaler["spec"].get("minReplicas", 1) for scaler in scalers
    }
    for budget in of(documents, "PodDisruptionBudget"):
        spec = budget["spec"]
        covered = [
            workload
            for workload in workloads(documents)
            if _selects(spec["selector"], workload["spec"]["template"]["metadata"]["labels"])
        ]
        if len(covered) != 1:
            yield f"budget {budget['metadata']['name']} selects no pod"
        for workload in covered:
            replicas = workload["spec"].get("replicas", least.get(workload["metadata"]["name"], 1))
            if spec.get("maxUnavailable", 1) < 1 or spec.get("minAvailable", 0) >= replicas:
                yield f"budget {budget['metadata']['name']} never lets a node be drained"


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    return bool(wanted) and wanted.items() <= labels.items()


def copied(documents: Documents) -> list[Document]:
    """A copy to be changed."""
    return list(json.loads(json.dumps(documents)))
