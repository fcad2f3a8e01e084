"""A rollout as Kubernetes does it, with processes in the place of pods, while messages and jobs come."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from enricher.jobs import connect
from tests.checkers import absent
from tests.integration import commands
from tests.integration.commands import eventually
from tests.integration.forks import command
from tests.integration.worker import TICKS, database, iso
from tests.jobs_app.orders import Order
from tests.kubernetes import FOLDER, Document, built, container, environment, kubectl, workloads
from tests.rig import PATIENCE
from tests.servers import LOOPBACK, Urls, free_port

STREAM, RECORD = "enricher:intake:worker-enricher", "published"


class Pod:
    """The process of a pod, with the environment of the files; what only a cluster has is given."""

    def __init__(self, folder: Path, workload: Document, documents: list[Document], urls: Urls) -> None:
        self._its = container(workload)
        self._grace = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        self._port = free_port()
        here = {
            "ENRICHER_REDIS__URL": urls.redis,
            "ENRICHER_MONGO__URL": urls.mongo,
            "ENRICHER_WEB__LISTEN": f"{LOOPBACK}:{self._port}",
            "ENRICHER_SERVICE__INSTANCE": f"pod-{self._port}",
            "ENRICHER_JOBS__PACKAGES": "tests.jobs_app",
            "ENRICHER_STREAMS__RECORD_EFFECTS": RECORD,
        }
        folder.mkdir(exist_ok=True)
        self._log = folder / f"log-{self._port}"
        given = commands.environment(**environment(workload, documents) | here)
        self._process = command(self._its["args"], given, folder, self._log)

    def get(self, path: str) -> tuple[int, bytes]:
        """The answer to a request as the kubelet sends it, from another address than the pod's name."""
        url, headers = f"http://{LOOPBACK}:{self._port}{path}", {"host": "10.1.2.3"}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""
        except OSError:
            return 0, b""

    def started(self) -> Pod:
        """Wait as the kubelet does: alive, then ready."""
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = self._its[probe]["httpGet"]["path"]
            eventually(lambda path=path: self.get(path)[0] == 200, f"{path} in {self._log}")
        return self

    def terminated(self) -> None:
        """Ask it to end, as the kubelet does after preStop; it must by itself, within the grace period."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(self._grace) == 0, self._log.read_text()

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()


class Load:
    """Ticks and jobs that come for as long as this is entered."""

    def __init__(self, urls: Urls) -> None:
        self._redis = redis.Redis.from_url(urls.redis)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.ticks = 0
        self.jobs: list[Any] = []

    def _send(self) -> None:
        while not self._ended.wait(0.02):
            self.ticks += 1
            us = time.time_ns() // 1000
            tick = {"product": f"P{self.ticks % 7}", "price": 100.5, "tick_id": self.ticks}
            body = json.dumps({"type": "UNDERLYING", **tick, "timestamp": iso(us)})
            self._redis.xadd(STREAM, {"topic": TICKS, "body": body, "at": us})
            if self.ticks % 5 == 0:
                self.jobs.append(Order.perform_async(self.ticks, 0.05))

    def more(self) -> None:
        """Wait until there is more of both."""
        ticks, jobs = self.ticks, len(self.jobs)
        eventually(lambda: self.ticks > ticks + 20 and len(self.jobs) > jobs + 3, "more load")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def test_a_rollout_under_load_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, urls: Urls, capsys: pytest.CaptureFixture[str]
) -> None:
    """Takes some seconds: four workers start."""
    if kubectl() is None:
        absent(capsys, "kubectl (1.24 or newer)")
        return
    documents = built(FOLDER / "overlays" / "preview")
    found = {workload["kind"]: workload for workload in workloads(documents)}
    server, mongo = redis.Redis.from_url(urls.redis), database(urls.mongo)
    connect(urls.redis)
    with ExitStack() as ends:
        ends.callback(connect, "")
        ends.callback(server.close)
        ends.callback(mongo.client.close)

        def pod(kind: str) -> Pod:
            return ends.enter_context(Pod(tmp_path / kind, found[kind], documents, urls))

        worker, shard = pod("Deployment"), pod("StatefulSet")
        with Load(urls) as load:
            worker.started()
            shard.started()
            load.more()
            # In a Deployment the successor starts first, in a StatefulSet the predecessor ends first.
            new_worker = pod("Deployment").started()
            worker.terminated()
            shard.terminated()
            load.more()
            new_shard = pod("StatefulSet").started()
            load.more()
        ticks = mongo["underlying_ticks"]
        eventually(lambda: ticks.count_documents({}) >= load.ticks, "every tick")
        amounts = {10 * number for number in range(5, load.ticks + 1, 5)}
        assert {job.get(timeout=PATIENCE) for job in load.jobs} == amounts
        eventually(lambda: json.loads(new_worker.get("/scale")[1])["waiting"] == 0, "nothing to wait")
        new_worker.terminated()
        new_shard.terminated()
        assert ticks.count_documents({}) == load.ticks
        published = Counter(fields[b"identity"] for _, fields in server.xrange(RECORD))
        assert (len(published), set(published.values())) == (load.ticks, {1})
        assert server.lrange("charged-twice", 0, -1) == []
        assert server.llen("dlq:enrichment") == 0
