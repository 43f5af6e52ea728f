"""report.html without a browser: its content, no foreign script or request, and whole or absent on the disk."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import affine_of, block, small_patient, stored_in_all_ways
from model_files import make_model_folder
from numpy.typing import NDArray
from reports import EVIL, TESTS, evil_report, many_nodes, report_of, study_of, two_nodes, write_report

import lnfast.report.folder as folder
import lnfast.report.page.voxels as voxels_module
from lnfast.cli import main
from lnfast.engine import Engine
from lnfast.errors import UsageError
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules, measure_nodes
from lnfast.report import Report, add_page
from lnfast.report.page import render
from lnfast.report.page.diameters import axial_diameters
from lnfast.report.page.scene import scene_of
from lnfast.report.page.voxels import pack_labels, pack_voxels
from lnfast.study import DicomSource, Provenance

PAGE_BYTES_AT_MOST = 3_000_000
ORDINARY_ZYX = (28, 240, 240)


def page_of(labels: Volume, report: Report | None = None, **other: Any) -> str:
    return render(report or report_of(labels), study_of(labels, **other), labels).decode()


def unpacked(text: str, shape_zyx: Sequence[int]) -> NDArray[np.uint16]:
    """Unpack base64 as the page's script does."""
    low, high = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1).astype(np.uint16)
    return (low | high << 8).reshape(shape_zyx)


class ReportPage(HTMLParser):
    """Tags with their attributes, and the text inside each kind of element that can hold only text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.text = ""
        self._inside: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = (dict(attrs).get("id") or tag) if tag in ("script", "style", "title") else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        else:
            self.text += data


def rows_of(page: str) -> list[tuple[int, str]]:
    """``(node, markup)`` of the table's rows."""
    return [(int(match[1]), match[0]) for match in re.finditer(r'<tr data-node="(\d+)".*?(?=<tr|</table>)', page)]


def test_the_page_of_dicom_names_the_series_and_the_b_value() -> None:
    labels = two_nodes()
    source = DicomSource(8, True, (("SECRET.dcm", 0),))
    report = report_of(labels, b_value=1400.0, provenance=Provenance("dicom", "SECRET", "ab" * 32, dicom=source))
    page = page_of(labels, report)
    assert "series 8, computed b = 1400 s/mm\u00b2, " in ReportPage(page).text and "SECRET" not in page
    assert "series" not in ReportPage(page_of(labels)).text


# --- nothing in it runs or calls out --------------------------------------------------------------------------------


def test_nothing_from_a_study_becomes_markup() -> None:
    labels = two_nodes()
    report = evil_report(labels)
    harmless = replace(report_of(labels), warnings=tuple(replace(notice, message="x") for notice in report.warnings))
    plain, evil = (ReportPage(page_of(labels, page_report)) for page_report in (harmless, report))
    kinds = [[(tag, *attributes) for tag, attributes in page.tags] for page in (plain, evil)]
    assert kinds[0] == kinds[1]
    assert plain.raw["script"] == evil.raw["script"] and json.loads(evil.raw["scene"])
    spelt = EVIL.translate({0x202E: r"\u202e", 0x2028: r"\u2028", 0: r"\x00"}).replace("\udc80", r"\udc80")
    assert evil.raw["title"] == f"N1 - {spelt} - lnfast, research use only"
    assert evil.text.count(spelt) >= 9, "nothing was left out"


