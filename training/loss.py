"""What is minimized."""

from __future__ import annotations

from monai.losses import DiceCELoss

# A voxel's cross-entropy is averaged over voxels that are nearly all plain background: of the order of 0.005, against
# 0.4 of the Dice term. This factor makes them weigh alike.
CROSS_ENTROPY_WEIGHT = 20.0


def node_loss() -> DiceCELoss:
    """Soft Dice (the paper's loss) plus weighted binary cross-entropy, on logits and soft targets.

    Dice is taken over the whole batch: a patch without a node has no Dice of its own. Alone it draws nodes too large:
    what maximizes Dice calls a voxel node when its probability is above *half the Dice reached*, so at a Dice of 0.6 a
    voxel that is node in three cases of ten is called one, and a node of 6 mm measures 8. Cross-entropy is smallest
    where the answer is the probability itself, which makes 0.5 the edge and the millimetres unbiased; it also gives a
    patch full of background a gradient, which keeps bowel, nerves and bone marrow from being called nodes.
    """
    return DiceCELoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0, lambda_ce=CROSS_ENTROPY_WEIGHT)
