"""How figures, times and texts look on a screen."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from markupsafe import Markup

from enricher.redaction import redact_text

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_NOTHING = "–"  # noqa: RUF001  an en dash stands for no value


def number(value: float | None, digits: int = 0) -> str:
    """With thousands apart; a dash for None."""
    return _NOTHING if value is None else f"{value:,.{digits}f}"


def signed(value: float | None, digits: int = 0) -> str:
    """A change: as `number`, with its sign."""
    return _NOTHING if value is None else f"{value:+,.{digits}f}"


def short(value: float | None) -> str:
    """Three digits and a letter: 1.25M."""
    if value is None:
        return _NOTHING
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as percent."""
    return _NOTHING if value is None else f"{100 * value:.{digits}f} %"


def seconds(value: float | None) -> str:
    """A duration in s: 350 ms, 4.2 s, 3 min, 2 h."""
    if value is None:
        return _NOTHING
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    if value < 10:
        return f"{value:.1f} s"
    for size, unit in _STEPS:
        if value >= size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} s"


def moment(value: datetime | float | None, zone: str = "") -> Markup | str:
    """A time as an element, in UTC or with a ``zone`` in that; a number is seconds since 1970."""
    at = _time(value)
    if at is None:
        return _NOTHING
    iso = at.isoformat(timespec="milliseconds")
    shown = f"{at.astimezone(ZoneInfo(zone)):%d %b %H:%M:%S %Z}" if zone else f"{at:%d %b %H:%M:%S}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        iso, f"{at:%Y-%m-%d %H:%M:%S} UTC", shown
    )


def ago(value: datetime | float | None) -> Markup | str:
    """How long ago, with the time itself to be read on it."""
    at = _time(value)
    if at is None:
        return _NOTHING
    since = (datetime.now(UTC) - at).total_seconds()
    text = "now" if abs(since) < 1 else f"{seconds(since)} ago" if since > 0 else f"in {seconds(-since)}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(timespec="milliseconds"), f"{at:%Y-%m-%d %H:%M:%S} UTC", text
    )


def size(value: float | None) -> str:
    """Bytes as kB, MB, GB."""
    if value is None:
        return _NOTHING
    for each, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= each:
            return f"{value / each:.3g} {unit}"
    return f"{value:.0f} B"


def pretty(value: Any) -> str:
    """JSON to be read, without passwords."""
    plain = msgspec.to_builtins(value, enc_hook=str)
    return redact_text(json.dumps(plain, indent=2, ensure_ascii=False, default=str))


def data(value: Any) -> Markup:
    """JSON for a script, as the content of ``<script type="application/json">``."""
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def polyline(points: Iterable[Any], box: Sequence[float] = ()) -> str:
    """Points of an SVG polyline in a square of 100: pairs (x, y), or values at equal distances.

    ``box`` (left, right, bottom, top) is what the square shows; without it all of the points.
    """
    pairs = [each if isinstance(each, tuple) else (at, each) for at, each in enumerate(points)]
    if not pairs:
        return ""
    xs, ys = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    left, right, bottom, top = box or (min(xs), max(xs), min(ys), max(ys))
    wide, high = (right - left) or 1, (top - bottom) or 1
    return " ".join(f"{100 * (x - left) / wide:.2f},{100 - 100 * (y - bottom) / high:.2f}" for x, y in pairs)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between two others, at most so many, for the lines of an axis."""
    if not high > low or most < 1:
        return []
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(unit * each for each in (1, 2, 2.5, 5, 10, 20) if (high - low) / (unit * each) <= most)
    first = math.ceil(low / step)
    return [at * step for at in range(first, math.floor(high / step) + 1)]


def _time(value: datetime | float | None) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


FUNCTIONS: dict[str, Callable[..., Any]] = {"ticks": ticks}

FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "signed": signed,
    "short": short,
    "percent": percent,
    "seconds": seconds,
    "moment": moment,
    "ago": ago,
    "size": size,
    "pretty": pretty,
    "data": data,
    "polyline": polyline,
}
