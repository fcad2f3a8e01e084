"""The peer: FastAPI, SQLAlchemy and Celery as many workers of events are made of them."""

from __future__ import annotations

from benchmarks.peers.catalogue import CELERY, Peer

FASTAPI = Peer(
    name="fastapi-celery",
    requirements=(*CELERY, "fastapi==0.165.0", "uvicorn[standard]==0.54.0", "sqlalchemy==2.1.9"),
    shown=("fastapi", "uvicorn", "sqlalchemy", "celery", "redis"),
    commands=(
        ("python", "-m", "benchmarks.events.with_fastapi"),
        (
            *("celery", "--app", "benchmarks.events.with_fastapi", "worker", "--loglevel", "ERROR"),
            *("--pool", "prefork", "--concurrency", "8"),
        ),
    ),
)
