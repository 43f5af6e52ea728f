"""One case from its files: read as the runtime reads it, with axes as the card's.

Crops are cut along the axes of the array, which are taken for the card's. Image and labels are turned to them here,
once, so that a study trains the same in whichever of the 48 ways its files store it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.card import ModelCard
from lnfast.errors import StudyError, UsageError
from lnfast.geometry import Volume, check_same_grid
from lnfast.preprocess import write_input
from lnfast.study import Study, read_study, shown
from training.data.case import Case
from training.data.labels import number_nodes, read_labels
from training.data.nnunet_raw import CaseFiles


def load_case(files: CaseFiles, card: ModelCard) -> Case:
    """Read a case.

    Args:
        files: as `open_cases` found them.
        card: says which b-values are taken and how axes run.

    Returns:
        Volume and labels C-contiguous, axes as the card's.

    Raises:
        StudyError: whatever the runtime refuses the image for; ``bad-labels``, ``grid-mismatch``.
    """
    volume = to_card_axes(read_image(files, card), card)
    labels = read_nodes(files, card, volume)
    return Case(files.name, volume, labels)


def read_image(files: CaseFiles, card: ModelCard) -> Study:
    """Read a case's image by the runtime's own code, up to the network's input.

    Raises:
        StudyError: the codes of `lnfast.study.read_study` and `lnfast.preprocess.write_input`.
    """
    study = read_study(files.image, b_targets=card.b_targets, b_range=card.b_range)
    try:
        # One voxel of output: every check is made and nothing is spent on resampling.
        write_input(study.volume, card, np.empty((1, 1, 1), np.float32), threads=1)
    except StudyError as error:
        raise StudyError(error.code, f"{shown(files.image.name)}: {error.message}") from error
    return study


def to_card_axes(study: Study, card: ModelCard) -> Volume:
    """Return the study's voxels with axes as the card's, C-contiguous.

    A scale changes nothing that the network sees. An offset does in training only: contrast and noise are varied about
    0, where air is, so air is put there.
    """
    view = study.volume.oriented(card.orientation)
    array = np.ascontiguousarray(view.array)
    if study.inter:
        array = array.astype(np.float32) + np.float32(study.inter / study.slope)
    return Volume(array, view.grid)


def read_nodes(files: CaseFiles, card: ModelCard, volume: Volume | None) -> NDArray[np.uint16]:
    """Read a case's label map and number its nodes.

    Args:
        files: image and label.
        card: says how axes run.
        volume: the image, turned so; None where it could not be read, and nothing is compared then.

    Returns:
        ``(z, y, x)`` uint16 with axes as the card's, C-contiguous.

    Raises:
        StudyError: the codes of `training.data.labels.read_labels`; ``grid-mismatch``.
    """
    view = read_labels(files.label).oriented(card.orientation)
    try:
        if volume is not None:
            check_same_grid(volume.grid, view.grid)
        return number_nodes(np.ascontiguousarray(view.array), files.rule)
    except (StudyError, UsageError) as error:
        raise StudyError(error.code, f"label {shown(files.label.name)}: {error.message}") from error
