"""The pipeline that MONAI's own documentation builds, with the same weights:

    LoadImaged -> Orientationd, ClipIntensityPercentilesd, NormalizeIntensityd, Resized, SpatialPadd
               -> SimpleInferer -> Invertd, Activationsd, AsDiscrete -> label (cc3d) -> volume, box (trimesh) -> stage
               -> SaveImaged, json

The inferer runs the whole grid at once, for which the network was trained; ``Invertd`` takes the logits back to the
scanner's grid, interpolating. MONAI's arrays are ``(x, y, z)``: the network reads them transposed, which is a view.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from monai.transforms import (
    Activationsd,
    AsDiscrete,
    ClipIntensityPercentilesd,
    Compose,
    Invertd,
    Lambdad,
    LoadImaged,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    Resized,
    SaveImaged,
    SpatialPadd,
)
from torch import Tensor, nn

from benchmarks.harness.timing import Stopwatch
from benchmarks.peers.nodes import measure_peer_nodes, n_stage_of
from benchmarks.peers.pipeline import PeerResult, drop_faint, normalize_for_network, outline, write_peer_report
from lnfast.card import Body, ModelCard, ZScore

IMAGE, PRED = "image", "pred"


def _intensities(card: ModelCard) -> list[MapTransform]:
    """MONAI's own transforms for a z-score, `normalize_for_network` for the normalization that MONAI lacks."""
    normalization = card.normalization
    if isinstance(normalization, ZScore):
        return [ClipIntensityPercentilesd(IMAGE, *normalization.clip_percentiles), NormalizeIntensityd(IMAGE)]

    def scaled(image: MetaTensor) -> MetaTensor:
        image[0] = torch.from_numpy(normalize_for_network(image[0].numpy(), card))
        return image

    return [Lambdad(IMAGE, scaled)]


def _onto_grid(card: ModelCard) -> list[MapTransform]:
    """Resize a study, in plane alone where its slices are kept: then it must not have more than the network."""
    resampling: dict[str, Any] = {"mode": "trilinear", "align_corners": False}
    size = card.shape_zyx[::-1]
    if not card.keeps_slices:
        return [Resized(IMAGE, spatial_size=size, **resampling)]
    assert isinstance(card.normalization, Body)
    return [
        Resized(IMAGE, spatial_size=(*size[:2], -1), **resampling),
        SpatialPadd(IMAGE, spatial_size=size, value=card.normalization.floor),
    ]


class MonaiPipeline:
    """From file on disk to labels and report on disk.

    Args:
        network: maps ``(1, 1, z, y, x)`` float32 to logits.
        card: of the model whose weights the network has.
    """

    name = "monai eager fp32 pipeline"

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        self._network, self._card = network, card
        self._inferer = SimpleInferer()
        self._load = LoadImaged(IMAGE, ensure_channel_first=True)
        self._before = Compose(
            [
                Orientationd(IMAGE, axcodes=card.orientation, labels=None),
                *_intensities(card),
                *_onto_grid(card),
            ]
        )
        self._after = Compose(
            [
                Invertd(PRED, transform=self._before, orig_keys=IMAGE, nearest_interp=False, to_tensor=True),
                Activationsd(PRED, sigmoid=True),
            ]
        )

    def run(self, path: Path, folder: Path) -> PeerResult:
        """Read ``path``, write ``labels.nii.gz`` and ``report.json`` into a new ``folder``."""
        stopwatch = Stopwatch()
        with stopwatch.stage("read"):
            data = self._load({IMAGE: path})
            affine = data[IMAGE].meta["original_affine"]
            image = data[IMAGE].numpy()[0].transpose(2, 1, 0)
        with stopwatch.stage("preprocess"):
            data = self._before(data)
        with stopwatch.stage("infer"), torch.inference_mode():
            data[PRED] = MetaTensor(self._inferer(data[IMAGE][None], self._transposed)[0])
        with stopwatch.stage("postprocess"):
            data = self._after(data)
            probability = data[PRED][0].numpy().transpose(2, 1, 0)
            mask = np.ascontiguousarray(AsDiscrete(threshold=self._card.threshold)(probability) > 0)
            labels, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
            labels = drop_faint(labels.astype(np.uint16), int(count), probability, self._card)
            labels, count = outline(labels, image, probability, affine, self._card)
        with stopwatch.stage("measure"):
            nodes = measure_peer_nodes(labels, count, affine)
        with stopwatch.stage("write"):
            folder.mkdir(parents=True)
            data[PRED] = data[PRED].new_tensor(labels.transpose(2, 1, 0)[None].astype(np.float32))
            self._save(data, folder)
            write_peer_report(folder, nodes)
        return PeerResult(labels, nodes, n_stage_of(nodes), stopwatch.times_ms)

    def _transposed(self, x: Tensor) -> Tensor:
        logits: Tensor = self._network(x.as_tensor().permute(0, 1, 4, 3, 2))  # type: ignore[attr-defined]
        return logits.permute(0, 1, 4, 3, 2)

    def _save(self, data: dict[str, Any], folder: Path) -> None:
        name: dict[str, Any] = {"output_dir": folder, "output_postfix": "", "separate_folder": False}
        SaveImaged(PRED, **name, resample=False, output_dtype=np.uint16, print_log=False)(data)
