"""The report: its content, and that no reader ever sees half of one."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from blocks import ADMISSION, affine_of, block, make_card, stored_in_all_ways
from reports import (
    REPORT_FILES,
    SCHEMA,
    TESTS,
    TIMINGS_MS,
    check_schema,
    report_of,
    summary_of,
    two_nodes,
)

import lnfast.folder_exchange as folder_exchange
from lnfast.atomic import STALE_S
from lnfast.card import Model
from lnfast.errors import UsageError
from lnfast.geometry import Grid, Volume
from lnfast.measure import LymphNode, Rules, measure_nodes
from lnfast.report import DISCLAIMER, EngineFacts, Report, folder_name, make_report, write_study_folder
from lnfast.report.lengths import length_text
from lnfast.report.text import WIDTH, image_text
from lnfast.study import DicomSource, Provenance, study_from_array


def codes(report: Report) -> list[str]:
    return [notice.code for notice in report.warnings]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("rules", [Rules(), Rules(short_axis="axial", suspicious_mm=6.5)])
def test_a_report_is_of_its_schema_in_the_order_of_its_schema(rules: Rules) -> None:
    record = report_of(two_nodes(), rules).to_dict()
    check_schema(record)
    assert list(record) == SCHEMA["required"]
    for part in ("study", "model", "engine", "rules", "summary", "timings_ms"):
        assert list(record[part]) == list(SCHEMA["properties"][part]["properties"])
    assert list(record["nodes"][0]) == list(SCHEMA["$defs"]["node"]["properties"])


def test_a_report_survives_json_to_the_last_bit() -> None:
    report = report_of(two_nodes())
    assert json.loads(report.json()) == report.to_dict()
    assert json.loads(report.json())["nodes"][0]["box_mm"][0] == report.nodes[0].box_mm[0]
    assert report.json().isascii()


@pytest.mark.parametrize(
    ("number", "computed", "b_value", "text"),
    [
        (6, False, 800.0, "series 6, b = 800 s/mm2"),
        (8, True, 1400.0, "series 8, computed b = 1400 s/mm2"),
        (None, False, None, "series without a number, b-value unknown"),
    ],
)
def test_a_report_of_dicom_names_the_series_and_the_b_value(
    number: int | None, computed: bool, b_value: float | None, text: str
) -> None:
    source = DicomSource(number, computed, (("SECRET.dcm", 0),))
    report = report_of(two_nodes(), b_value=b_value, provenance=Provenance("dicom", "SECRET", "ab" * 32, dicom=source))
    assert image_text(report.study) == text
    line = report.text().splitlines()[2]
    assert line.startswith(f"Study           0000 (dicom, {text}, ") and "SECRET" not in report.text()


def test_a_report_of_nifti_names_the_b_value_alone() -> None:
    assert report_of(two_nodes()).text().splitlines()[2].startswith("Study           0000 (nifti-1, b = 800 s/mm2, ")


def test_the_summary_follows_the_nodes() -> None:
    report = report_of(two_nodes())
    first = report.nodes[0]
    assert report.to_dict()["summary"] == {
        "nodes": 2,
        "suspicious": 1,
        "largest": {"id": 1, "short_axis_mm": first.short_axis_mm, "volume_mm3": first.volume_mm3},
        "n_stage": "N1",
        "n_stage_by_rule": {"box": "N1", "axial": "N1", "ellipsoid": None},
    }


def test_without_nodes_the_stage_is_n0_and_nothing_is_largest() -> None:
    report = report_of(Volume(np.zeros((4, 20, 20), np.uint16), Grid((4, 20, 20), affine_of((1.5, 1.5, 6.0)))))
    check_schema(report)
    summary = report.to_dict()["summary"]
    assert summary["largest"] is None
    assert summary["n_stage"] == "N0"
    assert "No lymph node was found." in report.text()


def test_an_array_in_memory_has_no_hash_and_no_b_value() -> None:
    labels = two_nodes()
    study = study_from_array(labels.array, labels.grid.affine)
    model = Model(Path("nowhere"), make_card())
    engine = EngineFacts("onnxruntime", "1.30", "cpu", "fp32", None)
    report = make_report(study, model, engine, Rules(), (), TIMINGS_MS, admission=ADMISSION)
    check_schema(report)
    assert report.to_dict()["study"]["sha256"] is None
    assert codes(report) == ["unknown-b-value"]


def test_total_is_the_sum_of_the_stages() -> None:
    report = report_of(two_nodes())
    assert report.timings_ms["write"] == 0.0
    assert report.timings_ms["total"] == pytest.approx(721.25)
    assert report.written_in(8.0).timings_ms["total"] == pytest.approx(729.25)


def wrong_reports() -> list[tuple[str, Any]]:
    return [
        ("schema", "lnfast.report/2"),
        ("created", "yesterday"),
        ("summary.n_stage", "N2"),
        ("summary.largest", {}),
        ("engine.self_test", "failed"),
        ("rules.short_axis", "longest"),
        ("rules.connectivity", 6),
        ("nodes.0.box_mm", [1.0, 2.0]),
        ("nodes.0.short_axis_mm", "11"),
        ("nodes.0.volume_mm3", 0),
        ("nodes.0.suspicious", None),
        ("study.patient_name", "Doe"),
        ("timings_ms.write", None),
        ("warnings", [{"code": "Not A Code", "message": "x"}]),
    ]


@pytest.mark.parametrize(("path", "value"), wrong_reports())
def test_the_schema_refuses_what_is_wrong(path: str, value: Any) -> None:
    record = report_of(two_nodes()).to_dict()
    *way, last = path.split(".")
    part: Any = record
    for step in way:
        part = part[int(step) if step.isdigit() else step]
    part[last] = value
    with pytest.raises(jsonschema.ValidationError):
        check_schema(record)


def test_the_schema_refuses_what_is_missing() -> None:
    whole = report_of(two_nodes()).to_dict()
    for key in whole:
        with pytest.raises(jsonschema.ValidationError):
            check_schema({remaining: value for remaining, value in whole.items() if remaining != key})


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    labels = two_nodes()
    report = report_of(labels)
    broken = replace(report, nodes=(replace(report.nodes[0], volume_mm3=math.nan),))
    with pytest.raises(ValueError, match="JSON"):
        write_study_folder(broken, labels, tmp_path, "a")
    assert not list(tmp_path.iterdir())


def test_the_text_says_what_the_radiologist_s_report_says() -> None:
    text = report_of(two_nodes()).text()
    assert "N stage         N1 by the size criterion" in text
    assert "Suspicious      1 of 2 nodes (short diameter > 8 mm)" in text
    assert "node 1: short diameter 1.05 cm (10.5 mm), volume 1.32 cm3" in text
    assert "10.5 x 10.5 x 12.0" in text
    assert " ".join(DISCLAIMER.split()) in " ".join(text.split())
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_text_takes_any_name_and_any_line() -> None:
    warnings = (("long", "a very long story " * 20), ("odd", "caf\u00e9\x07"))
    provenance = Provenance("nifti-1", warnings=warnings, notes=("took volume 2 of 3, b = 800",))
    report = report_of(two_nodes(), name="\x1b[31mn\u00f6de\n\udc80" + "x" * 300, provenance=provenance)
    text = report.text()
    assert text.replace("\n", "").isprintable()
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "took volume 2 of 3" in text
    check_schema(report)


@pytest.mark.parametrize(
    ("value_mm", "text"),
    [(11.23, "11.2"), (8.04, "8.04"), (8.0, "8.0"), (7.96, "8.0"), (8.000002, "8.000002"), (8.0000005, "8.0")],
)
def test_a_length_reads_on_the_side_of_the_limit_where_it_is(value_mm: float, text: str) -> None:
    assert length_text(value_mm, Rules()) == text


def test_warnings_of_a_stage_that_hangs_on_the_rule() -> None:
    flat = block((1, 8, 8), affine_of((1.5, 1.5, 6.0)))
    report = report_of(flat)
    assert codes(report) == ["rules-disagree", "slice-limited"]
    assert report.n_stage == "N0"
    assert "6.0 x 12.0 x 12.0*" in report.text()
    assert codes(report_of(flat, Rules(short_axis="axial"))) == ["rules-disagree"]


def test_dropped_marks_are_only_told_of_where_they_would_be_suspicious() -> None:
    sizes = (5, 5, 9, 6, 7, 8)  # voxels of 1.5 mm
    faint = []
    for place, size in enumerate(sizes):
        labels = block((size, size, size), affine_of((1.5, 1.5, 1.5), 100 - 60 * place, 20, -70))
        faint += measure_nodes(labels, 1, Rules(), orientation="LPS")
    report = report_of(two_nodes(), faint=faint)
    assert codes(report) == ["faint-marks"] and report.n_stage == report_of(two_nodes()).n_stage
    (message,) = (notice.message for notice in report.warnings)
    shown = re.findall(r"([\d.]+) mm at ([RL] \d+, [AP] \d+, [HF] \d+)", message)
    assert [short for short, _ in shown] == ["13.5", "12.0", "10.5"] and "and 1 more" in message
    expected = [node.centroid_ras_mm for node in (faint[2], faint[5], faint[4])]
    for (_, place_text), ras_mm in zip(shown, expected, strict=True):
        signs = {"R": 1, "L": -1, "A": 1, "P": -1, "H": 1, "F": -1}
        found = [signs[part[0]] * int(part[2:]) for part in place_text.split(", ")]
        np.testing.assert_allclose(found, ras_mm, atol=0.5)
    assert codes(report_of(two_nodes(), faint=faint[:2])) == []


def test_a_small_flat_node_beside_a_large_one_is_no_warning() -> None:
    labels = block((3, 7, 7), affine_of((1.5, 1.5, 4.0)))
    labels.array[10:11, 14:17, 15:18] = 2
    report = report_of(labels)
    assert [node.slice_limited for node in report.nodes] == [False, True]
    assert codes(report) == []


def test_a_field_of_view_that_the_model_never_saw_is_said() -> None:
    report = report_of(two_nodes(), in_plane_mm=(200.0, 500.0))
    assert codes(report) == ["field-of-view"]
    assert "33 x 30 x 72 mm" in str(report.warnings[0])


def test_slices_that_are_not_axial_are_said_however_they_are_stored() -> None:
    grid = Grid((12, 20, 10), affine_of((6.0, 1.5, 1.5)))
    for stored in stored_in_all_ways(Volume(np.zeros(grid.shape, np.uint16), grid)):
        (notice,) = report_of(stored, through_plane_mm=(10.0, 500.0)).warnings
        assert notice.code == "not-axial"
        assert "sagittal" in notice.message
    nearly_cubic = Volume(np.zeros((20, 20, 20), np.uint16), Grid((20, 20, 20), affine_of((1.7, 1.5, 1.5))))
    assert codes(report_of(nearly_cubic)) == []


def test_what_the_reader_noticed_is_said_once() -> None:
    provenance = Provenance("nifti-1", warnings=(("unknown-b-value", "taken on trust"),), notes=("took volume 2 of 3",))
    assert codes(report_of(two_nodes(), provenance=provenance, b_value=None)) == ["unknown-b-value", "note"]


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


def test_nothing_of_a_node_is_lost(tmp_path: Path) -> None:
    labels = two_nodes()
    report = report_of(labels)
    for entry, node in zip(report.to_dict()["nodes"], report.nodes, strict=True):
        x, y, z = (tuple(axis) for axis in entry["box_axes_ras"])
        tuples = {key: tuple(value) for key, value in entry.items() if key.endswith("_mm") and isinstance(value, list)}
        assert LymphNode(**{**entry, **tuples, "box_axes_ras": (x, y, z)}) == node
