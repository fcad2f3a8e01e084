"""Fixtures of pytest: in a conftest.py say ``pytest_plugins = ["enricher.jobs.pytest_fixtures"]``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from enricher.jobs.testing import FakeJobs, fake, inline


@pytest.fixture
def fake_jobs() -> Iterator[FakeJobs]:
    """The jobs that a test enqueues; ``fake_jobs.drain()`` runs them."""
    with fake() as jobs:
        yield jobs


@pytest.fixture
def inline_jobs() -> Iterator[FakeJobs]:
    """The jobs that a test enqueues, each run at once."""
    with inline() as jobs:
        yield jobs
