"""The image that belongs to a label map, where one is there: pictures are drawn on it, and nothing is measured.

FOLDER/<name>_0000.nii.gz            with --images FOLDER; also .nii, and without _0000
TRUTHS/imagesTr/<name>_0000.nii.gz   without: nnU-Net's raw layout; also imagesTs
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

# As report.html shows a study at first: up to the value at which the shipped model's input is clipped, since nodes are
# bright.
_WINDOW_PERCENTILES = (1.0, 99.9)


@dataclass(frozen=True)
class Image:
    """An image to draw on.

    Attributes:
        volume: stored values.
        window: the stored values shown as black and as white; the first is below the second.
    """

    volume: Volume
    window: tuple[float, float]


def image_of(pair: StudyPair, evaluation: Evaluation, labels: Volume, orientation: str) -> Image | str:
    """Return the image of a study, or the reason why there is none.

    Args:
        pair: its label maps; a report beside the prediction has the hash of its study, and no other file is used.
        evaluation: with the folder of the images.
        labels: one of the label maps in ``orientation``; the image must be on the same grid.
        orientation: as `Volume.oriented` takes it.
    """
    path = _path_of(pair.name, evaluation)
    if path is None:
        return "no image of this study was found"
    try:
        study = read_study(path)
        volume = study.volume.oriented(orientation)
        check_same_grid(volume.grid, labels.grid)
        low, high, _, _, percentiles = intensity_statistics(volume.array, _WINDOW_PERCENTILES)
    except (StudyError, UsageError) as error:
        return f"its image was not taken ({error.code}: {error.message})"
    except ValueError as error:  # of intensity_statistics: NaN or infinity
        return f"its image was not taken ({error})"
    report, _ = report_beside(pair.prediction)
    if report is not None and report.sha256 not in (None, study.provenance.sha256):
        return "its image was not taken: the report beside the prediction is of another file"
    black, white = float(percentiles[0]), float(percentiles[1])
    return Image(volume, (black, white) if white > black else (float(low), max(float(high), float(low) + 1.0)))


def _path_of(name: str, evaluation: Evaluation) -> Path | None:
    if evaluation.images is not None:
        folders = [evaluation.images]
    else:
        # Absolute, because "." has no name; not resolved, because a link named labelsTr lies beside its images.
        truths = Path(os.path.abspath(evaluation.pairing.truths))
        root = truths.parent if truths.name == "labelsTr" else truths
        folders = [root / "imagesTr", root / "imagesTs"]
    names = [f"{name}{channel}{ending}" for channel in ("_0000", "") for ending in reversed(NIFTI)]
    return next((folder / file for folder in folders for file in names if os.path.isfile(folder / file)), None)
