"""Real scans without a truth: what counts as marked, and what a folder of them must hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

import training_runs as runs  # noqa: E402

from lnfast.cohort import add_case  # noqa: E402
from lnfast.errors import UsageError  # noqa: E402
from lnfast.geometry import Grid, Volume  # noqa: E402
from lnfast.matching import NodeMap  # noqa: E402
from lnfast.measure import Rules, measure_nodes  # noqa: E402
from lnfast.phantom import make_phantom  # noqa: E402
from training.data import phantom_cache, phantom_seeds  # noqa: E402
from training.fit.real_scans import THRESHOLDS, RealScan, compare_with_visible, count_marks, read_scans  # noqa: E402
from training.model.networks import build_network  # noqa: E402


def test_marks_at_spots_in_organs_and_elsewhere_are_counted_separately() -> None:
    labels = np.zeros((10, 40, 40), np.uint16)
    labels[4, 10:12, 10:12] = 1  # beside a spot
    labels[7, 30, 30] = 2  # elsewhere, in an organ
    labels[2:6, 20:31, 2:13] = 3  # large, in no organ
    volume = Volume(labels, Grid(labels.shape, np.diag((1.0, 1.0, 3.0, 1.0))))
    nodes = measure_nodes(volume, 3, Rules())
    assert [node.suspicious for node in nodes] == [False, False, True]
    spots = (((13, 12, 5),), ((14, 12, 5), (2, 2, 2)))  # x, y, z: 2 voxels and 1 slice away; 3 voxels away
    scan = RealScan(volume, spots, (((25, 25, 6), (35, 35, 8)),))
    assert compare_with_visible(scan, NodeMap(volume, nodes)) == {
        "visible": 2,
        "marked": 1,
        "other": 2,
        "other_suspicious": 1,
        "in_organs": 1,
        "in_organs_suspicious": 0,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One scan with a spot on each node."""
    phantom = make_phantom(3, protocol=phantom_seeds.SMALL_FIELDS[0])
    image = add_case(tmp_path / "set", phantom).image
    name = "scan"
    (tmp_path / "real" / "somewhere").mkdir(parents=True)
    shutil.copy(image, tmp_path / "real" / "somewhere" / f"{name}.nii.gz")
    shutil.copy(str(image).replace(".nii.gz", ".bval"), tmp_path / "real" / "somewhere" / f"{name}.bval")
    points = [np.argwhere(node.label == phantom.labels.T)[:1].tolist() for node in phantom.nodes]
    spots = {str(number): point for number, point in enumerate(points)}
    (tmp_path / "real" / "visible.json").write_text(json.dumps({"what": "a test", name: {"spots": spots}}))
    return tmp_path / "real"


def test_a_network_that_marks_everything_marks_every_spot(folder: Path) -> None:
    card = runs.small_card()
    scans = read_scans(folder, card)
    net = build_network("edgenet", 2).eval()
    torch.nn.init.constant_(net.head[0].bias, 50.0)
    counts_by_threshold = count_marks(net, scans, card, "32-true")
    assert list(counts_by_threshold) == [f"{threshold:g}" for threshold in THRESHOLDS]
    for counts in counts_by_threshold.values():
        assert counts["marked"] == counts["visible"] == len(scans[0].spots) > 0
    torch.nn.init.constant_(net.head[0].bias, -50.0)
    assert all(counts["marked"] == counts["other"] == 0 for counts in count_marks(net, scans, card, "32-true").values())


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"scan": {"spots": {"a": [[1, 2]]}}}', '{"absent": {"spots": {}}}'])
def test_a_folder_without_spots_or_scans_is_one_error(folder: Path, text: str) -> None:
    (folder / "visible.json").write_text(text)
    with pytest.raises(UsageError, match="bad-spots"):
        read_scans(folder, runs.small_card())


def test_real_scans_are_looked_at_with_each_validation_and_change_nothing(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "phantoms"
    list(phantom_cache.make_phantoms(phantom_cache.cache_folder(cache), [1003, 9003]))
    with_scans = runs.config(steps=2, real=folder)
    runs.fit(tmp_path / "run", with_scans, runs.phantoms(cache))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [sorted(line["real"]) for line in lines if "validation" in line] == [["0.2", "0.3", "0.4", "0.5"]]
    runs.fit(tmp_path / "run", replace(with_scans, real=None), runs.phantoms(cache))  # is the same run
