"""The drift watch: which exam is run again in FP32, and what is said when its stage differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exam_desks import Desk, node_config
from exam_files import write_exam

from lnfast.engine import Engine
from lnfast.errors import EngineError
from lnfast.node.exams.drift import NODES, STAGE, DriftWatch
from lnfast.node.ledger import Ledger, StoredResult
from lnfast.node.spool import Spool
from lnfast.study import DicomChoice


@pytest.fixture
def load(model_folder: Path) -> Callable[[], Engine]:
    return lambda: Engine(model_folder, backend="openvino", precision="fp32")


@pytest.fixture
def desk(load: Callable[[], Engine], tmp_path: Path) -> Iterator[Desk]:
    config = node_config(tmp_path / "node")
    spool = Spool(config.spool)
    with Ledger(spool.ledger_path) as ledger, load() as engine:
        yield Desk(config, engine, spool, ledger)


@pytest.fixture
def result(desk: Desk, tmp_path: Path) -> StoredResult:
    """A result that was released: N1 with one node."""
    desk.send(write_exam(tmp_path / "exam", "1"))
    desk.after(11)
    return desk.released[0]


@pytest.fixture
def drift(desk: Desk, result: StoredResult) -> DriftWatch:
    watch = DriftWatch(1, desk.spool, desk.ledger, desk.metrics)
    watch.released(result)
    return watch


def snapshot(desk: Desk, result: StoredResult) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in desk.folder(result.exam, result.number).iterdir()}


def test_every_so_many_results_one_is_checked(desk: Desk, result: StoredResult) -> None:
    watch = DriftWatch(50, desk.spool, desk.ledger, desk.metrics)
    checked = []
    for number in range(1, 151):
        watch.released(replace(result, id=number))
        if watch.pending is not None:
            checked.append(watch.pending.id)
            watch.pending = None
    assert checked == [50, 100, 150]
    never = DriftWatch(0, desk.spool, desk.ledger, desk.metrics)
    never.released(result)
    assert never.pending is None


def test_an_engine_that_says_the_same_raises_nothing(
    desk: Desk, drift: DriftWatch, result: StoredResult, load: Callable[[], Engine]
) -> None:
    found = drift.check(load, DicomChoice())
    assert found is not None and not found.is_alarm and (found.stages, found.nodes) == (("N1", "N1"), 0)
    assert desk.metrics.value("drift_checks_total") == 1 and desk.metrics.value("drift_alarms_total") == 0
    assert drift.pending is None and not {STAGE, NODES} & set(desk.kinds(result.exam))


def test_another_stage_in_fp32_raises_an_alarm_and_changes_nothing(
    desk: Desk,
    drift: DriftWatch,
    result: StoredResult,
    load: Callable[[], Engine],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = snapshot(desk, result)

    def other() -> Engine:
        engine = load()
        engine.rules = replace(engine.rules, suspicious_mm=30.0)  # in place of an engine that finds less
        return engine

    found = drift.check(other, DicomChoice())
    assert found is not None and found.is_alarm and found.stages == ("N1", "N0")
    assert desk.metrics.value("drift_alarms_total") == 1
    assert "released as N1, in FP32 N0" in caplog.text and desk.kinds(result.exam)[-1] == STAGE
    assert snapshot(desk, result) == before and desk.state(result.exam) == ("done", None)
    assert len(desk.ledger.jobs(result.exam)) == 1


def test_other_nodes_with_the_same_stage_are_an_event(
    desk: Desk, drift: DriftWatch, result: StoredResult, load: Callable[[], Engine]
) -> None:
    class Elsewhere(Engine):
        def analyse(self, *arguments: object, **keywords: object):  # type: ignore[no-untyped-def]
            found = super().analyse(*arguments, **keywords)  # type: ignore[arg-type]
            return replace(found, labels=replace(found.labels, array=np.roll(found.labels.array, 10, axis=2)))

    def elsewhere() -> Engine:
        engine = load()
        engine.__class__ = Elsewhere
        return engine

    found = drift.check(elsewhere, DicomChoice())
    assert found is not None and not found.is_alarm and found.nodes == 2
    assert desk.kinds(result.exam)[-1] == NODES and desk.metrics.value("drift_alarms_total") == 0


def test_an_exam_whose_images_are_others_by_now_is_not_compared(
    desk: Desk, drift: DriftWatch, result: StoredResult, load: Callable[[], Engine], tmp_path: Path
) -> None:
    paths = write_exam(tmp_path / "exam", "1", "N0")
    desk.send(paths)
    assert drift.check(load, DicomChoice()) is None
    assert desk.metrics.value("drift_checks_total") == 0


def test_an_engine_that_cannot_be_loaded_is_not_tried_for_ever(drift: DriftWatch) -> None:
    def load() -> Engine:
        raise EngineError("self-test-failed", "it differs")

    with pytest.raises(EngineError):
        drift.check(load, DicomChoice())
    assert drift.pending is None
