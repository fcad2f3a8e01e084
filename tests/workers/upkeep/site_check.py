"""A job by the clock that takes anything and returns nothing."""

from __future__ import annotations

import logging
import os
import urllib.request
from typing import Any

from enricher.jobs import Worker

logger = logging.getLogger(__name__)


class SiteCheckWorker(Worker):
    queue = "default"
    max_retries = 1
    cron_schedule = "*/10 * * * *"

    @classmethod
    def perform(cls, *args: Any, **kwargs: Any) -> None:
        try:
            with urllib.request.urlopen(os.environ["SITE_URL"], timeout=30) as answer:
                logger.info("The site answers with %s", answer.status)
        except Exception as error:
            logger.error("The site does not answer: %s", error)
