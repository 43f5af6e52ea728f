"""The group ``kernels``: peers do the same work, and a kernel that is wrong is never timed as a fast one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

for package in ("cc3d", "torch", "trimesh", "skimage", "SimpleITK"):
    pytest.importorskip(package)

from scipy import ndimage  # noqa: E402

import lnfast_ext  # noqa: E402
from benchmarks import kernels  # noqa: E402
from benchmarks.__main__ import main, make_settings  # noqa: E402
from benchmarks.harness.rows import Row, wrong_rows  # noqa: E402
from benchmarks.harness.settings import Settings  # noqa: E402
from benchmarks.kernels import checks, peers, subjects, tasks  # noqa: E402
from benchmarks.kernels.inputs import BIG_NODE_VOXELS, NODES, KernelInputs, make_inputs, with_noise  # noqa: E402

STAGES = {"label", "label + measure", "box", "statistics + resample", "resample", "threshold + resample", "all"}
FULL = np.ones((3, 3, 3))


@pytest.fixture(scope="module")
def settings() -> Settings:
    quick: Settings = make_settings(True, repeat=1, threads=2)
    return quick


@pytest.fixture(scope="module")
def inputs(settings: Settings) -> KernelInputs:
    return make_inputs(settings)


def test_inputs_hold_what_their_names_say(inputs: KernelInputs) -> None:
    for scan in (inputs.network, *inputs.natives.values()):
        assert ndimage.label(scan.mask, FULL)[1] == NODES
        assert scan.image.shape == scan.mask.shape == scan.grid.shape
    assert inputs.network.grid.extent_zyx_mm == pytest.approx(inputs.native.grid.extent_zyx_mm)
    corner = np.full(3, -0.5)
    assert inputs.network.grid.to_ras_mm(corner) == pytest.approx(inputs.native.grid.to_ras_mm(corner))
    assert ((inputs.logits > 0) >= inputs.network.mask).all()
    assert np.median(inputs.logits) == pytest.approx(-6, abs=0.01)
    assert ndimage.label(inputs.big_node, FULL)[1] == 1
    assert int(inputs.big_node.sum()) == pytest.approx(BIG_NODE_VOXELS, rel=0.01)
    noisy = with_noise(inputs.network.mask, 0.01, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(0.01 + inputs.network.mask.mean(), rel=0.02)
    assert set(np.unique(noisy)) == {0, 1}


def test_the_quick_percentiles_are_numpys(inputs: KernelInputs) -> None:
    percents = (0.0, 0.5, 33.3, 99.5, 100.0)
    for volume in (inputs.native.image, np.array([5, 0, 9, 9, 2], np.int16)):
        assert peers.percentiles(volume, percents) == pytest.approx(np.percentile(volume, percents))


def test_the_peer_measures_what_is_known() -> None:
    mask = np.zeros((9, 12, 12), np.uint8)
    mask[2:4, 3:6, 1:5] = 1  # 2 x 3 x 4 voxels of 6 x 1.5 x 2 mm
    image = np.arange(mask.size).reshape(mask.shape)
    (labels, count), _ = peers.label_and_measure(mask, np.eye(4))
    measured = peers.measure(labels, np.diag((2.0, 1.5, 6.0, 1.0)), image, image / 2)
    assert count == len(measured.nodes) == 1
    assert measured.nodes[0].box_mm == pytest.approx((4.5, 8.0, 12.0))
    assert measured.nodes[0].volume_mm3 == pytest.approx(432.0)
    assert measured.mean_intensity == pytest.approx(image[mask > 0].mean())
    assert measured.mean_probability == pytest.approx(image[mask > 0].mean() / 2)


def test_every_library_finds_the_same_nodes(inputs: KernelInputs) -> None:
    """Of a mask with a node that only touches at a corner."""
    mask = inputs.network.mask.copy()
    z, y, x = np.argwhere(mask == 0)[0]
    mask[z, y, x] = mask[z + 1, y + 1, x + 1] = 1
    expected = peers.label_scipy(mask)
    for label in (peers.label, peers.label_skimage, peers.label_sitk):
        assert checks.same_components(mask, expected, label(mask))["verdict"] == "same"


@pytest.mark.parametrize(
    "way", [peers.label_and_measure, peers.label_and_measure_skimage, peers.label_and_measure_sitk]
)
def test_every_library_measures_alike(way: Callable[..., Any], inputs: KernelInputs) -> None:
    scan = inputs.network
    ours = subjects.measure()[subjects.NAME].make(2)(scan)
    theirs = way(scan.mask, scan.grid.affine)
    assert checks.same_measures(scan, ours, theirs)["verdict"] == "same"
    half = replace(theirs[1].nodes[0], volume_mm3=theirs[1].nodes[0].volume_mm3 / 2)
    less = replace(theirs[1], nodes=(half, *theirs[1].nodes[1:]))
    assert checks.same_measures(scan, ours, (theirs[0], less))["verdict"] == "wrong"


def test_kernels_run_without_network_and_backend_and_write_their_rows(
    inputs: KernelInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for absent in ("onnx", "onnxruntime", "openvino", "benchmarks.peers.setup"):
        monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.setattr(kernels, "make_inputs", lambda settings: inputs)
    path = tmp_path / "bench.json"
    arguments = ["kernels", "--quick", "--repeat", "1", "--threads", "2", "--json", str(path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert {"target", "floor", "10x", "20x"} <= set(done.stdout.split())
    document = json.loads(path.read_text())
    assert document["environment"]["kernel_repeats"] == 1
    assert "connected-components-3d" in document["environment"]["versions"]
    rows = [Row(**row) for row in document["rows"]]
    assert {row.stage for row in rows} == STAGES
    assert {row.bench for row in rows} == {"kernels"}
    for row in rows:
        assert row.agreement["verdict"] == "same"
        assert row.floor and row.of_floor == pytest.approx(row.subject_median / row.floor)
        assert row.ratio == pytest.approx(row.peer_median / row.subject_median)
        assert row.n == (NODES if row.study == f"each of {NODES} nodes" else 1)
    targets = {(row.stage, row.peer): row.target for row in rows if row.target}
    assert targets == {
        ("label", "cc3d"): 10.0,
        ("label + measure", "cc3d + trimesh"): 10.0,
        ("box", "trimesh"): 2.0,
        ("statistics + resample", "numpy + torch"): 8.0,
        ("threshold + resample", "torch"): 8.0,
        ("all", "numpy + torch + cc3d + trimesh"): 20.0,
    }
    single = {(row.stage, row.subject) for row in rows if row.peer == f"{row.subject}, 1 thread"}
    components = {(stage, "lnfast_ext Components") for stage in ("label + measure", "all")}
    assert single == {(stage, "lnfast_ext") for stage in STAGES - {"label", "box"}} | components


Fault = Callable[..., Any]


def lost_voxel(answer: Any, mask: Any, *_: Any, **__: Any) -> Any:
    labels, count = answer
    labels.flat[np.flatnonzero(labels)[0]] = 0
    return labels, count


def numbered_backwards(answer: Any, *_: Any, **__: Any) -> Any:
    labels, count = answer
    return np.where(labels > 0, count + 1 - labels, 0), count


def parted(answer: Any, *_: Any, **__: Any) -> Any:
    labels, count = answer
    first = np.flatnonzero(labels == 1)
    labels.flat[first[len(first) // 2 :]] = count + 1
    return labels, count + 1


def bounds_for_box(answer: Any, points_mm: Any) -> Any:
    """A box that holds all points and is not the smallest."""
    low, high = points_mm.min(axis=0), points_mm.max(axis=0)
    order = np.argsort(high - low)
    return (low + high) / 2, np.eye(3)[order], (high - low)[order]


def small_box(answer: Any, *_: Any) -> Any:
    centre, axes, extents = answer
    return centre, axes, extents * 0.99


def scaled(field: str, factor: float) -> Fault:
    def fault(nodes: Any, *_: Any, **__: Any) -> Any:
        nodes[field] *= factor  # of all nodes: a peer's box may be some percent larger than the smallest
        return nodes

    fault.__name__ = f"{field} times {factor}"
    return fault


def without_last(nodes: Any, *_: Any, **__: Any) -> Any:
    return nodes[:-1]


def scaled_deviation(answer: Any, *_: Any, **__: Any) -> Any:
    low, high, mean, std, percentiles = answer
    return low, high, mean, std * 1.01, percentiles


def rolled(answer: Any, source: Any, out: Any, *_: Any, **__: Any) -> Any:
    out[...] = np.roll(out, 1, axis=2)
    return answer


@pytest.mark.parametrize(
    ("stage", "kernel", "fault"),
    [
        ("_label", "label_components", lost_voxel),
        ("_label", "label_components", numbered_backwards),
        ("_label", "label_components", parted),
        ("_box", "min_volume_box", bounds_for_box),
        ("_box", "min_volume_box", small_box),
        ("_measure", "measure_components", scaled("box_mm", 0.99)),
        ("_measure", "measure_components", scaled("box_mm", 1.01)),
        ("_measure", "measure_components", scaled("volume_mm3", 1.01)),
        ("_measure", "measure_components", scaled("mean_intensity", np.nan)),
        ("_measure", "measure_components", without_last),
        ("_network_input", "intensity_statistics", scaled_deviation),
        ("_network_input", "resample_normalize", rolled),
        ("_native_mask", "threshold_resample", rolled),
        ("_study", "resample_normalize", rolled),
        ("_study", "threshold_resample", rolled),
        ("_study", "measure_components", scaled("box_mm", np.nan)),
        ("_study", "measure_components", scaled("mean_probability", 0.5)),
        ("_study", "measure_components", without_last),
    ],
)
def test_a_kernel_that_is_wrong_is_called_wrong(
    stage: str, kernel: str, fault: Fault, inputs: KernelInputs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_kernel(kernel, fault, monkeypatch)
    rows = next(getattr(tasks, stage)(replace(settings, threads=1), inputs)).rows(settings)
    ours = [row for row in rows if row.subject == "lnfast_ext"]
    assert ours and wrong_rows(ours) == ours
    assert all(row.ratio is None for row in ours)
    json.dumps([row.agreement for row in rows], allow_nan=False)


def test_threads_that_change_the_answer_are_called_wrong(
    inputs: KernelInputs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = lnfast_ext.threshold_resample

    @wraps(honest)
    def wavering(logits: Any, out: Any, level: float, *, threads: int) -> int:
        ones = honest(logits, out, level, threads=threads)
        if threads == 1:
            out[0, 0, 0] = 1
        return ones

    monkeypatch.setattr(lnfast_ext, "threshold_resample", wavering)
    rows = next(tasks._native_mask(settings, inputs)).rows(settings)
    assert {row.peer: row.agreement["verdict"] for row in rows} == {"torch": "same", "lnfast_ext, 1 thread": "wrong"}


def test_components_answer_for_themselves(
    inputs: KernelInputs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lossy(lnfast_ext.Components):
        def label(self, out: Any = None) -> Any:
            return lost_voxel((super().label(out), self.count), None)[0]

    monkeypatch.setattr(lnfast_ext, "Components", Lossy)
    rows = next(tasks._measure(settings, inputs)).rows(settings)
    assert {row.subject: row.agreement["verdict"] for row in rows if row.peer == "cc3d + trimesh"} == {
        "lnfast_ext": "same",
        "lnfast_ext Components": "wrong",
    }


def test_a_wrong_kernel_fails_the_benchmark(
    inputs: KernelInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_kernel("label_components", lost_voxel, monkeypatch)
    monkeypatch.setattr(kernels, "make_inputs", lambda settings: inputs)
    monkeypatch.setattr(kernels, "kernel_benchmarks", tasks._label)
    arguments = ["kernels", "--quick", "--repeat", "1", "--json", str(tmp_path / "b.json")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "wrong answer: kernels 64x256x256, 27 nodes label: lnfast_ext against cc3d" in done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    verdicts = {(row["subject"], row["agreement"]["verdict"]) for row in rows}
    assert verdicts == {("lnfast_ext", "wrong"), ("lnfast_ext Components", "same")}


def test_a_missing_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("benchmarks.kernels")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cc3d", None)
    done = CliRunner().invoke(main, ["kernels", "--quick"])
    assert done.exit_code == 5
    assert "cc3d" in done.stderr
    assert "pip install 'lnfast[bench]'" in done.stderr


def break_kernel(name: str, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fault change the kernel's answer; its arguments are the answer and then the kernel's own."""
    honest = getattr(lnfast_ext, name)

    @wraps(honest)
    def broken(*args: Any, **kwargs: Any) -> Any:
        return fault(honest(*args, **kwargs), *args, **kwargs)

    monkeypatch.setattr(lnfast_ext, name, broken)
