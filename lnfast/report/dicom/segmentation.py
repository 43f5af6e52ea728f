"""The nodes as a DICOM Segmentation: binary, one segment a node, segment number = node id."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from lnfast._version import __version__
from lnfast.geometry import Volume
from lnfast.measure import LymphNode
from lnfast.report.dicom import codes
from lnfast.report.dicom.codes import code
from lnfast.report.dicom.source import Source, restore
from lnfast.report.dicom.uids import UidSource
from lnfast.report.record import Report
from lnfast.study.dicom.packages import HIGHDICOM, quiet

SERIES_NUMBER = 9100
SERIES_DESCRIPTION = "lnfast SEG (research use only)"


def build_segmentation(
    source: Source, labels: Volume, report: Report, uids: UidSource, *, all_frames: bool = False
) -> Any:
    """A Segmentation object.

    Args:
        source: slices in the order of the volume's.
        labels: value = node id, of the source's grid.
        report: of the study; at least one node.
        uids: of this result.
        all_frames: write a frame of each segment for every slice, for viewers that take no others.

    Returns:
        `highdicom.seg.Segmentation`, with references to exactly the slices that were used.
    """
    highdicom = HIGHDICOM.load()
    with quiet():
        built = highdicom.seg.Segmentation(
            list(source.slices),
            np.ascontiguousarray(labels.array),
            highdicom.seg.SegmentationTypeValues.BINARY,
            [_segment(node, report, uids) for node in report.nodes],
            series_instance_uid=uids.uid("seg", "series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=uids.uid("seg"),
            instance_number=1,
            manufacturer="lnfast",
            manufacturer_model_name="lnfast",
            software_versions=__version__,
            device_serial_number=report.model.sha256[:16],
            content_label="LNFAST",
            content_description="Lymph nodes, research use only",
            series_description=SERIES_DESCRIPTION,
            omit_empty_frames=not all_frames,
        )
    _fix_dimension_uids(built, uids.uid("seg", "dimensions"))
    _name_the_segment_in_each_frame(built)
    restore(built, source)
    return built


def _segment(node: LymphNode, report: Report, uids: UidSource) -> Any:
    highdicom = HIGHDICOM.load()
    return highdicom.seg.SegmentDescription(
        segment_number=node.id,
        segment_label=f"LN {node.id} ({node.short_axis_mm:.1f} mm)",
        segmented_property_category=code(codes.ANATOMICAL_STRUCTURE),
        segmented_property_type=code(codes.LYMPH_NODE),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="lnfast",
            version=__version__,
            family=code(("123110", "DCM", "Artificial Intelligence")),
            parameters=algorithm_parameters(report),
        ),
        tracking_uid=uids.uid("node", str(node.id)),
        tracking_id=tracking_id(node),
        anatomic_regions=[code(codes.PELVIS)],
    )


def algorithm_parameters(report: Report) -> dict[str, str]:
    """What must be the same for the same result: model, engine and rules."""
    model, engine = report.model, report.engine
    return {
        "model": f"{model.name} {model.version}",
        "model_sha256": model.sha256,
        "threshold": f"{model.threshold:g}",
        "peak": "none" if model.peak is None else f"{model.peak:g}",
        "outline": model.outline,
        "engine": f"{engine.backend} {engine.backend_version} {engine.device} {engine.precision}",
        "engine_sha256": engine.engine_sha256 or "none",
        "short_axis": report.rules.short_axis,
        "suspicious_mm": f"{report.rules.suspicious_mm:g}",
    }


def tracking_id(node: LymphNode) -> str:
    """What both objects call a node."""
    return f"lnfast LN {node.id}"


def _name_the_segment_in_each_frame(built: Any) -> None:
    """highdicom says it once for all frames where there is one segment, which dcmjs, and so OHIF, cannot read."""
    shared = built.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" in shared:
        for groups in built.PerFrameFunctionalGroupsSequence:
            groups.SegmentIdentificationSequence = copy.deepcopy(shared.SegmentIdentificationSequence)
        del shared.SegmentIdentificationSequence


def _fix_dimension_uids(built: Any, uid: str) -> None:
    """highdicom draws this one at random."""
    for element in built.iterall():
        if element.keyword == "DimensionOrganizationUID":
            element.value = uid
