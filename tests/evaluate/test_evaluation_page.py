"""evaluation.html: its numbers are those of metrics.json, it requests no address, and the worst studies come first."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import (
    COHORT,
    FIGURES,
    RIGHT,
    SHAPE_ZYX,
    A,
    C,
    cubes,
    evaluation_page,
    write_cohort,
    write_image,
    write_labels,
)
from numpy.typing import NDArray

from lnfast.cli import main
from lnfast.errors import StudyError
from lnfast.evaluate.evaluation import evaluate
from lnfast.evaluate.inputs.pairing import pair_up
from lnfast.evaluate.output.folder import OWN_FILES
from lnfast.evaluate.output.metrics import metrics
from lnfast.evaluate.output.page import render
from lnfast.evaluate.output.page.drawing import PNG_BYTES_AT_MOST, grey_png, outline
from lnfast.evaluate.output.page.slices import slice_of
from lnfast.evaluate.output.page.worst import RULE, describe_mistakes, worst_studies
from lnfast.measure import Rules

HOSTILE = "<script>alert(1)</script>&\"'"


class EvaluationPage(HTMLParser):
    """Tags with their attributes, the rows of each table, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._rows: list[list[str]] = []
        self._inside: list[str] = []
        self._caption = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("caption", "th", "td", "style", "small", "sup"):
            self._inside.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")
        elif tag == "small" and len(self._inside) > 1:
            self._rows[-1][-1] += "|"

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()
        if tag == "table":
            self.tables[self._caption.partition(":")[0]] = self._rows

    def handle_data(self, data: str) -> None:
        if "style" in self._inside:
            return
        self.text += data
        if "caption" in self._inside:
            self._caption += data
        elif self._inside and "sup" not in self._inside and self._inside[0] in ("th", "td"):
            self._rows[-1][-1] += data


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("page")
    pred, truth = write_cohort(folder, COHORT | RIGHT)
    (truth / "truth").mkdir()
    for number, name in enumerate(COHORT | RIGHT):
        (truth / "truth" / f"{name}.json").write_text(json.dumps({"scanner": "<b>" if number % 2 else "achieva"}))
    return pred, truth


@pytest.fixture(scope="module")
def page_and_content(folders: tuple[Path, Path]) -> tuple[str, dict[str, Any]]:
    return evaluation_page(*folders)


@pytest.fixture(scope="module")
def parsed(page_and_content: tuple[str, dict[str, Any]]) -> EvaluationPage:
    return EvaluationPage(page_and_content[0])


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_the_page_begins_with_the_main_result(
    page_and_content: tuple[str, dict[str, Any]], parsed: EvaluationPage
) -> None:
    page, content = page_and_content
    patient = content["patient"]
    text = " ".join(parsed.text.split())
    right = patient["table"]["tp"] + patient["table"]["tn"]
    assert f"{right} of {content['counts']['studies']} studies staged as in the truth" in text
    for key, name in (("sensitivity", "Sensitivity for N1"), ("specificity", "Specificity"), ("kappa", "Kappa")):
        low, high = (f"{patient[key][edge]:.3f}" for edge in ("low", "high"))
        assert re.search(rf"{name}{patient[key]['value']:.3f}(\d+ of \d+, )?{low} to {high}paper", text)
    assert f"AUC of the call{patient['auc']['value']:.3f}" in text
    assert page.index('class="answer"') < page.index("<table") < page.index('class="plot') < page.index('class="case"')


