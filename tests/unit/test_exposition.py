"""The text format of Prometheus, read back by the parser of its makers."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from enricher.engine.stats import Histogram
from enricher.metrics import Metric, single
from enricher.web.exposition import exposition

Samples = list[tuple[str, dict[str, str], float]]


def read(*metrics: Metric) -> Samples:
    """Every sample as a scraper sees it."""
    families = text_string_to_metric_families(exposition(metrics).decode())
    return [(s.name, s.labels, s.value) for family in families for s in family.samples]


@given(st.lists(st.tuples(st.text(max_size=5), st.floats(allow_nan=False)), unique_by=lambda pair: pair[0]))
def test_whatever_a_label_and_a_help_say_is_read_as_it_was(pairs: list[tuple[str, float]]) -> None:
    samples = [({"queue": text, "state": "a"}, value) for text, value in pairs]
    help_text = "".join(text for text, _ in pairs).strip()
    metric = Metric(name="jobs", help=help_text, kind="counter", samples=samples)
    assert read(metric) == [("jobs_total", labels, value) for labels, value in samples]


def test_a_histogram_is_its_buckets_its_sum_and_its_count() -> None:
    histogram = Histogram()
    for us in (100, 1_000, 3_000_000, 90_000_000):
        histogram.record(us)
    samples = [({"route": "r"}, histogram), ({}, Histogram())]
    found = read(Metric(name="t", help="h", kind="histogram", samples=samples))
    of_route = [each for each in found if each[1].get("route") == "r"]
    edges = {labels["le"]: value for name, labels, value in of_route if name == "t_bucket"}
    assert (edges["0.000256"], edges["0.001024"], edges["4.194304"], edges["+Inf"]) == (1, 2, 3, 4)
    assert of_route[-2:] == [("t_sum", {"route": "r"}, 93.0011), ("t_count", {"route": "r"}, 4)]
    assert ("t_count", {}, 0) in found


def test_what_is_no_number_is_left_out_and_a_figure_without_labels_has_no_braces() -> None:
    assert exposition([single("a", "text", math.nan), single("b", "text", 2)]) == (
        b"# HELP a text\n# TYPE a gauge\n# HELP b text\n# TYPE b gauge\nb 2.0\n"
    )
