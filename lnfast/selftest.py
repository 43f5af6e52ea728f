"""An engine proves itself before it serves: the probe's FP32 answer travels with the model.

A reduced-precision engine that came out blank, or was built for other weights, would call every patient N0. So no
engine answers before it has found, on the probe, what the FP32 reference found there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.backends import Backend
from lnfast.card import Model
from lnfast.errors import EngineError, ModelError, StudyError
from lnfast.geometry import Grid, Volume
from lnfast.measure import LymphNode, Rules, measure_nodes, n_stage_by_rule
from lnfast.postprocess import segment
from lnfast.preprocess import write_input
from lnfast_ext import label_components

DICE_AT_LEAST = 0.98
# Root mean square over the probe's nodes. BF16 is 0.03 mm off FP32 with the model that ships and 0.05 with a hardly
# trained one; logits twice as large are 0.2 and 0.5 mm off, half as large 0.4 and 0.5.
ELLIPSOID_WITHIN_MM = 0.12


@dataclass(frozen=True)
class SelfTest:
    """What the probe showed.

    Attributes:
        dice: overlap of this engine's native mask with the stored FP32 mask.
        nodes: nodes found on the probe.
    """

    dice: float
    nodes: int


def prove(backend: Backend, model: Model) -> SelfTest:
    """Run the probe and compare with the stored FP32 answer; also warms the engine up.

    Args:
        backend: opened, its buffers are overwritten.
        model: whose ``probe.npz`` is the truth.

    Raises:
        EngineError: ``self-test-failed`` with what differed, ``non-finite-logits``, ``inference-failed``.
        ModelError: ``model-damaged`` when the probe is none.
    """
    probe = model.probe
    grid = Grid(probe.array.shape, probe.affine)
    try:
        write_input(Volume(probe.array, grid), model.card, backend.input[0, 0])
    except StudyError as error:
        raise ModelError("model-damaged", f"the probe of model {model.card.name} cannot be run: {error}") from error
    backend.infer()
    found = segment(backend.output[0, 0], grid, model.card)
    engine = f"{backend.info.name} {backend.info.precision} on {backend.info.device}"
    mask = found.labels.array > 0
    if not mask.any():
        raise EngineError("self-test-failed", f"{engine} finds nothing on the probe, where FP32 finds nodes")
    dice = 2.0 * np.count_nonzero(mask & (probe.mask > 0)) / (np.count_nonzero(mask) + np.count_nonzero(probe.mask))
    if dice < DICE_AT_LEAST:
        raise EngineError(
            "self-test-failed", f"{engine} has Dice {dice:.4f} with FP32 on the probe, wanted {DICE_AT_LEAST} or more"
        )
    rules = Rules()
    truth_labels, truth_count = label_components(probe.mask)
    truth = measure_nodes(Volume(truth_labels, grid), truth_count, rules)
    orientation = model.card.orientation
    nodes = measure_nodes(found.labels, found.count, rules, orientation=orientation, logits=backend.output[0, 0])
    wanted, got = ({rule: n_stage_by_rule(side, rules)[rule] for rule in ("box", "axial")} for side in (truth, nodes))
    if got != wanted:
        raise EngineError("self-test-failed", f"{engine} stages the probe as {got}, FP32 as {wanted}")
    if probe.ellipsoid_short_mm is not None:
        _compare_ellipsoids(engine, probe.ellipsoid_short_mm, truth_labels, found.labels.array, nodes)
    return SelfTest(float(dice), found.count)


def _compare_ellipsoids(
    engine: str,
    wanted_mm: NDArray[np.float64],
    truth: NDArray[np.integer],
    found: NDArray[np.integer],
    nodes: Sequence[LymphNode],
) -> None:
    """Logits of another scale leave the mask as it is, and every ellipsoid another size.

    Raises:
        EngineError: ``self-test-failed``.
        ModelError: ``model-damaged`` for lengths that are not of the probe's nodes.
    """
    if len(wanted_mm) != int(truth.max()):
        raise ModelError("model-damaged", f"the probe has {int(truth.max())} nodes and {len(wanted_mm)} ellipsoids")
    both = (truth > 0) & (found > 0)
    apart = []
    for label in np.unique(truth[both]):
        mine = int(np.bincount(found[both & (truth == label)]).argmax())
        short_mm = nodes[mine - 1].ellipsoid_short_mm
        assert short_mm is not None
        apart.append(short_mm - float(wanted_mm[label - 1]))
    off_mm = float(np.sqrt(np.mean(np.square(apart))))
    if off_mm > ELLIPSOID_WITHIN_MM:
        raise EngineError(
            "self-test-failed",
            f"{engine} gives ellipsoids {off_mm:.2f} mm off FP32 on the probe, wanted at most {ELLIPSOID_WITHIN_MM}",
        )