def test_the_tables_are_those_of_metrics_json(
    page_and_content: tuple[str, dict[str, Any]], parsed: EvaluationPage
) -> None:
    content, tables = page_and_content[1], parsed.tables
    measures, subsets = ("dice", "ppv", "tpr", "vs", "hd_mm", "avd_mm", "mhd"), ("all", "suspicious", "largest")
    parts = [content[key][subset] for key in ("segmentation", "segmentation_of_matched_nodes") for subset in subsets]
    for row, part in zip(tables["Segmentation"][1:], parts, strict=True):
        for cell, measure in zip(row[1:], measures, strict=True):
            score = part[measure]
            assert cell.startswith(f"{score['mean']:.2f} \u00b1 {score['sd']:.2f}|n {score['n']}"), (row[0], measure)
    detection = tables["Detection"]
    for start, subset in ((1, "suspicious"), (7, "largest")):
        counts = content["detection"][subset]
        by_prediction = counts["by_prediction"] | {"recall": counts["recall"]}
        stricter = (counts[key] for key in ("one_to_one", "iou_0.1", "iou_0.5", "touching_any_size"))
        for row, part in zip(detection[start : start + 6], (counts, by_prediction, *stricter), strict=True):
            shown = [cell.partition("|")[0] for cell in row[1:]]
            assert shown == [f"{part[key]:.3f}" for key in ("precision", "recall", "f1")], row[0]
    counts = content["detection"]["suspicious"]
    recall = (
        f"{counts['tp']} of {counts['tp'] + counts['fn']}, {counts['recall_low']:.3f} to {counts['recall_high']:.3f}"
    )
    assert f"{recall}|paper 226/230 0.983" in detection[1][2]
    for row, name in zip(
        tables["Diagnosis by scanner, with 95 % intervals"][1:], ("All", "<b>", "achieva"), strict=True
    ):
        part = content["patient"] if name == "All" else content["groups"]["patient"][name]
        assert row[0] == f"{name}|{part['n']} studies"
        assert [cell.partition("|")[0] for cell in row[1:]] == [
            f"{part[key]['value']:.3f}" for key in ("sensitivity", "specificity", "auc", "auc_short_axis", "kappa")
        ]
    groups = content["groups"]["patient"].values()
    assert sum(part["truth_n1"] for part in groups) == content["patient"]["truth_n1"]
    short, volume = (content["measurement"][key] for key in ("short_axis_mm", "volume_mm3"))
    rows = tables["Measurement agreement of matched nodes"]
    assert len(rows) == 7
    assert rows[1][3] == f"{short['bias']:.2f}|{short['n']} pairs".replace("-", "\u2212")
    assert (
        rows[4][1]
        == f"{volume['predicted']['mean'] / 1e3:.3f} \u00b1 {volume['predicted']['sd'] / 1e3:.3f}|n {volume['n']}"
    )


def test_what_is_undefined_is_a_dash_with_its_reason(tmp_path: Path) -> None:
    """One study without a node: no zero and no NaN where nothing is defined."""
    page, content = evaluation_page(*write_cohort(tmp_path, {"empty": ([], [])}))
    parsed = EvaluationPage(page)
    assert content["segmentation"]["all"]["dice"]["mean"] is None
    assert {cell for row in parsed.tables["Segmentation"][1:] for cell in row[1:]} <= {"\u2014", "\u2014|paper"} | {
        f"\u2014|paper {value}" for value in re.findall(r"paper (\d\.\d\d)", page)
    }
    assert "no patient is N1 in the truth" in parsed.text
    assert "undefined in 1 of 1: no node on either side (1)" in parsed.text
    assert not re.search(r"\b(nan|NaN|None|null)\b", parsed.text)
    assert all(attrs["title"] for tag, attrs in parsed.tags if attrs.get("class") == "undefined")
    addresses = {attrs["id"] for _, attrs in parsed.tags if attrs.get("id")}
    targets = {str(attrs["href"])[1:] for tag, attrs in parsed.tags if tag == "a"}
    assert targets <= addresses
    assert "No study has an error." in parsed.text


# --- what a browser makes of it ---------------------------------------------------------------------------------------


