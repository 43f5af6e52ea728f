"""The certificate: an engine's answers compared with those of FP32, study by study.

    each study  --FP32, whole grid-->   nodes, stage   |
                --the engine-------->   nodes, stage   |-->  nothing that matters may differ

What may not differ: the stage, by either rule of the clinical contract, and which nodes are suspicious. What is only
reported: millimetres, overlap, volumes, and nodes below the limit that are lost or added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lnfast.backends import candidates
from lnfast.card import Model
from lnfast.errors import UsageError
from lnfast.export.studies import StudySet, counted
from lnfast.geometry import Volume
from lnfast.matching import NodeMap, compare
from lnfast.measure import LymphNode, Rules, n_stage_by_rule
from lnfast.network import Network
from lnfast.optional import Package
from lnfast.window import shape_text

_RUNTIME = Package("export", "onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "export")
RULES: tuple[Literal["box"], Literal["axial"]] = ("box", "axial")


@dataclass(frozen=True, eq=False)
class Reference:
    """The FP32 answer to a study.

    Attributes:
        name: of the study.
        volume: native grid.
        nodes: what FP32 marks.
    """

    name: str
    volume: Volume
    nodes: NodeMap


@dataclass(frozen=True)
class Difference:
    """The difference between FP32 and the engine on one study.

    Attributes:
        study: its name.
        window: the shape that the engine chose.
        flips: rules by which the stage differs.
        lost, added: suspicious nodes that the engine does not call suspicious, and vice versa.
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
        """Whether nothing differs that may not differ."""
        return not (self.flips or self.lost or self.added)


@dataclass(frozen=True)
class Certificate:
    """The certificate in the manifest.

    Attributes:
        passed: no stage flips, no suspicious node lost or added.
        device: kind of device that the engine ran on; it holds for no other.
        reference: the runtime of the FP32 answers.
        studies: how many calibration studies.
        source: where they are from.
        stage_flips: by rule.
        suspicious: of FP32, over all studies; with ``lost`` and ``added`` of the engine.
        nodes: the same of nodes of any size.
        short_axis_mm: ``max_difference`` and ``mean_difference``, absolute, of nodes that both have.
        volume_mm3: the same of volumes.
        dice: ``worst`` and ``mean`` of the studies in which either side has a node.
        windows: how many studies ran in which; one of many thin slices counts by the deeper grid of its slabs.
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
        """Return plain values, as they stand in the manifest and in the report."""
        return {**asdict(self), "differing": list(self.differing)}

    def text(self) -> str:
        """Return one line for people."""
        flips, marked, mm = self.stage_flips, self.suspicious, self.short_axis_mm
        on = f"{counted(self.studies, 'study', 'studies')} ({self.source})"
        return (
            f"{on}: {sum(flips.values())} stage flips, {marked['lost']} of {marked['reference']} "
            f"suspicious nodes lost, {marked['added']} added, worst short axis off by {mm['max_difference']:.2f} mm "
            f"(mean {mm['mean_difference']:.3f}), worst Dice {self.dice['worst']:.4f}"
        )


def open_reference_network(model: Model, threads: int = 0) -> Network:
    """Load a model in FP32 on ONNX Runtime, which candidates are compared with.

    Raises:
        BackendError: ``backend-missing``, with the extra that installs all that export needs; ``backend-broken``.
    """
    _RUNTIME.check_installed()
    return Network(model, candidates("onnxruntime", "cpu", "fp32")[0], threads=threads)


def references(studies: StudySet, network: Network) -> Iterator[Reference]:
    """Yield the FP32 answers, one study at a time.

    Args:
        studies: the studies to answer.
        network: FP32, on the whole grid.
    """
    for name, volume in studies:
        answer = network.answer(volume, Rules())
        yield Reference(name, volume, NodeMap(answer.labels, answer.nodes))


def compare_with_reference(network: Network, reference: Reference) -> Difference:
    """Run the engine on a study and compare with FP32."""
    answer = network.answer(reference.volume, Rules())
    truth = reference.nodes
    comparison = compare(NodeMap(answer.labels, answer.nodes), truth)
    pairs = [(match.truth, match.predicted) for match in comparison.matches if match.predicted is not None]
    return Difference(
        study=reference.name,
        window=answer.shape_zyx,
        flips=_flips(truth.nodes, answer.nodes),
        lost=comparison.detection.missed,
        added=comparison.detection.wrong,
        nodes_lost=len(comparison.matches) - len(pairs),
        nodes_added=len(comparison.unmatched),
        suspicious=sum(node.suspicious for node in truth.nodes),
        nodes=len(truth.nodes),
        short_axis_mm=tuple(node.short_axis_mm - true.short_axis_mm for true, node in pairs),
        volume_mm3=tuple(node.volume_mm3 - true.volume_mm3 for true, node in pairs),
        dice=comparison.dice,
    )


def certify(differences: list[Difference], device: str, reference: str, source: str) -> Certificate:
    """Sum the differences up in a certificate.

    Args:
        differences: of all studies.
        device, reference, source: as in `Certificate`.

    Raises:
        UsageError: ``proves-nothing`` for studies in which FP32 finds no suspicious node: a blank engine would pass.
    """
    if not any(difference.suspicious for difference in differences):
        on = f"{counted(len(differences), 'study', 'studies')} ({source})"
        raise UsageError(
            "proves-nothing",
            f"FP32 finds no suspicious node in {on}, so they prove nothing of an engine; "
            "give more studies, some of them with large nodes",
        )
    dices = [difference.dice for difference in differences if difference.dice is not None]
    windows: dict[str, int] = {}
    for difference in differences:
        name = shape_text(difference.window)
        windows[name] = windows.get(name, 0) + 1
    return Certificate(
        passed=all(difference.harmless for difference in differences),
        device=device,
        reference=reference,
        studies=len(differences),
        source=source,
        stage_flips={rule: sum(rule in difference.flips for difference in differences) for rule in RULES},
        suspicious={
            "reference": sum(difference.suspicious for difference in differences),
            "lost": sum(difference.lost for difference in differences),
            "added": sum(difference.added for difference in differences),
        },
        nodes={
            "reference": sum(difference.nodes for difference in differences),
            "lost": sum(difference.nodes_lost for difference in differences),
            "added": sum(difference.nodes_added for difference in differences),
        },
        short_axis_mm=_spread([mm for difference in differences for mm in difference.short_axis_mm]),
        volume_mm3=_spread([mm3 for difference in differences for mm3 in difference.volume_mm3]),
        dice={"worst": min(dices), "mean": float(np.mean(dices))},
        windows=windows,
        differing=tuple(difference.study for difference in differences if not difference.harmless),
    )


def _flips(truth: tuple[LymphNode, ...], nodes: tuple[LymphNode, ...]) -> tuple[str, ...]:
    wanted, got = (n_stage_by_rule(side, Rules()) for side in (truth, nodes))
    return tuple(rule for rule in RULES if wanted[rule] != got[rule])


def _spread(differences: list[float]) -> dict[str, float]:
    sizes = np.abs(differences) if differences else np.zeros(1)
    return {"max_difference": float(sizes.max()), "mean_difference": float(sizes.mean())}
