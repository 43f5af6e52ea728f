"""An engine proves itself before it serves: the probe's FP32 answer travels with the model.

A reduced-precision engine that came out blank, or was built for other weights, would call every patient N0. So no
engine serves before its answer on the probe agrees with that of the FP32 reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import EngineError, ModelError, StudyError
from lnfast.geometry import Grid, Volume
from lnfast.matching import best_columns, dice, shared_voxels
from lnfast.measure import LymphNode, Rules, measure_nodes, n_stage_by_rule
from lnfast.network import Answer, Network
from lnfast.window import Window, Zyx, shape_text
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

    @classmethod
    def from_facts(cls, facts: dict[str, Any] | None) -> SelfTest | None:
        """Return a self-test from its stored attributes; None for any other content."""
        stored = facts or {}
        dice, nodes = stored.get("dice"), stored.get("nodes")
        if not (isinstance(dice, float) and isinstance(nodes, int) and stored.keys() == {"dice", "nodes"}):
            return None
        return cls(dice, nodes)


def prove(network: Network) -> SelfTest:
    """Run the probe at every shape that may serve and compare with the stored FP32 answer; also warms the engine up.

    Raises:
        EngineError: ``self-test-failed`` with what differed, ``non-finite-logits``, ``inference-failed``.
        ModelError: ``model-damaged`` when the probe is none.
    """
    model = network.model
    probe = model.probe
    grid = Grid(probe.array.shape, probe.affine)
    volume = Volume(probe.array, grid)
    info = network.info
    engine = f"{info.name} {info.precision} on {info.device}"
    for shape in network.windows:
        _prove_window(engine, network, volume, _window_on(volume, probe.mask, network, shape))
    answer = _run(network, volume, Window.whole(network.grid_at_once(volume)))
    overlap = _overlap(engine, answer.labels.array > 0, probe.mask > 0)
    rules = Rules()
    # Nodes that touch are told apart by their ids; a mask of one value has none.
    several = int(probe.mask.max())
    truth_labels, truth_count = (probe.mask, several) if several > 1 else label_components(probe.mask)
    truth = measure_nodes(Volume(truth_labels, grid), truth_count, rules)
    nodes = answer.nodes
    wanted, got = ({rule: n_stage_by_rule(side, rules)[rule] for rule in ("box", "axial")} for side in (truth, nodes))
    if got != wanted:
        raise EngineError("self-test-failed", f"{engine} stages the probe as {got}, FP32 as {wanted}")
    if probe.ellipsoid_short_mm is not None:
        _compare_ellipsoids(engine, probe.ellipsoid_short_mm, truth_labels, answer.labels.array, nodes)
    return SelfTest(overlap, len(nodes))


def _run(network: Network, volume: Volume, window: Window) -> Answer:
    try:
        return network.answer(volume, Rules(), window=window)
    except StudyError as error:
        message = f"the probe of model {network.model.card.name} cannot be run: {error}"
        raise ModelError("model-damaged", message) from error


def _prove_window(engine: str, network: Network, volume: Volume, window: Window) -> None:
    """Prove a window; where it cuts the probe's patient only its middle can agree with the whole grid."""
    card, answer = network.model.card, _run(network, volume, window)
    inner = np.zeros(volume.grid.shape, np.bool_)
    view = Volume(inner, volume.grid).oriented(card.orientation).array
    view[window.interior(view.shape)] = True
    windowed = f"{engine}, in its window of {shape_text(answer.shape_zyx)},"
    _overlap(windowed, (answer.labels.array > 0) & inner, (network.model.probe.mask > 0) & inner)


def _window_on(volume: Volume, mask: NDArray[Any], network: Network, shape: Zyx) -> Window:
    """A window of the probe's grid about the middle of its nodes, for which the network is run at a shape."""
    card = network.model.card
    view = Volume(mask, volume.grid).oriented(card.orientation).array
    middle = []
    for axis, grid in enumerate(card.shape_zyx):
        planes = np.flatnonzero(view.any(axis=tuple(other for other in range(3) if other != axis)))
        middle.append((int(planes[0]) + int(planes[-1]) + 1) * grid // (2 * view.shape[axis]))
    z, y, x = middle
    return Window.around((z, y, x), shape, card.shape_zyx).with_slices(network.grid_at_once(volume)[0])


def _overlap(engine: str, mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Dice with the stored mask.

    Raises:
        EngineError: ``self-test-failed``.
    """
    if not mask.any():
        raise EngineError("self-test-failed", f"{engine} finds nothing on the probe, where FP32 finds nodes")
    overlap = dice(mask, reference)
    assert overlap is not None
    if overlap < DICE_AT_LEAST:
        raise EngineError(
            "self-test-failed",
            f"{engine} has Dice {overlap:.4f} with FP32 on the probe, wanted {DICE_AT_LEAST} or more",
        )
    return overlap


def _compare_ellipsoids(
    engine: str,
    wanted_mm: NDArray[np.float64],
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    nodes: Sequence[LymphNode],
) -> None:
    """Logits of another scale leave the mask as it is, and every ellipsoid another size.

    Raises:
        EngineError: ``self-test-failed``.
        ModelError: ``model-damaged`` for lengths that are not of the probe's nodes.
    """
    if len(wanted_mm) != int(truth.max()):
        raise ModelError("model-damaged", f"the probe has {int(truth.max())} nodes and {len(wanted_mm)} ellipsoids")
    shared = shared_voxels(truth, predicted, (len(wanted_mm), len(nodes)))
    apart = []
    for wanted, column in zip(wanted_mm, best_columns(shared), strict=True):
        if column < 0:
            continue
        short_mm = nodes[column].ellipsoid_short_mm
        assert short_mm is not None
        apart.append(short_mm - float(wanted))
    off_mm = float(np.sqrt(np.mean(np.square(apart))))
    if off_mm > ELLIPSOID_WITHIN_MM:
        raise EngineError(
            "self-test-failed",
            f"{engine} gives ellipsoids {off_mm:.2f} mm off FP32 on the probe, wanted at most {ELLIPSOID_WITHIN_MM}",
        )
