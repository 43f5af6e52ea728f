"""Several writers of one study folder: the first one succeeds, and no report replaces that of another patient."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from reports import REPORT_FILES, TESTS, report_and_labels, summary_of

from lnfast import folder_exchange
from lnfast.atomic import replacing_folder
from lnfast.errors import UsageError
from lnfast.report import Report, write_study_folder
from lnfast.report.folder import OWN_FILES, add_page

A, B = "ab" * 32, "cd" * 32


def study_in(folder: Path) -> str:
    """The hash of the study that a whole folder reports on."""
    summary_of(folder)
    sha256: str = json.loads((folder / "report.json").read_text(encoding="utf-8"))["study"]["sha256"]
    return sha256


def write(sha256: str, out: Path) -> str:
    """Write a report of a study; return "written" or the code of the refusal."""
    try:
        write_study_folder(*report_and_labels(sha256), out, "dwi")
    except UsageError as error:
        return error.code
    return "written"


# Writers of several rounds, each in a process of its own; a barrier starts each round for all at once.
RACE = """
import json, multiprocessing, os, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import lnfast.folder_exchange as folder_exchange
from lnfast.report import write_study_folder
from lnfast.atomic import replacing_folder
from lnfast.errors import UsageError
from reports import report_and_labels

out, studies, rounds, exchange = Path(sys.argv[2]), sys.argv[3].split(), int(sys.argv[4]), sys.argv[5] == "exchange"
if not exchange:
    folder_exchange._exchange = lambda first, second: False
inputs = {study: report_and_labels(study) for study in studies}
context = multiprocessing.get_context("fork")
gate, answers = context.Barrier(len(studies)), context.Queue()

def writer(number, study):
    for turn in range(rounds):
        gate.wait()
        try:
            write_study_folder(*inputs[study], out / str(turn), "dwi")
            answers.put((turn, study, "written"))
        except UsageError as error:
            answers.put((turn, study, error.code))
        except Exception as error:
            answers.put((turn, study, repr(error)))

processes = [context.Process(target=writer, args=pair) for pair in enumerate(studies)]
for process in processes:
    process.start()
print(json.dumps([answers.get(timeout=120) for _ in range(rounds * len(studies))]))
for process in processes:
    process.join()
"""


@pytest.mark.skipif(os.name != "posix", reason="fork")
@pytest.mark.parametrize("how", ["exchange", "no-exchange"])
@pytest.mark.parametrize(
    ("there", "studies"),
    [
        (None, (A, B)),
        (None, (A, A)),
        (None, (A, B, A, B)),
        ("empty", (B, A)),
        (A, (A, B)),
        (A, (B, A, A)),
    ],
    ids=["two", "one-twice", "two-twice", "empty-folder", "replaced", "replaced-twice"],
)
def test_of_concurrent_writers_one_study_is_written_and_the_other_refused(
    tmp_path: Path, there: str | None, studies: tuple[str, ...], how: str
) -> None:
    rounds = 12
    for turn in range(rounds):
        if there == "empty":
            (tmp_path / str(turn) / "dwi").mkdir(parents=True)
        elif there is not None:
            assert write(there, tmp_path / str(turn)) == "written"
    command = [sys.executable, "-c", RACE, TESTS, str(tmp_path), " ".join(studies), str(rounds)]
    done = subprocess.run([*command, how], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for turn in range(rounds):
        results = [(study, answer) for at, study, answer in answers if at == turn]
        filed = study_in(tmp_path / str(turn) / "dwi")
        assert there in (None, "empty", filed), "an older report of another study was replaced"
        # Whoever is told "written" finds its own study there, and whoever does not was refused.
        assert {answer for study, answer in results if study == filed} == {"written"}, results
        assert {answer for study, answer in results if study != filed} <= {"output-exists"}, results
        assert os.listdir(tmp_path / str(turn)) == ["dwi"]


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("then", [A, B, "foreign", "file", "link", "nothing", "empty"])
@pytest.mark.parametrize("first", [A, None])
def test_a_folder_that_appears_between_check_and_rename_is_not_replaced(
    tmp_path: Path, first: str | None, then: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes to the target at each of the steps; only a report of the same study may be replaced."""
    target = tmp_path / "out" / "dwi"
    if first is not None:
        assert write(first, tmp_path / "out") == "written"

    def come() -> None:
        if os.path.lexists(target):
            os.rename(target, tmp_path / "moved")
        _put(then, target)

    steps = _interfere(monkeypatch, come, exchange)
    expected = "written" if then in (A, "nothing", "empty") else "output-exists"
    assert write(A, tmp_path / "out") == expected
    assert steps, "nothing came between"
    if expected == "written":
        assert study_in(target) == A
    else:
        assert _kind_of(target) == then
    assert os.listdir(tmp_path / "out") == ["dwi"], "something was left behind"


