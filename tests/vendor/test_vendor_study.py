"""A program without Python, built as docs/vendors.md describes, gives the nodes of `lnfast.Engine`, bit by bit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from model_files import SHAPE_ZYX, make_model_folder
from nifti_files import write_nifti
from numpy.typing import NDArray

from lnfast import Engine, Volume
from lnfast.card import Body, ModelCard, load_model
from lnfast.geometry import Grid
from lnfast.phantom import make_phantom
from lnfast.preprocess import normalization
from lnfast.result import Result

ROOT = Path(__file__).resolve().parents[2]
STRICT = "-Wall -Wextra -Wpedantic -Werror"
EDGES = slice(2, 8)  # of a printed row: the box's edges, the diameters in the slice, and the ellipsoid's axis

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the commands of docs/vendors.md are those for Linux")
Program = Callable[..., "subprocess.CompletedProcess[str]"]


def documented(name: str) -> str:
    """Return the shell block that follows the line ``<!-- test: NAME -->`` in docs/vendors.md."""
    text = (ROOT / "docs" / "vendors.md").read_text(encoding="utf-8")
    match = re.search(rf"<!-- test: {name} -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert match, f"docs/vendors.md has no block {name!r}"
    return match[1]


@pytest.fixture(scope="module", autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The model's own graph serves, not an engine that an earlier export left on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LNFAST_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Build tests/vendor/study.cpp by the documented commands; a call runs it."""
    built = tmp_path_factory.mktemp("vendor") / "study"
    command = documented("build").replace("g++ ", f"g++ {STRICT} ", 1).replace("-o study", f"-o {built}", 1)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([built, *map(str, words)], capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose model marks bright voxels as nodes."""
    folder = make_model_folder(tmp_path_factory.mktemp("model") / "tiny", orientation="LPS")
    with Engine(model=folder, backend="openvino", precision="fp32") as engine:
        yield engine


@pytest.fixture
def blobs() -> NDArray[np.int16]:
    """(10, 22, 26): noise and six bright boxes."""
    rng = np.random.default_rng(5)
    voxels = rng.integers(0, 200, (10, 22, 26)).astype(np.int16)
    for z, y, x in rng.integers((1, 2, 2), (8, 16, 20), (6, 3)):
        voxels[z : z + rng.integers(1, 3), y : y + rng.integers(2, 6), x : x + rng.integers(2, 6)] += 2000
    return voxels


def save(path: Path, volume: Volume) -> Path:
    """Write a plain NIfTI-1 file of int16; its header rounds the affine to float32."""
    affine = volume.grid.affine
    pixdim = (1.0, *np.linalg.norm(affine[:3, :3], axis=0), 1.0, 1.0, 1.0, 1.0)
    return write_nifti(path, volume.array, srow=tuple(affine[:3].ravel()), pixdim=pixdim)


def settings(card: ModelCard) -> list[str]:
    """What a host reads from card.json and hands over."""
    kind = card.normalization
    if isinstance(kind, Body):
        greys = ["normalization=body", f"floor={kind.floor}", f"tissue={kind.tissue}", f"ceiling={kind.ceiling}"]
    else:
        low, high = kind.clip_percentiles
        greys = ["normalization=zscore", f"low={low}", f"high={high}"]
    outlines = [f"threshold={card.threshold}", f"peak={card.peak or 0}"]
    return [*outlines, f"outline={card.outline}", f"orientation={card.orientation}", f"slices={card.slices}", *greys]


def rows_of(result: Result) -> NDArray[np.float64]:
    return np.array(
        [
            (node.id, node.voxels, *node.box_mm, node.axial_short_mm, node.axial_long_mm, node.ellipsoid_short_mm)
            + (node.mean_probability, *node.box_centre_ras_mm)
            for node in result.nodes
        ]
    )


def printed(process: subprocess.CompletedProcess[str]) -> tuple[NDArray[np.float64], str]:
    assert (process.returncode, process.stderr) == (0, "")
    *rows, stage = process.stdout.splitlines()
    return np.array([[float(number) for number in row.split()] for row in rows]), stage


def test_a_phantom_has_the_same_voxels_and_millimetres(program: Program, tmp_path: Path) -> None:
    model = load_model("pelvic-ln-edge")
    path = save(tmp_path / "phantom.nii", make_phantom(11, "achieva", "n1").volume)
    process = program(model.folder / "model.onnx", path, *settings(model.card), f"labels={tmp_path / 'labels.raw'}")
    rows, stage = printed(process)
    with Engine(backend="openvino", precision="fp32") as engine:
        result = engine.run(path)
    wanted = rows_of(result)
    assert stage == result.n_stage == "N1" and len(wanted) > 5
    np.testing.assert_array_equal(rows[:, :2], wanted[:, :2])
    # The slices are tilted, so two ways to find the nearest right angles differ in the last bit.
    np.testing.assert_allclose(rows, wanted, rtol=1e-12)
    labels = np.fromfile(tmp_path / "labels.raw", np.uint16)
    np.testing.assert_array_equal(labels.reshape(result.labels.array.shape), result.labels.array)


@pytest.mark.parametrize("code", ["LPS", "RAS", "PLS", "IRA", "ASL", "SPR"])
@pytest.mark.parametrize("spacing_mm", [(1.1, 1.1, 6.6), (1.5, 1.7, 4.3)], ids=["simple", "odd"])
def test_however_the_voxels_are_stored(
    program: Program,
    tiny: Engine,
    tmp_path: Path,
    blobs: NDArray[np.int16],
    code: str,
    spacing_mm: tuple[float, float, float],
) -> None:
    """Spacings that float32 rounds; axes in every order; equal to the last bit."""
    affine = np.diag((-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0))
    affine[:3, 3] = 20.3, 18.7, -31.1
    turned = Volume(blobs, Grid(blobs.shape, affine)).oriented(code)
    path = save(tmp_path / "study.nii", Volume(np.ascontiguousarray(turned.array), turned.grid))
    process = program(tiny.model.folder / "model.onnx", path, *settings(tiny.model.card), "threads=1")
    rows, stage = printed(process)
    result = tiny.run(path)
    wanted = rows_of(result)
    assert stage == result.n_stage and len(wanted) >= 2
    np.testing.assert_array_equal(rows[:, :2], wanted[:, :2])
    np.testing.assert_array_equal(rows[:, EDGES], wanted[:, EDGES])
    np.testing.assert_allclose(rows, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("code", ["LPS", "RAS", "ASL"])
def test_the_body_normalization_and_padding_in_it(
    program: Program, tmp_path: Path, code: str, blobs: NDArray[np.int16]
) -> None:
    """Padding that is brighter than air is air to both; equal to the last bit."""
    rng = np.random.default_rng(7)
    patient = rng.integers(0, 20, SHAPE_ZYX).astype(np.int16)
    patient[:, 4:12] += 90
    mask = np.zeros(SHAPE_ZYX, np.uint8)
    mask[2:4, 6:9, 6:9] = 1
    patient[mask > 0] = 900
    folder = make_model_folder(
        tmp_path / "model",
        orientation="LPS",
        probe=(patient, np.diag((-1.0, -1.0, 1.0, 1.0)), mask),
        normalization="body",
        body={"floor": -1.0, "tissue": 0.6, "ceiling": 11.8},
    )
    blobs[:, :, :7] = 150
    blobs[:, -3:] = 150
    turned = Volume(blobs, Grid(blobs.shape, np.diag((-1.5, -1.7, 4.3, 1.0)))).oriented(code)
    path = save(tmp_path / "study.nii", Volume(np.ascontiguousarray(turned.array), turned.grid))
    with Engine(model=folder, backend="openvino", precision="fp32") as engine:
        assert normalization(engine.run(path).study.volume, engine.model.card).padding == (150.0,)
        wanted = rows_of(engine.run(path))
        rows, _ = printed(program(folder / "model.onnx", path, *settings(engine.model.card), "threads=1"))
    assert len(wanted) >= 2
    np.testing.assert_array_equal(rows[:, :2], wanted[:, :2])
    np.testing.assert_allclose(rows, wanted, rtol=1e-12, atol=1e-12)


def test_what_it_refuses(program: Program, tiny: Engine, tmp_path: Path) -> None:
    model = tiny.model.folder / "model.onnx"
    (tmp_path / "text.nii").write_text("no study")
    blank = np.full((4, 5, 6), 7, np.int16)
    flat = write_nifti(tmp_path / "flat.nii", blank)
    sheared = write_nifti(tmp_path / "sheared.nii", blank, srow=(1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 5, 0))
    no_size = write_nifti(tmp_path / "no_size.nii", blank, srow=(0,) * 12)
    for words, code, error_code in (
        ((model,), 2, "bad-call"),
        ((model, flat, "colour=red"), 2, "bad-call"),
        ((model, flat, "orientation=LPL"), 2, "bad-call"),
        ((model, flat, "threshold=half"), 2, "bad-call"),
        ((model, flat, "normalization=minmax"), 2, "bad-call"),
        ((model, flat, "tissue=-2"), 2, "bad-call"),
        ((model, flat, "slices=some"), 2, "bad-call"),
        ((model, flat, "outline=some"), 2, "bad-call"),
        ((model, tmp_path / "none.nii"), 3, "not-found"),
        ((model, tmp_path / "text.nii"), 3, "not-nifti"),
        ((model, sheared), 3, "bad-geometry"),
        ((model, no_size), 3, "bad-geometry"),
        ((model, flat), 3, "constant"),
        ((model, flat, "normalization=zscore"), 3, "constant"),
        ((tmp_path / "text.nii", flat), 4, "inference-failed"),
    ):
        process = program(*words)
        assert (process.returncode, process.stdout) == (code, "")
        # OpenVINO may print lines of its own before it.
        assert any(line.startswith(f"{error_code}: ") for line in process.stderr.splitlines()), process.stderr
