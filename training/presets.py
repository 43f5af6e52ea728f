"""What a training run is: two presets, and each of them small enough to be tried in seconds.

Whatever stands here has no option on the command line: a preset's name and the seed say what was trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Augmentation:
    """How far a whole study is moved, in voxels of the network's grid; see `training.affine`.

    Attributes:
        rotation_deg: highest angle about each axis, either way; the paper's "skewing".
        shear_deg: highest angle of each of the six shears, either way.
        shift_share: highest translation along each axis, either way, as a share of the extent.
    """

    rotation_deg: float = 5.0
    shear_deg: float = 5.0
    shift_share: float = 0.1


@dataclass(frozen=True)
class Preset:
    """Everything that is the same in all runs of one kind.

    Attributes:
        name: what the command line calls it.
        width: channels of the U-Net's first convolution.
        patch_zyx: voxels of a training patch, multiples of 8; None trains on whole studies.
        augmentation: of whole studies; None where patches are cut, which have their own (`training.data`).
        batch: studies or patches an optimizer step.
        micro: how many of them are in memory at a time; None takes what the device holds (`training.run`).
        learning_rate: the highest.
        learning_rate_again: the same with ``--start``, where the weights are good already.
        schedule: "cosine" warms up and falls to zero at the end of the budget; "constant" stays.
        loss: "dice" is the paper's; "dice+ce" adds cross-entropy (`training.loss`).
        clip: norm that gradients are cut to; None leaves them.
        average: share of the old in the moving average of the weights; None validates the weights themselves.
        precision: of Lightning; "16-mixed" on CUDA, "bf16-mixed" on CPUs that have it.
        epoch_steps: optimizer steps between two validations; None is one pass over the cases.
        epochs: the budget where none is given.
        patience: validations without a better Dice after which the run ends; None never ends early.
        keep: which validated weights `export` gets. "last" where the schedule ends at a learning rate of zero: the
            last are the best but for chance. "best", by Dice over all voxels, where it stays.
        mimics: of how many training cases false nodes are looked for; 0 looks for none.
        mine_every: epochs between two such looks.
        teaching: weight of a teacher's opinion against the truth's, with ``--teacher``.
        checkpoint_steps: optimizer steps between two checkpoints.
        recalibration: whole studies that the batch statistics are measured on before each validation.
    """

    name: str
    width: int
    patch_zyx: tuple[int, int, int] | None
    augmentation: Augmentation | None
    batch: int
    micro: int | None
    learning_rate: float
    learning_rate_again: float
    schedule: Literal["cosine", "constant"]
    loss: Literal["dice", "dice+ce"]
    clip: float | None
    average: float | None
    precision: Literal["16-mixed", "bf16-mixed", "32-true"]
    epoch_steps: int | None
    epochs: int
    patience: int | None
    keep: Literal["last", "best"]
    mimics: int
    mine_every: int
    teaching: float
    checkpoint_steps: int
    recalibration: int


PAPER = Preset(
    name="paper",
    width=32,
    patch_zyx=None,
    augmentation=Augmentation(),
    batch=10,
    micro=None,
    learning_rate=1e-4,
    learning_rate_again=1e-4,
    schedule="constant",
    loss="dice",
    clip=None,
    average=None,
    precision="16-mixed",
    epoch_steps=None,
    epochs=300,
    patience=30,
    keep="best",
    mimics=0,
    mine_every=0,
    teaching=0.0,
    checkpoint_steps=20,
    recalibration=0,
)

EDGE = Preset(
    name="edge",
    width=8,
    patch_zyx=(32, 96, 96),
    augmentation=None,
    batch=2,
    micro=2,
    learning_rate=2e-3,
    learning_rate_again=7e-4,
    schedule="cosine",
    loss="dice+ce",
    clip=1.0,
    average=0.99,
    precision="bf16-mixed",
    epoch_steps=1000,
    epochs=8,
    patience=None,
    keep="last",
    mimics=64,
    mine_every=2,
    teaching=0.5,
    checkpoint_steps=100,
    recalibration=16,
)

_QUICK = {
    "paper": replace(PAPER, width=4, batch=2, micro=1, epochs=1, patience=1, checkpoint_steps=1),
    "edge": replace(
        EDGE,
        width=4,
        patch_zyx=(24, 64, 64),
        learning_rate=1e-2,
        epoch_steps=15,
        epochs=2,
        mimics=1,
        mine_every=1,
        checkpoint_steps=10,
        recalibration=1,
    ),
}


def preset(name: str, *, quick: bool = False) -> Preset:
    """A preset by its name, or the one that shows in seconds that everything works."""
    return _QUICK[name] if quick else {"paper": PAPER, "edge": EDGE}[name]
