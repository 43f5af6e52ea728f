"""The pipeline that a researcher writes in an afternoon, every step with the usual library:

    nibabel -> reorient, z-score (numpy) -> resize (torch) -> network (torch, eager FP32)
            -> resize back, sigmoid, threshold (torch) -> label (scipy) -> volume, box (trimesh) -> stage
            -> nibabel, json

It takes the subject's steps: the model card's axes, clipping, normalization, grid, threshold, peak and outline, logits
interpolated to the native grid (interpolated probabilities cross a threshold of 0.4 elsewhere: masks of Dice 0.97),
voxel corners for boxes. Where a library offers a fast and a slow way the fast one is taken (``find_objects`` before a
node is cut out, corners without sorting, float32 from the file on).
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
from torch.nn.functional import interpolate, pad

from benchmarks.harness.timing import Stopwatch
from benchmarks.peers.nodes import measure_peer_nodes, n_stage_of
from benchmarks.peers.pipeline import (
    PeerResult,
    drop_faint,
    normalize_for_network,
    outline,
    slices_of,
    write_peer_report,
)
from lnfast.card import ModelCard


class TorchPipeline:
    """From file on disk to labels and report on disk.

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
        stopwatch = Stopwatch()
        with stopwatch.stage("read"):
            image: Any = nib.load(path)
            data = image.get_fdata(dtype=np.float32)
        with stopwatch.stage("preprocess"):
            to_card = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(self._card.orientation)))
            x = self._preprocess(apply_orientation(data, to_card))
        with stopwatch.stage("infer"), torch.inference_mode():
            logits = self._network(x)
        with stopwatch.stage("postprocess"):
            to_stored = ornt_transform(axcodes2ornt(tuple(self._card.orientation)), io_orientation(image.affine))
            shape_xyz = apply_orientation(np.empty(data.shape, np.int8), to_card).shape
            labels, probability = self._postprocess(logits, shape_xyz, to_stored)
            labels, count = outline(labels, data.transpose(2, 1, 0), probability, image.affine, self._card)
        with stopwatch.stage("measure"):
            nodes = measure_peer_nodes(labels, count, image.affine)
        with stopwatch.stage("write"):
            folder.mkdir(parents=True)
            nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), image.affine), folder / "labels.nii.gz")
            write_peer_report(folder, nodes)
        return PeerResult(labels, nodes, n_stage_of(nodes), stopwatch.times_ms)

    def _preprocess(self, data_xyz: NDArray[np.float32]) -> Tensor:
        scaled = normalize_for_network(data_xyz, self._card)
        volume = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 1, 0), dtype=np.float32))
        depth, height, width = self._card.shape_zyx
        taken, first = slices_of(self._card, len(volume))
        x = interpolate(volume[None, None], size=(taken, height, width), mode="trilinear", align_corners=False)
        return pad(x, (0, 0, 0, 0, first, depth - first - taken), value=float(volume.min()))

    def _postprocess(
        self, logits: Tensor, shape_xyz: tuple[int, ...], to_stored: NDArray[Any]
    ) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
        taken, first = slices_of(self._card, shape_xyz[2])
        own = logits[:, :, first : first + taken]
        native = interpolate(own, size=shape_xyz[::-1], mode="trilinear", align_corners=False)
        probability = torch.sigmoid(native)[0, 0].numpy()
        stored = apply_orientation(probability.transpose(2, 1, 0), to_stored).transpose(2, 1, 0)
        mask = np.ascontiguousarray(stored > self._card.threshold)
        labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
        return drop_faint(labels.astype(np.uint16), int(count), stored, self._card), stored
