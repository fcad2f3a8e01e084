"""What programs that come from Celery bring: two databases, Celery's own client, and a site to look at."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import celery
import celery.result

from tests.rig import PATIENCE
from tests.servers import RedisProcess


class Site(BaseHTTPRequestHandler):
    """A web site that is well, or not."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(Site.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: whoever asks says what was seen."""


@contextmanager
def serving() -> Iterator[str]:
    """The address of a site that is up, and well."""
    Site.status = 200
    with HTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def old_names(server: RedisProcess) -> dict[str, str]:
    """The databases 1 and 2 of a server, under the names that Celery's users give them."""
    address = server.url.removesuffix("/0")
    return {"CELERY_BROKER_URL": f"{address}/1", "CELERY_RESULT_BACKEND": f"{address}/2"}


def celery_client(urls: dict[str, str]) -> celery.Celery:
    """Celery as the users of these databases set it up."""
    return celery.Celery(
        "app", broker=urls["CELERY_BROKER_URL"], backend=urls["CELERY_RESULT_BACKEND"], set_as_current=False
    )


def by_celery(job: Any, client: celery.Celery) -> Any:
    """What Celery's own client gets for a job; it raises what the job raised."""
    return celery.result.AsyncResult(job.id, app=client).get(timeout=PATIENCE)
