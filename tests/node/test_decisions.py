"""What becomes of exams: run once, released once, replaced when images come late, and never a stage for a part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from exam_desks import Desk, node_config
from exam_files import write_exam

from lnfast.engine import Engine
from lnfast.node.ledger import Ledger
from lnfast.node.spool import Spool


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> Iterator[Engine]:
    with Engine(model_folder, backend="openvino", precision="fp32") as engine:
        yield engine


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Iterator[Desk]:
    config = node_config(tmp_path / "node")
    spool = Spool(config.spool)
    with Ledger(spool.ledger_path) as ledger:
        yield Desk(config, engine, spool, ledger)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """An N1 exam: the b = 50 series, then the b = 800 series, eight slices each."""
    return write_exam(tmp_path / "exam", "1")


# -- whole exams


def test_a_whole_exam_is_run_at_once_and_released_after_the_quiet_time(desk: Desk, files: list[Path]) -> None:
    exam = desk.exam(files[0])
    desk.send(files)
    desk.after(1)
    (result,) = desk.ledger.results(exam)
    assert result.released_at is None and result.n_stage == "N1" and desk.state(exam) == ("receiving", None)
    desk.after(8.5)
    assert desk.ledger.results(exam)[0].released_at is None and not desk.released
    desk.after(1)
    assert desk.state(exam) == ("done", None) and [job.target for job in desk.ledger.jobs(exam)] == ["pacs"]
    assert [(released.exam, released.number) for released in desk.released] == [(exam, 1)]
    assert {path.name for path in desk.folder(exam).iterdir()} == {
        "labels.nii.gz",
        "report.json",
        "report.txt",
        "seg.dcm",
        "sr.dcm",
    }
    report = json.loads((desk.folder(exam) / "report.json").read_text())
    assert report["study"]["name"] == exam and report["summary"]["n_stage"] == "N1"
    assert desk.metrics.value("exams_done_total") == 1
    assert list(desk.spool.root.joinpath("incoming").iterdir()) == []