@pytest.mark.parametrize("exchange", [True, False])
def test_two_interfering_writers_lose_no_folder(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B replaces A before the last step, and a foreign folder takes the name before B is exchanged back."""
    out, target = tmp_path / "out", tmp_path / "out" / "dwi"
    assert write(A, out) == "written"
    come = iter([B, "foreign"])

    def between() -> None:
        kind = next(come, None)
        if kind is not None:
            if os.path.lexists(target):
                os.rename(target, tmp_path / f"moved-{kind[:2]}")
            _put(kind, target)

    _interfere(monkeypatch, between, exchange, every_time=True)
    assert write(A, out) == "output-exists"
    there = sorted(_kind_of(out / name) for name in os.listdir(out))
    everything = sorted([*there, *(_kind_of(path) for path in tmp_path.glob("moved-*"))])
    assert "foreign" in everything and B in everything, everything
    assert not [name for name in os.listdir(out) if name.endswith(".tmp")], "what was set apart must be seen"


def test_a_page_is_not_added_to_the_report_of_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors of folders (Windows) the name may mean another folder between the look and the rename."""
    monkeypatch.setattr(os, "supports_dir_fd", set())
    folder, report = write_study_folder(*report_and_labels(A), tmp_path, "dwi")
    add_page(folder, report, b"<html>")
    assert {path.name for path in folder.iterdir()} == REPORT_FILES | {"report.html"}
    real = os.replace

    def late(source: Path, target: Path) -> None:
        newer = replace(report, created="2001-01-01T00:00:00+00:00")
        (folder / "report.json").write_text(newer.json(), encoding="ascii", newline="\n")
        real(source, target)

    monkeypatch.setattr(os, "replace", late)
    with pytest.raises(UsageError, match="report-replaced"):
        add_page(folder, report, b"<html>")
    assert {path.name for path in folder.iterdir()} == REPORT_FILES


def test_a_target_that_is_always_taken_ends_with_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_exchange, "_renamed", lambda source, target: False)
    monkeypatch.setattr(folder_exchange, "_exchange", lambda first, second: False)
    with (
        pytest.raises(OSError, match="all the time"),
        replacing_folder(tmp_path / "a", OWN_FILES, lambda folder: None),
    ):
        pass
    assert os.listdir(tmp_path) == []


def _interfere(
    monkeypatch: pytest.MonkeyPatch, come: Callable[[], None], exchange: bool, *, every_time: bool = False
) -> list[str]:
    """Call a function before a writer's first renaming of the finished folder, or before each."""
    steps: list[str] = []
    renamed, exchanged = folder_exchange._renamed, folder_exchange._exchange

    def rename(source: Path, target: Path) -> bool:
        if not steps or every_time:
            steps.append("rename")
            come()
        return renamed(source, target)

    def swap(first: Path, second: Path) -> bool:
        if every_time:
            come()
        return exchange and exchanged(first, second)

    monkeypatch.setattr(folder_exchange, "_renamed", rename)
    monkeypatch.setattr(folder_exchange, "_exchange", swap)
    return steps


def _put(kind: str, target: Path) -> None:
    if kind in (A, B):
        other = target.parent.parent / f"other-{kind[:2]}"
        folder, _ = write_study_folder_untouched(kind, other)
        os.rename(folder, target)
    elif kind == "foreign":
        target.mkdir()
        (target / "thesis.txt").write_text("mine")
    elif kind == "file":
        target.write_text("mine")
    elif kind == "link":
        target.symlink_to(target.parent)
    elif kind == "empty":
        target.mkdir()


def write_study_folder_untouched(sha256: str, out: Path) -> tuple[Path, Report]:
    """Write a study folder without the functions that a test has replaced."""
    report, labels = report_and_labels(sha256)
    folder = out / "dwi"
    folder.mkdir(parents=True)
    from lnfast.study.label_writer import label_map_bytes

    (folder / "labels.nii.gz").write_bytes(label_map_bytes(labels))
    (folder / "report.txt").write_text(report.text(), encoding="ascii", newline="\n")
    (folder / "report.json").write_text(report.json(), encoding="ascii", newline="\n")
    return folder, report


def _kind_of(path: Path) -> str:
    if path.is_symlink():
        return "link"
    if path.is_file():
        return "file"
    return "foreign" if (path / "thesis.txt").exists() else study_in(path)
