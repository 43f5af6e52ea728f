"""From a model to a certified engine, on tiny networks and studies whose nodes are known beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from engine_files import (
    BRIGHT,
    MODEL_FILES,
    model_of,
    nodes_of,
    write_study,
)
from model_files import SHAPE_ZYX, blob_network

import lnfast
from lnfast.backends.engine import cache as engine_cache
from lnfast.backends.engine.folder import read_engine_folder
from lnfast.backends.engine.manifest import GRAPH, MANIFEST, blob_name
from lnfast.backends.machine import cpu_kind
from lnfast.backends.registry import TARGET_PRECISIONS
from lnfast.card import Model, load_model
from lnfast.export import Request, export, export_to_cache
from lnfast.export.target import open_target
from lnfast.window import window_shapes


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_exported_engines_serve_what_the_model_does(tmp_path: Path, deep: Model, studies: Path, target: str) -> None:
    wanted = nodes_of(deep.folder, studies / "study1.nii.gz")
    assert [(large, mm) for large, mm, _ in wanted if large] == [(True, 10.0)] and len(wanted) == 2
    installed = open_target(Request(target, device="cpu"))
    for precision in (*(p for p in TARGET_PRECISIONS[target] if installed.candidate(p)), "auto"):
        out = tmp_path / precision
        steps: list[str] = []
        request = Request(target, precision, device="cpu", calibration=studies, windows=False)
        exported = export(deep, out, request, lambda step, done, total: steps.append(step))  # noqa: B023
        manifest = read_engine_folder(out).manifest
        assert exported.engine.folder == out and manifest.target == target and manifest.made_for == (cpu_kind(),)
        assert manifest.files == {k: {"sha256": v["sha256"]} for k, v in exported.engine.manifest.files.items()}
        chosen = manifest.precision
        blobs = {blob_name(SHAPE_ZYX)} if target == "openvino" else set()
        graphs = {GRAPH} if chosen == "int8" else set()
        assert set(manifest.files) == blobs | graphs
        assert {path.name for path in out.iterdir()} == {MANIFEST, *MODEL_FILES, *manifest.files}
        assert exported.certificate is not None and exported.certificate.passed
        assert manifest.certificate == json.loads(json.dumps(exported.certificate.to_dict()))
        assert exported.certificate.studies == 2 and exported.certificate.device == cpu_kind()
        assert exported.certificate.suspicious == {"reference": 2, "lost": 0, "added": 0}
        assert exported.certificate.windows == {"8x16x16": 2}
        assert "timing" in steps
        tried = [attempt.precision for attempt in exported.attempts]
        if precision == "auto":
            assert tried == [attempt for attempt in TARGET_PRECISIONS[target] if installed.candidate(attempt)]
            timed = {
                attempt.precision: attempt.infer_ms for attempt in exported.attempts if attempt.infer_ms is not None
            }
            assert timed[chosen] == min(timed.values())
        else:
            assert tried == [chosen] == [precision]
        nodes = nodes_of(out, studies / "study1.nii.gz")
        assert [large for large, _, _ in nodes] == [large for large, _, _ in wanted]
        for node, wanted_node in zip(nodes, wanted, strict=True):
            assert node[1:] == pytest.approx(wanted_node[1:], abs=0.5)
        with lnfast.Engine(out) as engine:
            assert engine.info.precision == chosen and engine.info.name == target


def test_nothing_of_the_users_is_told(tmp_path: Path, blob: Model, studies: Path) -> None:
    """Names of files may be those of patients."""
    exported = export(blob, tmp_path / "out", Request("onnxruntime", "fp32", calibration=studies))
    text = (tmp_path / "out" / MANIFEST).read_text()
    assert "study1" not in text and str(studies) not in text
    assert exported.certificate is not None and exported.certificate.source.startswith(
        "2 of 3 studies of the user's own"
    )


def test_windows_are_made_where_they_are_worth_it(tmp_path: Path) -> None:
    grid = (8, 128, 16)
    model = model_of(tmp_path / "m", blob_network(grid), shape_zyx=grid)
    folder = tmp_path / "studies"
    folder.mkdir()
    node = (slice(2, 6), slice(50, 56), slice(5, 10))
    for i in range(3):
        array = np.full(grid, 100, np.int16)
        array[:, 40:88] = 250
        write_study(folder / f"{i}.nii.gz", (node, BRIGHT), array=array)
    exported = export(model, tmp_path / "out", Request("openvino", "fp32", calibration=folder))
    shapes = exported.engine.manifest.shapes
    assert shapes == window_shapes(grid) == ((8, 96, 16), (8, 112, 16))
    assert set(exported.engine.manifest.files) == {blob_name(shape) for shape in (grid, *shapes)}
    assert exported.certificate is not None and exported.certificate.windows == {"8x96x16": 2}
    assert nodes_of(tmp_path / "out", folder / "1.nii.gz") == nodes_of(model.folder, folder / "1.nii.gz")
    without = export(model, tmp_path / "out", Request("openvino", "fp32", calibration=folder, windows=False))
    assert without.engine.manifest.shapes == () and not (tmp_path / "out" / blob_name(shapes[0])).exists()
    on_onnxruntime = export(model, tmp_path / "ort", Request("onnxruntime", "fp32", calibration=folder))
    assert on_onnxruntime.engine.manifest.shapes == ()


def test_a_small_grid_needs_no_other_switch(tmp_path: Path, blob: Model, studies: Path) -> None:
    export(blob, tmp_path / "out", Request("openvino", "fp32", calibration=studies))


def test_an_engine_is_made_again_in_its_place(tmp_path: Path, deep: Model, studies: Path) -> None:
    out = tmp_path / "out"
    export(deep, out, Request("onnxruntime", "int8", calibration=studies))
    assert (out / GRAPH).exists()
    # From the folder itself, which the new one replaces.
    export(load_model(out), out, Request("openvino", "fp32", calibration=studies, windows=False))
    assert {path.name for path in out.iterdir()} == {MANIFEST, *MODEL_FILES, blob_name(SHAPE_ZYX)}
    assert read_engine_folder(out).manifest.target == "openvino"
    assert len(nodes_of(out, studies / "study1.nii.gz")) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_cache_keeps_what_was_made(deep: Model, studies: Path) -> None:
    request = Request("onnxruntime", "int8", calibration=studies)
    exported = export_to_cache(deep, request)
    assert exported.attempts and exported.engine.folder.is_relative_to(engine_cache.root())
    assert {path.name for path in exported.engine.folder.iterdir()} == {MANIFEST, GRAPH}
    again = export_to_cache(deep, request)
    assert not again.attempts and again.engine.folder == exported.engine.folder
    with lnfast.Engine(deep.folder, "onnxruntime", "cpu", "int8") as engine:
        assert engine.info.precision == "int8"
