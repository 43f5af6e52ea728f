"""How accurate the millimetres are: the true values, the summaries, and that fine grids approach the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from benchmarks import measurement
from benchmarks.__main__ import main
from benchmarks.harness.settings import Settings
from benchmarks.measurement import network, sampling, summary
from benchmarks.measurement.ellipsoids import BANDS_MM, ORIENTATIONS, EllipsoidNode, band_of, draw_node, orientation_of
from benchmarks.measurement.imaging import HALF, largest_component, part_of
from benchmarks.measurement.rules import surface_mm
from benchmarks.measurement.summary import NodeMeasurement, aggregate, to_columns
from lnfast.card import load_model
from lnfast.geometry import Grid
from lnfast_ext import equivalent_short_axis, min_volume_box

RULES = ("box", "axial", "surface", "ellipsoid")
NORMAL = np.array((0.0, -0.2, 1.0)) / np.hypot(0.2, 1.0)


def sphere(n: int) -> np.ndarray:
    """(n, 3) unit vectors, evenly spread."""
    i = np.arange(n) + 0.5
    z, angle = 1 - 2 * i / n, np.pi * (1 + 5**0.5) * i
    return np.stack((np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z), axis=1)


def some_nodes(count: int) -> list[EllipsoidNode]:
    rng = np.random.default_rng(3)
    return [draw_node(rng, BANDS_MM[i % len(BANDS_MM)], rng.uniform(-5, 5, 3), NORMAL) for i in range(count)]


def test_the_box_of_an_ellipsoid_lies_along_its_axes() -> None:
    for node in some_nodes(5):
        points = (sphere(1500) * node.body.semi) @ node.body.axes + node.body.centre
        assert min_volume_box(points)[2][0] == pytest.approx(node.box_short_mm, rel=0.01)


def test_the_axial_truth_is_the_central_slice() -> None:
    for node in some_nodes(6):
        side = np.cross(node.normal, (1.0, 0.0, 0.0))
        plane = np.stack((side / np.linalg.norm(side), np.cross(node.normal, side / np.linalg.norm(side))))
        angle = np.linspace(0, np.pi, 3600, endpoint=False)
        rays = np.stack((np.cos(angle), np.sin(angle)), axis=1) @ plane
        reach = 1 / np.linalg.norm((rays @ node.body.axes.T) / node.body.semi, axis=1)
        longest = rays[reach.argmax()]
        across = np.cross(node.normal, longest)
        extent = 2 * np.abs((rays * reach[:, None]) @ across).max()
        assert node.axial_short_mm == pytest.approx(extent, rel=1e-3)
        assert node.axial_short_mm >= node.box_short_mm - 1e-9


def test_orientations_and_bands_have_their_edges() -> None:
    degrees = (0, 29, 31, 59, 61, 90)
    assert [ORIENTATIONS.index(orientation_of(np.cos(np.radians(d)))) for d in degrees] == [0, 0, 1, 1, 2, 2]
    assert [band_of(size) for size in (2.9, 3.0, 7.5, 8.79, 16.0)] == [None, "3-5", "7.5-8.8", "7.5-8.8", None]


def test_fine_voxels_approach_the_truth() -> None:
    """The basis of the experiment: with a third of a millimetre only the corners of voxels stick out."""
    grid = Grid((80, 80, 80), np.diag((0.35, 0.35, 0.35, 1.0)))
    for band in BANDS_MM[1:4]:
        node = draw_node(np.random.default_rng(5), band, grid.to_ras_mm((40.2, 39.7, 40.4)), np.array((0.0, 0.0, 1.0)))
        part, local = part_of(node.body, grid)
        by_rule = sampling.by_mask(part, local.affine)
        assert by_rule["box"] == pytest.approx(node.box_short_mm, abs=0.8)
        assert by_rule["axial"] == pytest.approx(node.axial_short_mm, abs=0.8)
        assert by_rule["surface"] == pytest.approx(node.box_short_mm, abs=0.12)
        assert equivalent_short_axis(part, local.affine[:3, :3]) == pytest.approx(node.box_short_mm, abs=0.05)


def test_thinner_slices_are_truer() -> None:
    measurements = list(sampling.measure_on_thin_slices(seed=1, nodes=4))
    rows = aggregate((m for m in measurements if m.truth == "box" and m.rule == "surface"), ("scanner",))
    error = {row.scanner: abs(row.bias_mm or 0.0) + (row.sd_mm or 0.0) for row in rows}
    assert error["1 mm"] < error["4 mm"] < error["8 mm"]


def test_the_surface_of_a_ramp_is_where_it_is_at_half() -> None:
    field = np.zeros((5, 5, 7))
    field[1:4, 1:4, 1:6] = np.array((0.25, 1.0, 1.0, 1.0, 0.25))
    # Along x half lies two thirds of the way from 1 to 1/4; along y and z half a voxel from the mask.
    mask = largest_component(field)
    assert mask.sum() == 27
    rotation_free = surface_mm(field, mask, HALF, np.diag((1.0, 40.0, 40.0, 1.0)))
    assert rotation_free == pytest.approx(2 + 2 * 2 / 3)


def test_rows_are_sums_of_nodes() -> None:
    def node(rule: str, true_mm: float, short_mm: float | None, scanner: str = "a") -> NodeMeasurement:
        return NodeMeasurement("truth", rule, "box", scanner, "7.5-8.8", "oblique", true_mm, short_mm)

    nodes = [node("box", 7.6, 8.1), node("box", 8.4, 7.9, "b"), node("box", 8.4, 8.4), node("box", 8.2, None)]
    (row,) = aggregate(nodes, ("size_mm",))
    assert (row.scanner, row.size_mm, row.orientation, row.n, row.unseen) == ("all", "7.5-8.8", "all", 3, 1)
    assert row.bias_mm == pytest.approx(0.0)
    assert row.sd_mm == pytest.approx(0.5)
    assert (row.false_suspicious, row.false_benign) == (0.25, 0.5)
    assert row.limits_mm == pytest.approx((-0.98, 0.98))
    assert [(r.scanner, r.n) for r in aggregate(nodes, ("scanner",))] == [("a", 2), ("b", 1)]
    (nothing,) = aggregate([node("box", 8.2, None)], ())
    assert (nothing.bias_mm, nothing.sd_mm, nothing.limits_mm, nothing.false_benign) == (None, None, None, 1.0)
    assert to_columns([row])["rows"] == [
        ["truth", "box", "box", "all", "7.5-8.8", "all", 3, 1, pytest.approx(0.0), 0.5, 0.25, 0.5]
    ]


def test_a_seed_says_everything() -> None:
    first, again, different = (list(sampling.measure_on_thin_slices(seed, 1))[:60] for seed in (4, 4, 5))
    assert first == again != different


def test_a_component_is_the_node_it_shares_most_with() -> None:
    labels, truth = np.zeros((2, 1, 1, 12), np.uint16)
    labels[0, 0, 0:6], labels[0, 0, 6], labels[0, 0, 8:12] = 1, 3, 2
    truth[0, 0, 1:5], truth[0, 0, 6:8], truth[0, 0, 5], truth[0, 0, 11] = 1, 2, 2, 3
    labels[0, 0, 7] = 4  # as much of the second node as component 3 has, and later
    nodes = tuple("abc")
    assert network.match_nodes(labels, truth, nodes) == {1: "a", 3: "b", 2: "c"}  # type: ignore[arg-type, comparison-overlap]


def test_the_command_writes_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(measurement, "QUICK_NODES", 1)
    monkeypatch.setattr(sampling, "THIN_MM", (3.0, 8.0))
    measurements = [
        NodeMeasurement("network, realistic phantoms", rule, "box", "achieva", "5-7.5", "oblique", 6.0, 6.5)
        for rule in ("box", "ellipsoid")
    ]
    monkeypatch.setattr(measurement, "measure_network_nodes", lambda settings: iter(measurements))
    path, drawn = tmp_path / "m.json", tmp_path / "pictures" / "measurement.png"
    done = CliRunner().invoke(main, ["measurement", "--quick", "--json", str(path), "--plot", str(drawn.parent)])
    assert done.exit_code == 0, done.output
    assert "exact nodes by slice thickness" in done.output
    document = json.loads(path.read_text())
    assert document["rows"] == []
    tables = document["tables"]
    assert set(tables) == {"measurement", "slice thickness", "network"}
    assert "marked by the network, realistic phantoms" in done.output
    assert tables["network"]["rows"][0][:9] == [
        "network, realistic phantoms",
        "box",
        "box",
        "all",
        "all",
        "all",
        1,
        0,
        0.5,
    ]
    assert all(len(row) == len(part["columns"]) for part in tables.values() for row in part["rows"])
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert CliRunner().invoke(main, ["measurement", "--plot", str(drawn)]).exit_code == 2


def test_what_the_network_marks_is_measured_by_every_rule_on_both_kinds_of_phantoms() -> None:
    model = load_model("pelvic-ln-edge")
    settings = Settings(model, 1, 1, 1, 0, 0, "cpu", quick=True, progress=lambda line: None)
    nodes = list(network.measure_network_nodes(settings))
    for mask in network.VARIETIES:
        found = {rule: [n for n in nodes if (n.mask, n.rule) == (mask, rule)] for rule in RULES}
        assert len({len(group) for group in found.values()}) == 1 and len(found["box"]) >= 8
        errors_mm = [node.short_mm - node.true_mm for node in found["box"] if node.short_mm is not None]
        assert len(errors_mm) == len(found["box"]) and abs(float(np.median(errors_mm))) < 4.0


def test_phantoms_have_nodes_about_the_limit() -> None:
    sizes = [2 * node.semi_axes_mm[0] for node in network.phantom_of_every_size(9000, "achieva").nodes]
    assert any(7.5 < size < 8.8 for size in sizes)
    assert summary.LIMIT.suspicious_mm == 8.0
