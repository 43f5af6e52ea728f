"""Results of DICOM studies without a network: nodes that are put into the volume by hand."""

from __future__ import annotations

import numpy as np

from lnfast.admission import admit
from lnfast.card import load_model
from lnfast.geometry import Volume
from lnfast.measure import Rules, measure_nodes
from lnfast.report import EngineFacts, Report, make_report
from lnfast.study import Study

FACTS = EngineFacts("openvino", "2026.1", "cpu", "int8", "ab" * 32)
# Centre and radii (z, y, x) as shares of the volume: the first crosses slices, the last lies in one.
NODES = (((0.5, 0.4, 0.3), (2.2, 5.5, 4.5)), ((0.3, 0.6, 0.65), (1.2, 2.5, 3.5)), ((0.6, 0.7, 0.4), (0.4, 1.6, 2.2)))


def labels_of(study: Study, nodes: int = 3) -> Volume:
    """A label map with some of `NODES` on a study's grid."""
    shape = study.volume.array.shape
    labels = np.zeros(shape, np.uint16)
    place = np.indices(shape)
    for number, (centre, radii) in enumerate(NODES[:nodes], 1):
        distances = [(place[axis] - round(centre[axis] * shape[axis])) / radii[axis] for axis in range(3)]
        labels[sum(distance**2 for distance in distances) <= 1] = number
    return Volume(labels, study.volume.grid)


def report_of_study(study: Study, labels: Volume, rules: Rules | None = None) -> Report:
    """The report that the shipped model would make of these labels."""
    rules = rules or Rules()
    model = load_model("pelvic-ln-edge")
    nodes = measure_nodes(labels, int(labels.array.max()), rules, intensity=study)
    admission = admit(study.volume, model.card)
    return make_report(study, model, FACTS, rules, nodes, {}, admission=admission)
