"""The measurements as a DICOM Structured Report: TID 1500, one TID 1411 group a node, one group for the examination.

Numbers are those of report.json, rounded to 0.01 mm and 0.1 mm3. Zero nodes make a report as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lnfast._version import __version__
from lnfast.geometry import Volume
from lnfast.measure import LymphNode
from lnfast.report.content import DISCLAIMER
from lnfast.report.dicom import codes
from lnfast.report.dicom.codes import code
from lnfast.report.dicom.segmentation import algorithm_parameters, tracking_id
from lnfast.report.dicom.source import Source, restore
from lnfast.report.dicom.uids import UidSource
from lnfast.report.record import Report
from lnfast.study.dicom.packages import HIGHDICOM, PYDICOM, quiet

SERIES_NUMBER = 9101
SERIES_DESCRIPTION = "lnfast SR (research use only)"
_LONGEST_TEXT = 1024


def build_structured_report(
    source: Source, labels: Volume, report: Report, uids: UidSource, segmentation: Any | None, previous: Any | None
) -> Any:
    """A Comprehensive SR object: complete, preliminary, unverified.

    Args:
        source: slices in the order of the volume's.
        labels: value = node id, of the source's grid.
        report: of the study.
        uids: of this result.
        segmentation: as `lnfast.report.dicom.segmentation.build_segmentation` gave it; None without nodes.
        previous: the structured report that this one replaces, if any.
    """
    sr = HIGHDICOM.load().sr
    nodes = report.nodes if segmentation is not None else ()
    groups = [_node_group(node, source, labels, report, uids, segmentation) for node in nodes]
    with quiet():
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=_observer(report, uids)),
            procedure_reported=code(codes.PROCEDURE),
            imaging_measurements=[*groups, _examination(source, report, uids)],
            title=code(("126000", "DCM", "Imaging Measurement Report")),
        )
        document = sr.ComprehensiveSR(
            evidence=[*source.slices, *([] if segmentation is None else [segmentation])],
            content=content,
            series_instance_uid=uids.uid("sr", "series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=uids.uid("sr"),
            instance_number=1,
            manufacturer="lnfast",
            is_complete=True,
            is_final=False,
            is_verified=False,
            previous_versions=None if previous is None else [previous],
        )
    document.CodingSchemeIdentificationSequence = [_coding_scheme()]
    document.SeriesDescription = SERIES_DESCRIPTION
    document.ManufacturerModelName = "lnfast"
    document.SoftwareVersions = __version__
    restore(document, source)
    return document


def _coding_scheme() -> Any:
    scheme = PYDICOM.load().Dataset()
    scheme.CodingSchemeDesignator = codes.SCHEME
    scheme.CodingSchemeName = codes.SCHEME_NAME
    scheme.CodingSchemeResponsibleOrganization = "lnfast"
    return scheme


def _observer(report: Report, uids: UidSource) -> Any:
    sr = HIGHDICOM.load().sr
    return sr.ObserverContext(
        observer_type=code(("121007", "DCM", "Device")),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=uids.uid("device"), name="lnfast", manufacturer_name="lnfast", model_name=report.model.name
        ),
    )


def _algorithm(report: Report, *names: str) -> Any:
    """The algorithm with some of its parameters, or all."""
    sr = HIGHDICOM.load().sr
    parameters = algorithm_parameters(report)
    texts = [f"{name}={parameters[name]}" for name in names or parameters]
    return sr.AlgorithmIdentification(name="lnfast", version=__version__, parameters=texts)


def _number(name: Any, value: float, unit: Any, method: Any = None) -> Any:
    sr = HIGHDICOM.load().sr
    return sr.Measurement(name=code(name), value=value, unit=code(unit), method=method and code(method))


def _lengths(node: LymphNode, report: Report) -> Iterator[Any]:
    """Every short axis, that of the chosen rule first: who reads one takes the one that decides."""
    chosen = report.rules.short_axis
    for rule in sorted(codes.METHODS, key=lambda rule: rule != chosen):
        short_mm = node.short_mm(rule)  # type: ignore[arg-type]
        if short_mm is not None:
            yield _number(codes.SHORT_AXIS, round(short_mm, 2), codes.MILLIMETER, codes.METHODS[rule])
    yield _number(codes.PERPENDICULAR_AXIS, round(node.box_mm[1], 2), codes.MILLIMETER, codes.METHODS["box"])
    yield _number(codes.LONG_AXIS, round(node.box_mm[2], 2), codes.MILLIMETER, codes.METHODS["box"])


def _node_group(
    node: LymphNode, source: Source, labels: Volume, report: Report, uids: UidSource, segmentation: Any
) -> Any:
    sr = HIGHDICOM.load().sr
    slices = np.flatnonzero((labels.array == node.id).any(axis=(1, 2)))
    images = [
        sr.SourceImageForSegmentation(source.slices[z].SOPClassUID, source.slices[z].SOPInstanceUID) for z in slices
    ]
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=node.id,
            source_images=images,
        ),
        tracking_identifier=sr.TrackingIdentifier(uid=uids.uid("node", str(node.id)), identifier=tracking_id(node)),
        finding_type=code(codes.LYMPH_NODE),
        finding_category=code(codes.ANATOMICAL_STRUCTURE),
        finding_sites=[sr.FindingSite(code(codes.PELVIC_LYMPH_NODE))],
        # The rest stands once, in the group of the examination: 27 nodes would repeat it in 160 items.
        algorithm_id=_algorithm(report, "model_sha256"),
        measurements=[
            _number(codes.VOLUME, round(node.volume_mm3, 1), codes.CUBIC_MILLIMETER, codes.VOXEL_SUM),
            *_lengths(node, report),
        ],
        qualitative_evaluations=[
            _evaluation(codes.SIZE_CRITERION, codes.SUSPECTED if node.suspicious else codes.NORMAL),
            _evaluation(codes.SLICE_LIMITED, codes.YES if node.slice_limited else codes.NO),
        ],
    )


def _evaluation(name: Any, value: Any) -> Any:
    sr = HIGHDICOM.load().sr
    return sr.QualitativeEvaluation(code(name), code(value))


def _examination(source: Source, report: Report, uids: UidSource) -> Any:
    """The group of the whole examination: how many, the stage by each rule, b-value, warnings."""
    sr = HIGHDICOM.load().sr
    numbers = [_number(codes.NUMBER_OF_LESIONS, len(report.suspicious), codes.NO_UNITS)]
    if report.study.b_value is not None:
        numbers.append(_number(codes.B_VALUE, report.study.b_value, codes.SECONDS_PER_MM2))
    stages = [_evaluation(codes.STAGE, codes.STAGES[report.n_stage])]
    for rule, stage in report.n_stage_by_rule.items():
        if stage is not None:
            stages.append(_evaluation(codes.STAGE_BY_RULE[rule], codes.STAGES[stage]))
    first = source.slices[0]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uids.uid("examination"), identifier="lnfast examination"),
        finding_type=code(codes.LYMPH_NODE),
        source_images=[
            sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=first.SOPClassUID, referenced_sop_instance_uid=first.SOPInstanceUID
            )
        ],
        algorithm_id=_algorithm(report),
        measurements=numbers,
        qualitative_evaluations=stages,
    )
    comments = [DISCLAIMER, *(f"{notice.code}: {notice.message}" for notice in report.warnings)]
    group[0].ContentSequence.extend(
        sr.TextContentItem(
            name=code(codes.COMMENT),
            value=comment[:_LONGEST_TEXT],
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
        for comment in comments
    )
    return group
