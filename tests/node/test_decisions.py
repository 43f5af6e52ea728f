"""What becomes of exams: run once, released once, replaced when images come late, and never a stage for a part."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import write_series
from exam_desks import Desk, node_config
from exam_files import AFFINE_RAS, write_exam

from lnfast.engine import Engine
from lnfast.errors import BackendError, EngineError, UsageError
from lnfast.node.exams import runs
from lnfast.node.ledger import Ledger
from lnfast.node.spool import Spool
from lnfast.node.spool.recovery import open_and_recover
from lnfast.report.dicom import render_dicom

GIVE_UP_S = 900


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


def stack(
    folder: Path, *, b_value: float = 800.0, number: int = 5, description: str = "dwi", seed: str = "1"
) -> list[Path]:
    """A lone series of twelve slices whose one node, of 16 mm, lies in the last four: cut at its end it has none."""
    voxels = np.random.default_rng(number).integers(90, 110, (12, 32, 32), dtype=np.uint16)
    voxels[8:12, 14:18, 14:18] = 1000

    def change(dataset: pydicom.Dataset, z: int) -> None:
        dataset.SeriesDescription = description

    return write_series(folder, voxels, AFFINE_RAS, b_value=b_value, number=number, change=change, seed=seed)


def sent(desk: Desk, exam: str) -> None:
    """Have all jobs of an exam done."""
    for job in desk.ledger.jobs(exam, state="pending"):
        desk.ledger.job_sent(job.id, "0000")


def runs_of(desk: Desk) -> float:
    return desk.metrics.value("runs_total", outcome="result")


def rewrite(path: Path, change: Callable[[pydicom.Dataset], None]) -> Path:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def test_a_stage_of_each_kind(desk: Desk, tmp_path: Path) -> None:
    for stage in ("N1", "N0", "no nodes"):
        paths = write_exam(tmp_path / stage, stage, stage)
        desk.send(paths)
        desk.after(11)
        exam = desk.exam(paths[0])
        (result,) = desk.ledger.results(exam)
        assert result.n_stage == ("N1" if stage == "N1" else "N0") and desk.state(exam) == ("done", None)
        assert (desk.folder(exam) / "seg.dcm").exists() == (stage != "no nodes")


# -- half exams


@pytest.mark.parametrize("how", ["aborted", "lost", "idle"])
def test_a_lone_series_that_broke_off_at_its_end_is_dead_and_never_n0(desk: Desk, tmp_path: Path, how: str) -> None:
    paths = stack(tmp_path / "lone")
    exam = desk.exam(paths[0])
    desk.send(paths[:8], how=how)
    desk.after(GIVE_UP_S - 5, step=5)
    assert desk.state(exam) == ("receiving", None) and not desk.released
    desk.after(10)
    assert desk.state(exam) == ("dead", "transfer-aborted") and not desk.released
    assert desk.ledger.results(exam) == [] and desk.spool.result_numbers(exam) == ()
    assert desk.metrics.value("exams_dead_total", code="transfer-aborted") == 1
    desk.send(paths)
    desk.after(11)
    assert desk.state(exam) == ("done", None) and [result.n_stage for result in desk.released] == ["N1"]


def test_a_stack_that_is_shorter_than_its_siblings_is_dead_and_a_complete_exam_takes_it_up(
    desk: Desk, tmp_path: Path
) -> None:
    low = stack(tmp_path / "low", b_value=50, number=4)
    high = stack(tmp_path / "high")
    exam = desk.exam(low[0])
    desk.send([*low, *high[:8]])
    desk.after(GIVE_UP_S + 5, step=5)
    assert desk.state(exam) == ("dead", "missing-slices") and not desk.released
    desk.send([*low, *high])
    desk.after(11)
    assert desk.state(exam) == ("done", None) and [result.n_stage for result in desk.released] == ["N1"]


def test_a_gap_waits_for_its_slice(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "lone")
    exam = desk.exam(paths[0])
    desk.send([*paths[:5], *paths[6:]])
    desk.after(300, step=5)
    assert desk.state(exam) == ("receiving", None) and runs_of(desk) == 0
    desk.send([paths[5]])
    desk.after(11)
    assert desk.state(exam) == ("done", None)


def test_silence_after_too_few_slices(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "lone")
    desk.send(paths[:5])
    desk.after(GIVE_UP_S + 5, step=5)
    assert desk.state(desk.exam(paths[0])) == ("dead", "too-few-slices")


def test_an_instance_that_was_refused_makes_the_exam_dead(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "lone")
    exam = desk.exam(paths[0])
    key = desk.open()
    desk.give(key, paths[:11])
    desk.arrivals.instance_failed(key, exam, "the last one")
    desk.close(key)
    desk.after(GIVE_UP_S + 5, step=5)
    assert desk.state(exam) == ("dead", "instance-not-stored") and not desk.released
    desk.restart()
    desk.after(20)
    assert desk.state(exam) == ("dead", "instance-not-stored")


def test_a_part_of_a_concatenation_alone_is_dead(desk: Desk, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data.parent / "dicom" / "data" / "philips-enhanced-dti" / "DTI.dcm"
    dataset = pydicom.dcmread(source)
    dataset.ConcatenationUID, dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = "1.2.3", 1, 2
    dataset.save_as(tmp_path / "part.dcm")
    desk.send([tmp_path / "part.dcm"])
    desk.after(GIVE_UP_S + 5, step=5)
    assert desk.state(desk.exam(source)) == ("dead", "missing-slices") and not desk.released


def test_images_of_two_patients_under_one_study_are_dead(desk: Desk, tmp_path: Path) -> None:
    first = stack(tmp_path / "first")
    second = [
        rewrite(path, lambda dataset: setattr(dataset, "PatientID", "ANOTHER"))
        for path in stack(tmp_path / "second", number=6)
    ]
    desk.send(first)
    desk.send(second)
    desk.after(11)
    assert desk.state(desk.exam(first[0])) == ("dead", "mixed-patients") and not desk.released


def test_a_second_patient_who_comes_after_the_release_makes_the_exam_dead(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "first")
    exam = desk.exam(paths[0])
    desk.send(paths)
    desk.after(11)
    sent(desk, exam)
    desk.send([rewrite(stack(tmp_path / "b", number=6)[0], lambda dataset: setattr(dataset, "PatientID", "ANOTHER"))])
    desk.after(11)
    assert desk.state(exam) == ("dead", "mixed-patients") and len(desk.released) == 1


def test_slices_in_any_order_and_two_exams_in_one_association(desk: Desk, tmp_path: Path) -> None:
    first, second = stack(tmp_path / "1", seed="1"), stack(tmp_path / "2", seed="2")
    mixed = [path for pair in zip(reversed(first), second[3:] + second[:3], strict=True) for path in pair]
    key = desk.open()
    for path in mixed:
        desk.give(key, [path])
        desk.after(3)
    assert not desk.released
    desk.close(key)
    desk.after(11)
    assert [result.n_stage for result in desk.released] == ["N1", "N1"]


def test_one_association_for_each_instance(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "lone")
    for path in paths:
        desk.send([path])
        desk.after(1)
    assert not desk.released
    desk.after(10)
    assert [result.n_stage for result in desk.released] == ["N1"] and len(desk.ledger.results(desk.exam(paths[0]))) == 1


def test_a_node_that_dies_in_the_middle_of_a_reception(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "lone")
    exam = desk.exam(paths[0])
    key = desk.open()
    desk.give(key, paths[:9])
    desk.restart()
    desk.after(GIVE_UP_S + 5, step=5)
    assert desk.state(exam) == ("dead", "transfer-aborted") and not desk.released
    desk.send(paths)
    desk.after(11)
    assert [result.n_stage for result in desk.released] == ["N1"]


def test_a_sender_that_holds_its_association_open(desk: Desk, tmp_path: Path) -> None:
    """After 30 s where another volume that came before shows that no slice is missing; else never."""
    whole = [*stack(tmp_path / "low", b_value=50, number=4), *stack(tmp_path / "high")]
    lone = stack(tmp_path / "lone", seed="2")
    in_turn = [
        path
        for pair in zip(
            stack(tmp_path / "a", b_value=50, number=4, seed="3"), stack(tmp_path / "b", seed="3"), strict=True
        )
        for path in pair
    ]
    for paths in (whole, lone[:8], in_turn[:16]):
        desk.give(desk.open(), paths)
    desk.after(29)
    assert not desk.released
    desk.after(60)
    assert [result.exam for result in desk.released] == [desk.exam(whole[0])]


def test_a_person_may_say_that_an_exam_which_broke_off_is_whole(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "lone")
    exam = desk.exam(paths[0])
    desk.send(paths, how="lost")  # the sender died before its release
    desk.after(GIVE_UP_S + 5, step=5)
    assert desk.state(exam) == ("dead", "transfer-aborted")
    with pytest.raises(UsageError, match="exam-not-whole"):
        desk.ledger.revive(exam)
    desk.ledger.revive(exam, whole=True)
    desk.decisions.take_up()
    desk.after(11)
    assert [result.n_stage for result in desk.released] == ["N1"]


# -- late images


def test_images_that_change_nothing_change_nothing(desk: Desk, tmp_path: Path) -> None:
    files = [*stack(tmp_path / "low", b_value=50, number=4), *stack(tmp_path / "high")]
    exam = desk.exam(files[0])
    desk.send(files)
    desk.after(11)
    sent(desk, exam)
    assert desk.state(exam) == ("sent", None)
    before = {path.name: path.read_bytes() for path in desk.folder(exam).iterdir()}
    desk.send(files)  # the same again
    desk.after(11)
    desk.send(stack(tmp_path / "t2", b_value=0, number=9))  # another series
    assert desk.state(exam)[0] == "receiving"
    desk.after(11)
    assert desk.state(exam) == ("sent", None) and len(desk.ledger.jobs(exam)) == 1 and len(desk.released) == 1
    assert runs_of(desk) == 1 and len(desk.ledger.results(exam)) == 1
    assert {path.name: path.read_bytes() for path in desk.folder(exam).iterdir()} == before


def test_images_that_come_before_the_release_replace_the_result_in_silence(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "lone")
    exam = desk.exam(paths[0])
    desk.send(paths[:8])
    desk.after(5)
    assert [result.n_stage for result in desk.ledger.results(exam)] == ["N0"]
    desk.send(paths[8:])
    desk.after(11)
    (result,) = desk.released
    assert result.n_stage == "N1" and result.predecessor is None and len(desk.ledger.results(exam)) == 1
    assert desk.spool.result_numbers(exam) == (result.number,)
    assert "PredecessorDocumentsSequence" not in pydicom.dcmread(desk.folder(exam, result.number) / "sr.dcm")


def test_images_that_come_after_the_release_give_a_new_result_that_names_the_first(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "lone")
    exam = desk.exam(paths[0])
    desk.send(paths[:8])
    desk.after(11)
    sent(desk, exam)
    desk.send(paths[8:])
    desk.after(11)
    first, second = desk.released
    assert (first.n_stage, second.n_stage, second.predecessor) == ("N0", "N1", first.id)
    old, new = (pydicom.dcmread(desk.folder(exam, result.number) / "sr.dcm") for result in (first, second))
    (study,) = new.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (old.StudyInstanceUID, old.SeriesInstanceUID)
    assert instance.ReferencedSOPInstanceUID == old.SOPInstanceUID != new.SOPInstanceUID
    assert desk.state(exam) == ("done", None) and "result-replaced" in desk.kinds(exam)
    assert [job.state for job in desk.ledger.jobs(exam)] == ["sent", "pending"]


def test_a_b_value_that_comes_later_and_is_nearer_to_the_target_gives_a_new_result(desk: Desk, tmp_path: Path) -> None:
    first, second = stack(tmp_path / "600", b_value=600, number=4), stack(tmp_path / "800")
    desk.send(first)
    desk.after(11)
    desk.send(second)
    desk.after(11)
    exam = desk.exam(first[0])
    reports = [json.loads((desk.folder(exam, result.number) / "report.json").read_text()) for result in desk.released]
    assert [report["study"]["b_value"] for report in reports] == [600, 800]


def test_an_instance_that_is_replaced_gives_a_new_result(desk: Desk, files: list[Path]) -> None:
    exam = desk.exam(files[0])
    desk.send(files)
    desk.after(11)

    def brighter(dataset: pydicom.Dataset) -> None:
        dataset.PixelData = (dataset.pixel_array + 1).astype(np.uint16).tobytes()

    desk.send([rewrite(files[-1], brighter)])
    desk.after(11)
    first, second = desk.released
    uids = [pydicom.dcmread(desk.folder(exam, result.number) / "sr.dcm").SOPInstanceUID for result in (first, second)]
    assert second.predecessor == first.id and uids[0] != uids[1]
    assert "instance-replaced" in desk.kinds(exam)


def test_images_that_are_put_back_as_they_were_have_a_result_of_their_own(desk: Desk, files: list[Path]) -> None:
    original = files[-1].read_bytes()
    desk.send(files)
    desk.after(11)
    desk.send([rewrite(files[-1], lambda dataset: setattr(dataset, "RescaleSlope", "1.5"))])
    desk.after(11)
    files[-1].write_bytes(original)
    desk.send([files[-1]])
    desk.after(11)
    exam = desk.exam(files[0])
    assert [result.predecessor for result in desk.released] == [None, desk.released[0].id, desk.released[1].id]
    uids = {pydicom.dcmread(desk.folder(exam, result.number) / "sr.dcm").SOPInstanceUID for result in desk.released}
    assert len(uids) == 3


def test_late_images_that_make_the_exam_half_leave_the_result_that_was_sent(desk: Desk, tmp_path: Path) -> None:
    paths = stack(tmp_path / "lone")
    exam = desk.exam(paths[0])
    desk.send(paths[:8])
    desk.after(11)
    desk.send(stack(tmp_path / "adc", b_value=50, number=7))  # it has twelve slices
    desk.after(GIVE_UP_S + 5, step=5)
    assert desk.state(exam) == ("dead", "missing-slices") and len(desk.released) == 1
    assert desk.folder(exam).is_dir()


# -- what cannot be analysed


def test_an_exam_without_anything_to_analyse_is_refused_until_something_comes(
    desk: Desk, files: list[Path], tmp_path: Path
) -> None:
    exam = desk.exam(files[0])
    desk.send(files[:8])
    desk.after(GIVE_UP_S + 5, step=5)
    assert desk.state(exam) == ("refused", "no-high-b")
    assert desk.metrics.value("exams_refused_total", code="no-high-b") == 1
    assert desk.metrics.value("exams_dead_total", code="no-high-b") == 0
    desk.send(files[8:])
    desk.after(11)
    assert desk.state(exam) == ("done", None)


def test_nothing_to_analyse_in_an_exam_that_broke_off_is_no_refusal(desk: Desk, files: list[Path]) -> None:
    desk.send(files[:8], how="lost")  # what is missing may be the series that counts
    desk.after(GIVE_UP_S + 5, step=5)
    assert desk.state(desk.exam(files[0])) == ("dead", "transfer-aborted")


def test_several_series_are_ambiguous_unless_one_is_preferred(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "lnfast")
    paths = [
        *stack(tmp_path / "1", number=5, description="SECRET ep2d first"),
        *stack(tmp_path / "2", number=6, description="SECRET ep2d second"),
    ]
    for prefer, state, series in (
        ("", "dead", None),
        ("*EP2D*', '*Second", "done", 6),
        ("nothing', '* first", "done", 5),
    ):
        more = f"[select]\nprefer = ['{prefer}']\n" if prefer else ""
        config = node_config(tmp_path / (prefer.strip("*") or "none"), more)
        spool = Spool(config.spool)
        with Ledger(spool.ledger_path) as ledger:
            desk = Desk(config, engine, spool, ledger)
            desk.send(paths)
            desk.after(GIVE_UP_S + 5, step=5)
            exam = desk.exam(paths[0])
            assert desk.state(exam) == (state, None if series else "ambiguous")
            if series:
                report = json.loads((desk.folder(exam) / "report.json").read_text())
                assert report["study"]["dicom"]["series_number"] == series
            row = ledger.exam(exam)
            assert row is not None and "SECRET" not in str(row) + str(ledger.events())
    assert "SECRET" not in caplog.text and "ep2d" not in caplog.text.lower()


def test_what_a_person_said_of_an_exam_counts(desk: Desk, tmp_path: Path) -> None:
    paths = [*stack(tmp_path / "1", number=5), *stack(tmp_path / "2", number=6)]
    exam = desk.exam(paths[0])
    desk.send(paths)
    desk.after(GIVE_UP_S + 5, step=5)
    desk.ledger.revive(exam, {"series": "6"})
    desk.decisions.take_up()
    desk.after(11)
    assert desk.state(exam) == ("done", None)


# -- faults


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineError("inference-failed", "the runtime failed"), "inference-failed"),
        (MemoryError("SECRET"), "internal"),
        (RuntimeError("SECRET^NAME"), "internal"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_fault_is_the_end_of_its_exam_alone(
    desk: Desk,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: str,
) -> None:
    exam = desk.exam(files[0])
    with monkeypatch.context() as patch:

        def run(*_: object) -> None:
            raise error

        patch.setattr(desk.engine, "analyse", run)
        desk.send(files)
        desk.after(5)
        assert desk.state(exam) == ("receiving", None)  # other images may come
        desk.after(6)
    row = desk.ledger.exam(exam)
    assert row is not None and desk.state(exam) == ("dead", code) and not desk.released
    assert "SECRET" not in str(row) + str(desk.ledger.events()) and "SECRET" not in caplog.text
    if code == "internal":
        assert row.message is not None and type(error).__name__ in row.message
    other = write_exam(tmp_path / "other", "2")
    desk.send(other)
    desk.after(11)
    assert desk.state(desk.exam(other[0])) == ("done", None)
    desk.ledger.revive(exam)
    desk.decisions.take_up()
    desk.after(11)
    assert desk.state(exam) == ("done", None)


def test_a_result_without_its_objects_is_dead(
    desk: Desk, files: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def render(*_: object, **__: object) -> None:
        raise ValueError("SECRET^NAME")

    monkeypatch.setattr(runs, "render_dicom", render)
    desk.send(files)
    desk.after(11)
    exam = desk.exam(files[0])
    assert desk.state(exam) == ("dead", "dicom-not-written") and not desk.released
    assert "SECRET" not in caplog.text + str(desk.ledger.exam(exam))
    assert list((desk.spool.root / "incoming").iterdir()) == [] and desk.spool.result_numbers(exam) == ()


def test_a_full_disk_is_no_fault_of_the_exam(desk: Desk, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    exam = desk.exam(files[0])
    desk.send(files)
    with monkeypatch.context() as patch:

        def add_files(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(runs, "add_files", add_files)
        for _ in range(5):
            with pytest.raises(BackendError, match="spool-full"):
                desk.after(1)
    assert list((desk.spool.root / "incoming").iterdir()) == []
    desk.after(11)
    row = desk.ledger.exam(exam)
    assert row is not None and desk.state(exam) == ("done", None) and row.attempts == 0


def test_an_image_that_is_replaced_while_its_exam_is_run(
    desk: Desk, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of the old images goes nowhere."""
    exam = desk.exam(files[0])
    analyse = desk.engine.analyse

    def interrupted(study: object) -> object:
        result = analyse(study)  # type: ignore[arg-type]
        monkeypatch.setattr(desk.engine, "analyse", analyse)
        desk.send([rewrite(files[-1], lambda dataset: setattr(dataset, "RescaleSlope", "1.5"))])
        return result

    monkeypatch.setattr(desk.engine, "analyse", interrupted)
    desk.send(files)
    desk.after(20)
    (released,) = desk.released
    assert desk.state(exam) == ("done", None)
    study = desk.runs.study(desk.decisions.row(exam))
    assert released.fingerprint == study.provenance.sha256


