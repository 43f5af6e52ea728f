"""The study that belongs to a label map, where it can be found: pictures are drawn on it, and nothing is measured.

FOLDER/<name>_0000.nii.gz            where --images names a folder; also .nii, and without _0000
TRUTHS/imagesTr/<name>_0000.nii.gz   else nnU-Net's raw layout; also imagesTs
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import StudyError, UsageError
from lnfast.evaluate.evaluation import Evaluation
from lnfast.evaluate.inputs.pairing import NIFTI, StudyPair
from lnfast.evaluate.inputs.run_reports import report_beside
from lnfast.geometry import Volume, check_same_grid
from lnfast.study import read_study
from lnfast_ext import intensity_statistics

# As report.html shows a study at first: up to where the shipped model's input is clipped, for nodes are bright.
_WINDOW_PERCENTILES = (1.0, 99.9)


@dataclass(frozen=True)
class Image:
    """A study to draw on.

    Attributes:
        volume: its stored values.
        window: stored values that are black and white; the first is below the second.
    """

    volume: Volume
    window: tuple[float, float]


def image_of(pair: StudyPair, evaluation: Evaluation, labels: Volume, orientation: str) -> Image | str:
    """The image of a study, or why there is none, in words.

    Args:
        pair: its label maps; a report beside the prediction says which file it was made of, and no other is taken.
        evaluation: which knows where images lie.
        labels: one of them in ``orientation``; the image must lie in its place.
        orientation: as `Volume.oriented` takes it.
    """
    path = _path_of(pair.name, evaluation)
    if path is None:
        return "no image of this study was found"
    try:
        study = read_study(path)
        volume = study.volume.oriented(orientation)
        check_same_grid(volume.grid, labels.grid)
        low, high, _, _, shown = intensity_statistics(volume.array, _WINDOW_PERCENTILES)
    except (StudyError, UsageError) as error:
        return f"its image was not taken ({error.code}: {error.message})"
    except ValueError as error:  # of intensity_statistics: NaN or infinity
        return f"its image was not taken ({error})"
    told, _ = report_beside(pair.prediction)
    if told is not None and told.sha256 not in (None, study.provenance.sha256):
        return "its image was not taken: the report beside the prediction is of another file"
    black, white = float(shown[0]), float(shown[1])
    return Image(volume, (black, white) if white > black else (float(low), max(float(high), float(low) + 1.0)))


def _path_of(name: str, evaluation: Evaluation) -> Path | None:
    if evaluation.images is not None:
        folders = [evaluation.images]
    else:
        # Absolute, for "." has no name; not resolved, for a link called labelsTr lies beside its images.
        truths = Path(os.path.abspath(evaluation.pairing.truths))
        root = truths.parent if truths.name == "labelsTr" else truths
        folders = [root / "imagesTr", root / "imagesTs"]
    names = [f"{name}{channel}{ending}" for channel in ("_0000", "") for ending in reversed(NIFTI)]
    return next((folder / file for folder in folders for file in names if os.path.isfile(folder / file)), None)
