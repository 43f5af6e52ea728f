"""Files named as something else than a high-b DWI are refused; names that scanners and people give a DWI are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nifti_files import voxels, write_nifti

from lnfast.errors import StudyError
from lnfast.study import read_study

SHAPE = (4, 6, 5)


def study(folder: Path, fields: dict[str, Any] | None, name: str = "a.nii.gz", bval: str | None = None) -> Path:
    path = write_nifti(folder / name, voxels(SHAPE), bval=bval)
    if fields is not None:
        (folder / (name.split(".nii")[0] + ".json")).write_text(json.dumps(fields))
    return path


def refusal(path: Path, **options: Any) -> StudyError:
    with pytest.raises(StudyError) as caught:
        read_study(path, **options)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and "; " in message
    return caught.value


# ImageType as dcm2niix writes it. The first twelve are from the reference output of its dcm_qa_* test sets.
TYPES = {
    "DERIVED PRIMARY DIFFUSION FA MAGNITUDE": "anisotropy",
    "DERIVED PRIMARY DIFFUSION TENSOR B0 MAGNITUDE": "b = 0",
    "ORIGINAL PRIMARY ASL NONE MAGNITUDE": "perfusion",
    "DERIVED PRIMARY ASL SUBTRACTION MAGNITUDE": "perfusion",
    "DERIVED PRIMARY ASL RCBF MAGNITUDE": "perfusion",
    "ORIGINAL PRIMARY PERFUSION FFE PERFUSION FFE": "perfusion",
    "ORIGINAL PRIMARY P NONE PHASE": "phase",
    "ORIGINAL PRIMARY P ND PHASE": "phase",
    "ORIGINAL PRIMARY OTHER FIELDMAPHZ": "field map",
    "ORIGINAL PRIMARY T1 MIXED FIELDMAPHZ": "field map",
    "ORIGINAL PRIMARY FMRI NONE MAGNITUDE": "functional",
    "ORIGINAL PRIMARY ASL NONE ND NORM MOSAIC": "perfusion",
    "DERIVED PRIMARY DIFFUSION TENSOR": "diffusion",
    "DERIVED PRIMARY DIFFUSION FA COLFA": "anisotropy",
    "DERIVED PRIMARY DIFFUSION_ANISO": "anisotropy",
    "DERIVED SECONDARY DIFFUSION B0 ND": "b = 0",
    "ORIGINAL PRIMARY DIFFUSION NONE PHASE": "phase",
    "ORIGINAL PRIMARY PHASE MAP FFE": "phase",
    "ORIGINAL PRIMARY P SE P SE": "phase",
    "ORIGINAL PRIMARY R SE R SE": "real",
    "ORIGINAL PRIMARY I SE I SE": "real",
    "ORIGINAL PRIMARY M SE REAL": "real",
    "ORIGINAL PRIMARY M SE IMAGINARY": "real",
    "ORIGINAL PRIMARY B0 MAP B0 UNSPECIFIED": "field map",
    "DERIVED PRIMARY PERFUSION CBF": "perfusion",
    "DERIVED PRIMARY PERFUSION RELCBV": "perfusion",
    "DERIVED PRIMARY PERFUSION MTT": "perfusion",
    "DERIVED PRIMARY PERFUSION TTP": "perfusion",
    "DERIVED PRIMARY M NONE T2 MAP": "T2",
    "DERIVED PRIMARY T2_STAR_MAP": "T2",
    "ORIGINAL PRIMARY T2 NONE": "T2",
    "ORIGINAL PRIMARY T1 NONE": "T1",
    "ORIGINAL PRIMARY FLUID_ATTENUATED NONE": "T2",
    "ORIGINAL PRIMARY PROTON_DENSITY NONE": "T2",
    "ORIGINAL PRIMARY LOCALIZER NONE": "localizer",
    "ORIGINAL PRIMARY M ND SWI": "T2",
    "DERIVED SECONDARY MNIP": "projection",
    "DERIVED PRIMARY PROJECTION IMAGE": "projection",
    "DERIVED SECONDARY SEGMENTATION": "mask",
    "DERIVED PRIMARY DIFFUSION MD": "diffusion",
    "DERIVED PRIMARY DIFFUSION KURTOSIS": "diffusion",
    "DERIVED PRIMARY METABOLITE_MAP": "spectroscopic",
    "ORIGINAL PRIMARY VELOCITY NONE": "phase",
    "DERIVED SECONDARY SCREEN SAVE": "no image",
}
DESCRIPTIONS = {
    "DWI_dir80_PA_FA": "anisotropy",
    "DWI_dir80_PA_ColFA": "anisotropy",
    "Fractional Aniso.": "anisotropy",
    "FA map": "anisotropy",
    "FA: Ax DTI 25 dir": "anisotropy",
    "Volume Ratio Aniso.": "anisotropy",
    "DWI_dir80_PA_TENSOR_B0": "b = 0",
    "ep2d_diff_tra_b0": "b = 0",
    "DWI b=0": "b = 0",
    "DWI b = 0 s/mm2": "b = 0",
    "ep2d_diff_mddw_20_TENSOR": "diffusion",
    "dMRI_dir106_PA_2x2x2_SBRef": "b = 0",
    "Perfusion_Weighted": "perfusion",
    "relCBF": "perfusion",
    "CBF": "perfusion",
    "rCBV map": "perfusion",
    "MTT": "perfusion",
    "asl_2d_tra": "perfusion",
    "3D_pCASL_6mm": "perfusion",
    "DCE dynamic": "perfusion",
    "Ktrans": "perfusion",
    "ep2d_diff_Pha_Images": "phase",
    "gre_field_mapping": "field map",
    "B0 map": "field map",
    "Mean Diffusivity": "diffusion",
    "DTI_MD": "diffusion",
    "DKI mean kurtosis": "diffusion",
    "Exponential ATT": "diffusion",
    "Exp. Att. Coeff.": "diffusion",
    "IVIM perfusion fraction": "diffusion",
    "T2 map": "T2",
    "t2_tse_tra_p2": "T2",
    "T1w axial": "T1",
    "Ax T2 FLAIR": "T2",
    "AX T1": "T1",
    "T1_mprage_sag": "T1",
    "SWI_Images": "T2",
    "localizer": "localizer",
    "3-plane loc": "localizer",
    "func-bold_task-fa_run-1": "functional",
    "DWI_MIP": "projection",
    "b800 inverted": "inverted",
    "IVIM D map": "map",
}
NAMES = {
    "7_DWI_FA": "anisotropy",
    "dti_FA": "anisotropy",
    "FA": "anisotropy",
    "x_FA_0000": "anisotropy",
    "5_ep2d_diff_FA_12": "anisotropy",
    "sub-01_param-fa_dwimap": "anisotropy",
    "dti_MD": "diffusion",
    "dti_L1": "diffusion",
    "dti_S0": "b = 0",
    "dwi_b0": "b = 0",
    "case_b0_0000": "b = 0",
    "nodif": "b = 0",
    "nodif_brain": "b = 0",
    "9_ep2d_diff_ph": "phase",
    "9_gre_field_mapping_e2_ph": "field map",
    "9_ep2d_diff_e1_ph": "phase",
    "9_ep2d_diff_phMag": "phase",
    "9_ep2d_diff_ph_t178": "phase",
    "sub-01_part-phase_dwi": "phase",
    "9_ep2d_diff_real": "real",
    "9_ep2d_diff_imaginary": "real",
    "9_ep2d_diff_e2_imaginary_t12": "real",
    "9_B0_NS_e2_fieldmaphz": "field map",
    "sub-01_T1w": "T1",
    "sub-01_T2w": "T2",
    "sub-01_FLAIR": "T2",
    "t2_tse_tra": "T2",
    "sub-01_task-rest_bold": "functional",
    "sub-01_asl": "perfusion",
    "sub-01_m0scan": "perfusion",
    "sub-01_phasediff": "field map",
    "28_relCBF": "perfusion",
    "x_cbf": "perfusion",
    "localizer": "localizer",
    "dwi_mask": "mask",
    "case_seg": "mask",
    "labels": "mask",
    "T2map": "T2",
}


@pytest.mark.parametrize("bval", [None, "800"])
@pytest.mark.parametrize("text", TYPES)
def test_image_types_of_other_kinds_are_refused(tmp_path: Path, text: str, bval: str | None) -> None:
    for words in (text.split(), text, text.lower().split(), "\\".join(text.split())):
        error = refusal(study(tmp_path, {"ImageType": words, "Modality": "MR"}, bval=bval))
        assert error.code == "not-dwi" and error.exit_code == 3
        assert TYPES[text] in error.message and "ImageType in its .json says so" in error.message
    assert refusal(study(tmp_path, {"ImageTypeText": text.split()})).code == "not-dwi"


@pytest.mark.parametrize("text", DESCRIPTIONS)
def test_descriptions_of_other_kinds_are_refused(tmp_path: Path, text: str) -> None:
    for fields in ({"SeriesDescription": text}, {"ProtocolName": text}, {"SeriesDescription": text.upper()}):
        error = refusal(study(tmp_path, fields | {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}))
        assert error.code == "not-dwi"
        assert DESCRIPTIONS[text] in error.message and f"{next(iter(fields))} in its .json" in error.message


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("name", NAMES)
def test_names_of_other_kinds_are_refused(tmp_path: Path, name: str, ending: str) -> None:
    error = refusal(write_nifti(tmp_path / f"{name}{ending}", voxels(SHAPE)))
    assert error.code == "not-dwi" and NAMES[name] in error.message and "rename it" in error.message


@pytest.mark.parametrize("modality", ["CT", "PT", "NM", "US", "SEG", "RTSTRUCT", "ct"])
def test_other_modalities_are_refused(tmp_path: Path, modality: str) -> None:
    assert refusal(study(tmp_path, {"Modality": modality})).code == "not-dwi"


@pytest.mark.parametrize(
    "comment", ["Perfusion Weighted Image (PCASL)", "relCBF (PCASL)", "FA map", "fractional anisotropy"]
)
def test_comments_of_other_kinds_are_refused(tmp_path: Path, comment: str) -> None:
    assert refusal(study(tmp_path, {"ImageComments": comment, "SeriesDescription": "x"})).code == "not-dwi"


@pytest.mark.parametrize("field", ["descrip", "intent_name"])
@pytest.mark.parametrize("text", [b"FA map", b"rCBF", b"kurtosis", b"T2 map"])
def test_header_texts_of_other_kinds_are_refused(tmp_path: Path, field: str, text: bytes) -> None:
    error = refusal(write_nifti(tmp_path / "a.nii", voxels(SHAPE), **{field: text}))
    assert error.code == "not-dwi" and text.decode() not in error.message


def test_label_maps_of_lnfast_are_refused_under_any_name(tmp_path: Path) -> None:
    descrip = b"lnfast: value = node id; for research use only"
    assert refusal(write_nifti(tmp_path / "a.nii", voxels(SHAPE), descrip=descrip)).code == "not-dwi"


# ------------------------------------------------------------------------------------- what must not be refused

# (ImageType, SeriesDescription, ProtocolName, ImageComments)
REAL_DWI = [
    # The reference output of dcm2niix's own test sets, and the studies of PROSTATEx.
    ("ORIGINAL PRIMARY DIFFUSION NONE MAGNITUDE", "DWI_dir80_PA", "DWI_dir80_PA", "Unaliased MB3/PE3/LB SENSE1"),
    ("DERIVED PRIMARY DIFFUSION TRACEW MAGNITUDE", "DWI_dir80_PA_TRACEW", "DWI_dir80_PA", "Unaliased MB3/PE3/LB"),
    ("ORIGINAL PRIMARY DIFFUSION NONE ND MB", "C2P__cmrr_mbep2d_diff__p2_mb1", "", "Not for diagnostic use"),
    ("ORIGINAL PRIMARY M SE M SE", "DT_HIGH_32DIR", "DT_HIGH_32DIR SENSE", ""),
    ("ORIGINAL PRIMARY M SE M SE", "dti_ax", "WIP dti_ax", ""),
    ("ORIGINAL PRIMARY M SE M SE MAGNITUDE", "DTI_Biobank_2mm_MB3S2_EPI", "DTI_Biobank_2mm_MB3S2_EPI", ""),
    ("ORIGINAL PRIMARY OTHER", "Ax DWI TENSOR R2", "Brain Advanced Sequences", ""),
    ("ORIGINAL PRIMARY OTHER", "Ax DWI TENSOR R2MB2", "Brain Advanced Sequences", ""),
    ("ORIGINAL PRIMARY OTHER", "Ax DWI TENSOR", "Brain Advanced Sequences", ""),
    ("ORIGINAL PRIMARY GDC", "SAG_DTI_PA-COR_20d", "SAG_DTI_PA-COR_20d", ""),
    ("ORIGINAL PRIMARY GDC NONE", "DTI_PA-ortho-HT-VT", "DTI_PA-ortho-HT-VT", ""),
    ("ORIGINAL PRIMARY DIFFUSION TRACEW ND DIS2D NORM", "ep2d_diff_tra_DYNDIST", "ep2d_diff_tra", ""),
    ("ORIGINAL PRIMARY DIFFUSION TRACEW ND DIS2D NORM", "ep2d_diff_tra_DYNDISTCALC_BVAL", "ep2d_diff_tra", ""),
    ("ORIGINAL PRIMARY DIFFUSION TRACEW NORM DIS2D", "ep2d-advdiff-3Scan-4bval_spair_511b", "", ""),
    ("ORIGINAL PRIMARY DIFFUSION TRACEW ND NORM", "ep2d-advdiff-MDDW-12dir_spair_511b_TRACEW", "", ""),
    # What scanners and radiographers write elsewhere.
    ("DERIVED PRIMARY DIFFUSION CALC_BVALUE TRACEW DIS2D", "ep2d_diff_b50_400_800_tra_CALC_BVAL", "", ""),
    ("DERIVED PRIMARY DIFFUSION CALC BVALUE", "b1500_calc", "", ""),
    ("DERIVED SECONDARY PROCESSED", "Ax DWI b800", "", ""),
    ("ORIGINAL PRIMARY DIFFUSION ISOTROPIC", "isoDWI", "", ""),
    ("ORIGINAL PRIMARY DIFFUSION MEAN", "DWI trace", "", ""),
    ("DERIVED SECONDARY MPR CSA MPR", "DWI_tra_MPR", "", ""),
    ("DERIVED PRIMARY DIFFUSION TRACEW M COMPOSED", "dwibs_comp", "", ""),
    ("ORIGINAL PRIMARY", "ep2d_diff_b0_800", "", ""),
    ("ORIGINAL PRIMARY", "ep2d_diff_b0-50-400-800", "", ""),
    ("ORIGINAL PRIMARY", "DWI b0 b1000", "", ""),
    ("ORIGINAL PRIMARY", "DWI b=0 and 800", "", ""),
    ("ORIGINAL PRIMARY", "DWI 0 500 1000", "", ""),
    ("ORIGINAL PRIMARY", "DWI_3b_ZOOM_0-500-1500", "", ""),
    ("ORIGINAL PRIMARY", "DWI b=800 s/mm2", "", ""),
    ("ORIGINAL PRIMARY", "ADVANCED DWI pelvis STIR b1000", "", ""),
    ("ORIGINAL PRIMARY", "Ax STIR EPI b800", "", ""),
    ("ORIGINAL PRIMARY", "t2_ep2d_diff_tra", "", ""),
    ("ORIGINAL PRIMARY", "DWI fat sat axial", "", ""),
    ("ORIGINAL PRIMARY", "diffusie-3Scan-4bval_fsCALC_BVAL", "", ""),
    ("ORIGINAL PRIMARY", "T2 difusion axial", "", ""),
    ("ORIGINAL PRIMARY DIFFUSION TRACEW NORM DIS2D DFC", "ep2d_diff_b50_1400_TRACEW_DFC_MIX", "", ""),
    ("ORIGINAL PRIMARY", "resolve_3scan_trace_tra_TRACEW", "", ""),
    ("ORIGINAL PRIMARY", "IVIM_DWI_12b", "", ""),
    ("ORIGINAL PRIMARY", "DWI FA90", "", ""),
    ("ORIGINAL PRIMARY", "DTI reversed phase", "", ""),
    ("ORIGINAL PRIMARY", "eDWI pelvis real time", "", ""),
    ("ORIGINAL PRIMARY M ND", "Beckenlymphknoten axial", "", ""),
]
NAMES_OF_DWI = (
    ["3adc71_dwi", "cascade", "8CALC_BVAL", "macadcam", "dwi_0000", "case_0001", "FA_001_dwi", "MD_0012", "RD", "AD_07"]
    + [
        "P01_T1",
        "P01_T2_0000",
        "P02_M0",
        "ct_b800",
        "dwi_b800",
        "b1000",
        "dwi_b0_800",
        "b0b800",
        "800_b0",
        "b50_400_800",
    ]
    + ["6_ep2d_diff_tra_DYNDIST", "8_ep2d_diff_tra_DYNDISTCALC_BVAL", "8_ep2d-advdiff-3Scan-4bval_spair_511b"]
    + [
        "13_ep2d-advdiff-MDDW-12dir_spair_511b_TRACEW",
        "sub-01_dwi",
        "sub-01_acq-b1000_trace",
        "Philadelphia",
        "phantom",
    ]
    + [
        "fatsat_dwi",
        "t2_dwi",
        "dwi_asl_protocol_3",
        "pelvis_dwi_real_patient",
        "surreal",
        "unimaginary",
        "alpha",
        "shim_k",
    ]
    + ["field_j_dwi", "perfect_dwi", "masked_dwi", "segovia", "heatmapper", "10_DWI_dir80_PA"]
    + [
        "3_WIP_DWI_b1000_SENSE_301",
        "p0b0",
        "4b0f-dwi",
        "a1b0_11",
        "9_ep2d_diff_e1",
        "9_ep2d_diff_t178",
        "9_ep2d_diff_a",
    ]
    + [
        "B_12",
        "x_b_800",
        "achieva-n1-7",
        "dwi_Crop_1",
        "Tmaxwell",
        "Mipham",
        "survey_dwi",
        "STAPLE",
        "Ax_DWI_TENSOR_R2_1",
        "Ax_DWI_TENSOR_3",
        "EP2D_DIFF_B50_400_800_TRA_P2_TRACEW_DFC_MIX_0007",
    ]
)


@pytest.mark.parametrize("fields", REAL_DWI, ids=lambda fields: f"{fields[0]}, {fields[1]}")
@pytest.mark.parametrize("bval", [None, "800"])
def test_real_sidecars_of_dwi_are_taken(tmp_path: Path, fields: tuple[str, ...], bval: str | None) -> None:
    keys = ("ImageType", "SeriesDescription", "ProtocolName", "ImageComments")
    content = {key: text for key, text in zip(keys, fields, strict=True) if text} | {"Modality": "MR", "EchoTime": 0.06}
    content["ImageType"] = fields[0].split()
    read_study(study(tmp_path, content, bval=bval))


@pytest.mark.parametrize("name", NAMES_OF_DWI)
def test_names_of_dwi_are_taken(tmp_path: Path, name: str) -> None:
    read_study(write_nifti(tmp_path / f"{name}.nii.gz", voxels(SHAPE), bval="800"))


def test_a_protocol_name_does_not_count_beside_a_description(tmp_path: Path) -> None:
    """All series that are computed from one protocol have its name."""
    read_study(study(tmp_path, {"SeriesDescription": "DTI_TRACEW", "ProtocolName": "DTI_FA"}))
    assert refusal(study(tmp_path, {"ProtocolName": "DTI_FA"})).code == "not-dwi"


@pytest.mark.parametrize(
    "text", [b"TE=63;Time=143005.000;phase=1;mb=2", b"FSL5.0", b"spm - 3D normalized", b"T2", b"FA"]
)
def test_header_texts_of_converters_are_no_evidence(tmp_path: Path, text: bytes) -> None:
    read_study(write_nifti(tmp_path / "a.nii", voxels(SHAPE), descrip=text))


@pytest.mark.parametrize("value", [None, 7, {}, [], [7, None, ["FA"]], [{"FA": "FA"}], True, ["M", 3]])
def test_a_sidecar_of_any_form_is_read(tmp_path: Path, value: Any) -> None:
    fields = (
        "ImageType",
        "SeriesDescription",
        "ProtocolName",
        "ImageComments",
        "Modality",
        "DiffusionBValue",
        "b_value",
    )
    for field in fields if value != 7 else fields[:5]:
        read_study(study(tmp_path, {field: value}))


@pytest.mark.parametrize("text", ["diff_", "a_", "1_", "apparent ", "tensors_"])
def test_megabytes_of_text_hold_nothing_up(tmp_path: Path, text: str) -> None:
    """A search in the whole of these texts would take hours."""
    read_study(study(tmp_path, {"SeriesDescription": text * 500_000, "ImageType": [text] * 100_000}))


# --------------------------------------------------------------------------------------------------------- b-values


@pytest.mark.parametrize("field", ["DiffusionBValue", "BValue"])
@pytest.mark.parametrize("value", [0, 50, 400.0, [0], [0, 0], 3000])
def test_a_b_value_of_the_sidecar_outside_the_range_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    error = refusal(study(tmp_path, {field: value}))
    assert error.code == "no-high-b" and field in error.message


@pytest.mark.parametrize("value", [800, [1000], [0, 800], 10**400, float("inf"), "0", True, [0, None]])
def test_other_b_values_of_the_sidecar_are_no_evidence(tmp_path: Path, value: Any) -> None:
    result = read_study(study(tmp_path, {"DiffusionBValue": value}))
    assert result.b_value is None and [code for code, _ in result.provenance.warnings] == ["unknown-b-value"]


@pytest.mark.parametrize(
    "text",
    ["ep2d_diff_tra_b50", "DWI b=100", "DWI b50 400", "ep2d_diff_b50_TRACEW", "dwi_b400", "resolve b50t", "b50_dwi"],
)
def test_a_low_b_value_that_a_text_names_is_refused_without_bval(tmp_path: Path, text: str) -> None:
    error = refusal(study(tmp_path, {"SeriesDescription": text}))
    assert error.code == "no-high-b" and "SeriesDescription" in error.message
    assert refusal(write_nifti(tmp_path / f"{text}_0000.nii.gz", voxels(SHAPE))).code == "no-high-b"
    read_study(study(tmp_path, {"SeriesDescription": text}, "b.nii.gz", bval="800"))
    read_study(write_nifti(tmp_path / f"{text}.nii.gz", voxels(SHAPE), bval="800"))


@pytest.mark.parametrize(
    "name", [name for name in NAMES_OF_DWI if "b0" not in name] + ["dwi_b1", "dwi_b9", "b50", "lab b20"]
)
def test_other_names_are_taken_without_bval(tmp_path: Path, name: str) -> None:
    read_study(write_nifti(tmp_path / f"{name}.nii.gz", voxels(SHAPE)))


def test_the_bval_counts_more_than_the_sidecar(tmp_path: Path) -> None:
    assert read_study(study(tmp_path, {"DiffusionBValue": 0}, bval="800")).b_value == 800


def test_a_4d_study_may_name_b_0(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "dwi_b0.nii.gz", voxels((2, *SHAPE)), bval="0 800")
    (tmp_path / "dwi_b0.json").write_text(json.dumps({"SeriesDescription": "DWI b0", "DiffusionBValue": 0}))
    assert read_study(path).b_value == 800


def test_who_wants_b_0_gets_it(tmp_path: Path) -> None:
    path = study(tmp_path, {"ImageType": ["DERIVED", "DIFFUSION", "TENSOR", "B0"]}, "x_b0.nii.gz", "0")
    assert refusal(path).code == "not-dwi"
    assert read_study(path, b_targets=(0.0,), b_range=(0.0, 1500.0)).b_value == 0
