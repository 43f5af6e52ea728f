"""What an engine's answers are held against, and what is written down of it.

    each study  --FP32, whole grid-->   nodes, stage   |
                --the engine-------->   nodes, stage   |-->  nothing that matters may differ

What may not differ: the stage, by either rule of the clinical contract, and which nodes are suspicious. What is only
told: millimetres, overlap, volumes, and nodes that came or went below the limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lnfast.errors import UsageError
from lnfast.export.studies import Studies, counted
from lnfast.geometry import Volume
from lnfast.matching import NodeMap, compare
from lnfast.measure import LymphNode, Rules, n_stage_by_rule
from lnfast.network import Network
from lnfast.window import shape_text

RULES: tuple[Literal["box"], Literal["axial"]] = ("box", "axial")


@dataclass(frozen=True, eq=False)
class Reference:
    """What FP32 says of a study.

    Attributes:
        name: of the study.
        volume: native grid.
        found: its nodes.
    """

    name: str
    volume: Volume
    found: NodeMap


@dataclass(frozen=True)
class Difference:
    """One study, FP32 beside the engine.

    Attributes:
        study: its name.
        window: the shape that the engine chose.
        flips: rules by which the stage differs.
        lost, added: suspicious nodes that the engine does not call suspicious, and the other way round.
        nodes_lost, nodes_added: of any size, no voxel of which the other side has.
        suspicious, nodes: of FP32.
        short_axis_mm: engine minus FP32 for each node that both have.
        volume_mm3: the same of volumes.
        dice: of all node voxels; None where neither side has any.
    """

    study: str
    window: tuple[int, int, int]
    flips: tuple[str, ...]
    lost: int
    added: int
    nodes_lost: int
    nodes_added: int
    suspicious: int
    nodes: int
    short_axis_mm: tuple[float, ...]
    volume_mm3: tuple[float, ...]
    dice: float | None

    @property
    def harmless(self) -> bool:
        """Whether nothing differs that may not."""
        return not (self.flips or self.lost or self.added)


@dataclass(frozen=True)
class Certificate:
    """What stands in the manifest.

    Attributes:
        passed: no stage flips, no suspicious node lost or added.
        device: kind of device that the engine ran on; it holds for no other.
        reference: what made the FP32 answers.
        studies: how many, of what.
        source: where they are from.
        stage_flips: by rule.
        suspicious: of FP32, over all studies; with ``lost`` and ``added`` of the engine.
        nodes: the same of nodes of any size.
        short_axis_mm: ``max_difference`` and ``mean_difference``, absolute, of nodes that both have.
        volume_mm3: the same of volumes.
        dice: ``worst`` and ``mean`` of the studies in which either side has a node.
        windows: how many studies ran in which.
        differing: the studies that make it fail.
    """

    passed: bool
    device: str
    reference: str
    studies: int
    source: str
    stage_flips: dict[str, int]
    suspicious: dict[str, int]
    nodes: dict[str, int]
    short_axis_mm: dict[str, float]
    volume_mm3: dict[str, float]
    dice: dict[str, float]
    windows: dict[str, int]
    differing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in the manifest and in the report."""
        return {**asdict(self), "differing": list(self.differing)}

    def text(self) -> str:
        """One line for a person."""
        flips, marked, mm = self.stage_flips, self.suspicious, self.short_axis_mm
        on = f"{counted(self.studies, 'study', 'studies')} ({self.source})"
        return (
            f"{on}: {sum(flips.values())} stage flips, {marked['lost']} of {marked['reference']} "
            f"suspicious nodes lost, {marked['added']} added, worst short axis off by {mm['max_difference']:.2f} mm "
            f"(mean {mm['mean_difference']:.3f}), worst Dice {self.dice['worst']:.4f}"
        )


def make_references(studies: Studies, network: Network) -> Iterable[Reference]:
    """FP32 answers, one study at a time.

    Args:
        studies: to answer.
        network: FP32, on the whole grid.
    """
    for name, volume in studies:
        answer = network.answer(volume, Rules())
        yield Reference(name, volume, NodeMap(answer.labels, answer.nodes))


def differ(network: Network, reference: Reference) -> Difference:
    """Run the engine on a study and compare with FP32."""
    answer = network.answer(reference.volume, Rules())
    truth = reference.found
    comparison = compare(NodeMap(answer.labels, answer.nodes), truth)
    pairs = [(match.truth, match.predicted) for match in comparison.matches if match.predicted is not None]
    return Difference(
        study=reference.name,
        window=answer.window.shape_zyx,
        flips=_flips(truth.nodes, answer.nodes),
        lost=comparison.detection.missed,
        added=comparison.detection.wrong,
        nodes_lost=len(comparison.matches) - len(pairs),
        nodes_added=len(comparison.unmatched),
        suspicious=sum(node.suspicious for node in truth.nodes),
        nodes=len(truth.nodes),
        short_axis_mm=tuple(found.short_axis_mm - true.short_axis_mm for true, found in pairs),
        volume_mm3=tuple(found.volume_mm3 - true.volume_mm3 for true, found in pairs),
        dice=comparison.dice,
    )


def certify(differences: list[Difference], device: str, reference: str, source: str) -> Certificate:
    """Sum up.

    Args:
        differences: of all studies.
        device, reference, source: as in `Certificate`.

    Raises:
        UsageError: ``proves-nothing`` for studies in which FP32 finds no suspicious node: a blank engine would pass.
    """
    if not any(one.suspicious for one in differences):
        on = f"{counted(len(differences), 'study', 'studies')} ({source})"
        raise UsageError(
            "proves-nothing",
            f"FP32 finds no suspicious node in {on}, so they prove nothing of an engine; "
            "give more studies, some of them with large nodes",
        )
    dices = [difference.dice for difference in differences if difference.dice is not None]
    windows: dict[str, int] = {}
    for one in differences:
        name = shape_text(one.window)
        windows[name] = windows.get(name, 0) + 1
    return Certificate(
        passed=all(one.harmless for one in differences),
        device=device,
        reference=reference,
        studies=len(differences),
        source=source,
        stage_flips={rule: sum(rule in one.flips for one in differences) for rule in RULES},
        suspicious={
            "reference": sum(one.suspicious for one in differences),
            "lost": sum(one.lost for one in differences),
            "added": sum(one.added for one in differences),
        },
        nodes={
            "reference": sum(one.nodes for one in differences),
            "lost": sum(one.nodes_lost for one in differences),
            "added": sum(one.nodes_added for one in differences),
        },
        short_axis_mm=_spread([mm for one in differences for mm in one.short_axis_mm]),
        volume_mm3=_spread([mm3 for one in differences for mm3 in one.volume_mm3]),
        dice={"worst": min(dices), "mean": float(np.mean(dices))},
        windows=windows,
        differing=tuple(one.study for one in differences if not one.harmless),
    )


def _flips(truth: tuple[LymphNode, ...], found: tuple[LymphNode, ...]) -> tuple[str, ...]:
    wanted, got = (n_stage_by_rule(side, Rules()) for side in (truth, found))
    return tuple(rule for rule in RULES if wanted[rule] != got[rule])


def _spread(differences: list[float]) -> dict[str, float]:
    sizes = np.abs(differences) if differences else np.zeros(1)
    return {"max_difference": float(sizes.max()), "mean_difference": float(sizes.mean())}
