"""Where a trained network sees nodes that are none, so that the next round is trained there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lnfast.card import ModelCard
from lnfast_ext import label_components
from training.case import Case, node_places
from training.unet import UNet
from training.validate import predict, segment


def mimics_of(model: UNet, case: Case, card: ModelCard, threshold: float) -> Case:
    """The case with the centres of all predicted nodes that touch no true one."""
    labels, count = label_components(segment(predict(model, case, card), case.volume.grid, card, threshold))
    true = np.zeros(count + 1, bool)
    true[np.unique(labels[case.labels > 0])] = True
    places, _ = node_places(np.where(true[labels], 0, labels))
    return replace(case, mimics=places)


def mine(
    path: Path, model: UNet, cases: Sequence[Case], card: ModelCard, *, studies: int, threshold: float
) -> list[Case]:
    """The cases, the first of them with their mimics; what was found is kept, so that a resumed run sees the same.

    Args:
        path: ``.npz`` with the mimics by seed; made where it is missing.
        model: in evaluation mode.
        cases: of the training cohort.
        card: says the network's grid.
        studies: how many of the cases to look at; a study takes about two seconds on two cores.
        threshold: probability at which a voxel is called node.
    """
    if not path.exists():
        found = {case.name: mimics_of(model, case, card, threshold).mimics for case in cases[:studies]}
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            np.savez(file, **found)
        temporary.replace(path)
    with np.load(path, allow_pickle=False) as stored:
        return [replace(case, mimics=stored[case.name]) if case.name in stored else case for case in cases]
