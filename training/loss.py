"""What is minimized."""

from __future__ import annotations

from monai.losses.dice import DiceCELoss


def node_loss() -> DiceCELoss:
    """Soft Dice (the paper's loss) plus binary cross-entropy, on logits and soft targets.

    Dice is taken over the whole batch: a patch without a node has no Dice of its own. It is blind to how sure a wrong
    voxel is and gives a patch full of background hardly any gradient; the cross-entropy does both, which keeps bowel,
    vessels and bone marrow from being called nodes.
    """
    return DiceCELoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
