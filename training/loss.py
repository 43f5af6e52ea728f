"""What is minimized."""

from __future__ import annotations

from typing import Any

import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

# A voxel's cross-entropy is averaged over voxels that are nearly all plain background: of the order of 0.005, against
# 0.4 of the Dice term. This factor makes them weigh alike.
CROSS_ENTROPY_WEIGHT = 20.0


def node_loss(kind: str) -> Any:
    """A loss of MONAI on logits and soft targets: "dice", the paper's, or "dice+ce" with weighted cross-entropy.

    Dice is taken over the whole batch: a patch without a node has no Dice of its own. Alone it draws nodes too large:
    what maximizes Dice calls a voxel node when its probability is above *half the Dice reached*, so at a Dice of 0.6 a
    voxel that is node in three cases of ten is called one, and a node of 6 mm measures 8. Cross-entropy is smallest
    where the answer is the probability itself, which makes 0.5 the edge and the millimetres unbiased; it also gives a
    patch full of background a gradient, which keeps bowel, nerves and bone marrow from being called nodes.
    """
    common = {"sigmoid": True, "batch": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
    return DiceLoss(**common) if kind == "dice" else DiceCELoss(**common, lambda_ce=CROSS_ENTROPY_WEIGHT)


class Teacher:
    """A trained network whose probabilities are a second truth. Copies of the pupil share it.

    Args:
        net: maps ``(n, 1, z, y, x)`` to logits of that shape.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def loss(self, image: Tensor, logits: Tensor) -> Tensor:
        """Weighted cross-entropy of the pupil's logits (float32) with the teacher's probabilities."""
        self.net.to(image.device)
        with torch.no_grad():
            soft = torch.sigmoid(self.net(image).float())
        return CROSS_ENTROPY_WEIGHT * binary_cross_entropy_with_logits(logits, soft)