def test_the_page_cannot_request_anything() -> None:
    labels = two_nodes()
    page = page_of(labels)
    parsed = ReportPage(page)
    (policy,) = (of["content"] for tag, of in parsed.tags if of.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("default-src") == "'none'"
    for name, content in (("script-src", parsed.raw["script"]), ("style-src", parsed.raw["style"])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules.pop(name) == f"'sha256-{digest}'"
    assert set(rules.values()) == {"'none'"}
    assert not {"link", "img", "iframe", "object", "embed", "base", "form", "video", "a"} & {
        tag for tag, _ in parsed.tags
    }
    assert not [
        name for _, of in parsed.tags for name in of if name in ("src", "href", "style") or name.startswith("on")
    ]
    text = page.replace(parsed.raw["voxels"], "").replace(parsed.raw["labels"], "")
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|WebSocket|import\(|sendBeacon|getImageData", text)


# --- voxels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u8", "i8"])
def test_small_integers_come_back_to_the_bit(dtype: str) -> None:
    limits = np.iinfo(dtype)
    span = min(65535, limits.max - limits.min)
    for least in (limits.min, limits.max - span):
        codes = np.random.default_rng(0).integers(0, span, (5, 6, 7), endpoint=True)
        array = (codes.astype(object) + int(least)).astype(dtype)
        array[0, 0, :2] = least, least + span
        packed = pack_voxels(Volume(array, Grid(array.shape, affine_of((1, 1, 3)))), 0.5, -7.0)
        assert packed is not None and packed.exact and packed.slope == 0.5
        codes = unpacked(packed.text, array.shape)
        assert codes.min() == 0 and np.array_equal(codes.astype(object) + int(least), array.astype(object))
        assert packed.inter == pytest.approx(0.5 * float(least) - 7.0)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u8"])
def test_other_values_come_back_to_half_a_step(dtype: str) -> None:
    values = np.random.default_rng(1).gamma(2.0, 1e5, (8, 30, 40)).astype(dtype)
    values[3, 3, 3] = 10**9  # one spike must not take the greys from all others
    packed = pack_voxels(Volume(values, Grid(values.shape, affine_of((1, 1, 3)))), 2.0, 5.0)
    assert packed is not None and not packed.exact
    shown = packed.slope * unpacked(packed.text, values.shape) + packed.inter
    expected = np.clip(2.0 * values.astype(np.float64) + 5.0, None, shown.max())
    assert np.abs(shown - expected).max() <= packed.slope / 2 * 1.001
    low, high = packed.window
    assert packed.slope < (high - low) / 1000


def test_a_volume_of_hardly_any_value_has_a_window() -> None:
    values = np.zeros((4, 20, 20), np.int16)
    values[1, 1, 1] = 9
    packed = pack_voxels(Volume(values, Grid(values.shape, affine_of((1, 1, 3)))))
    assert packed is not None and packed.window[0] < packed.window[1]


@pytest.mark.parametrize(("sigma", "exact"), [(60.0, True), (9000.0, False)])
def test_an_ordinary_study_of_noise_makes_less_than_3_mb(sigma: float, exact: bool) -> None:
    noise = np.abs(np.random.default_rng(2).normal(0.0, sigma, ORDINARY_ZYX)).clip(0, 65535).astype(np.uint16)
    labels = Volume((noise > 5 * sigma).astype(np.uint16) * 0, Grid(noise.shape, affine_of((1.5, 1.5, 7.0))))
    volume = Volume(noise, labels.grid)
    page = render(report_of(labels), study_of(volume), labels)
    assert len(page) < PAGE_BYTES_AT_MOST
    assert ("<dd>as they were read<" in page.decode()) == exact
    assert ("<dd>shown in steps of" in page.decode()) != exact
    codes = unpacked(ReportPage(page.decode()).raw["voxels"], noise.shape)
    assert codes.max() > 64, "bits are spared, and greys stay"


def test_a_large_study_loses_bits_and_never_voxels() -> None:
    noise = np.random.default_rng(3).integers(0, 60000, (64, 384, 384), dtype=np.uint16)
    packed = pack_voxels(Volume(noise, Grid(noise.shape, affine_of((1.0, 1.0, 3.0)))))
    assert packed is not None and not packed.exact
    shown = packed.slope * unpacked(packed.text, noise.shape) + packed.inter
    assert np.abs(shown - noise).max() <= packed.slope / 2
    assert (packed.window[1] - packed.window[0]) / packed.slope >= voxels_module.GREYS_AT_LEAST


def test_more_voxels_than_a_browser_takes_are_left_out_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = two_nodes()
    monkeypatch.setattr(voxels_module, "VOXELS_AT_MOST", labels.array.size - 1)
    page = page_of(labels)
    assert "more voxels than a page can carry" in page
    assert ReportPage(page).raw.get("voxels") is None
    assert json.loads(ReportPage(page).raw["scene"])["voxels"] is None
    assert len(rows_of(page)) == 2


def test_what_is_shown_is_the_same_however_the_study_is_stored() -> None:
    labels = two_nodes()
    values = np.random.default_rng(4).integers(0, 900, labels.array.shape).astype(np.int16)
    images = stored_in_all_ways(Volume(values, labels.grid))
    pages = set()
    for image, stored in zip(images, stored_in_all_ways(labels), strict=True):
        report = report_of(labels)
        page = ReportPage(render(report, study_of(image), stored).decode())
        shape = json.loads(page.raw["scene"])["shape"]
        assert np.array_equal(unpacked(page.raw["voxels"], shape) + int(values.min()), values)  # LPS as they lie here
        assert np.array_equal(unpacked(page.raw["labels"], shape), labels.array)
        pages.add(page.raw["scene"])
    assert len({re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]) + 0.0:.3f}", page) for page in pages}) == 1


# --- what is drawn --------------------------------------------------------------------------------------------------


def blobs(seed: int, turn_deg: tuple[float, float, float] = (0, 0, 0)) -> tuple[Volume, int]:
    from lnfast_ext import label_components

    rng = np.random.default_rng(seed)
    seeds = rng.random((8, 40, 44)) > 0.995
    for axis, _ in product((0, 1, 2), range(2)):
        seeds |= np.roll(seeds, 1, axis) & (rng.random(seeds.shape) > 0.3)
    labels, count = label_components(seeds)
    affine = affine_of(tuple(rng.uniform(1.0, 2.0, 2)) + (6.0,), *turn_deg)
    return Volume(labels.astype(np.uint16), Grid(labels.shape, affine)), count


@pytest.mark.parametrize("seed", range(6))
def test_diameters_are_drawn_as_long_as_they_were_measured(seed: int) -> None:
    labels, count = blobs(seed, (3.0, -2.0, 5.0 * seed))
    drawn = axial_diameters(labels.oriented("LPS"))
    scale = np.array(labels.grid.spacing_zyx_mm[:0:-1])
    assert count > 5
    for node in measure_nodes(labels, count, Rules()):
        drawn_node = drawn[node.id]
        assert (drawn_node.long_mm, drawn_node.short_mm) == pytest.approx(
            (node.axial_long_mm, node.axial_short_mm), abs=1e-9
        )
        long, short = (
            np.diff(ends * scale, axis=0)[0] for ends in (drawn_node.long_ends_vox, drawn_node.short_ends_vox)
        )
        assert np.linalg.norm(long) == pytest.approx(node.axial_long_mm, abs=1e-6)
        assert np.linalg.norm(short) == pytest.approx(node.axial_short_mm, abs=1e-6)
        assert abs(long @ short) < 1e-6, "at right angles"
        z, y, x = np.nonzero(labels.array == node.id)
        rows = {
            (a + i, b + j)
            for a, b in zip(x[z == drawn_node.slice], y[z == drawn_node.slice], strict=True)
            for i, j in product((0, 1), (0, 1))
        }
        assert {tuple(end) for end in drawn_node.long_ends_vox} <= rows, "from corner to corner of one slice"


@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_drawn_around_their_nodes(seed: int) -> None:
    labels, count = blobs(seed, (4.0, 7.0, -20.0))
    report = replace(report_of(labels), nodes=measure_nodes(labels, count, Rules()))
    scene = json.loads(json.dumps(scene_of(report, list(report.nodes), labels, None)))
    spacing = np.array(scene["spacing"])
    for node in scene["nodes"]:
        z, y, x = np.nonzero(labels.array == node["id"])
        corners = np.concatenate([np.stack((x, y, z), 1) + offset for offset in product((0, 1), repeat=3)]) * spacing
        along = (corners - node["box"]["centre"]) @ np.array(node["box"]["axes"]).T
        assert np.ptp(along, axis=0) == pytest.approx(node["box"]["edges"], abs=1e-3)
        assert np.abs(along).max(axis=0) == pytest.approx(np.array(node["box"]["edges"]) / 2, abs=1e-3)


def test_slices_count_from_the_feet_and_say_their_height() -> None:
    grid = Grid((3, 10, 10), affine_of((1.0, 1.0, 6.0), origin=(0.0, 0.0, -6.0)))
    labels = Volume(np.zeros(grid.shape, np.uint16), grid)
    assert scene_of(report_of(labels), [], labels, None)["heights"] == ["I 6.0 mm", "S 0.0 mm", "S 6.0 mm"]


# --- what is said ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["box", "axial"])
def test_the_table_is_sorted_and_marks_what_decides(rule: Any) -> None:
    labels = many_nodes(30)
    report = report_of(labels, Rules(short_axis=rule))
    rows = rows_of(page_of(labels, report))
    by_id = {node.id: node for node in report.nodes}
    shorts = [by_id[number].short_axis_mm for number, _ in rows]
    assert len(rows) == 30 and shorts == sorted(shorts, reverse=True)
    for number, row in rows:
        node = by_id[number]
        assert (">suspicious<" in row) == node.suspicious == ('class="suspicious' in row)
        assert ("slice-limited" in row) == node.slice_limited
        cells = re.findall(r"<td( class=\"deciding\")?>([\d.\u2013]+)", row)
        assert [bool(marked) for marked, _ in cells[:3]] == [rule == "box", rule == "axial", False]
        assert [float(text) for _, text in cells[:2]] == pytest.approx([node.box_mm[0], node.axial_short_mm], abs=0.051)
        assert cells[2][1] == "\u2013", "a label map has no ellipsoid"
        assert f'<button type="button">{number}<' in row


def test_the_page_opens_on_the_answer_and_its_warnings() -> None:
    flat = block((1, 8, 8), affine_of((1.5, 1.5, 6.0)))
    report = report_of(flat, provenance=Provenance("nifti-1", "a", "ab" * 32, notes=("took volume 2 of 3",)))
    text = re.sub(r"\s+", " ", ReportPage(page_of(flat, report)).text)
    order = [
        "Research use only",
        "0000",
        "N0",
        "0 of 1",
        "6.0 mm",
        "rules-disagree",
        "slice-limited",
        "took volume 2 of 3",
    ]
    places = [
        text.index(part) for part in [*order, "Nodes by short axis", "Not a medical device. The models", "passed"]
    ]
    assert places == sorted(places)
    assert page_of(flat, report).count('<li class="loud">') == 2


def test_zero_nodes_is_a_page() -> None:
    grid = Grid((4, 20, 20), affine_of((1.5, 1.5, 6.0)))
    page = page_of(Volume(np.zeros(grid.shape, np.uint16), grid))
    assert "No lymph node was found." in page and "<table" not in page
    assert json.loads(ReportPage(page).raw["scene"])["nodes"] == []


def test_the_printed_page_says_what_it_leaves_out() -> None:
    labels = many_nodes(80)
    page = page_of(labels)
    rows = rows_of(page)
    beyond = [number for number, row in rows if "beyond" in row]
    assert len(rows) == 80 and beyond == [number for number, _ in rows[-len(beyond) :]]
    suspicious = sum("suspicious" in row for _, row in rows[-len(beyond) :])
    assert suspicious > 0
    assert (
        f'<p class="printed">{len(beyond)} smaller nodes, {suspicious} of them suspicious, are in report.json.' in page
    )
    assert 'class="printed"' not in page_of(two_nodes())


def test_a_certificate_of_any_kind_is_told() -> None:
    labels = two_nodes()
    report = report_of(labels)
    parts = {
        "passed": True,
        "studies": 24,
        "reference": "onnxruntime fp32",
        "stage_flips": {"box": 0},
        "dice": {"worst": 0.98123},
    }
    for certificate, expected in (
        (None, "none: the model itself was run"),
        ({}, "not passed"),
        (parts, "passed on 24 studies beside onnxruntime fp32; stage flips: box 0; Dice: worst 0.9812"),
    ):
        page = page_of(labels, replace(report, engine=replace(report.engine, certificate=certificate)))
        assert f"<dt>Certificate<dd>{expected}" in page


# --- whole or absent ------------------------------------------------------------------------------------------------


def test_the_page_comes_into_the_folder_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    study_folder, report = write_report(two_nodes(), tmp_path)
    before = {path.name: path.read_bytes() for path in study_folder.iterdir()}
    add_page(study_folder, report, b"page")
    assert {path.name: path.read_bytes() for path in study_folder.iterdir()} == before | {"report.html": b"page"}
    assert os.listdir(tmp_path) == ["a"]
    assert not (write_report(two_nodes(), tmp_path)[0] / "report.html").exists(), (
        "an old page never stands by a new report"
    )


@pytest.mark.parametrize("held", [True, False])
def test_the_page_never_comes_beside_another_report(
    tmp_path: Path, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        monkeypatch.setattr(os, "supports_dir_fd", set())
    labels = two_nodes()
    study_folder, report = write_report(labels, tmp_path)
    write_report(labels, tmp_path)
    with pytest.raises(UsageError, match="report-replaced"):
        add_page(study_folder, report, b"page")
    assert not (study_folder / "report.html").exists() and os.listdir(tmp_path) == ["a"]
    _, newest = write_report(labels, tmp_path)
    add_page(study_folder, newest, b"page")
    assert (study_folder / "report.html").read_bytes() == b"page"


def test_a_folder_that_is_replaced_at_the_last_moment_gets_no_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = two_nodes()
    study_folder, report = write_report(labels, tmp_path)
    honest = folder._read

    def slow(*arguments: Any) -> bytes:
        content = honest(*arguments)
        monkeypatch.undo()
        write_report(labels, tmp_path)
        return content

    monkeypatch.setattr(folder, "_read", slow)
    with pytest.raises(FileNotFoundError):
        add_page(study_folder, report, b"page")
    assert not (study_folder / "report.html").exists() and os.listdir(tmp_path) == ["a"]


def test_a_full_disk_leaves_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study_folder, report = write_report(two_nodes(), tmp_path)
    before = {path.name: path.read_bytes() for path in study_folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        add_page(study_folder, report, b"page")
    assert {path.name: path.read_bytes() for path in study_folder.iterdir()} == before
    assert os.listdir(tmp_path) == ["a"]


WRITE_FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from reports import two_nodes, write_report
from lnfast.report import add_page
while True:
    print(flush=True)
    made, report = write_report(two_nodes(), Path(sys.argv[1]))
    add_page(made, report, report.created.encode() * 100_000)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_kill_at_any_moment_leaves_a_whole_page_or_none(tmp_path: Path) -> None:
    chance, page_there = random.Random(0), set()
    for _ in range(8):
        command = [sys.executable, "-c", WRITE_FOREVER, str(tmp_path), TESTS]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            child.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.04))
            child.send_signal(signal.SIGKILL)
        study_folder = tmp_path / "a"
        created = json.loads((study_folder / "report.json").read_bytes())["created"]
        page = study_folder / "report.html"
        page_there.add(page.exists())
        assert not page.exists() or page.read_bytes() == created.encode() * 100_000
        assert {path.name for path in study_folder.iterdir()} <= folder.OWN_FILES
        assert {path.name for path in tmp_path.iterdir()} <= {"a"} | {path.name for path in tmp_path.glob(".a.*.tmp")}
    for path in tmp_path.glob(".a.*.tmp"):
        os.utime(path, (0, 0))
    write_report(two_nodes(), tmp_path)
    assert os.listdir(tmp_path) == ["a"], "what killed runs left is cleared away"


# --- from Python and from the command line --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Engine(make_model_folder(tmp_path_factory.mktemp("model") / "tiny")) as engine:
        yield engine


def bright() -> Volume:
    shape = (12, 40, 48)
    return Volume(small_patient(shape), Grid(shape, affine_of((4.0, 4.0, 6.0))))


def test_a_result_is_written_with_its_page_or_without(engine: Engine, tmp_path: Path) -> None:
    result = engine.run(bright())
    page = (result.write(tmp_path / "with") / "report.html").read_bytes()
    report = json.loads((tmp_path / "with" / "array" / "report.json").read_bytes())
    assert report["timings_ms"]["write"] > 0 and f"write {report['timings_ms']['write']:.0f} ms" in page.decode()
    assert not (result.write(tmp_path / "without", html=False) / "report.html").exists()
    (only,) = engine.run_many([bright()], out=tmp_path / "many", html=False)
    assert not list((tmp_path / "many").rglob("report.html")) and only.page_problem is None


def test_an_array_that_was_filled_anew_is_not_shown_as_the_old_one(engine: Engine, tmp_path: Path) -> None:
    volume = bright()
    result = engine.run(volume)
    volume.array[:] = volume.array[::-1]
    with pytest.warns(RuntimeWarning, match="page-not-written: report.html is missing: array-changed"):
        study_folder = result.write(tmp_path)
    assert (study_folder / "report.json").exists() and not (study_folder / "report.html").exists()


def test_a_page_that_cannot_be_written_costs_a_line_and_nothing_else(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nifti_files import write_nifti

    study = write_nifti(tmp_path / "patient.nii.gz", bright().array, bval="1000")
    model = str(engine.model.folder)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lnfast.result.add_page", full)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(study), "-o", str(tmp_path / "out"), "--model", model])
    output = capsys.readouterr()
    assert ended.value.code == 0 and output.out.startswith("patient: ")
    (line,) = (line for line in output.err.splitlines() if "report.html" in line)
    assert line == f"lnfast: page-not-written: {study}: report.html is missing: [Errno 28] No space left on device"
    assert {path.name for path in (tmp_path / "out" / "patient").iterdir()} == {
        "labels.nii.gz",
        "report.json",
        "report.txt",
    }
    monkeypatch.setattr("lnfast.result.add_page", None)  # never called
    with pytest.raises(SystemExit):
        main(["run", str(study), "-o", str(tmp_path / "out"), "--model", model, "--no-html"])
    assert "page-not-written" not in capsys.readouterr().err


def test_nothing_of_the_page_is_loaded_before_one_is_made() -> None:
    code = "import sys, lnfast.engine; print(any('report.page' in name for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_labels_survive_to_the_bit() -> None:
    values = np.random.default_rng(6).integers(0, 65535, (3, 5, 7), endpoint=True).astype(np.uint16)
    assert np.array_equal(
        unpacked(pack_labels(Volume(values, Grid(values.shape, affine_of((1, 1, 3))))), values.shape), values
    )
