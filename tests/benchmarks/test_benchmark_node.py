"""The group node: what it sends, and how it sums up what it saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

for package in ("pydicom", "highdicom", "nibabel", "onnx", "onnxruntime"):
    pytest.importorskip(package)

from dicom_network import program  # noqa: E402
from exam_files import small_model  # noqa: E402

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.harness.rows import read_json  # noqa: E402
from benchmarks.node import journey, soak  # noqa: E402
from benchmarks.node.exams import STEPS_ZYX, coarse, exam  # noqa: E402
from benchmarks.node.soak import Holdings, look_at, summarize_holdings  # noqa: E402
from lnfast.geometry import Grid, Volume  # noqa: E402
from lnfast.study import read_study  # noqa: E402


def volume() -> Volume:
    array = np.random.default_rng(0).integers(0, 900, (20, 30, 36)).astype(np.int16)
    return Volume(array, Grid(array.shape, np.diag([-2.0, -2.0, 5.0, 1.0])))


def test_a_coarse_patient_is_the_same_patient() -> None:
    fine, small = volume(), coarse(volume())
    assert small.array.shape == (10, 10, 12)
    index = np.array([4, 3, 2, 1])  # x, y, z
    expected = fine.grid.affine @ (index * (*STEPS_ZYX[::-1], 1))
    np.testing.assert_allclose(small.grid.affine @ index, expected)
    stored = fine.array[tuple(slice(None, None, step) for step in STEPS_ZYX)]
    dim = stored < small.array.max()
    assert (small.array[dim] == stored[dim]).all() and 0.015 < 1 - dim.mean() < 0.03


def test_exams_are_of_different_patients_and_of_the_same_voxels() -> None:
    seen: list[tuple[set[str], bytes]] = []
    for name in ("a", "b", "a"):
        with exam(coarse(volume()), name) as folder:
            headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir())]
            uids = {str(header[key].value) for header in headers for key in ("StudyInstanceUID", "SOPInstanceUID")}
            seen.append((uids, read_study(folder).volume.array.tobytes()))
        assert not folder.exists()
    assert not seen[0][0] & seen[1][0] and seen[0] == seen[2] and seen[0][1] == seen[1][1]


def test_growth_is_counted_when_warm() -> None:
    samples = [Holdings(count, 500.0 if count < 100 else 600 + count / 100, 20, 9) for count in range(1, 1002, 50)]
    memory, descriptors, threads = summarize_holdings(samples)["rows"]
    assert memory[2:5] == [pytest.approx(601.01), pytest.approx(610.01), pytest.approx(610.01)]
    assert memory[5] == pytest.approx(10.0)
    assert descriptors[2:] == [20, 20, 20, pytest.approx(0)] and threads[2] == 9


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="/proc is Linux's")
def test_a_process_is_looked_at() -> None:
    import os

    before = look_at(os.getpid(), 1)
    with open(os.devnull):
        during = look_at(os.getpid(), 2)
    assert during.descriptors == before.descriptors + 1 and before.memory_mb > 10 and before.threads >= 1


def test_the_group_sends_exams_through_a_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program("dcmsend")
    monkeypatch.setattr(journey, "QUIET_S", 1.0)
    monkeypatch.setattr(journey, "whole_patient", lambda settings: volume())
    monkeypatch.setattr(soak, "small_patient", lambda settings: coarse(volume()))
    model = small_model(tmp_path / "model")
    arguments = ["node", "--quick", "--json", str(tmp_path / "node.json"), "--model", str(model), "--threads", "1"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    tables = read_json(tmp_path / "node.json").tables
    parts = {row[0]: row[1] for row in tables["node, from the last instance to the PACS"]["rows"]}
    assert sum(parts[name] for name in journey.PARTS) == pytest.approx(parts["total"], abs=1)
    assert all(milliseconds >= 0 for milliseconds in parts.values()) and parts["total"] > 1000
    assert tables["node, reception of 60 instances"]["rows"][0][1] > 0
    (row,) = tables["node, soak: from the last instance to the PACS"]["rows"]
    assert row[0] == soak.QUICK_EXAMS and 1000 < row[1] <= row[4]
    assert tables["node, soak: what the process holds"]["rows"][0][3] > 50
