"""The shipped job: it asks every ten minutes whether a backend is healthy, and logs the answer."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import ClassVar

from enricher.errors import WrongSetting
from enricher.jobs import client
from enricher.jobs.worker import Worker
from enricher.log import log
from enricher.texts import text_of

TIMEOUT = 3.0
_OK = 200


class HealthCheckWorker(Worker):
    """Asks for ``jobs.health_url``; without that setting it is not scheduled. Only 200 is healthy."""

    max_retries: ClassVar[int] = 1
    cron_schedule: ClassVar[str | None] = "*/10 * * * *"

    @classmethod
    def perform(cls) -> None:
        """Log ``Backend is healthy``, or what is wrong. Raises `WrongSetting` without the setting."""
        url = getattr(client.settings().routes.get("jobs"), "health_url", "")
        if not url:
            raise WrongSetting("jobs.health_url", url, "the URL that is to be asked for")
        try:
            # The setting takes addresses of the web alone.
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except Exception as error:  # noqa: BLE001  whatever it is, the backend is not healthy
            log.error(f"Backend is unhealthy: {text_of(error)}")
            return
        if status == _OK:
            log.info("Backend is healthy")
        else:
            log.error(f"Backend is unhealthy: status {status}")
