"""DICOM in the benchmarks: other readers give the same volume, and nothing is timed that was not compared."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

for package in ("pydicom", "highdicom", "SimpleITK", "nibabel"):
    pytest.importorskip(package)

from benchmarks.__main__ import make_settings  # noqa: E402
from benchmarks.groups import dicom  # noqa: E402
from benchmarks.harness.agreement import WrongAnswerError  # noqa: E402
from benchmarks.harness.series import B_VALUES, HIGH_B, write_series  # noqa: E402
from benchmarks.peers import dicom as peers  # noqa: E402
from lnfast.engine import Engine  # noqa: E402
from lnfast.geometry import Grid, Volume  # noqa: E402
from lnfast.phantom import make_phantom  # noqa: E402
from lnfast.study import read_study  # noqa: E402

TILT = np.deg2rad(12)
AFFINE = np.array(
    [
        [-1.5, 0, 0, 40],
        [0, -2 * np.cos(TILT), -5 * np.sin(TILT), 25],
        [0, -2 * np.sin(TILT), 5 * np.cos(TILT), -90],
        [0, 0, 0, 1],
    ]
)


def small_volume() -> Volume:
    array = np.random.default_rng(0).integers(0, 900, (9, 14, 12)).astype(np.int16)
    return Volume(array, Grid(array.shape, AFFINE))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(small_volume(), tmp_path_factory.mktemp("dicom") / "series")


def test_a_series_has_every_b_value_and_the_high_one_is_the_volume(series: Path) -> None:
    study = read_study(series)
    assert len(list(series.iterdir())) == 9 * len(B_VALUES) and study.b_value == HIGH_B
    assert dicom.compare_volumes(study.volume, small_volume())["verdict"] == "same"


@pytest.mark.parametrize("name", [peers.SITK, peers.DCM2NIIX, peers.PYDICOM])
def test_each_reader_gives_the_same_voxels_in_the_same_place(name: str, series: Path) -> None:
    readers = peers.dicom_readers(lambda message: None)
    if name not in readers:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not here: CI must not skip this test")
        pytest.skip(f"{name} is not installed")
    for b_value in B_VALUES:
        agreement = dicom.compare_volumes(read_study(series).volume, readers[name](series, b_value))
        assert agreement["affine_mm"] < 1e-4
        assert agreement["verdict"] == ("same" if b_value == HIGH_B else "wrong")


def test_a_volume_that_is_off_by_a_slice_or_a_voxel_is_wrong() -> None:
    volume = small_volume()
    shifted = volume.grid.affine.copy()
    shifted[:3, 3] += shifted[:3, 2]
    moved = Volume(volume.array, replace(volume.grid, affine=shifted))
    changed = Volume(volume.array + (np.indices(volume.array.shape).sum(axis=0) == 0), volume.grid)
    short = Volume(volume.array[1:], Grid((8, 14, 12), volume.grid.affine))
    verdicts = [dicom.compare_volumes(volume, other) for other in (moved, changed, short)]
    assert [verdict["verdict"] for verdict in verdicts] == ["wrong"] * 3
    assert [verdict["voxels"] for verdict in verdicts] == [0, 1, None]


def test_a_program_that_is_missing_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(peers, "dcm2niix_program", lambda: None)
    assert list(peers.dicom_readers(messages.append)) == [peers.SITK, peers.PYDICOM]
    assert messages == ["pipeline: without dcm2niix + nibabel: the package dcm2niix is not installed"]


def test_reading_and_writing_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    settings = replace(make_settings(True, threads=1), progress=messages.append)
    with Engine(device="cpu", threads=1) as engine:
        rows, tables = dicom.run(engine, make_phantom(7, "achieva").volume, settings)
        monkeypatch.setattr(dicom, "LATTICE", (40, 3, 3))  # more than there are slices: they meet
        with pytest.raises(WrongAnswerError, match="360 nodes were put"):
            dicom.run(engine, make_phantom(7, "achieva").volume, settings)
    assert {row.peer for row in rows} >= {peers.SITK, peers.PYDICOM}
    assert {(row.bench, row.study, row.stage) for row in rows} == {
        ("pipeline", "24 x 3 DICOM files of 224 x 224", "read DICOM")
    }
    assert all(row.agreement["verdict"] == "same" and row.floor and row.floor < row.subject_median for row in rows)
    (table,) = tables.values()
    assert [row[2] for row in table["rows"]] == ["report.json", "report.html", "seg.dcm and sr.dcm"]
    assert all("27 nodes" in row[1] and 0 < row[4] <= row[3] <= row[5] for row in table["rows"])
    shares = [int(row[6].removesuffix(" %")) for row in table["rows"][1:]]
    assert abs(sum(shares) - 100) <= 1
