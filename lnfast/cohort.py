"""Write a cohort: a folder of phantoms in nnU-Net's raw layout, with the truth of each.

    DIR/dataset.json                    what nnU-Net needs; counts the cases in the folder
    DIR/imagesTr/<case>_0000.nii.gz     the study, and its b-value as <case>_0000.bval
    DIR/labelsTr/<case>.nii.gz          node ids, not the class 1; a semantic network is trained on ``labels > 0``
    DIR/truth/<case>.json               each node's analytic shape, and its measures on the truth mask

A case is named by scanner and seed, so several calls, also concurrent ones, add to one folder. Files are replaced
atomically, the image last, so that an image always has its truth. The first process that writes a truth owns the name.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lnfast.atomic import write_file, write_new_file
from lnfast.errors import UsageError
from lnfast.geometry import Volume
from lnfast.measure import LymphNode, Rules, measure_nodes, n_stage, n_stage_by_rule
from lnfast.phantom import Phantom, PhantomNode
from lnfast.study.label_writer import label_map_bytes

TRUTH_SCHEMA = "lnfast.truth/1"
DATASET_NAME = "lnfast digital pelvis"


@dataclass(frozen=True)
class PhantomCase:
    """One phantom of a cohort.

    Attributes:
        name: ``phantom_<scanner>_<seed>``.
        image: path of the study.
        nodes: the truth mask, measured by the rules.
        n_stage: the stage of the truth mask by the rules.
    """

    name: str
    image: Path
    nodes: tuple[LymphNode, ...]
    n_stage: str


def add_case(folder: Path, phantom: Phantom, rules: Rules | None = None) -> PhantomCase:
    """Write a phantom into a folder, replacing the same case of an earlier call.

    Args:
        folder: the cohort; created where it is missing.
        phantom: simulated with a shipped protocol or another one.
        rules: how the truth mask is measured; the default rules when None.

    Raises:
        UsageError: ``output-exists`` when the folder's ``dataset.json`` is of another data set, or the folder has
            the case for another requested stage or variety, which is another patient.
        OSError: the folder cannot be written.
    """
    rules = rules or Rules()
    name = f"phantom_{phantom.protocol.name}_{phantom.seed:06d}"
    _check_owner(folder, name, phantom)
    labels = Volume(phantom.labels, phantom.volume.grid)
    nodes = measure_nodes(labels, len(phantom.nodes), rules)
    stages = n_stage_by_rule(nodes, rules)
    image = folder / "imagesTr" / f"{name}_0000.nii.gz"
    truth = _truth(name, phantom, nodes, stages)
    _write_truth(folder, name, phantom, _json_bytes(truth))
    write_file(folder / "labelsTr" / f"{name}.nii.gz", label_map_bytes(labels))
    write_file(image.with_name(f"{name}_0000.bval"), f"{phantom.protocol.b_value:g}\n".encode())
    write_file(image, _image_bytes(phantom))
    _write_dataset(folder)
    return PhantomCase(name, image, nodes, n_stage(nodes, rules))


def _write_truth(folder: Path, name: str, phantom: Phantom, truth: bytes) -> None:
    """Write the truth of a case; if another process wrote it first, it must be of the same patient."""
    path = folder / "truth" / f"{name}.json"
    if not path.exists():
        write_new_file(path, truth)
    _check_owner(folder, name, phantom)
    write_file(path, truth)


def _write_dataset(folder: Path) -> None:
    """Write dataset.json, again if another process added a case in the meantime, so that the last writer counts all."""
    path = folder / "dataset.json"
    while _read_object(path) != (dataset := _dataset(folder)):
        write_file(path, _json_bytes(dataset))


def _check_owner(folder: Path, name: str, phantom: Phantom) -> None:
    dataset, truth = _read_object(folder / "dataset.json"), _read_object(folder / "truth" / f"{name}.json")
    if dataset is not None and dataset.get("name") != DATASET_NAME:
        raise UsageError("output-exists", f"{folder} is the data set {dataset.get('name')!r}; give another folder")
    if truth is None:
        return
    stage, wanted = truth.get("stage_asked"), phantom.requested_stage
    if stage != wanted:
        raise UsageError(
            "output-exists",
            f"{folder} holds {name} made for stage {stage!r}, wanted {wanted!r}: another patient of the same name; "
            "give another folder or seed",
        )
    if truth.get("variety", {}) != phantom.variety.departures():
        raise UsageError(
            "output-exists",
            f"{folder} holds {name} of another variety of phantoms: another patient of the same name; give another "
            "folder or seed",
        )


def _read_object(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None without a file, an empty one where the content is no object."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _image_bytes(phantom: Phantom) -> bytes:
    """Return the study as a ``.nii.gz`` written by nibabel, so that lnfast reads a file of another writer."""
    nibabel: Any = import_module("nibabel")  # nibabel's calls are not typed
    image = nibabel.Nifti1Image(phantom.volume.array.T, phantom.volume.grid.affine)
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"lnfast: digital phantom, no patient"
    return gzip.compress(image.to_bytes(), 6, mtime=0)


def _dataset(folder: Path) -> dict[str, Any]:
    return {
        "name": DATASET_NAME,
        "description": "Synthetic pelvic DWI. labelsTr holds instance ids: take labels > 0 for the class lymph_node.",
        "channel_names": {"0": "DWI"},
        "labels": {"background": 0, "lymph_node": 1},
        "instance_labels": True,
        "numTraining": sum(1 for _ in (folder / "imagesTr").glob("*_0000.nii.gz")),
        "file_ending": ".nii.gz",
    }


def _truth(name: str, phantom: Phantom, nodes: tuple[LymphNode, ...], stages: dict[Any, Any]) -> dict[str, Any]:
    departures = phantom.variety.departures()
    return {
        "schema": TRUTH_SCHEMA,
        "case": name,
        "seed": phantom.seed,
        "scanner": phantom.protocol.name,
        "stage_asked": phantom.requested_stage,
        **({"variety": departures} if departures else {}),
        "b_value": phantom.protocol.b_value,
        "n_stage_by_rule": stages,
        "slide_xy_mm": phantom.slice_shift_xy_mm.tolist(),
        "nodes": [_node_truth(node, mask) for node, mask in zip(phantom.nodes, nodes, strict=True)],
    }


def _node_truth(node: PhantomNode, mask: LymphNode) -> dict[str, Any]:
    return {
        "id": node.label,
        "station": node.station,
        "centre_ras_mm": node.centre_ras_mm.tolist(),
        "axes_ras": node.axes_ras.tolist(),
        "semi_axes_mm": node.semi_axes_mm.tolist(),
        "lobes": [
            {"centre_ras_mm": lobe.centre.tolist(), "axes_ras": lobe.axes.tolist(), "semi_axes_mm": lobe.semi.tolist()}
            for lobe in node.shape.lobes
        ],
        "volume_mm3": node.volume_mm3,
        "mask": {
            "voxels": mask.voxels,
            "volume_mm3": mask.volume_mm3,
            "box_mm": mask.box_mm,
            "axial_short_mm": mask.axial_short_mm,
            "axial_long_mm": mask.axial_long_mm,
            "suspicious": mask.suspicious,
        },
    }


def _json_bytes(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
