"""What ``enricher check`` says about streams: length, groups, lag, pending, dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from enricher.stream_groups import StreamState

HEAD = ("stream", "group", "length", "lag", "pending", "delayed", "dead letters")


def row_of(state: StreamState) -> list[str]:
    """A group as a line of the table."""
    shown = [str(state.figures.get(name, "-")) for name in ("length", "lag", "pending", "delayed")]
    if "lag" in state.figures and state.figures["lag"] is None:
        shown[1] = "unknown"
    number = state.figures.get("dead_letters", "?")
    letters = f"{number} in {state.letters}" if state.letters else "-"
    return [state.keys.stream, state.keys.group, *shown, letters]


def stream_warnings(states: Sequence[StreamState]) -> Iterator[str]:
    """What looks wrong about streams, one sentence each."""
    for state in states:
        if lost := state.figures.get("entries_lost"):
            yield (
                f"stream {state.keys.stream}: group {state.keys.group} has lost {lost} entries, trimmed or "
                "deleted before they were read; whoever appends may bound the stream (MAXLEN) too tightly"
            )
    for stream, others in {state.keys.stream: state.others for state in states}.items():
        if others:
            yield (
                f"stream {stream}: nobody with these settings reads for {', '.join(sorted(others))}; the "
                "stream keeps what a group has not acknowledged, so end one that is done: XGROUP DESTROY"
            )
