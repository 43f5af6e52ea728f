"""lnfast runs without a home folder, standard streams, a working folder or a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SHAPE_ZYX, check_whole, write_block_study
from command_line import lnfast as command
from engine_files import LARGE, deep_blob_network, write_studies
from model_files import blob_network, make_model_folder

from lnfast.backends.engine import cache as engine_cache
from lnfast.cli import main
from lnfast.optional import Package

posix = pytest.mark.skipif(os.name != "posix", reason="shells and descriptors of POSIX")
LNFAST = (sys.executable, "-m", "lnfast")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return str(make_model_folder(folder, blob_network(SHAPE_ZYX), shape_zyx=SHAPE_ZYX))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_block_study(tmp_path_factory.mktemp("study") / "patient_0000.nii.gz")


# --- no home folder -------------------------------------------------------------------------------------------------

# The user is one whom the system does not know. A real one would need an interpreter that everybody may read.
STRANGER = """
import os, pwd, sys
def unknown(*_):
    raise KeyError("getpwuid(): uid not found: 12345")
pwd.getpwuid = pwd.getpwnam = unknown
for name in ("HOME", "XDG_CACHE_HOME", "LNFAST_CACHE"):
    os.environ.pop(name, None)
os.environ.update(pair.split("=", 1) for pair in sys.argv[1].split())
from lnfast.cli import main
main(sys.argv[2:])
"""


def as_stranger(variables: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", STRANGER, variables, *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)


@posix
@pytest.mark.parametrize(
    "variables", ["", "HOME=/dev/null", "HOME=/proc/nowhere", "HOME=~", "LNFAST_CACHE=/dev/null/x"]
)
def test_without_a_home_folder_a_study_is_served_and_it_is_said_once(
    study: Path, model: str, tmp_path: Path, variables: str
) -> None:
    done = as_stranger(variables, "run", study, study, "-o", tmp_path / "out", "--model", model)
    assert done.returncode == 0, done.stderr
    assert check_whole(tmp_path / "out") == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("lnfast: no-cache: ")]
    assert len(lines) == 1 and "LNFAST_CACHE" in lines[0], done.stderr
    assert "Traceback" not in done.stderr and not Path("~").exists()


@posix
def test_without_a_home_folder_doctor_and_demo_work_and_export_says_where_to(model: str, tmp_path: Path) -> None:
    doctor = as_stranger("", "doctor", "--json")
    assert doctor.returncode == 0, doctor.stderr
    cache = json.loads(doctor.stdout)["cache"]
    assert cache["folder"] is None and "no home folder" in cache["problem"]
    demo = as_stranger("", "demo", "-o", tmp_path / "demo")
    assert demo.returncode == 0 and demo.stderr.count("no-cache: ") == 1, demo.stderr
    export = as_stranger("", "export", model, "--precision", "fp32")
    assert export.returncode == 2 and "no-cache: " in export.stderr and "-o DIR" in export.stderr, export.stderr


def test_where_the_cache_can_be_made_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "not" / "yet"))
    assert engine_cache.problem() is None
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "file" / "cache"))
    assert engine_cache.problem() is not None


# --- closed and full streams ----------------------------------------------------------------------------------------


def in_shell(redirection: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command as a shell starts it; what it says comes back where it is not redirected."""
    call = ["sh", "-c", f'"$@" {redirection}', "sh", *LNFAST, *map(str, arguments)]
    # Buffered, as a user has it: what a full disk does not take must not be tried again when Python ends.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(call, capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=env)


