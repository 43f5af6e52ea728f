"""A module of mercure: its folders, its settings, and that a refusal is never an empty success."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest
from command_line import lnfast as command
from dicom_files import SECRET, write_series
from exam_files import AFFINE_RAS, SLICES, add_secrets, exam_voxels, small_model, uids_of, write_exam

from lnfast.contracts.mercure import Settings, read_settings
from lnfast.errors import UsageError

OPTIONS = ("--backend", "onnxruntime", "--precision", "fp32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


class Module:
    """The folders as mercure lays them out."""

    def __init__(self, root: Path, model: Path) -> None:
        self.source, self.target, self.model = root / "in", root / "out", model
        self.source.mkdir()
        self.target.mkdir()
        self.environment = {"MERCURE_IN_DIR": str(self.source), "MERCURE_OUT_DIR": str(self.target)}
        self.write_task({})

    def add(self, paths: list[Path]) -> None:
        """Put images in under mercure's names, with the file of tags that it lays beside each."""
        for path in paths:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            name = f"{dataset.SeriesInstanceUID}#{dataset.SOPInstanceUID}"
            (self.source / f"{name}.dcm").write_bytes(path.read_bytes())
            (self.source / f"{name}.tags").write_text(json.dumps({"PatientName": SECRET}))

    def write_task(self, settings: Any, **entries: Any) -> None:
        """A task.json with the entries that mercure writes."""
        step = {"module_name": "lnfast", "module_config": {"docker_tag": "lnfast"}, "settings": settings}
        task = {
            "id": "7f1c",
            "info": {"action": "both", "uid": "1.2", "uid_type": "study", "patient_name": SECRET, "mrn": "SECRETID"},
            "dispatch": {},
            "process": {**step, "retain_input_images": False, "output": None},
            "study": {},
        }
        (self.source / "task.json").write_text(json.dumps({**task, **entries}))

    def run(self, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        return command("run", "--contract", "mercure", "--model", self.model, *OPTIONS, *options)

    def result(self) -> dict[str, Any]:
        return dict(json.loads((self.target / "result.json").read_text()))

    def written(self) -> set[str]:
        return {path.name for path in self.target.iterdir()}


@pytest.fixture
def module(tmp_path: Path, model: Path) -> Module:
    return Module(tmp_path, model)


def test_suspicious_nodes_are_written_and_notified(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    images = write_exam(tmp_path / "exam", "a", "N1")
    module.add(images)
    assert module.run(monkeypatch) == 0
    assert module.written() == {"seg.dcm", "sr.dcm", "result.json"}
    result = module.result()
    assert (result["status"], result["n_stage"], result["report"]["summary"]["suspicious"]) == ("done", "N1", 1)
    note = result["__mercure_notification"]
    assert note["requested"] is True
    text = "lnfast: N1, 1 of 1 nodes suspicious, largest short axis 16.0 mm. Research use only."
    assert note["text"] == text
    structured = pydicom.dcmread(module.target / "sr.dcm")
    assert structured.PatientName == SECRET
    # What mercure keeps and shows has neither the patient's data nor the patient's UIDs.
    printed = capfd.readouterr()
    shown = (module.target / "result.json").read_text() + printed.out + printed.err
    assert not [word for word in ("SECRET", *uids_of(images)) if word in shown]


@pytest.mark.parametrize(("stage", "objects"), [("N0", {"seg.dcm", "sr.dcm"}), ("no nodes", {"sr.dcm"})])
def test_nothing_suspicious_is_not_notified(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, objects: set[str]
) -> None:
    module.add(write_exam(tmp_path / "exam", stage, stage))
    for name in ("seg.dcm", "result.json"):  # of an attempt that was killed
        (module.target / name).write_bytes(b"old")
    assert module.run(monkeypatch) == 0
    assert module.written() == objects | {"result.json"}
    result = module.result()
    assert result["n_stage"] == "N0" and "__mercure_notification" not in result


@pytest.mark.parametrize(
    ("slices", "code"), [(SLICES - 1, "too-few-slices"), (0, "no-high-b"), (None, "not-dicom")], ids=str
)
def test_a_refusal_is_told_and_leaves_no_objects(
    module: Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    slices: int | None,
    code: str,
) -> None:
    if slices is not None:
        module.add(write_exam(tmp_path / "exam", "a", slices=slices))
    (module.target / "sr.dcm").write_bytes(b"of an earlier attempt")
    assert module.run(monkeypatch) == 3
    assert module.written() == {"result.json"}
    result = module.result()
    assert result["status"] == "failed" and "n_stage" not in result
    assert (result["error"]["code"], result["error"]["exit_code"]) == (code, 3)
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(f"lnfast: {code}: ")


def test_settings_of_the_task_come_before_the_options(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.add(write_exam(tmp_path / "exam", "a", "N1"))
    module.write_task({"suspicious_mm": 40, "short_axis": "axial"})
    assert module.run(monkeypatch, "--suspicious-mm", "5") == 0
    result = module.result()
    assert result["n_stage"] == "N0"
    assert (result["report"]["rules"]["suspicious_mm"], result["report"]["rules"]["short_axis"]) == (40, "axial")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no entry 'process'"),
        (b'{"process": {"settings": []}}', None),
        (b'{"process": {"settings": ["a"]}}', "no JSON object"),
        (b'{"process": [{}, {}]}', "one processing step"),
        (b'{"process": {"settings": {"suspicous_mm": 9}}}', "no setting is called 'suspicous_mm'"),
        (b'{"process": {"settings": {"suspicious_mm": "9"}}}', "wanted a number"),
        (b'{"process": {"settings": {"suspicious_mm": true}}}', "wanted a number"),
        (b'{"process": {"settings": {"synthetic": 1}}}', "wanted true or false"),
        (b'{"process": {"settings": {"prefer": "*b800*"}}}', "wanted a list"),
        (b'{"process": {"settings": {"prefer": [800]}}}', "no list of texts"),
        (b'{"process": {"settings": {"seg_frames": "some"}}}', 'wanted "sparse" or "all"'),
    ],
)
def test_a_task_that_cannot_be_understood_is_refused(tmp_path: Path, content: bytes | None, words: str | None) -> None:
    path = tmp_path / "task.json"
    if content is not None:
        path.write_bytes(content)
    if words is None:  # PHP's empty object
        assert read_settings(path, Settings()) == Settings()
        return
    with pytest.raises(UsageError) as caught:
        read_settings(path, Settings())
    assert caught.value.code == "bad-task" and words in caught.value.message


def test_one_step_in_a_list_and_no_settings_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"process": [{"settings": {"series": 6, "b_value": 800, "prefer": ["*b800*"]}}]}))
    assert read_settings(path, Settings(precision="fp32")) == Settings(
        precision="fp32", series="6", b_value=800, prefer=("*b800*",)
    )
    path.write_text(json.dumps({"process": {}}))
    assert read_settings(path, Settings()) == Settings()


