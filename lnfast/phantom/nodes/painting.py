"""The signal of lymph nodes, and of the fatty hilum in some of them."""

from __future__ import annotations

import numpy as np

from lnfast.phantom.domain_randomization import Variety
from lnfast.phantom.nodes.placement import PhantomNode
from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.shapes import Union


def paint_nodes(nodes: tuple[PhantomNode, ...], painter: TissuePainter, patient: Variety) -> None:
    """Paint the nodes: they share a patient's brightness, each varies about it, and some show a dark fatty hilum.

    On two public studies the inguinal and iliac nodes were 5 to 24 times as bright as muscle; other nodes hardly show.
    """
    image, rng = painter.image, painter.rng
    patient_signal = painter.sample_signal("node")
    patient_signal *= rng.lognormal(0.6, 0.45) if patient.realistic else rng.lognormal(0.1, 0.3)
    if patient.bright_nodes:
        patient_signal *= np.exp(rng.uniform(0, np.log(4.0)))
    fat = painter.sample_signal("deep fat") if patient.realistic else None
    for node in nodes:
        value = np.float32(patient_signal * rng.lognormal(0.0, 0.35))
        box, part = image.coverage_of(node.shape)
        image.signal[box] += part * (value - image.signal[box])
        hilum_signal = _hilum_signal(node, value, fat, rng)
        hilum = Union(node.shape.hilum) if len(node.shape.hilum) > 1 else next(iter(node.shape.hilum), None)
        # A cut node's hilum may lie outside the field.
        if hilum_signal is not None and hilum is not None and image.bounding_box(hilum) is not None:
            within = np.zeros(image.grid.shape, dtype=np.float32)
            within[box] = part
            box, part = image.coverage_of(hilum)
            part *= within[box]  # a hilum opens at the surface, and what lies outside the node is not part of it
            image.signal[box] += part * (hilum_signal - image.signal[box])


def _hilum_signal(
    node: PhantomNode, value: np.float32, fat: float | None, rng: np.random.Generator
) -> np.float32 | None:
    """Draw the magnitude of a node's hilum; None where it shows none.

    The hilum of a realistic node is as dark as the patient's fat. In the default, where ``fat`` is None, one node of
    three shows its hilum, 0.2 to 0.7 times as bright as the node.
    """
    if not node.shape.hilum:
        return None
    if fat is not None:
        return np.float32(min(fat * rng.uniform(0.7, 1.6), 0.6 * float(value)))
    if node.semi_axes_mm[0] > 2.5 and rng.random() < 0.35:
        return value * np.float32(rng.uniform(0.2, 0.7))
    return None
