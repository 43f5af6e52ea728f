"""Where a trained network sees nodes that are none, so that it is trained there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnfast.card import ModelCard
from lnfast_ext import label_components
from training.case import Case, node_places
from training.files import beside
from training.unet import UNet
from training.validate import BFLOAT16, predict, segment


def mimics_of(model: UNet, case: Case, card: ModelCard, threshold: float, precision: str = BFLOAT16) -> Case:
    """The case with the centres of all predicted nodes that touch no true one."""
    logits = predict(model, case, card, precision)
    labels, count = label_components(segment(logits, case.volume.grid, card, threshold))
    true = np.zeros(count + 1, bool)
    true[np.unique(labels[case.labels > 0])] = True
    places, _ = node_places(np.where(true[labels], 0, labels))
    return replace(case, mimics=places)


def mine(
    path: Path,
    model: UNet,
    cases: Sequence[Case],
    card: ModelCard,
    *,
    studies: int,
    first: int,
    threshold: float,
    precision: str = BFLOAT16,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Look for mimics in some of the cases and keep them, so that a run that goes on from a checkpoint sees the same.

    Args:
        path: ``.npz`` with the mimics by name of case; what is there already is left.
        model: in evaluation mode.
        cases: of the training cohort.
        card: says the network's grid.
        studies: how many of the cases to look at; a study takes about two seconds on two cores.
        first: index of the first of them, modulo their number.
        threshold: probability at which a voxel is called node.
        precision: as Lightning calls it.
        check: called before each study; may raise.
    """
    if path.exists():
        return
    chosen = [cases[(first + i) % len(cases)] for i in range(min(studies, len(cases)))]
    found = {}
    for case in chosen:
        check()
        found[case.name] = mimics_of(model, case, card, threshold, precision).mimics
    with beside(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **found)


def mined(path: Path) -> dict[str, NDArray[np.float32]]:
    """What `mine` kept: ``(n, 3)`` float32 by name of case."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
