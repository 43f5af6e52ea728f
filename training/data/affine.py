"""The paper's augmentation: whole studies rotated, sheared and shifted, by MONAI."""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import RandAffine
from torch import Tensor

from training.recipe.presets import Augmentation


def random_affine(full: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Rotate, shear and shift at random, in one trilinear pass.

    Angles are in voxels of the network's grid and not in the patient. Of a field of 400 x 400 x 200 mm a voxel is twice
    as high as wide; a turn of 5 degrees about x then tilts y by 10 degrees and z by 2.5.

    Args:
        full: ``(1, 2, z, y, x)`` float32, input and soft truth on the network's grid.
        augmentation: how far at most.
        rng: the only source of chance.

    Returns:
        ``full``'s shape; what comes in at a border is the border's voxel.
    """
    shape = full.shape[2:]
    transform = RandAffine(
        prob=1.0,
        rotate_range=[float(np.deg2rad(augmentation.rotation_deg))] * 3,
        # MONAI's shears are slopes, two for each axis.
        shear_range=[float(np.tan(np.deg2rad(augmentation.shear_deg)))] * 6,
        translate_range=[augmentation.shift_share * n for n in shape],
        spatial_size=tuple(shape),
        mode="bilinear",
        padding_mode="border",
        cache_grid=False,
    )
    transform.set_random_state(seed=int(rng.integers(2**31)))
    out = transform(full[0])
    return torch.as_tensor(out.as_tensor() if hasattr(out, "as_tensor") else out)[None]