CLOSED = [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"]


@posix
@pytest.mark.parametrize("closed", CLOSED)
def test_a_run_with_closed_streams_files_its_report(study: Path, model: str, tmp_path: Path, closed: str) -> None:
    done = in_shell(closed, "run", study, "-o", tmp_path / "out", "--model", model)
    assert done.returncode == 0, done.stderr
    assert check_whole(tmp_path / "out") == 1
    assert ("N1" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


@posix
@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize(
    "arguments",
    [["doctor", "--json"], ["phantom", "-o", "new"], ["export", "--help"], ["--version"]],
    ids=lambda a: a[0],
)
def test_every_command_works_with_closed_streams(tmp_path: Path, closed: str, arguments: list[str]) -> None:
    done = in_shell(closed, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@posix
def test_an_evaluation_with_closed_streams_is_written(tmp_path: Path, study: Path, model: str) -> None:
    for side in ("pred", "truth"):
        assert command("run", study, "-o", tmp_path / side, "--model", model, "--no-html") == 0
        maps = tmp_path / f"{side}-maps"
        maps.mkdir()
        shutil.copy(tmp_path / side / "patient" / "labels.nii.gz", maps / "patient.nii.gz")
    done = in_shell(">&- 2>&-", "evaluate", tmp_path / "pred-maps", tmp_path / "truth-maps", "-o", tmp_path / "out")
    assert done.returncode == 0 and (tmp_path / "out" / "metrics.json").is_file()


@posix
def test_what_a_library_prints_does_not_get_into_a_file(tmp_path: Path) -> None:
    """The first file that is opened without stdout would have its number."""
    script = """
import os, sys
from lnfast.cli import streams
streams.open_closed()
with open(sys.argv[1], "wb") as file:
    assert file.fileno() > 2
    os.write(1, b"printed by a library")
    os.write(2, b"and its complaint")
print("and by Python", flush=True)
"""
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        path = tmp_path / "file"
        call = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", script, str(path)]
        assert subprocess.run(call, capture_output=True, timeout=60, check=False).returncode == 0
        assert path.read_bytes() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_stdout_is_one_line_and_a_full_stderr_is_no_fault(study: Path, model: str, tmp_path: Path) -> None:
    arguments = ("run", study, "-o", tmp_path / "out", "--model", model, "--no-html")
    done = in_shell(">/dev/full", *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("lnfast: os-error: standard output: No space left"), done.stderr
    assert "Exception ignored" not in done.stderr
    assert (tmp_path / "out" / "patient" / "report.json").is_file(), "the report is written before it is told"
    done = in_shell("2>/dev/full", *arguments)
    assert done.returncode == 0 and "N1" in done.stdout


# --- places that are none -------------------------------------------------------------------------------------------

WRITERS = [
    ["run", "x.nii", "-o"],
    ["demo", "-o"],
    ["phantom", "-o"],
    ["evaluate", "a", "b", "-o"],
    ["export", "pelvic-ln-edge", "-o"],
]


@pytest.mark.parametrize("arguments", WRITERS, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_no_folder(arguments: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.listdir()
    with pytest.raises(SystemExit) as ended:
        main([*arguments, name])
    assert ended.value.code == 2 and os.listdir() == before
    assert "got an empty name" in capsys.readouterr().err


@posix
@pytest.mark.parametrize("arguments", WRITERS, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_link_to_nothing_is_named(
    tmp_path: Path, arguments: list[str], below: str, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(SystemExit) as ended:
        main([*arguments, str(link / below)])
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2
    assert f"{link} is a link to {tmp_path / 'nothing'}, which is not there" in last_line


@posix
@pytest.mark.parametrize("arguments", WRITERS, ids=lambda arguments: arguments[0])
def test_a_working_folder_that_was_deleted_is_said(tmp_path: Path, arguments: list[str]) -> None:
    script = f"""
import os
from lnfast.cli import main
os.mkdir({str(tmp_path / "gone")!r})
os.chdir({str(tmp_path / "gone")!r})
os.rmdir({str(tmp_path / "gone")!r})
main({[*arguments, "out"]!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "bad-output: got -o out in a working folder that was deleted" in done.stderr


# --- memory is short ------------------------------------------------------------------------------------------------


@posix
def test_openblas_has_one_thread_in_the_command_line_and_is_left_alone_elsewhere() -> None:
    """Each of its threads that cannot be started would be a line on stderr before ours."""
    script = """
import os, sys
os.environ.pop("OPENBLAS_NUM_THREADS", None)
import lnfast, lnfast.engine
assert "OPENBLAS_NUM_THREADS" not in os.environ
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
    script = """
import os, sys
os.environ.pop("OPENBLAS_NUM_THREADS", None)
from lnfast.cli import main
try:
    main(["--version"])
finally:
    print(os.environ["OPENBLAS_NUM_THREADS"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split()[-1] == "1", done.stderr


# --- nothing is looked up, sent or left -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no strace on the path: CI must not skip these tests")
        pytest.skip("needs strace")
    return path


BACKEND = """
import sys, time
from pathlib import Path
from lnfast.backends import candidates, open_backend
from lnfast.card import load_model
for candidate in candidates(sys.argv[1]):
    if not candidate.needs_engine:
        open_backend(load_model(Path(sys.argv[2])), candidate).infer()
time.sleep(float(sys.argv[3]))
"""
BUILDER = """
import time
from lnfast.backends import backend_status
from lnfast.backends.trt.builder import builders
print(builders(), backend_status())
import onnx
time.sleep(3)
"""
# Addresses of other machines; sockets of this one (AF_UNIX, netlink) ask nobody else.
STRANGE = re.compile(r"(connect|sendto|sendmsg|sendmmsg)\(.*AF_INET6?\b")
LOOKUP_S = 12  # ONNX Runtime looks its host up some seconds after it was imported


def watched(strace: str, folder: Path, *call: str) -> tuple[list[str], set[str]]:
    """What a process and its children sent to other machines, and which files it left in a fresh home."""
    home, trace = folder / "home", folder / "trace"
    home.mkdir()
    # What makes runtimes quiet by itself would hide a fault of ours.
    quiet = {
        "CI",
        "TF_BUILD",
        "JENKINS_URL",
        "GITHUB_ACTIONS",
        "LNFAST_CACHE",
        "ORT_DISABLE_TELEMETRY",
        "XDG_CACHE_HOME",
    }
    env = {name: value for name, value in os.environ.items() if name not in quiet} | {"HOME": str(home)}
    traced = [strace, "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace), *call]
    done = subprocess.run(traced, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    sent = [line for line in trace.read_text(errors="replace").splitlines() if STRANGE.search(line)]
    left = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    return sent, left


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_no_backend_looks_anything_up_or_leaves_a_file(strace: str, tmp_path: Path, model: str, backend: str) -> None:
    if not Package(backend, backend, (backend,), "").installed():
        pytest.skip(f"no {backend} here")
    sent, left = watched(strace, tmp_path, sys.executable, "-c", BACKEND, backend, model, str(LOOKUP_S))
    assert (sent, left) == ([], set())


def test_builders_and_the_graph_library_look_nothing_up(strace: str, tmp_path: Path) -> None:
    sent, left = watched(strace, tmp_path, sys.executable, "-c", BUILDER)
    assert (sent, left) == ([], set())


@pytest.mark.parametrize("what", ["doctor", "run", "export"])
def test_no_command_looks_anything_up_or_leaves_a_file(
    strace: str, tmp_path: Path, model: str, study: Path, what: str
) -> None:
    calibration = write_studies(tmp_path / "calibration", (LARGE, 1000))
    deep = make_model_folder(tmp_path / "deep", deep_blob_network())
    calls: dict[str, list[object]] = {
        "doctor": ["doctor"],
        "run": ["run", study, "-o", tmp_path / "out", "--model", model],
        "export": ["export", deep, "-o", tmp_path / "engine", "--precision", "int8", "--calibration", calibration],
    }
    sent, left = watched(strace, tmp_path, *LNFAST, *map(str, calls[what]))
    assert sent == []
    assert {name for name in left if not name.startswith(".cache/lnfast/")} == set()


def test_a_host_s_own_answer_about_telemetry_is_left_as_it_is() -> None:
    script = """
import os
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
from lnfast.backends import ort
ort.offers()
assert "ORT_DISABLE_TELEMETRY" not in os.environ
os.environ["ORT_DISABLE_TELEMETRY"] = "0"
ort.offers()
assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