def test_a_result_of_another_configuration_is_not_released(desk: Desk, files: list[Path]) -> None:
    """The exam is run again when the node was restarted with other rules before the release."""
    exam = desk.exam(files[0])
    desk.send(files)
    desk.after(2)
    before = desk.engine.rules
    try:
        desk.engine.rules = replace(before, suspicious_mm=20.0)
        desk.restart()
        desk.after(11)
    finally:
        desk.engine.rules = before
    (released,) = desk.released
    assert released.n_stage == "N0" and desk.state(exam) == ("done", None)


# -- crashes


class Death(BaseException):
    """The end of the process."""


def reborn(desk: Desk) -> None:
    """What a start does after the process died."""
    desk.ledger.close()
    desk.ledger, _ = open_and_recover(desk.spool, ["pacs"])
    desk.restart()


def test_an_exam_that_kills_the_process_three_times_is_dead(
    desk: Desk, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise Death

    exam = desk.exam(files[0])
    desk.send(files)
    with monkeypatch.context() as patch:
        patch.setattr(desk.engine, "analyse", run)
        for _ in range(3):
            assert desk.state(exam) == ("receiving", None)
            with pytest.raises(Death):
                desk.after(2)
            reborn(desk)
        assert desk.state(exam) == ("dead", "worker-died")
        desk.after(20)
    desk.ledger.revive(exam)
    desk.decisions.take_up()
    desk.after(11)
    assert desk.state(exam) == ("done", None)
    desk.ledger.close()


@pytest.mark.parametrize(
    "place", ["write_result", "render_dicom", "add_files", "place_result", "store_result", "release"]
)
def test_a_crash_anywhere_gives_the_same_objects_once(
    desk: Desk, files: list[Path], monkeypatch: pytest.MonkeyPatch, place: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    exam = desk.exam(files[0])
    study = desk.engine.run(tmp_path / "exam")
    wanted = render_dicom(study.study, study.labels, study.report)

    def die(*_: object, **__: object) -> None:
        raise Death

    desk.send(files)
    with monkeypatch.context() as patch:
        if place == "place_result":  # the folder is in its place, and its row is not
            patch.setattr(desk.ledger, "store_result", die)
        else:
            patch.setattr(desk.ledger if place in ("store_result", "release") else runs, place, die)
        with pytest.raises(Death):
            desk.after(11)
    reborn(desk)
    desk.after(11)
    assert desk.state(exam) == ("done", None) and len(desk.ledger.jobs(exam)) == 1
    (released,) = desk.released
    folder = desk.folder(exam, released.number)
    assert {name: (folder / name).read_bytes() for name in wanted} == wanted
    assert desk.spool.result_numbers(exam) == (released.number,)
    desk.ledger.close()
