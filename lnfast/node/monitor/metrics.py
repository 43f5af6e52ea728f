"""What the node counts and measures, in Prometheus' text format 0.0.4.

Every metric stands in `METRICS` with its type, its labels and its help, and no other can be counted. Labels hold codes,
states and the names of targets: nothing of a patient, no UID, and no more than `MOST_SERIES` values.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PREFIX = "lnfast_node_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_SERIES = 200  # of one metric; what comes after is counted under the label values "other"
# From a send inside the quiet time of `eager` to the last retry before a person must look.
SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 12.5, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)

Labels = dict[str, str]
Samples = float | Iterable[tuple[Labels, float]]

_logger = logging.getLogger("lnfast.node.metrics")


@dataclass(frozen=True)
class Metric:
    """A metric as it is declared.

    Attributes:
        name: without `PREFIX`; of ``process_...``, which Prometheus names for every program, the whole name.
        kind: of Prometheus.
        help: one sentence.
        labels: their names; a sample has all of them.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as Prometheus sees it."""
        return self.name if self.name.startswith("process_") else PREFIX + self.name


METRICS = (
    Metric("build_info", "gauge", "Version of lnfast; always 1.", ("version",)),
    Metric(
        "engine_info",
        "gauge",
        "The engine that serves and the certificate that proves it; always 1, absent without an engine.",
        ("model", "version", "backend", "backend_version", "device", "precision", "certificate"),
    ),
    Metric("healthy", "gauge", "Whether /healthz answers 200."),
    Metric("thread_alive", "gauge", "Whether a thread runs and shows that it does.", ("thread",)),
    Metric("associations_total", "counter", "Associations by how they ended.", ("outcome",)),
    Metric("associations_open", "gauge", "Associations that are open."),
    Metric("instances_received_total", "counter", "Instances that were stored, by what they were.", ("outcome",)),
    Metric("instances_refused_total", "counter", "Instances that were answered with a failure.", ("code",)),
    Metric("received_bytes_total", "counter", "Bytes of the instances that were stored."),
    Metric("exams", "gauge", "Exams in the ledger by state.", ("state",)),
    Metric("exams_done_total", "counter", "Exams whose result was released."),
    Metric("exams_refused_total", "counter", "Exams in which there was nothing to analyse.", ("code",)),
    Metric("exams_dead_total", "counter", "Exams that a person must look at.", ("code",)),
    Metric("dead_exams", "gauge", "Exams in the ledger that a person must look at now.", ("code",)),
    Metric("runs_total", "counter", "Runs of the engine by outcome.", ("outcome",)),
    Metric("run_seconds", "histogram", "Time of one run of the engine with the writing of its result."),
    Metric("running", "gauge", "Whether an exam is run at the moment."),
    Metric("send_attempts_total", "counter", "Attempts to send a result by outcome.", ("target", "outcome")),
    Metric("results_sent_total", "counter", "Results that a target has stored.", ("target",)),
    Metric("results_dead_total", "counter", "Results that a target refused or never took.", ("target", "code")),
    Metric("send_seconds", "histogram", "Time of one attempt to send that succeeded.", ("target",)),
    Metric("outbox_jobs", "gauge", "Results that wait to be sent.", ("target",)),
    Metric("outbox_oldest_seconds", "gauge", "How long the oldest result waits to be sent; 0 where none does."),
    Metric("dead_jobs", "gauge", "Results that will not be sent until a person retries them.", ("target",)),
    Metric(
        "last_instance_to_sent_seconds",
        "histogram",
        "Time from the last instance of an exam to the stored answer of the target.",
        ("target",),
    ),
    Metric("drift_checks_total", "counter", "Exams that were run again in FP32."),
    Metric("drift_alarms_total", "counter", "Exams whose stage was another in FP32."),
    Metric("watch_folders_total", "counter", "Folders of the watch folder by outcome.", ("outcome",)),
    Metric("spool_free_bytes", "gauge", "Bytes that are free on the disk of the spool."),
    Metric("spool_reserve_bytes", "gauge", "Free bytes below which no instance is accepted."),
    Metric("gauge_errors_total", "counter", "Gauges that could not be read.", ("gauge",)),
    Metric("process_start_time_seconds", "gauge", "Start time of the process since the Unix epoch."),
    Metric("process_cpu_seconds_total", "counter", "User and system CPU time in seconds."),
    Metric("process_resident_memory_bytes", "gauge", "Resident memory in bytes."),
    Metric("process_open_fds", "gauge", "Open file descriptors."),
    Metric("process_threads", "gauge", "Threads of Python in the process."),
)
_BY_NAME = {metric.name: metric for metric in METRICS}


@dataclass
class _Histogram:
    counts: list[int]
    total: float = 0.0


class Metrics:
    """Counters, gauges and histograms of one node. Safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[tuple[str, ...], float]] = {}
        self._histograms: dict[str, dict[tuple[str, ...], _Histogram]] = {}
        self._gauges: dict[str, Callable[[], Samples]] = _process_gauges()

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter.

        Raises:
            KeyError: no such counter.
            ValueError: other labels than the declared ones.
        """
        metric = _declared(name, "counter")
        with self._lock:
            series = self._counters.setdefault(name, {})
            key = _bounded(series, _key(metric, labels))
            series[key] = series.get(key, 0.0) + amount

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a time to a histogram.

        Raises:
            KeyError, ValueError: as `count`.
        """
        metric = _declared(name, "histogram")
        with self._lock:
            series = self._histograms.setdefault(name, {})
            key = _bounded(series, _key(metric, labels))
            histogram = series.setdefault(key, _Histogram([0] * (len(SECONDS) + 1)))
            histogram.counts[bisect_left(SECONDS, seconds)] += 1
            histogram.total += seconds

    def gauge(self, name: str, function: Callable[[], Samples]) -> None:
        """Have a gauge read whenever the metrics are asked for.

        Args:
            name: of a gauge, or of a counter that somebody else keeps.
            function: gives a number, or for a gauge with labels pairs of labels and number. Where it raises, the
                metric is left out, and ``gauge_errors_total`` says so: no number stands for a failure.

        Raises:
            KeyError: no such metric.
        """
        _declared(name, "gauge", "counter")
        self._gauges[name] = function

    def value(self, name: str, **labels: str) -> float:
        """Return what a counter has counted: 0 where nothing was."""
        metric = _declared(name, "counter")
        with self._lock:
            return self._counters.get(name, {}).get(_key(metric, labels), 0.0)

    def text(self) -> str:
        """Return every metric that has a sample, in the order of `METRICS`."""
        read = {name: list(self._read(name)) for name in tuple(self._gauges)}
        lines: list[str] = []
        with self._lock:
            for metric in METRICS:
                samples = [*read.get(metric.name, ()), *self._counted(metric), *self._measured(metric)]
                if samples:
                    name = metric.full_name
                    lines += [f"# HELP {name} {_escaped(metric.help)}", f"# TYPE {name} {metric.kind}", *samples]
        return "\n".join(lines) + "\n"

    def _read(self, name: str) -> Iterator[str]:
        metric = _BY_NAME[name]
        try:
            samples = self._gauges[name]()
            pairs = [({}, samples)] if isinstance(samples, (int, float)) else list(samples)
            lines = [_sample(metric.full_name, metric.labels, _key(metric, labels), value) for labels, value in pairs]
        except Exception as error:  # a disk that is gone, a ledger that is locked: the other metrics are still wanted
            _logger.warning("the metric %s could not be read", name, exc_info=error)
            self.count("gauge_errors_total", gauge=name)
            return
        yield from lines

    def _counted(self, metric: Metric) -> Iterator[str]:
        series = self._counters.get(metric.name, {})
        if not series and metric.kind == "counter" and not metric.labels and metric.name not in self._gauges:
            series = {(): 0.0}  # so that an alert on its first increase works
        for key, value in sorted(series.items()):
            yield _sample(metric.full_name, metric.labels, key, value)

    def _measured(self, metric: Metric) -> Iterator[str]:
        names = (*metric.labels, "le")
        for key, histogram in sorted(self._histograms.get(metric.name, {}).items()):
            below = 0
            for limit, count in zip((*SECONDS, float("inf")), histogram.counts, strict=True):
                below += count
                yield _sample(f"{metric.full_name}_bucket", names, (*key, _number(limit)), below)
            yield _sample(f"{metric.full_name}_sum", metric.labels, key, histogram.total)
            yield _sample(f"{metric.full_name}_count", metric.labels, key, below)


