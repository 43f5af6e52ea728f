"""The command line as a person and as a script use it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from command_line import SHAPE_ZYX, check_whole, lnfast, write_block_study
from model_files import blob_network, make_model_folder

from lnfast import __version__
from lnfast.backends import trt
from lnfast.errors import BackendError, EngineError, LnfastError, ModelError, StudyError, UsageError
from lnfast.optional import Package

COMMANDS = {"run", "cohort", "export", "evaluate", "node", "send", "echo", "demo", "phantom", "doctor"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that calls what is bright a node; loads in no time."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return str(make_model_folder(folder, blob_network(SHAPE_ZYX), shape_zyx=SHAPE_ZYX))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bright block of 10 x 12 x 15 mm at b = 1000."""
    return write_block_study(tmp_path_factory.mktemp("study") / "patient_0000.nii.gz")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    for number in range(4):
        write_block_study(folder / f"patient{number}.nii.gz")
    return folder


@contextmanager
def running(folder: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run of its own process after its first line on stdout, and the file that takes its stderr."""
    command = [sys.executable, "-m", "lnfast", *(str(argument) for argument in arguments)]
    stderr_file = folder / "stderr.txt"
    with (
        stderr_file.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as run,
    ):
        try:
            assert run.stdout is not None
            assert run.stdout.readline(), stderr_file.read_text()
            yield run, stderr_file
        finally:
            run.kill()


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


# --- what a person sees ---------------------------------------------------------------------------------------------


def test_help_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast() == 0
    assert lnfast("--help") == 0
    text = capsys.readouterr().out
    assert "research use only" in text.lower()
    assert set(re.findall(r"^  (\w+)  ", text.partition("Commands:")[2], re.M)) == COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast(command, "--help") == 0
    assert capsys.readouterr().out.startswith(f"Usage: lnfast {command}")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast("--version") == 0
    assert capsys.readouterr().out == f"lnfast {__version__}\n"


def test_python_m_lnfast_and_the_script_are_the_same() -> None:
    script = shutil.which("lnfast", path=str(Path(sys.executable).parent))
    assert script, "the package is installed with its script"
    for command in ([script, "--version"], [sys.executable, "-m", "lnfast", "--version"]):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"lnfast {__version__}\n"


# --- run ------------------------------------------------------------------------------------------------------------


def test_run_prints_a_line_and_leaves_a_folder(
    study: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lnfast("run", study, "-o", tmp_path / "out", "--model", model) == 0
    output = capsys.readouterr()
    expected = f"patient: N1, 1 of 1 nodes suspicious, largest 10.0 mm, 1.80 cm3, in {tmp_path / 'out' / 'patient'}\n"
    assert output.out == expected
    assert all(line.startswith("lnfast: ") for line in output.err.splitlines())
    assert check_whole(tmp_path / "out") == 1


def test_json_is_the_report_that_was_filed(
    study: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lnfast("run", study, "-o", tmp_path, "--model", model, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert report == json.loads((tmp_path / "patient" / "report.json").read_text())
    jsonschema.validate(report, json.loads((files("lnfast") / "report.schema.json").read_text()))
    assert report["nodes"][0]["box_mm"] == pytest.approx([10, 12, 15])
    assert report["timings_ms"]["write"] > 0


@pytest.mark.parametrize("rule", ["axial", "ellipsoid"])
def test_the_rules_are_the_ones_asked_for(
    study: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    options = ("--short-axis", rule, "--suspicious-mm", "12.5")
    assert lnfast("run", study, "-o", tmp_path, "--model", model, "--json", *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rules"]["short_axis"] == rule
    assert report["rules"]["measured_on"].startswith({"axial": "native", "ellipsoid": "short axis: network"}[rule])
    assert report["rules"]["suspicious_mm"] == 12.5
    node = report["nodes"][0]
    assert node["short_axis_mm"] == node[f"{rule}_short_mm"]
    assert node["suspicious"] == (node[f"{rule}_short_mm"] > 12.5)


def test_a_bad_study_does_not_stop_the_others(
    cohort: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.nii"
    bad.write_bytes(b"not a study")
    studies = (cohort / "patient0.nii.gz", tmp_path / "absent.nii", bad, tmp_path, cohort / "patient1.nii.gz")
    assert lnfast("run", *studies, "-o", tmp_path / "out", "--model", model, "--json") == StudyError.exit_code
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert [line.get("error", {}).get("code") for line in lines] == [None, "not-found", "not-nifti", "not-dicom", None]
    assert [line["study"] for line in lines[1:4]] == [str(path) for path in studies[1:4]]
    for path, code in zip(studies[1:4], ("not-found", "not-nifti", "not-dicom"), strict=True):
        assert re.search(rf"^lnfast: {code}: {re.escape(str(path))}: ", output.err, re.M)
    assert check_whole(tmp_path / "out") == 2


def test_a_file_name_cannot_forge_a_line(
    study: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "a\nlnfast: patient: N0, \x1b[31mfine.nii"
    bad.write_bytes(b"not a study")
    assert lnfast("run", bad, "-o", tmp_path / "out", "--model", model) == StudyError.exit_code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[1].startswith("lnfast: not-nifti: ") and "\x1b" not in lines[1]
    assert lines[1].count("fine.nii") == 1


def test_a_place_that_is_taken_does_not_stop_the_others(
    study: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other_study = shutil.copy(study, tmp_path / "other.nii.gz")
    (tmp_path / "out" / "patient").mkdir(parents=True)
    (tmp_path / "out" / "patient" / "notes.txt").write_text("mine")
    assert lnfast("run", study, other_study, "-o", tmp_path / "out", "--model", model, "--json") == UsageError.exit_code
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["error"]["code"] == "output-exists" and second["study"]["name"] == "other"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"patient", "other"}


def test_studies_of_one_name_get_folders_of_their_own(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / folder / "dwi.nii.gz" for folder in ("anna/one", "bert/one", "carl/two")]
    for path in paths:
        path.parent.mkdir(parents=True)
        write_block_study(path)
    assert lnfast("run", *paths, "-o", tmp_path / "out", "--model", model) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"anna_one_dwi", "bert_one_dwi", "two_dwi"}
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "anna_one_dwi",
        "bert_one_dwi",
        "two_dwi",
    ]


def test_a_second_run_replaces_the_first(study: Path, model: str, tmp_path: Path) -> None:
    for limit in ("8", "20"):
        assert lnfast("run", study, "-o", tmp_path, "--model", model, "--suspicious-mm", limit) == 0
    assert check_whole(tmp_path) == 1
    report = json.loads((tmp_path / "patient" / "report.json").read_text())
    assert report["summary"]["n_stage"] == "N0"


def test_real_studies(shared_data: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dwi = shared_data / "prostatex-0000" / "6_ep2d_diff_tra_DYNDIST.nii.gz"
    adc = shared_data / "prostatex-0000" / "7_ep2d_diff_tra_DYNDIST_ADC.nii.gz"
    assert lnfast("run", dwi, "-o", tmp_path, "--model", model, "--json") == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["study"]["b_value"] == 800
    assert "took volume 3 of 3, b = 800" in output.err
    assert lnfast("run", adc, "-o", tmp_path, "--model", model) == StudyError.exit_code
    output = capsys.readouterr()
    assert output.out == ""
    assert last_line(output.err).startswith(f"lnfast: adc-map: {adc}: ")
    assert check_whole(tmp_path) == 1


# --- saying no ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run"], "usage: "),
        (["run", "{study}"], "usage: "),
        (["walk"], "usage: "),
        (["run", "{study}", "-o", "out", "--short-axis", "long"], "usage: "),
        (["run", "{study}", "-o", "out", "--suspicious-mm", "big"], "usage: "),
        (["run", "{study}", "-o", "out", "--suspicious-mm", "nan"], "bad-rules: "),
        (["run", "{study}", "-o", "out", "--suspicious-mm", "inf"], "bad-rules: "),
        (["run", "{study}", "-o", "out", "--suspicious-mm", "0"], "bad-rules: "),
        (["run", "{study}", "-o", "out", "--suspicious-mm", "-8"], "bad-rules: "),
        (["run", "{study}", "-o", "out", "--model", "{model}", "--device", "gpu"], "unknown-device: "),
        (["run", "{study}", "-o", "{study}"], "bad-output: "),
        (["phantom", "-o", "out", "--count", "0"], "usage: "),
        (["phantom", "-o", "out", "--seed", "-1"], "usage: "),
        (["phantom", "-o", "{study}"], "bad-output: "),
        (["demo", "-o", "{study}"], "bad-output: "),
    ],
)
def test_a_wrong_call_exits_2_with_one_line(
    arguments: list[str], line: str, study: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lnfast(*(text.format(study=study, model=model) for text in arguments)) == UsageError.exit_code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"lnfast: {line}")
    assert output.err.count("\n") == 1


def test_a_model_that_is_not_there_exits_4(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast("run", study, "-o", tmp_path / "out", "--model", "nobody") == ModelError.exit_code == 4
    assert last_line(capsys.readouterr().err).startswith("lnfast: unknown-model: ")
    assert not (tmp_path / "out").exists()


def test_an_engine_that_does_not_prove_itself_exits_4(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that finds nothing would call every patient N0."""
    blank = make_model_folder(tmp_path / "blank", blob_network(SHAPE_ZYX, at=1e4), shape_zyx=SHAPE_ZYX)
    assert lnfast("run", study, "-o", tmp_path / "out", "--model", blank) == EngineError.exit_code == 4
    assert last_line(capsys.readouterr().err).startswith("lnfast: self-test-failed: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("package", "mend"), [(False, "pip install 'lnfast[rtx]'"), (True, "--device cpu")])
def test_tensorrt_where_it_is_not_exits_5_and_says_what_to_do(
    study: Path,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: bool,
    mend: str,
) -> None:
    monkeypatch.setattr(trt, "nvidia_gpus", lambda: 0)
    monkeypatch.setattr(Package, "installed", lambda self: package)
    arguments = ("run", study, "-o", tmp_path / "out", "--model", model, "--backend", "tensorrt")
    assert lnfast(*arguments) == BackendError.exit_code == 5
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert mend in output.err
    assert "tensorrt" in output.err


def test_a_device_that_is_not_there_exits_5(study: Path, model: str, tmp_path: Path) -> None:
    assert lnfast("run", study, "-o", tmp_path, "--model", model, "--backend", "openvino", "--device", "cuda:7") == 5


def test_our_own_fault_exits_1_with_a_hint_and_no_traceback(
    study: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("lnfast.network.measure_nodes", broken)
    monkeypatch.delenv("LNFAST_DEBUG", raising=False)
    arguments = ("run", study, "-o", tmp_path, "--model", model)
    assert lnfast(*arguments) == LnfastError.exit_code == 1
    output = capsys.readouterr().err
    assert last_line(output).startswith("lnfast: internal: ZeroDivisionError: two lines; set LNFAST_DEBUG=1 ")
    assert "Traceback" not in output
    assert lnfast("--debug", *arguments) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("LNFAST_DEBUG", "1")
    assert lnfast(*arguments) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_disk_that_says_no_exits_1_with_its_word(
    study: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert lnfast("run", study, "-o", tmp_path / "file" / "out", "--model", model) == 1
    assert last_line(capsys.readouterr().err).startswith(f"lnfast: os-error: {tmp_path / 'file'}")


# --- signals --------------------------------------------------------------------------------------------------------


def test_killed_at_any_moment_a_folder_is_whole_or_absent(cohort: Path, model: str, tmp_path: Path) -> None:
    chance = random.Random(0)
    studies = sorted(cohort.glob("*.nii.gz")) * 50
    for attempt in range(10):
        out = tmp_path / str(attempt)
        with running(tmp_path, "run", *studies, "-o", out, "--model", model) as (run, _):
            time.sleep(chance.uniform(0.0, 0.2))
            run.kill()
            assert run.wait(timeout=60) == -signal.SIGKILL
        assert check_whole(out, killed=True) >= 1


def test_ctrl_c_leaves_nothing_half_written(cohort: Path, model: str, tmp_path: Path) -> None:
    studies = sorted(cohort.glob("*.nii.gz")) * 200
    out = tmp_path / "out"
    # A background job of a script ignores Ctrl-C, and its children with it; a handler is not inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with running(tmp_path, "run", *studies, "-o", out, "--model", model) as (run, stderr_file):
        signal.signal(signal.SIGINT, before)
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=60) == 130
    output = stderr_file.read_text()
    assert last_line(output) == "lnfast: interrupted"
    assert "Traceback" not in output
    assert 1 <= check_whole(out) < len(studies)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_reader_that_leaves_is_no_fault(cohort: Path, model: str, tmp_path: Path) -> None:
    studies = sorted(cohort.glob("*.nii.gz")) * 200
    with running(tmp_path, "run", *studies, "-o", tmp_path / "out", "--model", model) as (run, stderr_file):
        assert run.stdout is not None
        run.stdout.close()
        assert run.wait(timeout=60) == 141
    assert "Traceback" not in stderr_file.read_text()
    assert "BrokenPipe" not in stderr_file.read_text()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_on_a_terminal_results_stand_above_a_bar(cohort: Path, model: str, tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    studies = sorted(cohort.glob("*.nii.gz"))
    command = [sys.executable, "-m", "lnfast", "run", *map(str, studies), "-o", str(tmp_path), "--model", model]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                shown += os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
    os.close(leader)
    assert process.returncode == 0
    text = shown.decode()
    assert "\x1b[" in text, "a bar was drawn"
    for path in studies:
        assert f"in {tmp_path / path.name.removesuffix('.nii.gz')}\r\n" in text, "one line, not wrapped"