def test_the_page_requests_no_address_and_runs_no_script(
    page_and_content: tuple[str, dict[str, Any]], parsed: EvaluationPage
) -> None:
    page, _ = page_and_content
    assert not re.search(r"(?i)https?:|@import|url\(|javascript:", page)
    for tag, attrs in parsed.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base")
        assert not [name for name in attrs if name.startswith("on") or name in ("style", "srcset", "xlink:href")]
        for name in ("src", "href"):
            assert str(attrs.get(name, "#")).startswith(("#", "data:image/png;base64,"))
    (policy,) = (attrs["content"] for tag, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_page_is_accessible_to_screen_readers(parsed: EvaluationPage) -> None:
    assert parsed.text.count("Research use only") == 1
    assert dict(parsed.tags[0][1]) == {"lang": "en"} or parsed.tags[0][0] == "html"
    for tag, attrs in parsed.tags:
        if tag == "th":
            assert attrs["scope"] in ("col", "row")
        elif tag == "img":
            assert attrs["alt"]
        elif tag == "svg":
            assert attrs["role"] == "img" and attrs["aria-label"]
    assert all(parsed.tables)
    assert "Truth outlined in solid blue, prediction in dashed orange" in json.dumps(parsed.tags)


def test_a_hostile_name_is_text(tmp_path: Path) -> None:
    """Of a study, of a scanner and of what a report says; a right-to-left override turns nothing round."""
    name = "<script>alert(1)<\u200b\u202escript>&\"'"
    pred, truth = write_cohort(tmp_path, {name: COHORT["d called N0"]})
    (tmp_path / "groups.csv").write_text(f'name,group\n"{name.replace(chr(34), chr(34) * 2)}","{HOSTILE[:8]}"\n')
    page, _ = evaluation_page(pred, truth, groups=tmp_path / "groups.csv")
    parsed = EvaluationPage(page)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert "<script>alert(1)<??script>&\"'" in parsed.text
    assert "\u202e" not in page
    assert parsed.tables["Diagnosis by scanner, with 95 % intervals"][2][0] == "<script>|1 studies"


# --- the worst --------------------------------------------------------------------------------------------------------


def test_the_worst_come_first(folders: tuple[Path, Path], parsed: EvaluationPage) -> None:
    """Each name of the hand-made cohort says what is wrong; what is right is not shown."""
    evaluation = evaluate(pair_up(*folders), Rules())
    assert [case.study.name for case in worst_studies(evaluation)] == list(COHORT)
    assert [case.study.name for case in worst_studies(evaluation, 2)] == list(COHORT)[:2]
    text = " ".join(parsed.text.split())
    assert RULE in text
    assert [text.index(f"{number} {name}") for number, name in enumerate(COHORT, 1)] == sorted(
        text.index(f"{number} {name}") for number, name in enumerate(COHORT, 1)
    )
    assert "e right" not in text and "f empty" not in text
    assert text.count("N1 in the truth, called N0") == 1


def test_mistakes_are_described(folders: tuple[Path, Path]) -> None:
    evaluation = evaluate(pair_up(*folders), Rules())
    words = {case.study.name: " ".join(describe_mistakes(case, evaluation.rules)) for case in worst_studies(evaluation)}
    assert words["d called N0"] == (
        "Missed suspicious nodes: 1 of 1, of 9.0 mm. The prediction there has 6.0 mm and is not suspicious. "
        "Dice 0.00 of suspicious nodes and 0.46 of all nodes."
    )
    assert words["z misses two"].startswith(
        "Missed suspicious nodes: 2 of 3, the largest of 9.0 mm. Nothing was outlined there. Dice 0.50 of"
    )
    assert "False suspicious nodes: 1 of 1, of 9.0 mm. The truth has no node there." in words["c called N1"]
    assert (
        words["b small better"] == "Dice of suspicious nodes undefined (no node on either side) and 0.75 of all nodes."
    )


def test_the_slice_is_the_one_with_the_greatest_error(tmp_path: Path) -> None:
    """Where the missed node is: most of its voxels that nobody predicted, in slice 6 of 8; its place in the picture by
    millimetres, for a grid that runs to the right."""
    truth, predicted = cubes([(C, 3)]), np.zeros(SHAPE_ZYX, np.uint16)
    truth[5, 4:8, 30:34] = truth[4, 4:7, 30:33] = truth[6, 5:7, 31:33] = 2
    predicted[C[0] : C[0] + 3, 20:23, 20:23] = 1
    right = np.diag([-2.0, 3.0, 4.0, 1.0])
    for side, array in (("truth/labelsTr", truth), ("pred", predicted)):
        write_labels(tmp_path / side, "0", array, right)
    write_image(tmp_path / "truth" / "imagesTr", "0_0000", right)
    evaluation = evaluate(pair_up(tmp_path / "pred", tmp_path / "truth"), Rules(suspicious_mm=4.0))
    (case,) = worst_studies(evaluation)
    shown = slice_of(case, evaluation)
    assert (shown.number, shown.count, shown.spacing_xy_mm) == (6, 8, (2.0, 3.0))
    # To the left and to the back: x grows to the left already, y is turned round.
    assert np.array_equal(shown.truth, truth[5, ::-1])
    left, top, edge = shown.close_mm
    assert edge == 60.0
    assert (left, top) == (80.0 - 60.0, 120.0 - 60.0)  # the node is at the edges: held within 80 and 120 mm
    assert shown.grey is not None and shown.grey.min() == 0 and shown.grey.max() == 255


def test_a_missing_image_is_reported(
    folders: tuple[Path, Path], page_and_content: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    """None, one on another grid, one that is no study, one that the report beside the prediction was not made of."""
    assert "Outlines only" not in page_and_content[0] and page_and_content[0].count("<image ") == len(COHORT)
    cohort = dict.fromkeys(("absent", "elsewhere", "no study", "other file"), COHORT["x misses one"])
    pred, truth = write_cohort(tmp_path, cohort, images=False)
    images = tmp_path / "images"
    write_image(images, "elsewhere", slices=SHAPE_ZYX[0] - 1)
    (images / "no study_0000.nii").write_bytes(b"nothing")
    write_image(images, "other file_0000")
    (pred / "other file").mkdir()
    (pred / "other file.nii.gz").rename(pred / "other file" / "labels.nii.gz")
    report = {
        "schema": "lnfast.report/1",
        "study": {"sha256": "0" * 64},
        "model": {"name": "m", "version": "1"},
        "engine": {"backend": "b", "precision": "fp32"},
        "rules": {"short_axis": "box", "suspicious_mm": 8.0},
        "summary": {"n_stage_by_rule": {"box": "N1"}},
    }
    (pred / "other file" / "report.json").write_text(json.dumps(report))
    page, _ = evaluation_page(pred, truth, images=images)
    reasons = re.findall(r'<p class="noimage">Outlines only: (.*?)\.</p>', page)
    assert reasons[0] == "no image of this study was found"
    assert reasons[1].startswith("its image was not taken (grid-mismatch: ")
    assert reasons[2].startswith("its image was not taken (not-nifti: no study_0000.nii")
    assert reasons[3] == "its image was not taken: the report beside the prediction is of another file"
    assert "<image" not in page and page.count('class="plain"') == 4
    report["study"] = {"sha256": hashlib.sha256((images / "other file_0000.nii.gz").read_bytes()).hexdigest()}
    (pred / "other file" / "report.json").write_text(json.dumps(report))
    page, _ = evaluation_page(pred, truth, images=images)
    assert page.count("<image ") == 1


def test_a_label_map_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    pred, truth = write_cohort(tmp_path, {"0": COHORT["x misses one"]})
    evaluation = evaluate(pair_up(pred, truth), Rules())
    write_labels(pred, "0", cubes([(A, 3), (C, 3)]))
    with pytest.raises(StudyError, match="changed since") as refused:
        render(evaluation, metrics(evaluation), FIGURES)
    assert refused.value.code == "changed"


# --- the drawing ------------------------------------------------------------------------------------------------------


def filled(path: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """What a renderer fills by the non-zero rule from the winding number of each pixel."""
    winding = np.zeros((shape[0], shape[1] + 1), np.int64)
    x = y = 0
    start = (0, 0)
    for kind, value, second in re.findall(r"([MHVz])(\d*) ?(\d*)", path):
        before = y
        if kind == "M":
            x, y = int(value), int(second)
            start = (x, y)
            continue
        if kind == "H":
            x = int(value)
        else:
            y = int(value) if kind == "V" else start[1]
            x = x if kind == "V" else start[0]
        low, high = sorted((before, y))
        winding[low:high, x] += 1 if y > before else -1
    return winding.cumsum(axis=1)[:, :-1] != 0


@pytest.mark.parametrize("seed", range(40))
def test_an_outline_holds_its_mask_and_nothing_else(seed: int) -> None:
    """Holes, corners that touch, masks to the edge: filled again it is the mask, and it is as long as its edges."""
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 9), rng.integers(1, 9))) < rng.random()
    path = outline(mask)
    assert np.array_equal(filled(path, mask.shape), mask)
    assert path.count("M") == path.count("z")


