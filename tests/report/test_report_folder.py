"""The study folder: read by others, replaced whole, and never half written, whatever dies."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from blocks import affine_of, stored_in_all_ways
from reports import (
    REPORT_FILES,
    TESTS,
    check_schema,
    report_of,
    summary_of,
    two_nodes,
)

import lnfast.folder_exchange as folder_exchange
from lnfast.atomic import STALE_S
from lnfast.errors import UsageError
from lnfast.geometry import Grid, Volume
from lnfast.report import folder_name, write_study_folder


def test_the_folder_holds_the_report_and_the_labels(tmp_path: Path) -> None:
    labels = two_nodes()
    report = report_of(labels)
    folder_path, _ = write_study_folder(report, labels, tmp_path / "deep" / "out", "0000")
    assert folder_path == tmp_path / "deep" / "out" / "0000"
    assert {path.name for path in folder_path.iterdir()} == REPORT_FILES
    record = json.loads((folder_path / "report.json").read_text(encoding="utf-8"))
    check_schema(record)
    assert record["timings_ms"]["write"] > 0
    assert record["timings_ms"]["total"] == pytest.approx(721.25 + record["timings_ms"]["write"])
    assert (folder_path / "report.txt").read_text(encoding="utf-8") == report.text()
    assert [path.name for path in folder_path.parent.iterdir()] == ["0000"]


@pytest.mark.parametrize("turn_deg", [(0, 0, 0), (12, -33, 71), (180, 0, 0), (0, 0, 180), (120, 0, 90)])
def test_the_labels_are_read_by_others_as_they_were(tmp_path: Path, turn_deg: tuple[float, ...]) -> None:
    nibabel = pytest.importorskip("nibabel")
    labels = two_nodes()
    turned = Volume(labels.array, Grid(labels.grid.shape, affine_of((1.5, 1.25, 6.0), *turn_deg)))
    report = report_of(turned)
    for stored in list(stored_in_all_ways(turned))[::5]:
        folder_path, _ = write_study_folder(report, stored, tmp_path, "a")
        image = nibabel.load(folder_path / "labels.nii.gz")
        assert image.get_data_dtype() == np.uint16
        assert np.array_equal(np.asanyarray(image.dataobj).T, stored.array)
        assert np.allclose(image.affine, stored.grid.affine, atol=1e-5)
        assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-5)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)


def test_the_same_labels_are_the_same_bytes_of_any_type_and_strides(tmp_path: Path) -> None:
    labels = two_nodes()
    report = report_of(labels)
    wide = np.zeros((12, 20, 44), np.int32)[:, :, ::2]
    wide[:] = labels.array
    narrow = (write_study_folder(report, labels, tmp_path, "a")[0] / "labels.nii.gz").read_bytes()
    other = write_study_folder(report, Volume(wide, labels.grid), tmp_path, "b")[0] / "labels.nii.gz"
    assert narrow == other.read_bytes()


def test_labels_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    labels = two_nodes()
    with pytest.raises(UsageError, match="bad-labels"):
        write_study_folder(report_of(labels), Volume(labels.array.astype(np.int32) + 65535, labels.grid), tmp_path, "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("0000", "0000"),
        ("a b (1)", "a b (1)"),
        ("../../etc", "_.._etc"),
        ("a/b\\c:d", "a_b_c_d"),
        ("..", "study"),
        (".hidden", "hidden"),
        ("", "study"),
        ("a\nb\x1b\0", "a_b__"),
        ("n\u00f6de", "n\u00f6de"),
        ("\udc80x", "_x"),
        ("x" * 300, "x" * 200),
        ("\u00f6" * 200, "\u00f6" * 100),
    ],
)
def test_a_study_s_name_is_a_harmless_folder_name(name: str, safe: str, tmp_path: Path) -> None:
    assert folder_name(name) == safe
    labels = two_nodes()
    assert write_study_folder(report_of(labels), labels, tmp_path, name)[0].parent == tmp_path
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_study_folder_is_replaced(tmp_path: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_exchange:
        monkeypatch.setattr(folder_exchange, "_exchange", lambda first, second: False)
    labels = two_nodes()
    empty = Volume(np.zeros_like(labels.array), labels.grid)
    folder_path, _ = write_study_folder(report_of(labels), labels, tmp_path, "a")
    (folder_path / "report.html").write_text("of the last run")
    write_study_folder(report_of(empty), empty, tmp_path, "a")
    assert {path.name for path in folder_path.iterdir()} == REPORT_FILES
    assert json.loads((folder_path / "report.json").read_text(encoding="utf-8"))["summary"]["n_stage"] == "N0"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", ["file", "foreign folder", "link"])
def test_what_lnfast_did_not_write_is_not_replaced(tmp_path: Path, kind: str) -> None:
    target, elsewhere = tmp_path / "out" / "a", tmp_path / "elsewhere"
    target.parent.mkdir()
    elsewhere.mkdir()
    if kind == "file":
        target.write_text("mine")
    elif kind == "link":
        target.symlink_to(elsewhere)
    else:
        target.mkdir()
        (target / "thesis.txt").write_text("mine")
    labels = two_nodes()
    with pytest.raises(UsageError, match="output-exists"):
        write_study_folder(report_of(labels), labels, target.parent, "a")
    assert os.listdir(target.parent) == ["a"]
    assert kind != "foreign folder" or (target / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("failing_call", range(1, 6))
@pytest.mark.parametrize("replaces", [False, True])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, failing_call: int, replaces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = two_nodes()
    empty = Volume(np.zeros_like(labels.array), labels.grid)
    if replaces:
        write_study_folder(report_of(empty), empty, tmp_path, "a")
    real, calls = os.fsync, iter(range(1, 99))

    def full(descriptor: int) -> None:
        if next(calls) == failing_call:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_study_folder(report_of(labels), labels, tmp_path, "a")
    if failing_call < 5:
        assert os.listdir(tmp_path) == (["a"] if replaces else [])
        assert not replaces or summary_of(tmp_path / "a")["nodes"] == 0
    else:  # the last flush is of OUT itself: the new folder is whole and in its place
        assert summary_of(tmp_path / "a")["nodes"] == 2


def test_what_died_runs_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    old = time.time() - 2 * STALE_S
    left = {name: tmp_path / f".{name}.{'0' * 16}.tmp" for name in ("stale", "foreign", "young")}
    for path in left.values():
        path.mkdir()
        (path / "report.txt").write_text("half")
    (left["foreign"] / "thesis.txt").write_text("mine")
    (tmp_path / ".keep.tmp").mkdir()
    for path in (left["stale"], left["foreign"], tmp_path / ".keep.tmp"):
        os.utime(path, (old, old))
    labels = two_nodes()
    write_study_folder(report_of(labels), labels, tmp_path, "a")
    expected = {left["foreign"].name, left["young"].name, ".keep.tmp", "a"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert (left["foreign"] / "thesis.txt").exists()


WRITE_FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import numpy as np
import lnfast.report.folder as folder
import lnfast.folder_exchange as folder_exchange
from lnfast.geometry import Volume
from reports import report_of, two_nodes
if sys.argv[3] == "no-exchange":
    folder_exchange._exchange = lambda first, second: False
labels = two_nodes()
both = [(report_of(written), written) for written in (labels, Volume(labels.array * (labels.array == 1), labels.grid))]
out = Path(sys.argv[1])
while True:
    print(flush=True)
    for report, written in both:
        folder.write_study_folder(report, written, out, "a")
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
@pytest.mark.parametrize("how", ["exchange", "no-exchange"])
def test_a_kill_at_any_moment_leaves_a_whole_study_folder_or_none(tmp_path: Path, how: str) -> None:
    rng = random.Random(how)
    for attempt in range(8):
        command = [sys.executable, "-c", WRITE_FOREVER, str(tmp_path), TESTS, how]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            if attempt % 2:  # else the very first write is hit
                child.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.02))
            child.send_signal(signal.SIGKILL)
        study = tmp_path / "a"
        assert study.exists() or how == "no-exchange" or not attempt % 2
        if study.exists():
            assert summary_of(study)["nodes"] in (1, 2)
        assert {path.name for path in tmp_path.iterdir()} <= {"a", ".a.lock"} | {
            path.name for path in tmp_path.glob(".a.*.tmp")
        }
    labels = two_nodes()
    assert summary_of(write_study_folder(report_of(labels), labels, tmp_path, "a")[0])["nodes"] == 2


def test_a_reader_never_misses_a_report_that_is_replaced(tmp_path: Path) -> None:
    if not folder_exchange._exchange(*(_make_folder(tmp_path / "probe" / name) for name in "ab")):
        pytest.skip("this file system cannot exchange two names")
    command = [sys.executable, "-c", WRITE_FOREVER, str(tmp_path), TESTS, "exchange"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.readline()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            json.loads((tmp_path / "a" / "report.json").read_text(encoding="utf-8"))
        child.kill()


def _make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
