"""The images that a result was made of, as the objects that are written from it need them.

One dataset a slice, in the order of the volume's slices, each as if it were a classic image: highdicom takes classic
images whatever their vendor, and of an enhanced file it would reference every frame at a position (b = 0 and each
direction beside the trace). `restore` puts the true references in afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lnfast.errors import StudyError
from lnfast.geometry import Grid
from lnfast.report.dicom.uids import UidSource
from lnfast.study import Study
from lnfast.study.dicom.frames import MR_IMAGE
from lnfast.study.dicom.identity import instances_of
from lnfast.study.dicom.packages import PYDICOM, quiet

# Of patient and study: empty where an anonymiser removed them, which the standard allows (type 2) and highdicom not.
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_MULTI_BYTE = ("GB18030", "GBK")
# Elements of an enhanced file that a slice of it has not, or has another value of.
_OF_THE_FILE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
    "DimensionOrganizationType",
)


@dataclass(frozen=True)
class Source:
    """The slices of a study.

    Attributes:
        slices: one dataset each, without pixels; of enhanced files under UIDs of their own.
        frames: UID of a slice to the UID of its file and the frame's number from 1; empty of classic images.
        sop_class: of the files.
        sop_uids: of the files.
    """

    slices: tuple[Any, ...]
    frames: dict[str, tuple[str, int]]
    sop_class: str
    sop_uids: tuple[str, ...]


def read_source(study: Study) -> Source:
    """Read the headers of a study's images again.

    Args:
        study: read from DICOM.

    Raises:
        StudyError: ``damaged``, ``source-changed`` where the files are not those of the study any more.
        BackendError: ``backend-missing``.
    """
    assert study.provenance.dicom is not None, "only a study that was read from DICOM has source images"
    datasets: dict[str, Any] = {}
    slices, frames = [], {}
    for z, (path, index) in enumerate(study.provenance.dicom.frames):
        if path not in datasets:
            datasets[path] = read_header(path)
            _complete(datasets[path], float(study.volume.grid.spacing_zyx_mm[0]))
        dataset = datasets[path]
        if "NumberOfFrames" in dataset:
            dataset = _classic(dataset, z, study.volume.grid)
            frames[dataset.SOPInstanceUID] = (datasets[path].SOPInstanceUID, index + 1)
        _check_place(dataset, z, study.volume.grid)
        slices.append(dataset)
    origins = [datasets[path] for path, _ in study.provenance.dicom.frames]
    if study.provenance.dicom.instances != instances_of(
        (str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)) for dataset in origins
    ):
        raise _changed()
    files = tuple(datasets.values())
    return Source(
        tuple(slices), frames, str(files[0].SOPClassUID), tuple(str(dataset.SOPInstanceUID) for dataset in files)
    )


def restore(built: Any, source: Source) -> None:
    """Replace references to single slices of an enhanced file by the file's UID and the frame's number, in place.

    A list of the instances of a series has no frame numbers and each instance once; every other reference has one.
    """
    if source.frames:
        _restore(built, source, listed=False)


def _restore(dataset: Any, source: Source, *, listed: bool) -> None:
    for element in dataset:
        if element.VR != "SQ":
            continue
        inside = listed or element.keyword == "ReferencedSeriesSequence"
        seen: set[str] = set()
        items = []
        for item in element.value:
            _restore(item, source, listed=inside)
            uid = item.get("ReferencedSOPInstanceUID")
            if uid in source.frames:
                item.ReferencedSOPClassUID = source.sop_class
                item.ReferencedSOPInstanceUID, number = source.frames[uid]
                if not inside:
                    item.ReferencedFrameNumber = number
                elif item.ReferencedSOPInstanceUID in seen:
                    continue
                seen.add(str(item.ReferencedSOPInstanceUID))
            items.append(item)
        if len(items) < len(element.value):
            element.value = type(element.value)(items)


def read_header(path: str) -> Any:
    """A DICOM file without its pixels.

    Raises:
        StudyError: ``source-changed`` where it is not there, ``damaged``.
    """
    with quiet():
        try:
            return PYDICOM.load().dcmread(path, stop_before_pixels=True)
        except FileNotFoundError as error:
            raise StudyError("source-changed", "an image of the series is not there any more") from error
        except Exception as error:  # pydicom's texts may quote the header
            raise StudyError("damaged", "a DICOM file cannot be read to its end; send it again") from error


def _complete(dataset: Any, step_mm: float) -> None:
    """Put in place what the objects need and anonymisers, old archives and other languages leave out or write else."""
    if any(not dataset.get(keyword) for keyword in _NEEDED):
        raise StudyError("damaged", "the images lack a UID that seg.dcm and sr.dcm refer to; send the originals")
    for keyword in _MAY_BE_EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    valuerep = PYDICOM.load("pydicom.valuerep")
    for keyword, kind in (("PatientBirthDate", "DA"), ("StudyDate", "DA"), ("StudyTime", "TM")):
        try:
            getattr(valuerep, kind)(dataset.get(keyword) or None)
        except ValueError:  # such as 19500000
            setattr(dataset, keyword, None)
    if not dataset.get("SliceThickness"):
        dataset.SliceThickness = _decimal(step_mm)
    if not dataset.get("FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = UidSource.of([str(dataset.SeriesInstanceUID)]).uid("frame of reference")
    for element in list(dataset):
        if element.VR == "SQ" and not element.value:  # such as ProcedureCodeSequence, which has items or is not there
            del dataset[element.tag]
    _unify_character_set(dataset)


def _unify_character_set(dataset: Any) -> None:
    """Turn what highdicom writes no text in, such as ISO 2022 with several sets, into UTF-8."""
    character_set = dataset.get("SpecificCharacterSet")
    if not character_set:
        dataset.pop("SpecificCharacterSet", None)
    elif isinstance(character_set, str) and (character_set.startswith("ISO_IR ") or character_set in _MULTI_BYTE):
        return
    else:
        dataset.decode()
        dataset.SpecificCharacterSet = "ISO_IR 192"


def _classic(dataset: Any, z: int, grid: Grid) -> Any:
    """The slice of an enhanced file as a classic image on the volume's grid, under a UID for the time being."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    _, between_rows, between_columns = (float(value) for value in grid.spacing_zyx_mm)
    piece = PYDICOM.load().Dataset()
    piece.update({element.tag: element for element in dataset if element.keyword not in _OF_THE_FILE})
    piece.file_meta = dataset.file_meta
    piece.SOPClassUID = MR_IMAGE
    piece.SOPInstanceUID = f"{dataset.SOPInstanceUID}"[:54] + f".9.{z + 1}"
    piece.ImagePositionPatient = [_decimal(value) for value in (lps @ (0, 0, z, 1))[:3]]
    piece.ImageOrientationPatient = [
        _decimal(value) for value in (*(lps[:3, 0] / between_columns), *(lps[:3, 1] / between_rows))
    ]
    piece.PixelSpacing = [_decimal(between_rows), _decimal(between_columns)]
    piece.SliceThickness = _decimal(float(grid.spacing_zyx_mm[0]))
    return piece


def _decimal(value: float) -> str:
    """A number in at most 16 characters (DS)."""
    return f"{value:.9g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.10f}"


def _check_place(dataset: Any, z: int, grid: Grid) -> None:
    place = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine @ (0, 0, z, 1))[:3]
    position = np.array([float(value) for value in dataset.get("ImagePositionPatient") or (np.inf,) * 3])
    if not np.abs(position - place).max() < 0.5 or (int(dataset.Rows), int(dataset.Columns)) != grid.shape[1:]:
        raise _changed()


def _changed() -> StudyError:
    return StudyError("source-changed", "the images of the series are not those that were read; run it again")
