"""A worker in this process: what it writes, when it leaves a study alone, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cohorts import content, make_model, write_study
from thread_cluster import request

from lnfast import Rules
from lnfast.cluster.messages import ErrorValue, Outcome, Task, WorkerFacts, WorkerRequest
from lnfast.cluster.placement import FOLDER, held, sweep
from lnfast.cluster.worker import CohortWorker
from lnfast.errors import StudyError, UsageError
from lnfast.folder_exchange import temporary_name

Content = dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "studies" / "p1.nii.gz", 1)


@contextmanager
def working(model: Path, out: Path, **changes: Any) -> Iterator[CohortWorker]:
    """A worker that has loaded, in a folder that is held."""
    with held(out, print) as (token, _):
        worker = CohortWorker()
        facts = worker.load(told(model, out, token, **changes))
        assert isinstance(facts, WorkerFacts), facts
        yield worker
        worker.close()


def told(model: Path, out: Path, token: str, **changes: Any) -> WorkerRequest:
    engine = {"model": str(model), "backend": "openvino", "device": "cpu", "precision": "fp32"}
    return request(**{**engine, "out": str(out), "token": token, **changes})


def served(model: Path, out: Path, study: Path, name: str = "p1", **changes: Any) -> Outcome:
    with working(model, out, **changes) as worker:
        return worker.run(Task(7, str(study), name))


def test_a_study_is_run_once_and_then_left_alone(model: Path, study: Path, tmp_path: Path) -> None:
    first = served(model, tmp_path / "out", study)
    written = (tmp_path / "out" / "p1" / "report.json").read_bytes()
    again = served(model, tmp_path / "out", study)
    assert (first.index, first.refusal, first.resumed, again.resumed) == (7, None, False, True)
    assert (tmp_path / "out" / "p1" / "report.json").read_bytes() == written
    assert again.row == first.row and again.nodes == first.nodes and first.row["study"] == "p1"


@pytest.mark.parametrize("missing", [("report.html",), ("labels.nii.gz",), ("report.txt", "report.html")])
def test_what_is_not_whole_is_run_again(model: Path, study: Path, tmp_path: Path, missing: tuple[str, ...]) -> None:
    served(model, tmp_path / "out", study)
    whole = content(tmp_path / "out")
    for name in missing:
        (tmp_path / "out" / "p1" / name).unlink()
    again = served(model, tmp_path / "out", study)
    assert again.refusal is None and not again.resumed and content(tmp_path / "out") == whole


def test_a_folder_without_its_report_is_not_overwritten(model: Path, study: Path, tmp_path: Path) -> None:
    """Nothing says whose the rest is."""
    served(model, tmp_path / "out", study)
    (tmp_path / "out" / "p1" / "report.json").unlink()
    again = served(model, tmp_path / "out", study)
    assert again.refusal is not None and again.refusal.code == "output-exists"


@pytest.mark.parametrize(
    ("part", "entry", "value"),
    [
        ("model", "sha256", "0" * 64),
        ("model", "threshold", 0.9),
        ("model", "peak", 0.95),
        ("engine", "engine_sha256", "0" * 64),
        ("engine", "precision", "int8"),
        ("engine", "backend_version", "2020.1"),
        ("rules", "suspicious_mm", 9.0),
        ("study", "b_value", 800.0),
    ],
)
def test_a_report_of_another_model_engine_or_rule_is_replaced(
    model: Path, study: Path, tmp_path: Path, part: str, entry: str, value: object
) -> None:
    served(model, tmp_path / "out", study)
    whole = content(tmp_path / "out")
    path = tmp_path / "out" / "p1" / "report.json"
    report = json.loads(path.read_bytes())
    assert report[part][entry] != value
    report[part][entry] = value
    path.write_text(json.dumps(report))
    again = served(model, tmp_path / "out", study)
    assert not again.resumed and again.refusal is None and content(tmp_path / "out") == whole


def test_fresh_runs_again_and_other_rules_do(model: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not served(model, out, study).resumed
    assert not served(model, out, study, resume=False).resumed
    assert not served(model, out, study, rules=Rules(short_axis="axial")).resumed
    assert served(model, out, study, rules=Rules(short_axis="axial")).row["short_axis"] == "axial"


def test_a_file_that_was_replaced_is_another_study_and_its_report_is_not_overwritten(
    model: Path, study: Path, tmp_path: Path
) -> None:
    served(model, tmp_path / "out", study)
    before = content(tmp_path / "out")
    write_study(study, 2)
    again = served(model, tmp_path / "out", study)
    assert again.refusal is not None and again.refusal.code == "output-exists" and again.row["status"] == "refused"
    assert content(tmp_path / "out") == before


def test_a_report_that_is_no_json_is_not_taken_for_one(model: Path, study: Path, tmp_path: Path) -> None:
    served(model, tmp_path / "out", study)
    for text in ("[" * 5000, "null", '{"schema": "lnfast.report/1"}', ""):
        (tmp_path / "out" / "p1" / "report.json").write_text(text)
        assert not served(model, tmp_path / "out", study).resumed


def test_a_refused_study_and_a_fault_are_answers(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with working(model, tmp_path / "out") as worker:
        missing = worker.run(Task(0, str(tmp_path / "gone.nii.gz"), "gone"))
        assert missing.refusal == ErrorValue("StudyError", "not-found", missing.row["message"])
        assert isinstance(missing.refusal.exception(), StudyError) and missing.refusal.exit_code == 3
        monkeypatch.setattr("lnfast.engine.Engine.read", lambda *arguments, **options: 1 / 0)
        fault = worker.run(Task(1, "x", "x"))
        assert fault.refusal is not None and fault.refusal.code == "internal" and fault.refusal.exit_code == 1


def test_a_full_disk_is_an_answer_with_its_number(
    model: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device", "/out/p1")

    monkeypatch.setattr("lnfast.result.write_study_folder", full)
    refusal = served(model, tmp_path / "out", study).refusal
    assert refusal == ErrorValue("OSError", "os-error", "/out/p1: No space left on device", 28)
    assert isinstance(refusal.exception(), OSError)


def test_a_page_that_cannot_be_written_is_a_warning_in_the_row(
    model: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnfast.report.page.render", lambda *arguments: 1 / 0)
    outcome = served(model, tmp_path / "out", study)
    assert [code for code, _ in outcome.notices] == ["page-not-written"]
    assert outcome.row["warnings"].endswith(";page-not-written") and outcome.row["status"] == "done"


def test_a_worker_that_is_told_to_stop_writes_nothing_more(model: Path, study: Path, tmp_path: Path) -> None:
    with working(model, tmp_path / "out") as worker:
        worker.stop()
        outcome = worker.run(Task(0, str(study), "p1"))
    assert outcome.refusal is not None and outcome.refusal.code == "stopped" and content(tmp_path / "out") == {}


def test_another_folder_under_the_same_path_is_refused(model: Path, tmp_path: Path) -> None:
    with held(tmp_path / "out", print) as (token, _):
        other = tmp_path / "other"
        for seen in (None, "another"):
            if seen is not None:
                (other / FOLDER).mkdir(parents=True)
                (other / FOLDER / "token").write_text(seen)
            refusal = CohortWorker().load(told(model, other, token))
            assert isinstance(refusal, ErrorValue) and refusal.code == "output-not-shared", refusal
            assert refusal.error == "BackendError"


def test_an_engine_that_does_not_load_is_an_answer(tmp_path: Path) -> None:
    with held(tmp_path / "out", print) as (token, _):
        refusal = CohortWorker().load(told(tmp_path / "nowhere", tmp_path / "out", token))
    assert isinstance(refusal, ErrorValue) and (refusal.error, refusal.code) == ("ModelError", "unknown-model")


def test_two_engines_are_one_only_if_all_is_the_same(model: Path, tmp_path: Path) -> None:
    with held(tmp_path / "out", print) as (token, _):
        first, second = (CohortWorker().load(told(model, tmp_path / "out", token)) for _ in range(2))
        fast = CohortWorker().load(told(model, tmp_path / "out", token, backend="onnxruntime"))
    assert isinstance(first, WorkerFacts) and isinstance(second, WorkerFacts) and isinstance(fast, WorkerFacts)
    assert first.identity == second.identity
    words = fast.identity.differences(first.identity)
    assert words.startswith("backend is onnxruntime ") and ";" not in words
    certified = replace(first.identity, certified_for="x86_64 avx2")
    assert certified.differences(first.identity) == "certified_for is x86_64 avx2, wanted none"


def test_a_folder_is_held_by_one_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    with held(tmp_path / "out", print), pytest.raises(UsageError) as refused, held(tmp_path / "out", print):
        pass
    assert refused.value.code == "output-in-use"
    with held(tmp_path / "out", print) as (_, rows):
        rows.touch()
        (tmp_path / "out" / FOLDER / "probe-0123").mkdir()  # of a worker that was killed
    assert list((tmp_path / "out").iterdir()) == []


def test_only_what_was_left_of_studies_of_the_cohort_is_swept(tmp_path: Path) -> None:
    left = [temporary_name(tmp_path / name) for name in ("p1", "p2")]
    for folder in left:
        folder.mkdir()
        (folder / "labels.nii.gz").touch()
    foreign = temporary_name(tmp_path / "p1")
    foreign.mkdir()
    (foreign / "mine.txt").touch()
    sweep(tmp_path, {"p1"})
    assert set(tmp_path.iterdir()) == {left[1], foreign}
    assert (foreign / "mine.txt").exists()