def test_the_dark_casing_of_an_outline_hides_no_other_outline(page_and_content: tuple[str, dict[str, Any]]) -> None:
    """Where both sides run along the same edges, both are seen: all that is dark comes first."""
    groups = re.findall(r'-outlines" .*?</g>', page_and_content[0])
    assert len(groups) == len(COHORT)
    for group in groups:
        kinds = re.findall(r'<path class="(\w+)', group)
        assert len(kinds) == 2 * kinds.count("below") > 0
        assert kinds == sorted(kinds, key=["below", "truth", "prediction"].index)


def test_straight_runs_are_one_step() -> None:
    assert outline(np.zeros((3, 3), bool)) == ""
    assert outline(np.ones((2, 3), bool)) == "M0 0H3V2H0z"


def test_a_png_has_the_given_pixels_and_stays_small() -> None:
    grey = np.random.default_rng(2).integers(0, 256, (7, 5)).astype(np.uint8)
    assert np.array_equal(unpacked(grey_png(grey)), grey)
    large = np.random.default_rng(3).normal(60, 8, (512, 512)).clip(0, 255).astype(np.uint8)
    large[0, :2] = 0, 255
    png = grey_png(large)
    assert len(png) <= PNG_BYTES_AT_MOST
    fewer = unpacked(png)
    assert (fewer.min(), fewer.max()) == (0, 255)
    assert np.abs(fewer.astype(int) - large).max() <= 8


def unpacked(png: bytes) -> NDArray[np.uint8]:
    """A PNG of one grey channel, read by the standard: every chunk whole, no filter."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    place, chunks = 8, {}
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        assert struct.unpack(">I", png[place + 8 + length : place + 12 + length]) == (zlib.crc32(kind + data),)
        chunks[kind], place = data, place + 12 + length
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 0, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


# --- with the folder --------------------------------------------------------------------------------------------------


def test_the_command_writes_it_with_the_rest(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its figures are the files beside it; to draw them takes seconds, and test_evaluate_command.py does."""
    drawn = {name: name.encode() for name in OWN_FILES if name.endswith((".png", ".svg"))}
    monkeypatch.setattr("lnfast.evaluate.output.folder.draw_figures", lambda evaluation: drawn)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, folders), "-o", str(tmp_path / "out"), "--json"])
    assert ended.value.code == 0
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    png = base64.b64encode((tmp_path / "out" / "roc.png").read_bytes()).decode()
    assert png in page
    assert page.count('<figure class="case">') == len(COHORT)
    assert len(page) < 100_000
