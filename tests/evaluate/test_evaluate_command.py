"""``lnfast evaluate`` from folders to folder: the paper's numbers on 77 tiny patients, and whole or not at all."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import affine_of
from scipy import stats

from lnfast.cli import main
from lnfast.evaluate.output.folder import OWN_FILES
from lnfast.evaluate.packages import PACKAGES
from lnfast.geometry import Grid, Volume
from lnfast.study.label_writer import label_map_bytes

SHAPE_ZYX, SPACING_MM = (12, 30, 30), 3.0
# Room for blocks of up to 9 mm that do not touch.
SLOTS = [(z, y, x) for z in (0, 6) for y in range(0, 30, 6) for x in range(0, 30, 6)]
PATIENTS, N1 = 77, 37


def lnfast(*arguments: object) -> int:
    """Exit code of the command line, run in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def write_map(path: Path, suspicious: list[int], small: list[int], *, mask: bool = False) -> None:
    """Cubes of 9 and of 6 mm at slots, numbered in the order of slots or all 1."""
    labels = np.zeros(SHAPE_ZYX, np.uint16)
    for number, slot in enumerate(sorted(suspicious + small), start=1):
        edge = 3 if slot in suspicious else 2
        labels[tuple(slice(start, start + edge) for start in SLOTS[slot])] = 1 if mask else number
    path.write_bytes(label_map_bytes(Volume(labels, Grid(SHAPE_ZYX, affine_of((SPACING_MM,) * 3, 5, 10, 20)))))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The paper's counts: 37 of 77 patients N1, three others called so; 230 nodes, 226 of them found, five false."""
    root = tmp_path_factory.mktemp("cohort")
    for part in ("pred", "truth/labelsTr", "truth/truth"):
        (root / part).mkdir(parents=True)
    for patient in range(PATIENTS):
        name = f"patient {patient:02d}"
        true = list(range(7 if patient < 8 else 6)) if patient < N1 else []
        predicted = true[1:] if patient < 4 else true
        predicted = predicted + ([20] if patient in (10, 11) or N1 <= patient < N1 + 3 else [])
        small = [30, 32] if patient % 2 else [30]
        write_map(root / "truth" / "labelsTr" / f"{name}.nii.gz", true, small)
        write_map(root / "pred" / f"{name}.nii.gz", predicted, small, mask=True)
        scanner = ("achieva", "discovery", "ingenia")[patient % 3]
        (root / "truth" / "truth" / f"{name}.json").write_text(json.dumps({"scanner": scanner}))
    return root / "pred", root / "truth"