def test_of_two_series_the_preferred_one_is_taken(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.add(write_exam(tmp_path / "exam", "a", "N1"))
    voxels = exam_voxels("no nodes")

    def describe(dataset: pydicom.Dataset, z: int) -> None:
        add_secrets(dataset)
        dataset.SeriesDescription = "ep2d b800 fov2"

    module.add(write_series(tmp_path / "second", voxels, AFFINE_RAS, number=9, change=describe, seed="a"))
    assert module.run(monkeypatch) == 3 and module.result()["error"]["code"] == "ambiguous"
    module.write_task({"prefer": ["*FOV2"]})
    assert module.run(monkeypatch) == 0 and module.result()["n_stage"] == "N0"


def test_a_wrong_task_is_told_in_the_result(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module.add(write_exam(tmp_path / "exam", "a"))
    module.write_task({"short-axis": "box"})
    assert module.run(monkeypatch) == 2
    assert module.result()["error"]["code"] == "bad-task"
    assert "there are b_value, backend, device" in capsys.readouterr().err


def test_what_nobody_foresaw_is_a_failure_without_its_text(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError(f"a header has {SECRET}")

    module.add(write_exam(tmp_path / "exam", "a"))
    monkeypatch.setattr("lnfast.contracts.mercure.write_result", fail)
    assert module.run(monkeypatch) == 1
    assert module.result()["error"] == {
        "code": "internal",
        "message": "the module stopped: ValueError",
        "exit_code": 1,
    }
    assert SECRET not in capsys.readouterr().err and module.written() == {"result.json"}


def test_an_error_of_the_system_is_told_without_the_name_of_a_file(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "1.2.3#4.5.6.dcm")

    module.add(write_exam(tmp_path / "exam", "a"))
    monkeypatch.setattr("lnfast.contracts.mercure.write_result", fail)
    assert module.run(monkeypatch) == 1
    assert capsys.readouterr().err.endswith("os-error: the system refused: No space left on device\n")
    assert module.result()["error"]["code"] == "os-error" and module.written() == {"result.json"}


def test_objects_that_cannot_be_written_are_a_failure(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError(SECRET)

    module.add(write_exam(tmp_path / "exam", "a"))
    monkeypatch.setattr("lnfast.report.dicom.render_dicom", fail)
    assert module.run(monkeypatch) == 1
    assert module.result()["error"]["code"] == "dicom-not-written" and module.written() == {"result.json"}


@pytest.mark.parametrize("name", ["MERCURE_IN_DIR", "MERCURE_OUT_DIR"])
def test_a_folder_that_is_not_there_is_a_wrong_call(
    module: Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    module.environment[name] += "/nowhere"
    assert module.run(monkeypatch) == 2
    assert f"no-folder: the variable {name} names no folder" in capsys.readouterr().err
    module.environment[name] = ""
    assert module.run(monkeypatch) == 2
    assert f"no-folder: the variable {name} is not set" in capsys.readouterr().err


def test_options_that_the_contract_fixes_are_refused(
    module: Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.run(monkeypatch, "-o", "out", "--no-html") == 2
    assert "leave out '-o' / '--out', '--html'" in capsys.readouterr().err
    assert module.written() == set()


def test_a_container_without_a_home_or_a_network_runs_it(module: Module, tmp_path: Path) -> None:
    """As mercure starts it: any user, no home folder, an environment with little else."""
    module.add(write_exam(tmp_path / "exam", "a"))
    environment = {
        **module.environment,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "LNFAST_CACHE": "/proc/nowhere",
    }
    line = [sys.executable, "-m", "lnfast", "run", "--contract", "mercure", "--model", str(module.model), *OPTIONS]
    done = subprocess.run(line, env=environment, cwd="/", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert module.written() == {"seg.dcm", "sr.dcm", "result.json"} and ": N1, 1 of 1 nodes" in done.stdout
