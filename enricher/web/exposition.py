"""The text format of Prometheus.

Written here and not by prometheus_client: that takes ten times as long, and a scrape holds the event loop.
The format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

from enricher.engine.stats import Histogram
from enricher.metrics import Metric, buckets

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_EDGES = {edge: f'le="{edge!r}"}} ' for edge, _ in buckets(Histogram())}


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The metrics, each of another name, as a scraper reads them."""
    return "".join(line for metric in metrics for line in _lines(metric)).encode()


def _lines(metric: Metric) -> Iterator[str]:
    name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
    text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {text}\n# TYPE {name} {metric.kind}\n"
    for labels, value in metric.samples:
        if isinstance(value, Histogram):
            yield _of_histogram(name, _labels(tuple(labels.items())), value)
        elif not math.isnan(value):
            given = _labels(tuple(labels.items()))
            yield f"{name}{{{given}}} {float(value)!r}\n" if given else f"{name} {float(value)!r}\n"


def _of_histogram(name: str, labels: str, histogram: Histogram) -> str:
    bucket = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
    lines = [f"{bucket}{_EDGES[edge]}{count}\n" for edge, count in buckets(histogram)]
    total = histogram.total
    lines.append(f'{bucket}le="+Inf"}} {total}\n{name}_sum{{{labels}}} {histogram.sum / 1e6!r}\n')
    return f"{''.join(lines)}{name}_count{{{labels}}} {total}\n"


# They are the same at every scrape.
@lru_cache(maxsize=10_000)
def _labels(pairs: tuple[tuple[str, str], ...]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in pairs)
