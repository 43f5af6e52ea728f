"""STUDIES: files, folders and manifests, and the names of their folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from cohorts import write_study

from lnfast.cluster.inputs import Inputs, list_inputs
from lnfast.errors import UsageError
from lnfast.report import distinct_names


def listed(*studies: Path, out: Path = Path("out")) -> Inputs:
    return list_inputs(studies, out, lambda line: None)


def dicom(path: Path) -> Path:
    """A file with the signature of DICOM; nothing is read of it here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM")
    return path


def nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def manifest(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*studies: Path) -> str:
    with pytest.raises(UsageError) as raised:
        listed(*studies)
    return str(raised.value)


def test_a_folder_is_searched_and_each_folder_of_dicom_is_one_study(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    wanted = [
        nifti(archive / "a.nii.gz"),
        nifti(archive / "b.NII"),
        dicom(archive / "p1" / "series 2" / "0001").parents[1],
        nifti(archive / "p2" / "deep" / "dwi.nii.gz"),
    ]
    for other in ("a.json", "a.bval", "notes.txt", ".hidden.nii.gz", "empty/x.txt", ".trash/c.nii.gz"):
        nifti(archive / other)
    entries = listed(archive).entries
    assert [Path(entry.path) for entry in entries] == wanted
    assert [entry.name for entry in entries] == ["a", "b.NII".removesuffix(".NII"), None, "dwi"]


def test_a_folder_with_dicom_files_is_a_study_itself(tmp_path: Path) -> None:
    dicom(tmp_path / "patient" / "0001")
    nifti(tmp_path / "patient" / "export" / "x.nii.gz")
    (entry,) = listed(tmp_path / "patient").entries
    assert entry.path == str(tmp_path / "patient") and entry.name is None


def test_of_a_data_set_in_nnunets_layout_the_images_are_taken(tmp_path: Path) -> None:
    for name in ("dataset.json", "imagesTr/x_0000.nii.gz", "labelsTr/x.nii.gz"):
        nifti(tmp_path / name)
    assert [entry.name for entry in listed(tmp_path).entries] == ["x"]


def test_the_output_is_no_input(tmp_path: Path) -> None:
    nifti(tmp_path / "x.nii.gz")
    nifti(tmp_path / "out" / "x" / "labels.nii.gz")
    assert len(listed(tmp_path, out=tmp_path / "out").entries) == 1


def test_names_are_those_of_run_also_for_two_files_of_one_name(tmp_path: Path) -> None:
    paths = [nifti(tmp_path / name) for name in ("a/dwi.nii.gz", "b/dwi.nii.gz", "b/DWI_0000.nii.gz", "ü/größe.nii")]
    names = [entry.name for entry in listed(*paths).entries]
    assert names == distinct_names(paths) and len({name.casefold() for name in names if name}) == 4
    assert [entry.name for entry in listed(*paths).entries] == names


def test_a_path_that_is_not_there_is_a_study_so_that_it_gets_a_row(tmp_path: Path) -> None:
    (entry,) = listed(tmp_path / "gone.nii.gz").entries
    assert entry.name == "gone"


@pytest.mark.skipif(os.name != "posix", reason="file names of any bytes")
def test_a_name_that_is_no_utf8_is_listed(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.nii")
    nifti(tmp_path / name)
    (entry,) = listed(tmp_path).entries
    assert entry.path.endswith(name) and entry.name == "caf_"


def test_nothing_found_is_refused(tmp_path: Path) -> None:
    nifti(tmp_path / "folder" / "readme.txt")
    assert refusal(tmp_path / "folder").startswith("no-studies: ")


# --- manifests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["study,path,site\nA 1,x.nii,é\n,sub/y.nii,\n", "\ufeffstudy;path;site\nA 1;x.nii;é\n;sub/y.nii;\n"]
)
def test_a_csv_names_studies_and_carries_columns_along(tmp_path: Path, text: str) -> None:
    inputs = listed(manifest(tmp_path / "m.csv", text))
    assert [entry.name for entry in inputs.entries] == ["A 1", "y"]
    assert [entry.path for entry in inputs.entries] == [str(tmp_path / "x.nii"), str(tmp_path / "sub" / "y.nii")]
    assert [entry.given for entry in inputs.entries] == ["x.nii", "sub/y.nii"]
    assert [entry.carried for entry in inputs.entries] == [{"site": "é"}, {"site": ""}]
    assert inputs.columns == {"site": "string"}


def test_parquet_keeps_the_types_of_what_is_carried_along(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "path": ["/data/x.nii", "y.nii"],
        "age": pyarrow.array([61, None], pyarrow.int16()),
        "psa": [1.5, None],
        "treated": [True, None],
        "date": pyarrow.array([0, None], pyarrow.date32()),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    inputs = listed(tmp_path / "m.parquet")
    assert inputs.columns == {"age": "int64", "psa": "float64", "treated": "bool", "date": "string"}
    assert inputs.entries[0].carried == {"age": 61, "psa": 1.5, "treated": True, "date": "1970-01-01"}
    assert inputs.entries[1].carried == dict.fromkeys(inputs.columns)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("study,file\na,x.nii\n", "no column path"),
        ("path,path\nx,y\n", "two columns"),
        ("path,n_stage\nx.nii,N0\n", "n_stage of its own"),
        ("path,study\nx.nii\n", "another number of cells"),
        ("path,study\nx.nii,a,b\n", "another number of cells"),
        ('path\n""\n', "study 1 has no path"),
        ("path,study\nx.nii,A\ny.nii,a\n", "studies 1 and 2 would both be written to a"),
        ("", "no column path"),
        ('path\n"x.nii\n', "cannot be read"),
    ],
)
def test_a_bad_manifest_is_refused_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    message = refusal(manifest(tmp_path / "m.csv", text))
    assert message.startswith("bad-manifest: ") and words in message


@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00 not a table")
    assert "cannot be read" in refusal(tmp_path / name)
    assert "cannot be read" in refusal(tmp_path / f"gone-{name}")


def test_a_study_may_not_take_the_name_that_a_manifest_gave_to_another(tmp_path: Path) -> None:
    path = manifest(tmp_path / "m.csv", "study,path\ndwi,a.nii\n")
    assert "written to dwi" in refusal(path, nifti(tmp_path / "dwi.nii.gz"))


def test_two_manifests_must_agree_on_the_type_of_a_column(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"path": ["x.nii"], "age": [61]}), tmp_path / "m.parquet")
    other = manifest(tmp_path / "m.csv", "path,age\ny.nii,58\n")
    assert "column age" in refusal(tmp_path / "m.parquet", other)


def test_a_real_study_is_listed_with_its_sidecars_left_out(tmp_path: Path) -> None:
    write_study(tmp_path / "p1.nii.gz", 1)
    assert [entry.name for entry in listed(tmp_path).entries] == ["p1"]
