"""The check of every case before training starts.

A *problem* must be mended: the runtime would refuse the study, or the training would learn something wrong. A *note* is
what a person should look at and may well be right: a patient without nodes, a field that the card does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.admission import admit
from lnfast.card import ModelCard
from lnfast.cohort import TRUTH_SCHEMA
from lnfast.errors import StudyError
from lnfast.geometry import Volume
from lnfast.measure import Rules, measure_nodes
from lnfast.report.notices import notices
from lnfast.study import Study
from lnfast_ext import Components
from training.data.load import read_image, read_nodes, to_card_axes
from training.data.nnunet_raw import CaseFiles, Finding, scan_folder
from training.data.phantom_seeds import TRAINING_SEEDS

CHECK_SCHEMA = "lnfast.check/1"


@dataclass
class Findings:
    """The content of a folder and the problems with it; grows case by case.

    Attributes:
        cases: with image and label, readable or not.
        patients: of these.
        nodes, suspicious: of all cases that could be read; suspicious by the runtime's default rule.
        without_nodes: cases with an empty label map.
        problems, notes: in the order in which they were found.
        spacings_zyx_mm, fields_zyx_mm: of each study, with axes as the card's.
        protocols: studies by shape, spacing and b-value.
        images: of each case that could be read, a hash of its image (`image_id`), by name.
        contents: likewise of image, place and nodes.
    """

    cases: int = 0
    patients: int = 0
    nodes: int = 0
    suspicious: int = 0
    without_nodes: int = 0
    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    spacings_zyx_mm: list[tuple[float, float, float]] = field(default_factory=list)
    fields_zyx_mm: list[tuple[float, float, float]] = field(default_factory=list)
    protocols: Counter[str] = field(default_factory=Counter)
    images: dict[str, str] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hash of all images and nodes; another compression or axis order of the files gives the same."""
        return hashlib.sha256(json.dumps(sorted(self.contents.items())).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as JSON takes them; ranges are (least, greatest) along z, y and x."""
        return {
            "schema": CHECK_SCHEMA,
            "cases": self.cases,
            "patients": self.patients,
            "nodes": self.nodes,
            "suspicious": self.suspicious,
            "without_nodes": self.without_nodes,
            "spacing_zyx_mm": _ranges(self.spacings_zyx_mm),
            "field_zyx_mm": _ranges(self.fields_zyx_mm),
            "protocols": dict(self.protocols.most_common()),
            "problems": [asdict(problem) for problem in self.problems],
            "notes": [asdict(note) for note in self.notes],
        }


def check_dataset(folder: Path, card: ModelCard) -> tuple[Finding, ...]:
    """Return everything that must be mended before this folder can be trained on.

    Raises:
        UsageError: ``no-dataset``.
    """
    return tuple(examine(folder, card).problems)


def examine(
    folder: Path, card: ModelCard, *, progress: Callable[[str, int], None] = lambda name, cases: None
) -> Findings:
    """Read every case of a folder.

    Args:
        folder: in nnU-Net's raw layout.
        card: says what the runtime takes.
        progress: called with each case's name before it is read, and with the number of cases.

    Raises:
        UsageError: ``no-dataset``.
    """
    raw = scan_folder(folder)
    findings = Findings(len(raw.cases), len({case.patient for case in raw.cases}))
    findings.problems.extend(raw.problems)
    findings.notes.extend(raw.notes)
    if not raw.cases and not raw.problems:
        findings.problems.append(Finding("imagesTr", "no-cases", "there is no case; put images and label maps in"))
    first_of_image: dict[str, str] = {}
    for files in raw.cases:
        progress(files.name, len(raw.cases))
        _examine_case(files, card, findings, first_of_image)
    return findings


def _examine_case(files: CaseFiles, card: ModelCard, findings: Findings, first_of_image: dict[str, str]) -> None:
    """Check image and label map separately, so that a problem with one hides none with the other."""
    if (seed := phantom_seed(files)) is not None and seed not in TRAINING_SEEDS:
        findings.problems.append(
            Finding(files.name, "reserved-seed", f"is the phantom of seed {seed}, kept for tests and evaluation")
        )
    volume = None
    try:
        study = read_image(files, card)
        admission = admit(study.volume, card, threads=1)
        volume = to_card_axes(study, card)
    except StudyError as error:
        findings.problems.append(Finding(files.name, error.code, error.message))
    else:
        findings.notes.extend(
            Finding(files.name, notice.code, notice.message)
            for notice in notices(study, card, Rules(), (), admission=admission)
            if notice.code != "note"
        )
        _add_protocol(study, volume, findings)
        findings.images[files.name] = image_id(volume)
        first = first_of_image.setdefault(findings.images[files.name], files.name)
        if first != files.name:
            findings.problems.append(
                Finding(
                    files.name, "duplicate", f"holds the image of {first}; keep one, or training meets its own test"
                )
            )
    try:
        labels = read_nodes(files, card, volume)
        if volume is not None:
            nodes = measure_nodes(Volume(labels, volume.grid), int(labels.max()), Rules(), orientation=card.orientation)
            findings.nodes += len(nodes)
            findings.suspicious += sum(node.suspicious for node in nodes)
            place = volume.grid.affine.astype(np.float32).tobytes()
            content = hashlib.sha256(findings.images[files.name].encode() + place + labels.tobytes())
            findings.contents[files.name] = content.hexdigest()
    except StudyError as error:
        findings.problems.append(Finding(files.name, error.code, error.message))
        return
    findings.without_nodes += not labels.any()
    findings.notes.extend(Finding(files.name, *note) for note in _odd_labels(labels, volume))


def phantom_seed(files: CaseFiles) -> int | None:
    """Return the seed of a case that `lnfast phantom` wrote; None for any other."""
    truth = files.label.parent.parent / "truth" / f"{files.name}.json"
    try:
        content = json.loads(truth.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(content, dict) and content.get("schema") == TRUTH_SCHEMA and isinstance(content.get("seed"), int)
    return content["seed"] if known else None


def _odd_labels(labels: NDArray[np.uint16], volume: Volume | None) -> Iterator[tuple[str, str]]:
    """Yield code and message of what is unusual about a label map and no reason to refuse it."""
    sizes = np.bincount(labels.ravel())[1:]
    if not len(sizes):
        yield "empty-label", "has no node: right for a patient without any"
        return
    if (sizes == 1).any():
        yield "single-voxel", f"{int((sizes == 1).sum())} of {len(sizes)} nodes are a single voxel: a slip of the pen?"
    pieces = [Components(labels == number).count for number in range(1, len(sizes) + 1)]
    broken = sum(count > 1 for count in pieces)
    if broken:
        yield "node-in-pieces", f"{broken} of {len(sizes)} nodes are in pieces: the runtime counts each piece as a node"
    bodies = Components(labels > 0).count
    if bodies < sum(pieces):
        yield (
            "touching-nodes",
            f"{sum(pieces)} parts of nodes make {bodies} bodies: the runtime counts what touches as one",
        )
    if volume is None:
        return
    # Outside of what was scanned, scanners and converters write one value, the least.
    signal = volume.array > volume.array.min()
    dark = int((np.bincount(labels[signal], minlength=len(sizes) + 1)[1:] == 0).sum())
    if dark:
        yield (
            "node-outside",
            f"{dark} of {len(sizes)} nodes lie wholly where the image has no signal: is the map its own?",
        )


def _add_protocol(study: Study, volume: Volume, findings: Findings) -> None:
    spacing = volume.grid.spacing_zyx_mm
    findings.spacings_zyx_mm.append(spacing)
    findings.fields_zyx_mm.append(volume.grid.extent_zyx_mm)
    shape = " x ".join(map(str, volume.grid.shape[::-1]))
    size = " x ".join(f"{edge:.3g}" for edge in spacing[::-1])
    b_value = "b unknown" if study.b_value is None else f"b {study.b_value:g}"
    findings.protocols[f"{shape} of {size} mm, {b_value}"] += 1


def image_id(volume: Volume) -> str:
    """Return a hash of the voxels, not of the file: another compression, type or axis order is still the same image."""
    digest = hashlib.sha256(repr(volume.grid.shape).encode())
    digest.update(volume.array.astype(np.float32).data)
    return digest.hexdigest()[:32]


def _ranges(rows: list[tuple[float, float, float]]) -> list[tuple[float, float]] | None:
    return [(min(column), max(column)) for column in zip(*rows, strict=True)] if rows else None
