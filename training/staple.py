"""STAPLE (Warfield et al., IEEE TMI 2004): what several readers' masks say together, and how good each reader is.

STAPLE takes the share of node among the voxels it is shown for its prior, and the agreement on background for
specificity. Over a whole pelvis nodes are one voxel in a thousand: every reader's specificity is 0.999, whatever one
of them adds seems sure, and the consensus grows towards the union. So it is shown only where there is something to
decide: the voxels that any reader marked, and those that touch them. Voxels count one by one, so these may be handed
over as a row. The one module that imports SimpleITK.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import BackendError, StudyError

THRESHOLD = 0.5
# Two readers of equal skill who disagree leave a voxel at exactly one half, give or take the last bit of a sum. It is
# taken for node: a node that is there too large is looked at, one that is missing is not.
TIE = 1e-6
MOST_ITERATIONS = 1000

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Consensus:
    """What STAPLE says of one case.

    Attributes:
        mask: ``(z, y, x)`` bool.
        sensitivity, specificity: of each reader about the consensus, within the region; None where it has no node, or
            no background.
        iterations: until nothing changed any more; 0 where all readers agree and there is nothing to estimate.
    """

    mask: Mask
    sensitivity: tuple[float | None, ...]
    specificity: tuple[float | None, ...]
    iterations: int

    @property
    def converged(self) -> bool:
        """Whether it came to rest."""
        return self.iterations < MOST_ITERATIONS


def staple(masks: Sequence[Mask]) -> Consensus:
    """Consensus of readers.

    Args:
        masks: two or more of one shape ``(z, y, x)``. With two, which of them is right where they differ cannot be
            known: the result then hangs on the prior.

    Raises:
        BackendError: ``backend-missing`` without SimpleITK.
        StudyError: ``staple-undefined`` where SimpleITK comes to no number.
    """
    union = np.logical_or.reduce(masks)
    where = _grown(union)
    if all(np.array_equal(mask, union) for mask in masks[1:]) and np.array_equal(masks[0], union):
        # SimpleITK divides 0 by 0 where no reader marked anything, and where all marked everything.
        sensitive = 1.0 if union.any() else None
        specific = None if union.all() else 1.0
        return Consensus(union, (sensitive,) * len(masks), (specific,) * len(masks), 0)
    itk = _simple_itk()
    estimate = itk.STAPLEImageFilter()
    estimate.SetForegroundValue(1.0)
    estimate.SetMaximumIterations(MOST_ITERATIONS)
    rows = [itk.GetImageFromArray(mask[where].astype(np.uint8)[None, None]) for mask in masks]
    probability = itk.GetArrayFromImage(estimate.Execute(rows))[0, 0]
    sensitivity, specificity = tuple(estimate.GetSensitivity()), tuple(estimate.GetSpecificity())
    if not np.isfinite(probability).all() or not np.isfinite((*sensitivity, *specificity)).all():
        raise StudyError(
            "staple-undefined", "STAPLE comes to no number for these masks; look at them, or leave them out"
        )
    mask = np.zeros(union.shape, bool)
    mask[where] = probability >= THRESHOLD - TIE
    return Consensus(mask, sensitivity, specificity, int(estimate.GetElapsedIterations()))


def version() -> str:
    """Of SimpleITK."""
    return str(_simple_itk().Version_VersionString())


def _grown(mask: Mask) -> Mask:
    """The mask and every voxel that shares a face, an edge or a corner with it."""
    grown = mask.copy()
    for axis in range(3):
        before = np.moveaxis(grown.copy(), axis, 0)
        after = np.moveaxis(grown, axis, 0)
        after[1:] |= before[:-1]
        after[:-1] |= before[1:]
    return grown


def _simple_itk() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # SWIG's own types, from Python 3.12 on
            import SimpleITK
    except ImportError as error:
        raise BackendError(
            "backend-missing", "a consensus needs SimpleITK, which is not installed: pip install 'lnfast[train]'"
        ) from error
    return SimpleITK