@pytest.fixture(scope="module")
def written(cohort: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "evaluation"
    assert lnfast("evaluate", *cohort, "-o", out) == 0
    return out


@pytest.fixture(scope="module")
def content(written: Path) -> dict[str, Any]:
    def no(constant: str) -> None:
        pytest.fail(f"metrics.json holds {constant}")

    content: dict[str, Any] = json.loads((written / "metrics.json").read_text(), parse_constant=no)
    return content


def rounded(content: dict[str, Any], digits: int, *keys: str) -> list[float]:
    return [round(content[key], digits) for key in keys]


# --- the paper's numbers --------------------------------------------------------------------------------------------


def test_the_paper_s_patients(content: dict[str, Any]) -> None:
    patient = content["patient"]
    assert patient["table"] == {"tp": 37, "fp": 3, "fn": 0, "tn": 37}
    assert rounded(patient["sensitivity"], 3, "value", "low", "high") == [1.0, 0.905, 1.0]
    assert rounded(patient["specificity"], 3, "value", "low", "high") == [0.925, 0.796, 0.984]
    assert patient["auc"]["value"] == 0.9625
    assert rounded(patient["auc"], 3, "low", "high") == [0.892, 0.993]
    assert rounded(patient["auc"], 3, "delong_low", "delong_high") == [0.921, 1.0]
    assert rounded(patient["kappa"], 4, "value", "se") == [0.9222, 0.0439]


def test_the_paper_s_nodes(content: dict[str, Any]) -> None:
    suspicious = content["detection"]["suspicious"]
    assert (suspicious["tp"], suspicious["fp"], suspicious["fn"]) == (226, 5, 4)
    assert rounded(suspicious, 4, "precision", "recall", "f1") == [0.9784, 0.9826, 0.9805]
    for key in ("one_to_one", "iou_0.1", "iou_0.5", "touching_any_size"):
        assert (suspicious[key]["tp"], suspicious[key]["fp"], suspicious[key]["fn"]) == (226, 5, 4)
    assert suspicious["by_prediction"]["right"] == 226


@pytest.mark.usefixtures("no_figures")
def test_the_same_from_a_pipe(
    cohort: tuple[Path, Path], content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lnfast("evaluate", *cohort, "-o", tmp_path / "again", "--json") == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == content
    assert output.err == ""


# --- what is written ------------------------------------------------------------------------------------------------


def test_metrics_json_has_the_promised_keys_in_order(content: dict[str, Any]) -> None:
    assert list(content)[:5] == ["schema", "disclaimer", "versions", "rules", "counts"]
    assert list(content)[5:] == [
        "predictions_by",
        "segmentation",
        "segmentation_of_matched_nodes",
        "subset_comparison",
        "detection",
        "patient",
        "measurement",
        "groups",
        "warnings",
        "definitions",
    ]
    assert content["schema"] == "lnfast.metrics/1"
    for subset in ("all", "suspicious", "largest"):
        assert list(content["segmentation"][subset]) == ["dice", "ppv", "tpr", "vs", "hd_mm", "avd_mm", "mhd"]
        for measure in content["segmentation"][subset].values():
            assert list(measure)[:3] == ["mean", "sd", "n"]
            assert measure["n"] + measure["undefined"] == PATIENTS == measure["n"] + sum(measure["reasons"].values())
        assert list(content["detection"][subset])[:6] == ["tp", "fp", "fn", "precision", "recall", "f1"]
    for measure in ("sensitivity", "specificity", "auc", "kappa"):
        assert list(content["patient"][measure])[:3] == ["value", "low", "high"]
    for quantity in ("short_axis_mm", "volume_mm3"):
        promised = ["bias", "loa_low", "loa_high", "pearson_r", "p_value"]
        for part in (content["measurement"][quantity], content["measurement"][quantity]["largest"]):
            assert list(part)[:5] == promised
    assert set(content["versions"]) == {"lnfast", *PACKAGES.values()}
    assert content["counts"]["predicted_read_as"] == {"components": 58, "one node": 19}
    assert content["counts"]["true_nodes"] == 230 + PATIENTS + PATIENTS // 2


def test_a_measure_that_is_undefined_is_not_counted(content: dict[str, Any]) -> None:
    """No suspicious node on either side in 37 patients; three of the others have only a false one."""
    dice = content["segmentation"]["suspicious"]["dice"]
    assert (dice["n"], dice["reasons"]) == (40, {"no node on either side": 37})
    assert content["segmentation"]["suspicious"]["hd_mm"]["reasons"] == {
        "no node on either side": 37,
        "no true node": 3,
    }
    short = content["measurement"]["short_axis_mm"]
    assert (short["bias"], short["p_value"], short["n"]) == (pytest.approx(0), None, 226 + 115)
    assert short["reasons"]["p_value"] == "all differences are alike"


def test_scanners_are_compared(content: dict[str, Any]) -> None:
    groups = content["groups"]
    assert (groups["from"], groups["studies"]) == ("truth/<name>.json", PATIENTS)
    dice = groups["segmentation"]["all"]["dice"]
    assert {name: group["n"] for name, group in dice["groups"].items()} == {
        "achieva": 26,
        "discovery": 26,
        "ingenia": 25,
    }
    assert len(dice["lsd"]) == 3
    assert 0 < dice["p_value"] < 1
    assert groups["error"]["volume_mm3"]["reason"] == "the values of each group are alike"


def test_the_three_subsets_are_compared(written: Path, content: dict[str, Any]) -> None:
    """The paper's ANOVA, by scipy from what cases.csv says, and the words that say what it ignores."""
    with open(written / "cases.csv", encoding="utf-8", newline="") as stream:
        cases = list(csv.DictReader(stream))
    for measure in ("dice", "vs"):
        values = {
            subset: [float(case[f"{subset}_{measure}"]) for case in cases if case[f"{subset}_{measure}"]]
            for subset in ("all", "suspicious", "largest")
        }
        result, expected = content["subset_comparison"][measure], stats.f_oneway(*values.values())
        assert (result["f"], result["p_value"]) == pytest.approx((expected.statistic, expected.pvalue))
        assert {name: group["n"] for name, group in result["groups"].items()} == {
            name: len(numbers) for name, numbers in values.items()
        }
        assert len(result["lsd"]) == 3
    assert "not independent" in content["definitions"]["subset_comparison"]
    assert "tp counts true nodes and fp predictions" in content["definitions"]["detection"]
    for key in ("intervals", "measurement"):
        assert "counted as independent" in content["definitions"][key]
    assert "ignores how many patients each class has" in content["definitions"]["patient.auc"]


def test_tables_agree_with_the_numbers(written: Path, content: dict[str, Any]) -> None:
    with open(written / "cases.csv", encoding="utf-8", newline="") as stream:
        cases = list(csv.DictReader(stream))
    assert [case["name"] for case in cases] == [f"patient {number:02d}" for number in range(PATIENTS)]
    for subset in ("all", "suspicious", "largest"):
        for key in ("tp", "fp", "fn"):
            assert sum(int(case[f"{subset}_{key}"]) for case in cases) == content["detection"][subset][key]
        values = [float(case[f"{subset}_dice"]) for case in cases if case[f"{subset}_dice"]]
        assert np.mean(values) == pytest.approx(content["segmentation"][subset]["dice"]["mean"], rel=1e-12)
    assert {case["truth_read_as"] for case in cases} == {"ids", "one node"}
    assert {case["predicted_read_as"] for case in cases} == {"components", "one node"}
    assert "suspicious_dice: no node on either side" in cases[-1]["undefined"]
    with open(written / "nodes.csv", encoding="utf-8", newline="") as stream:
        nodes = list(csv.DictReader(stream))
    kinds = [node["kind"] for node in nodes]
    assert (kinds.count("matched"), kinds.count("missed"), kinds.count("extra")) == (226 + 115, 4, 5)
    (extra,) = [node for node in nodes if node["kind"] == "extra" and node["name"] == "patient 10"]
    assert (extra["truth_id"], extra["predicted_id"], extra["predicted_suspicious"]) == ("", "7", "1")
    assert all(node["iou"] == node["dice"] == "1.0" for node in nodes if node["kind"] == "matched")


def test_figures_are_whole_and_the_same_each_time(
    cohort: tuple[Path, Path], written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the user's own matplotlibrc says otherwise, which is as it was afterwards."""
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "font.size", 20.0)
    monkeypatch.setitem(matplotlib.rcParams, "svg.hashsalt", None)
    assert lnfast("evaluate", *cohort, "-o", tmp_path / "again") == 0
    assert matplotlib.rcParams["font.size"] == 20.0
    assert {path.name for path in written.iterdir()} == OWN_FILES
    for name in sorted(OWN_FILES):
        assert (written / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    for name in ("correlation", "bland_altman", "roc"):
        assert (written / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (written / f"{name}.svg").read_text()
        assert svg.rstrip().endswith("</svg>")
        assert not re.search(r"<dc:date>|Matplotlib v", svg)
    assert "matplotlib.pyplot" not in sys.modules or matplotlib.pyplot.get_fignums() == []


@pytest.mark.usefixtures("no_figures")
def test_the_command_prints_the_tables(
    cohort: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each measure beside the paper's; notes on stderr."""
    pred, truth = cohort
    assert lnfast("evaluate", pred, truth / "labelsTr", "-o", tmp_path / "out", "--suspicious-mm", "9.5") == 0
    output = capsys.readouterr()
    assert max(map(len, output.out.splitlines())) <= 100
    assert output.out.isascii()
    assert "all against suspicious nodes: Dice p - (paper 0.009), VS p - (paper 0.046)" in output.out
    assert "226/231 0.978" in output.out  # the paper's, for no node is suspicious here
    assert re.search(r"^Sensitivity for N1 +\| ?- \(no patient is N1 in the truth\)", output.out, re.M)
    assert "| 0.892-0.993" not in output.out
    assert output.err == ""
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["rules"]["suspicious_mm"] == 9.5
    assert content["patient"]["auc"]["value"] is None


def test_studies_without_any_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything undefined, nothing NaN, every figure there; one scanner unknown is a note on stderr."""
    for side in ("pred", "truth"):
        (tmp_path / side).mkdir()
        for name in ("=1+1", "Ö; DROP"):
            write_map(tmp_path / side / f"{name}.nii.gz", [], [])
    assert lnfast("evaluate", tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out") == 0
    output = capsys.readouterr()
    assert output.err.startswith("lnfast: no-groups: no scanner is named; ")
    content = json.loads((tmp_path / "out" / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert content["segmentation"]["all"]["dice"]["n"] == 0
    assert content["patient"]["specificity"]["value"] == 1.0
    assert content["patient"]["kappa"]["value"] is None
    assert content["groups"]["reason"] == "no groups"
    assert content["predictions_by"] is None
    # A name that a spreadsheet would compute.
    assert [line.split(",")[0] for line in (tmp_path / "out" / "cases.csv").read_text().splitlines()] == [
        "name",
        "'=1+1",
        "Ö; DROP",
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == OWN_FILES
    assert (tmp_path / "out" / "nodes.csv").read_text().count("\n") == 1


# --- whole or not at all --------------------------------------------------------------------------------------------


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second saved where figures are not what is looked at."""
    files = {name: b"" for name in OWN_FILES if name.endswith((".png", ".svg"))}
    monkeypatch.setattr("lnfast.evaluate.output.folder.draw_figures", lambda evaluation: files)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    for side in ("pred", "truth"):
        (tmp_path / side).mkdir()
        for number in range(3):
            write_map(tmp_path / side / f"{number}.nii.gz", [number], [30])
    return tmp_path / "pred", tmp_path / "truth"


@pytest.mark.usefixtures("no_figures")
def test_an_earlier_evaluation_is_replaced_and_nothing_else(
    small: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for limit in ("8", "20"):
        assert lnfast("evaluate", *small, "-o", out, "--suspicious-mm", limit) == 0
    assert json.loads((out / "metrics.json").read_text())["rules"]["suspicious_mm"] == 20
    (out / "roc.png").unlink()  # some of its files may be missing
    assert lnfast("evaluate", *small, "-o", out, "--suspicious-mm", "20") == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "notes.txt").write_text("mine")
    file, foreign, link = tmp_path / "file", tmp_path / "foreign", tmp_path / "link"
    file.write_text("mine")
    foreign.mkdir()
    (foreign / "metrics.json").write_text('{"schema": "somebody.else/1"}')
    link.symlink_to(out)
    capsys.readouterr()
    for occupied in (out, file, foreign, link, small[0]):
        assert lnfast("evaluate", *small, "-o", occupied) == 2
        assert capsys.readouterr().err.startswith(f"lnfast: output-exists: {occupied} ")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before | {"notes.txt": b"mine"}
    (tmp_path / "empty").mkdir()
    assert lnfast("evaluate", *small, "-o", tmp_path / "empty") == 0


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1)])
def test_an_interrupted_evaluation_leaves_the_earlier_one(
    small: tuple[Path, Path],
    tmp_path: Path,
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C or a full disk while the files are written: no half evaluation, and the earlier one stands."""
    out = tmp_path / "out"
    assert lnfast("evaluate", *small, "-o", out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def stopped(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("lnfast.atomic.flush", stopped)
        for target in (out, tmp_path / "new"):
            assert lnfast("evaluate", *small, "-o", target, "--suspicious-mm", "20") == code
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"pred", "truth", "out"}
    assert capsys.readouterr().err.count("\n") >= 2


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["{pred}", "{truth}"], 2, "usage: "),
        (["{pred}", "-o", "out"], 2, "usage: "),
        (["{pred}", "{truth}", "-o", "out", "--suspicious-mm", "0"], 2, "bad-rules: "),
        (["{pred}", "{pred}", "-o", "out"], 2, "same-folder: "),
        (["{pred}", "nowhere", "-o", "out"], 2, "not-found: "),
        (["{pred}", "{truth}", "-o", "out", "--groups", "nowhere.csv"], 2, "usage: "),
        (["{pred}", "{truth}", "-o", "out", "--read-as", "image"], 2, "usage: "),
        (["{short}", "{truth}", "-o", "out"], 2, "missing-prediction: "),
        (["{bad}", "{truth}", "-o", "out"], 3, "not-nifti: "),
    ],
)
def test_a_wrong_call_is_one_line(
    small: tuple[Path, Path],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pred, truth = small
    (tmp_path / "short").mkdir()
    write_map(tmp_path / "short" / "1.nii.gz", [], [])
    (tmp_path / "bad").mkdir()
    for number in range(3):
        (tmp_path / "bad" / f"{number}.nii.gz").write_text("no label map")
    folders = {"pred": pred, "truth": truth, "short": tmp_path / "short", "bad": tmp_path / "bad"}
    monkeypatch.chdir(tmp_path)
    assert lnfast("evaluate", *(argument.format(**folders) for argument in arguments)) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"lnfast: {line}")
    assert output.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", PACKAGES)
def test_without_the_extra_the_error_names_the_pip_command(
    module: str,
    small: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert lnfast("evaluate", *small, "-o", tmp_path / "out") == 5
    assert capsys.readouterr().err == (
        f"lnfast: backend-missing: lnfast evaluate needs the package {PACKAGES[module]}, which is not installed: "
        "pip install 'lnfast[evaluate]'\n"
    )
    assert not (tmp_path / "out").exists()


def test_what_the_demo_needs_works_without_the_extra(tmp_path: Path) -> None:
    """Node maps, their comparison and its counts are numpy's alone."""
    code = f"""
import sys
blocked = {[*PACKAGES, "pandas"]!r}
for name in blocked:
    sys.modules[name] = None
import numpy as np
from lnfast.matching import compare, node_map
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
import lnfast.cli.demonstration, lnfast.cli.show_demo
labels = np.zeros((10, 20, 20), np.uint16)
labels[:9, :9, :9] = 1
nodes = node_map(Volume(labels, Grid(labels.shape, np.eye(4))), Rules())
print(compare(nodes, nodes).detection.f1)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1.0\n", "")


def test_a_package_that_is_there_and_broken(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(module: str) -> None:
        raise OSError(f"{module}: cannot open shared object file\nfor whatever reason")

    monkeypatch.setattr("lnfast.optional.importlib.import_module", broken)
    assert lnfast("evaluate", *small, "-o", tmp_path / "out") == 5
    output = capsys.readouterr().err
    assert output.startswith("lnfast: backend-broken: the package scipy is installed and cannot be imported (scipy.")
    assert output.endswith("install it again: pip install 'lnfast[evaluate]'\n")
    assert output.count("\n") == 1
