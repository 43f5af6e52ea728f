"""The result of a study: measured nodes and the report, and how both are written."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lnfast.errors import LnfastError, UsageError
from lnfast.geometry import Volume
from lnfast.measure import LymphNode
from lnfast.report import Notice, Report, add_files, add_page, write_study_folder
from lnfast.study import Study

SegFrames = Literal["sparse", "all"]


@dataclass(frozen=True, eq=False)
class Result:
    """The answer to one study.

    Attributes:
        study: as it was read; its ``name`` names the folder that `write` makes.
        nodes: measured nodes in order of their id.
        labels: ``(z, y, x)`` uint16 on the native grid, value = node id.
        report: everything that is written, as `lnfast.report.Report`.
        folder: the study folder, where `Engine.run_many` wrote it.
        page_problem: why that folder has no report.html, where one was wanted; the report stands without it.
        dicom_problem: the same of seg.dcm and sr.dcm.
    """

    study: Study
    nodes: tuple[LymphNode, ...]
    labels: Volume
    report: Report
    folder: Path | None = None
    page_problem: Notice | None = None
    dicom_problem: Notice | None = None
    _sample: int | None = None  # see `sample_of`

    @property
    def n_stage(self) -> str:
        """``"N0"`` or ``"N1"`` by the chosen short-axis rule."""
        return self.report.n_stage

    @property
    def timings_ms(self) -> dict[str, float]:
        """Wall-clock milliseconds by stage; ``write`` is 0 until the result is written."""
        return dict(self.report.timings_ms)

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """What the reader of the numbers must know, most important first."""
        return self.report.warnings

    def write(
        self,
        out: str | Path,
        *,
        name: str | None = None,
        html: bool = True,
        dicom: bool = True,
        seg_frames: SegFrames = "sparse",
        predecessor: str | Path | None = None,
    ) -> Path:
        """Write ``out/<study name>/`` with report.json, report.txt and labels.nii.gz: whole or not at all.

        Then report.html, whole or not at all, with the study's voxels, and of a study that was read from DICOM seg.dcm
        and sr.dcm, the second last. Where they cannot be written the report stands, and a RuntimeWarning
        ``page-not-written`` or ``dicom-not-written`` says why.

        Args:
            out: folder of study folders, made where it is missing.
            name: another name for the study, in the report as well: two inputs may have the same file name.
            html: write the page too.
            dicom: write seg.dcm and sr.dcm too; the study's files must still be there.
            seg_frames: ``"all"`` writes a frame of every segment for every slice, ``"sparse"`` those with voxels.
            predecessor: the sr.dcm of an earlier result that this one replaces; the new one names it.

        Returns:
            The study folder.

        Raises:
            UsageError: ``output-exists`` when something else of that name is there, such as another study's report.
            OSError: what the disk said; nothing is left behind.
        """
        parts = Parts(html, dicom, seg_frames, None if predecessor is None else Path(predecessor))
        written = write_result(self, Path(out), name or self.study.name, parts)
        for problem in (written.page_problem, written.dicom_problem):
            if problem is not None:
                warnings.warn(str(problem), RuntimeWarning, stacklevel=2)
        assert written.folder is not None
        return written.folder


@dataclass(frozen=True)
class Parts:
    """What is written beside the report; see `Result.write`."""

    html: bool = True
    dicom: bool = True
    seg_frames: SegFrames = "sparse"
    predecessor: Path | None = None


@dataclass(frozen=True)
class StudyFailure:
    """A study that `Engine.run_many` could not serve, in its place among the results.

    Attributes:
        source: the path as it was given, or "array".
        error: why: the study is refused (`StudyError`), the network's answer to it is (`EngineError`), a part of the
            engine that it needs cannot be loaded, or the place for its report is taken (`UsageError`).
    """

    source: str
    error: LnfastError


def sample_of(study: Study) -> int | None:
    """Return a checksum by which a change of an array's voxels is noticed (0.2 ms); None for a file, which stays."""
    return zlib.crc32(study.volume.array[:, ::4, ::4].tobytes()) if study.provenance.path is None else None


def write_result(result: Result, out: Path, name: str, parts: Parts) -> Result:
    """Write a result as `Result.write` does, without its Python warning.

    Returns:
        The same result with the report as it was written, the folder, and why there is no page or no DICOM.

    Raises:
        UsageError, OSError: as `Result.write`.
    """
    report = replace(result.report, study=replace(result.report.study, name=name))
    folder, report = write_study_folder(report, result.labels, out, name)
    written = replace(result, report=report, folder=folder)
    if parts.html:
        written = replace(written, page_problem=_add_page(written, folder, report))
    if parts.dicom and result.study.provenance.dicom is not None:
        written = replace(written, dicom_problem=_add_dicom(written, folder, report, parts))
    return written


def write_outcome(outcome: Result | StudyFailure, out: Path, name: str | None, parts: Parts) -> Result | StudyFailure:
    """Write what a batch has of one study, under its own name if none is given; a taken place is its failure.

    Raises:
        OSError: as `Result.write`.
    """
    if isinstance(outcome, StudyFailure):
        return outcome
    try:
        return write_result(outcome, out, name or outcome.study.name, parts)
    except UsageError as error:
        return StudyFailure(outcome.study.provenance.path or "array", error)


def _add_page(result: Result, folder: Path, report: Report) -> Notice | None:
    """Write the page and return why it could not be; whatever that is, the report that is filed stays."""
    try:
        if result._sample not in (None, sample_of(result.study)):
            raise UsageError("array-changed", "the study's array holds other values than when it was run")
        from lnfast.report.page import render

        add_page(folder, report, render(report, result.study, result.labels))
    except Exception as error:
        reason = error if isinstance(error, (LnfastError, OSError)) else f"{type(error).__name__}: {error}"
        return Notice("page-not-written", " ".join(f"report.html is missing: {reason}".split()))
    return None


def _add_dicom(result: Result, folder: Path, report: Report, parts: Parts) -> Notice | None:
    """Write seg.dcm and sr.dcm and return why they could not be, without any text of a header."""
    try:
        from lnfast.report.dicom import render_dicom

        all_frames = parts.seg_frames == "all"
        files = render_dicom(result.study, result.labels, report, all_frames=all_frames, predecessor=parts.predecessor)
        add_files(folder, report, files)
    except Exception as error:
        reason = error if isinstance(error, (LnfastError, OSError)) else type(error).__name__
        return Notice("dicom-not-written", " ".join(f"seg.dcm and sr.dcm are missing: {reason}".split()))
    return None
