"""The losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d, binary_cross_entropy_with_logits

# A voxel's cross-entropy is averaged over voxels of which one in 300 is node, one in 2000 of a whole study. So it is of
# the order of 0.005, against 0.4 of the Dice term. A factor of 20 is far too weak, from 100 to 400 makes no difference.
CROSS_ENTROPY_WEIGHT = 100.0

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def node_loss(kind: str) -> Loss:
    """Return a loss of logits, soft truth and voxel weights: "dice", the paper's, or "dice+ce".

    Dice is taken over the whole batch: a crop without a node has no Dice of its own. Alone it draws nodes too large:
    what maximizes Dice calls a voxel node when its probability is above *half the Dice reached*, so at a Dice of 0.6 a
    voxel that is node in three cases of ten is called one, and a node of 6 mm measures 8. Cross-entropy is smallest
    where the answer is the probability itself, which makes 0.5 the edge and the millimetres unbiased; it also gives a
    crop full of background a gradient, which keeps bowel, nerves and bone marrow from being called nodes. Weights are
    the cross-entropy's alone.
    """
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)

    def both(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        entropy = binary_cross_entropy_with_logits(logits, truth, weight=weight)
        loss: Tensor = dice(logits, truth) + CROSS_ENTROPY_WEIGHT * entropy
        return loss

    def alone(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        loss: Tensor = dice(logits, truth)
        return loss

    return alone if kind == "dice" else both


def coarse_loss(loss: Loss, logits: Tensor, truth: Tensor) -> Tensor:
    """Return the same loss on a coarser grid, where the truth is the mean of the voxels that each voxel covers."""
    depth, height, width = logits.shape[2:]
    return loss(logits, adaptive_avg_pool3d(truth, (depth, height, width)), torch.ones_like(logits))


class Teacher:
    """A trained network whose probabilities are a second truth. Copies of the student share it.

    Args:
        net: maps ``(n, 1, z, y, x)`` to logits of that shape.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def loss(self, image: Tensor, logits: Tensor) -> Tensor:
        """Return the weighted cross-entropy of the student's logits (float32) with the teacher's probabilities."""
        self.net.to(image.device)
        with torch.no_grad():
            soft = torch.sigmoid(self.net(image).float())
        return CROSS_ENTROPY_WEIGHT * binary_cross_entropy_with_logits(logits, soft)
