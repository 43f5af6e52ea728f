"""`lnfast phantom` and `lnfast demo`: what is written, and that its truth is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import check_whole, lnfast

from lnfast.evaluate.inputs.labelmap import read_label_map
from lnfast.matching import compare, node_map
from lnfast.measure import Rules, measure_nodes
from lnfast.phantom import REALISTIC, make_phantom
from lnfast.study import read_study


def test_phantoms_of_several_calls_make_one_nnunet_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast("phantom", "-o", tmp_path, "--seed", 20, "--scanner", "achieva", "--stage", "n1") == 0
    assert lnfast("phantom", "-o", tmp_path, "--seed", 21, "--count", 2) == 0
    names = ["phantom_achieva_000020", "phantom_achieva_000021", "phantom_discovery_000022"]
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in printed] == names
    assert ": N1, " in printed[0]
    dataset = json.loads((tmp_path / "dataset.json").read_text())
    assert dataset["numTraining"] == 3
    assert dataset["file_ending"] == ".nii.gz"
    assert dataset["channel_names"] == {"0": "DWI"}
    assert dataset["labels"] == {"background": 0, "lymph_node": 1}
    for folder, suffix in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz"), ("truth", ".json")):
        assert sorted(path.name for path in (tmp_path / folder).glob(f"*{suffix}")) == [n + suffix for n in names]
    assert not list(tmp_path.rglob("*.tmp"))
    before = (tmp_path / "labelsTr" / f"{names[0]}.nii.gz").read_bytes()
    assert lnfast("phantom", "-o", tmp_path, "--seed", 20, "--scanner", "achieva", "--stage", "n0") == 2
    assert "output-exists" in capsys.readouterr().err
    assert lnfast("phantom", "-o", tmp_path, "--seed", 21, "--realistic") == 2
    assert "holds phantom_achieva_000021 of another variety" in capsys.readouterr().err
    assert (tmp_path / "labelsTr" / f"{names[0]}.nii.gz").read_bytes() == before
    (tmp_path / "dataset.json").write_text('{"name": "Ward 7"}')
    assert lnfast("phantom", "-o", tmp_path, "--seed", 23) == 2
    assert "output-exists" in capsys.readouterr().err
    assert json.loads((tmp_path / "dataset.json").read_text()) == {"name": "Ward 7"}


def test_a_phantom_and_its_truth_agree(tmp_path: Path) -> None:
    assert lnfast("phantom", "-o", tmp_path, "--seed", 30, "--scanner", "discovery", "--stage", "n1") == 0
    name = "phantom_discovery_000030"
    study = read_study(tmp_path / "imagesTr" / f"{name}_0000.nii.gz")
    labels = read_label_map(tmp_path / "labelsTr" / f"{name}.nii.gz", "ids").labels
    truth = json.loads((tmp_path / "truth" / f"{name}.json").read_text())
    assert study.name == name == truth["case"]
    assert study.b_value == truth["b_value"] == 800
    assert np.allclose(study.volume.grid.affine, labels.grid.affine, atol=1e-4)
    rules = Rules()
    nodes = measure_nodes(labels, len(truth["nodes"]), rules)
    assert truth["n_stage_by_rule"]["box"] == "N1"
    for node, record in zip(nodes, truth["nodes"], strict=True):
        assert record["id"] == node.id
        assert record["mask"]["volume_mm3"] == pytest.approx(node.volume_mm3, rel=1e-5)
        assert record["mask"]["box_mm"] == pytest.approx(list(node.box_mm), rel=1e-4)
        assert record["mask"]["suspicious"] == node.suspicious
        assert record["volume_mm3"] == pytest.approx(4 / 3 * np.pi * np.prod(record["semi_axes_mm"]), rel=0.35)
        if len(record["lobes"]) == 1:
            assert record["volume_mm3"] == pytest.approx(4 / 3 * np.pi * np.prod(record["semi_axes_mm"]))
        apart_mm = np.linalg.norm(np.subtract(record["centre_ras_mm"], node.centroid_ras_mm))
        assert apart_mm < study.volume.grid.spacing_zyx_mm[0], "within a slice of the analytic centre"


def test_a_realistic_phantom_is_the_one_of_the_library_and_says_so(tmp_path: Path) -> None:
    for _ in range(2):
        assert lnfast("phantom", "-o", tmp_path, "--seed", 31, "--scanner", "achieva", "--realistic") == 0
    expected = make_phantom(31, "achieva", variety=REALISTIC)
    study = read_study(tmp_path / "imagesTr" / "phantom_achieva_000031_0000.nii.gz")
    assert np.array_equal(study.volume.array, expected.volume.array)
    truth = json.loads((tmp_path / "truth" / "phantom_achieva_000031.json").read_text())
    assert truth["variety"] == {"realistic": 1.0}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two", "two"):
        assert lnfast("phantom", "-o", tmp_path / folder, "--seed", 40, "--scanner", "achieva") == 0
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_demo_tells_what_the_written_files_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether what it finds is good enough is not asked here but of many phantoms in test_acceptance.py."""
    assert lnfast("demo", "-o", tmp_path / "demo") == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 100
    assert "research use only" in output.lower()
    assert check_whole(tmp_path / "demo" / "results") == 1
    (folder,) = (tmp_path / "demo" / "results").iterdir()
    (truth_path,) = (tmp_path / "demo" / "phantom" / "labelsTr").glob("*.nii.gz")
    rules = Rules()
    predicted, truth = (
        node_map(read_label_map(path, "ids").labels, rules) for path in (folder / "labels.nii.gz", truth_path)
    )
    counted = compare(predicted, truth)
    matched = sum(pair.predicted is not None for pair in counted.matches)
    assert f"\nnodes       {matched} of {len(truth.nodes)} found, {len(counted.unmatched)} extra (" in output
    detection = counted.detection
    suspicious = detection.detected + detection.missed
    assert (
        f"\nsuspicious  {detection.detected} of {suspicious} found, {detection.wrong} others called suspicious"
        in output
    )
    stage = json.loads((folder / "report.json").read_text())["summary"]["n_stage"]
    assert f"\nN stage     {stage}, truth N1\n" in output
    assert detection.detected > 0
    rows = re.findall(r"^ +(\d+) \|.*\|", output, re.M)
    assert sorted(map(int, rows)) == [node.id for node in truth.nodes]
