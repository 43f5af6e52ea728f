"""Metrics: Prometheus' own parser reads them, and so does a parser of ten lines; names follow its rules."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from lnfast.node.monitor.metrics import METRICS, MOST_SERIES, SECONDS, Metrics

Parse = Callable[[str], Iterable[Any]]


@pytest.fixture(scope="module")
def parse() -> Parse:
    """The parser of Prometheus' own client."""
    if not os.environ.get("CI"):
        pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families

    return text_string_to_metric_families


def samples(text: str) -> dict[str, float]:
    """Every line that is no comment: name with its labels, and value."""
    pattern = re.compile(r"([a-z_:][a-z0-9_:]*(?:\{.*\})?) (\S+)")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pairs = [pattern.fullmatch(line) for line in lines]
    assert all(pairs), text
    return {pair[1]: float(pair[2]) for pair in pairs if pair}


def test_names_and_types_are_those_that_prometheus_wants() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.full_name), metric
        assert metric.full_name.startswith(("lnfast_node_", "process_"))
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric
        assert metric.kind != "histogram" or metric.name.endswith("_seconds"), metric
        assert metric.help.endswith(".") and "\n" not in metric.help
        assert "le" not in metric.labels and all(re.fullmatch(r"[a-z_]+", label) for label in metric.labels)
        assert not metric.name.endswith(("_count", "_sum", "_bucket")), "Prometheus keeps these for histograms"


def test_what_is_counted_is_read_by_the_official_parser_and_by_hand(parse: Parse) -> None:
    metrics = Metrics()
    metrics.count("instances_received_total", outcome="new")
    metrics.count("instances_received_total", 2, outcome="new")
    metrics.count("instances_received_total", outcome="same")
    metrics.gauge("spool_free_bytes", lambda: 3.5e12)
    metrics.gauge("exams", lambda: [({"state": "done"}, 4), ({"state": "dead"}, 0)])
    for seconds in (0.1, 0.100001, 11.0, 1e9):
        metrics.observe("last_instance_to_sent_seconds", seconds, target="pacs")
    text = metrics.text()
    assert text.endswith("\n") and "\n\n" not in text
    by_hand = samples(text)
    assert by_hand['lnfast_node_instances_received_total{outcome="new"}'] == 3
    assert by_hand["lnfast_node_spool_free_bytes"] == 3.5e12
    assert by_hand['lnfast_node_exams{state="dead"}'] == 0
    families = {family.name: family for family in parse(text)}
    assert {
        sample.labels["outcome"]: sample.value for sample in families["lnfast_node_instances_received"].samples
    } == {
        "new": 3,
        "same": 1,
    }
    latency = families["lnfast_node_last_instance_to_sent_seconds"]
    assert latency.type == "histogram" and latency.documentation.startswith("Time from the last instance")
    buckets = {s.labels["le"]: s.value for s in latency.samples if s.name.endswith("_bucket")}
    assert list(buckets) == [*(f"{limit:g}" for limit in SECONDS), "+Inf"]
    assert (buckets["0.1"], buckets["0.25"], buckets["10"], buckets["12.5"], buckets["3600"]) == (1, 2, 2, 3, 3)
    assert buckets["+Inf"] == 4
    totals = {sample.name.rpartition("_")[2]: sample.value for sample in latency.samples[-2:]}
    assert totals["count"] == 4 and math.isclose(totals["sum"], 1e9 + 11.200001)
    for family in families.values():
        for sample in family.samples:
            assert f"# TYPE {family.name}" in text and sample.value == sample.value


def test_labels_are_escaped(parse: Parse) -> None:
    metrics = Metrics()
    nasty = 'a "quoted" \\ back\nnew line \u00e4 {le="1"} 5'
    metrics.count("results_sent_total", target=nasty)
    (family,) = [f for f in parse(metrics.text()) if f.name == "lnfast_node_results_sent"]
    (sample,) = family.samples
    assert sample.labels == {"target": nasty} and sample.value == 1


def test_a_counter_without_labels_begins_at_zero_and_one_with_labels_is_absent() -> None:
    by_hand = samples(Metrics().text())
    assert by_hand["lnfast_node_drift_alarms_total"] == 0
    assert not any(name.startswith("lnfast_node_results_sent_total") for name in by_hand)
    assert "lnfast_node_exams_done_total" in by_hand


def test_what_is_not_declared_is_refused() -> None:
    metrics = Metrics()
    for call in (
        lambda: metrics.count("no_such_total"),
        lambda: metrics.count("run_seconds"),
        lambda: metrics.observe("exams_done_total", 1.0),
        lambda: metrics.gauge("no_such", lambda: 0.0),
    ):
        with pytest.raises(KeyError, match="METRICS"):
            call()
    with pytest.raises(ValueError, match="outcome"):
        metrics.count("associations_total", patient="x")
    with pytest.raises(ValueError, match="outcome"):
        metrics.count("associations_total")


def test_labels_of_many_values_do_not_grow_without_end() -> None:
    metrics = Metrics()
    for number in range(MOST_SERIES + 50):
        metrics.count("exams_dead_total", code=f"code-{number}")
    lines = [name for name in samples(metrics.text()) if name.startswith("lnfast_node_exams_dead_total")]
    assert len(lines) == MOST_SERIES + 1
    assert samples(metrics.text())['lnfast_node_exams_dead_total{code="other"}'] == 50


def test_a_gauge_that_fails_is_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()

    def gone() -> float:
        raise OSError(5, "the disk is gone")

    metrics.gauge("spool_free_bytes", gone)
    with caplog.at_level(logging.WARNING, "lnfast.node.metrics"):
        by_hand = samples(metrics.text())
    assert not any("spool_free_bytes" in name and "errors" not in name for name in by_hand)
    assert by_hand['lnfast_node_gauge_errors_total{gauge="spool_free_bytes"}'] == 1
    assert "spool_free_bytes" in caplog.text


def test_threads_lose_no_count() -> None:
    metrics = Metrics()

    def work() -> None:
        for _ in range(2000):
            metrics.count("received_bytes_total", 3)
            metrics.observe("run_seconds", 0.2)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        samples(metrics.text())
    for thread in threads:
        thread.join()
    by_hand = samples(metrics.text())
    assert by_hand["lnfast_node_received_bytes_total"] == 8 * 2000 * 3
    assert by_hand["lnfast_node_run_seconds_count"] == 8 * 2000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_the_process_is_measured() -> None:
    by_hand = samples(Metrics().text())
    assert 1e7 < by_hand["process_resident_memory_bytes"] < 1e11
    before = by_hand["process_open_fds"]
    first, second = os.pipe()
    try:
        assert samples(Metrics().text())["process_open_fds"] == before + 2
    finally:
        os.close(first)
        os.close(second)
