"""FastAPI, SQLAlchemy and Celery: the event is a row, a task loads it, runs two nodes and stores what came.

The rows are in SQLite, which needs no server: a database of its own would take more, and take it elsewhere.
``python -m benchmarks.events.with_fastapi`` serves.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import uvicorn
from celery import Celery
from fastapi import APIRouter, Depends, FastAPI, Response
from pydantic import BaseModel
from sqlalchemy import JSON, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

REDIS_URL = os.environ.get("PEER_REDIS_URL", "redis://localhost/0")
DATABASE = os.environ.get("EVENTS_DATABASE", ":memory:")

app = Celery("tasks", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    result_serializer="json",
    enable_utc=True,
    broker_connection_retry_on_startup=True,
)
engine = create_engine(f"sqlite:///{DATABASE}", connect_args={"timeout": 60})
sessions = sessionmaker(engine)


@event.listens_for(engine, "connect")
def durable(connection: Any, _: object) -> None:
    """As fast as it is when a commit is on disk."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


class Base(DeclarativeBase):
    """Of the tables."""


class Event(Base):
    """An event and what came of it."""

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: str(uuid.uuid4()))
    data: Mapped[Any] = mapped_column(JSON)
    task_context: Mapped[Any] = mapped_column(JSON, nullable=True)


class Ticket(BaseModel):
    """What is sent."""

    text: str
    user: int
    urgent: bool = False


class Context(BaseModel):
    """What goes through the nodes."""

    event: Ticket
    nodes: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


def session() -> Iterator[Session]:
    """One per request or task."""
    with sessions() as one:
        yield one


router = APIRouter(prefix="/events")


@router.post("/")
def accept(ticket: Ticket, one: Session = Depends(session)) -> Response:  # noqa: B008  as FastAPI has it
    """Store it, queue its task, say so."""
    row = Event(data=ticket.model_dump(mode="json"))
    one.add(row)
    one.commit()
    task = app.send_task("process_incoming_event", args=[str(row.id)])
    return Response(status_code=202, content=json.dumps({"message": f"started `{task}`"}))


@app.task(name="process_incoming_event")
def process_incoming_event(event_id: str) -> None:
    """Load it, run its nodes, store what came."""
    with sessions() as one:
        row = one.get_one(Event, event_id)
        context = Context(event=Ticket(**row.data))
        context.nodes["Wait"] = None
        context.nodes["Measure"] = {"length": len(context.event.text)}
        row.task_context = context.model_dump(mode="json")
        one.commit()


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    api = FastAPI()
    api.include_router(router)
    uvicorn.run(api, port=int(os.environ["EVENTS_PORT"]), log_level="error")