def _declared(name: str, *kinds: str) -> Metric:
    metric = _BY_NAME.get(name)
    if metric is None or metric.kind not in kinds:
        raise KeyError(f"{name} is no {' or '.join(kinds)} of lnfast.node.monitor.metrics.METRICS")
    return metric


def _key(metric: Metric, labels: Labels) -> tuple[str, ...]:
    if set(labels) != set(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}, got {tuple(labels)}")
    return tuple(str(labels[name]) for name in metric.labels)


def _bounded(series: Mapping[tuple[str, ...], object], key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the key, or that of all others once a metric has as many as it may."""
    return key if key in series or len(series) < MOST_SERIES else ("other",) * len(key)


def _sample(name: str, labels: tuple[str, ...], values: tuple[str, ...], value: float) -> str:
    pairs = ",".join(
        '{}="{}"'.format(label, _escaped(text).replace('"', '\\"')) for label, text in zip(labels, values, strict=True)
    )
    return f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _process_gauges() -> dict[str, Callable[[], Samples]]:
    """What Linux says of this process, under the names that Prometheus has for every program."""
    started = time.time()
    gauges: dict[str, Callable[[], Samples]] = {
        "process_start_time_seconds": lambda: started,
        "process_cpu_seconds_total": time.process_time,
        "process_threads": threading.active_count,
    }
    if Path("/proc/self/statm").exists():
        page = os.sysconf("SC_PAGE_SIZE")
        gauges["process_resident_memory_bytes"] = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * page
        gauges["process_open_fds"] = lambda: len(os.listdir("/proc/self/fd")) - 1  # without the one that lists
    return gauges
