"""The pipeline as a researcher writes it in an afternoon, every step with the usual library:

    nibabel -> reorient, z-score (numpy) -> resize (torch) -> network (torch, eager FP32)
            -> resize back, sigmoid, threshold (torch) -> label (scipy) -> volume, box (trimesh) -> stage
            -> nibabel, json

It does what the subject does: the model card's axes, clipping, normalization, grid and threshold, logits interpolated
to the native grid (interpolated probabilities cross a threshold of 0.4 elsewhere: masks of Dice 0.97), voxel corners
for boxes. Where a library offers a quick way and a slow way the quick one is taken (``find_objects`` before a node is
looked at, corners without sorting, float32 from the file on).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.harness.timing import Stopwatch
from benchmarks.peers.nodes import measure, stage_of
from benchmarks.peers.pipeline import PeerResult, normalize, write_report
from lnfast.card import ModelCard


class TorchPipeline:
    """File on disk to labels and report on disk.

    Args:
        network: maps ``(1, 1, z, y, x)`` float32 to logits.
        card: of the model whose weights the network has.
        name: of the pipeline.
    """

    def __init__(self, network: nn.Module, card: ModelCard, name: str = "pytorch eager fp32 pipeline") -> None:
        self._network = network
        self._card = card
        self.name = name

    def run(self, path: Path, folder: Path) -> PeerResult:
        """Read ``path``, write ``labels.nii.gz`` and ``report.json`` into a new ``folder``."""
        watch = Stopwatch()
        with watch.stage("read"):
            image: Any = nib.load(path)  # type: ignore[attr-defined]
            data = image.get_fdata(dtype=np.float32)
        with watch.stage("preprocess"):
            there = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(self._card.orientation)))
            x = self._preprocess(apply_orientation(data, there))
        with watch.stage("infer"), torch.inference_mode():
            logits = self._network(x)
        with watch.stage("postprocess"):
            back = ornt_transform(axcodes2ornt(tuple(self._card.orientation)), io_orientation(image.affine))
            shape_xyz = apply_orientation(np.empty(data.shape, np.int8), there).shape
            labels, count = self._postprocess(logits, shape_xyz, back)
        with watch.stage("measure"):
            nodes = measure(labels, count, image.affine)
        with watch.stage("write"):
            folder.mkdir(parents=True)
            nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), image.affine), folder / "labels.nii.gz")
            write_report(folder, nodes)
        return PeerResult(labels, nodes, stage_of(nodes), watch.times_ms)

    def _preprocess(self, data_xyz: NDArray[np.float32]) -> Tensor:
        scaled = normalize(data_xyz, self._card)
        volume = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 1, 0), dtype=np.float32))
        return interpolate(volume[None, None], size=self._card.shape_zyx, mode="trilinear", align_corners=False)

    def _postprocess(self, logits: Tensor, shape_xyz: tuple[int, ...], back: NDArray[Any]) -> tuple[NDArray[Any], int]:
        native = interpolate(logits, size=shape_xyz[::-1], mode="trilinear", align_corners=False)
        mask = torch.sigmoid(native)[0, 0].numpy() > self._card.threshold
        stored = apply_orientation(mask.transpose(2, 1, 0), back).transpose(2, 1, 0)
        labels, count = ndimage.label(np.ascontiguousarray(stored), structure=np.ones((3, 3, 3)))
        return labels.astype(np.uint16), int(count)
