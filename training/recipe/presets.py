"""The two presets, and a small form of each that runs in seconds.

What is set here has no option on the command line, but for the network: so networks are compared at one recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

NetworkName = Literal["edgenet", "unet", "enet"]
# As Lightning names them.
Precision = Literal["16-mixed", "bf16-mixed", "32-true"]


@dataclass(frozen=True)
class Augmentation:
    """How far a whole study is moved, in voxels of the model grid; see `training.data.affine`.

    Attributes:
        rotation_deg: highest angle about each axis, either way; the paper's "skewing".
        shear_deg: highest angle of each of the six shears, either way.
        shift_share: highest translation along each axis, either way, as a share of the extent.
    """

    rotation_deg: float = 5.0
    shear_deg: float = 5.0
    shift_share: float = 0.1


@dataclass(frozen=True)
class Crops:
    """How crops are placed, deformed and augmented.

    Each way of changing intensities is a function of the same name in `training.data.intensity`.

    Attributes:
        per_patient: crops that a batch has of each patient.
        about_node, about_bright: shares placed on a node, and on another bright structure; the rest lies anywhere.
        suspicious: share of those about a node for which it is a suspicious one, where there is any.
        boxes: how many boxes of other crops a crop gets, drawn from these.
        move: share that is turned, scaled, stretched and sheared through the slices.
        turn_deg: highest angle in plane, either way.
        scale_log: largest logarithm of a scale in plane, either way.
        stretch_log: the same of what comes on top along each axis.
        depth: share with other distances between the slices, which are then interpolated and blurred.
        depth_log: largest logarithm of that scale, either way.
        tilt_share: highest shear, either way: how far the outermost slice slides, in halves of the plane.
        mirror, slide: shares that are mirrored left to right, and moved along the slices.
        margins: share that is empty at one or two sides.
        gamma, curve, clusters, grain, clutter, shading, flare, ghost, blur, filtered, resolution, noise, rescale:
            shares that are changed so.
    """

    per_patient: int = 1
    about_node: float = 0.55
    suspicious: float = 0.5
    about_bright: float = 0.33
    boxes: tuple[int, ...] = (0, 0, 0, 1)
    move: float = 0.8
    turn_deg: float = 15.0
    scale_log: float = 0.45
    stretch_log: float = 0.45
    depth: float = 0.4
    depth_log: float = 0.45
    tilt_share: float = 0.10
    mirror: float = 0.5
    slide: float = 0.3
    margins: float = 0.2
    gamma: float = 0.1
    curve: float = 0.15
    clusters: float = 0.3
    grain: float = 0.3
    clutter: float = 0.5
    shading: float = 0.3
    flare: float = 0.15
    ghost: float = 0.15
    blur: float = 0.1
    filtered: float = 0.15
    resolution: float = 0.15
    noise: float = 0.4
    rescale: float = 1.0


@dataclass(frozen=True)
class Preset:
    """Everything that is the same in all runs of one preset.

    Attributes:
        name: what the command line calls it.
        network: which network (`training.model.networks`).
        width: channels of its first convolution.
        shape_zyx: voxels of the network's input, the card's.
        normalization: of intensities, the card's.
        slices: resampled to those of the network or kept, the card's.
        outline: of a node, the card's.
        patch_zyx: voxels of a training crop; None trains on whole studies.
        crops: how crops are made; None trains on whole studies.
        augmentation: of whole studies; None where crops are used.
        batch: studies or crops an optimizer step.
        micro: how many of them are in memory at a time; None takes what the device holds (`training.fit.devices`).
        learning_rate: the highest.
        learning_rate_again: the highest with ``--start``, where the weights are good already.
        weight_decay: of AdamW, for parameters of more than one axis; None is Adam.
        schedule: "cosine" warms up and falls to zero at the end of the budget; "constant" stays.
        loss: "dice" is the paper's; "dice+ce" adds cross-entropy (`training.model.loss`).
        coarse: weight of the same loss on the coarse logits in the middle of the decoder, where the network has them.
        rim: additional weight of the voxels at the edge of a node of 6 to 10 mm.
        between: additional weight of the background between two nodes that nearly touch.
        hilum: additional weight of a node's dark voxels within its edge.
        clip: norm that gradients are clipped to; None does not clip.
        average: decay of the moving average of the weights; None validates the weights themselves.
        freeze_norms: share of the budget after which batch statistics are frozen; None never freezes them.
        freeze_norms_again: the same with ``--start``, where they need only adapt to other data.
        precision: of Lightning; "16-mixed" on CUDA, "bf16-mixed" on CPUs that have it, else FP32.
        epoch_steps: optimizer steps between two validations; None is one pass over the cases.
        epochs: the budget where none is given.
        patience: validations without a better Dice after which the run ends; None never ends early.
        keep: which validated weights `export` uses. "last" where the schedule ends at a learning rate of zero: the
            last are the best but for chance. "best", by Dice over all voxels, where it stays.
        teaching: weight of the teacher's probabilities against the truth, with ``--teacher``.
        checkpoint_steps: optimizer steps between two checkpoints.
    """

    name: str
    network: NetworkName
    width: int
    shape_zyx: tuple[int, int, int]
    normalization: Literal["zscore", "body"]
    slices: Literal["resampled", "kept"]
    outline: Literal["threshold", "half-maximum"]
    patch_zyx: tuple[int, int, int] | None
    crops: Crops | None
    augmentation: Augmentation | None
    batch: int
    micro: int | None
    learning_rate: float
    learning_rate_again: float
    weight_decay: float | None
    schedule: Literal["cosine", "constant"]
    loss: Literal["dice", "dice+ce"]
    coarse: float
    rim: float
    between: float
    hilum: float
    clip: float | None
    average: float | None
    freeze_norms: float | None
    freeze_norms_again: float | None
    precision: Precision
    epoch_steps: int | None
    epochs: int
    patience: int | None
    keep: Literal["last", "best"]
    teaching: float
    checkpoint_steps: int


PAPER = Preset(
    name="paper",
    network="unet",
    width=32,
    shape_zyx=(64, 256, 256),
    normalization="zscore",
    slices="resampled",
    outline="threshold",
    patch_zyx=None,
    crops=None,
    augmentation=Augmentation(),
    batch=10,
    micro=None,
    learning_rate=1e-4,
    learning_rate_again=1e-4,
    weight_decay=None,
    schedule="constant",
    loss="dice",
    coarse=0.0,
    rim=0.0,
    between=0.0,
    hilum=0.0,
    clip=None,
    average=None,
    freeze_norms=None,
    freeze_norms_again=None,
    precision="16-mixed",
    epoch_steps=None,
    epochs=300,
    patience=30,
    keep="best",
    teaching=0.0,
    checkpoint_steps=20,
)

EDGE = Preset(
    name="edge",
    network="edgenet",
    width=16,
    shape_zyx=(32, 256, 256),
    normalization="body",
    slices="kept",
    outline="half-maximum",
    patch_zyx=(32, 208, 208),
    crops=Crops(),
    augmentation=None,
    batch=2,
    micro=2,
    learning_rate=2e-3,
    learning_rate_again=4e-4,
    weight_decay=0.01,
    schedule="cosine",
    loss="dice+ce",
    coarse=0.3,
    rim=2.0,
    between=8.0,
    hilum=2.0,
    clip=1.0,
    average=0.998,
    freeze_norms=0.7,
    freeze_norms_again=0.15,
    precision="bf16-mixed",
    epoch_steps=500,
    epochs=12,
    patience=None,
    keep="last",
    teaching=0.5,
    checkpoint_steps=50,
)

_QUICK = {
    "paper": replace(PAPER, width=4, batch=2, micro=1, epochs=1, patience=1, checkpoint_steps=1),
    "edge": replace(
        EDGE,
        width=4,
        patch_zyx=(32, 64, 64),
        crops=Crops(about_node=1.0, scale_log=0.2),
        batch=2,
        micro=2,
        learning_rate=1e-2,
        epoch_steps=15,
        epochs=2,
        checkpoint_steps=10,
    ),
}


# Widths at which networks are compared: that of the shipped one, of the one before it, and ENet's own.
_WIDTHS: dict[NetworkName, int] = {"edgenet": 16, "unet": 8, "enet": 16}


def preset(name: str, *, quick: bool = False, network: NetworkName | None = None) -> Preset:
    """Return a preset.

    Args:
        name: "edge" or "paper".
        quick: its small form, which shows in seconds that everything works.
        network: another network in the place of the preset's, at the width at which networks are compared.
    """
    found = _QUICK[name] if quick else {"paper": PAPER, "edge": EDGE}[name]
    if network is None or network == found.network:
        return found
    return replace(found, network=network, width=found.width if quick else _WIDTHS[network])
