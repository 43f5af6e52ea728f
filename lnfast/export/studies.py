"""The calibration studies: phantoms, or the user's own.

Ranges are measured on a few of them; the others, on which nothing was tuned, certify.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnfast.card import ModelCard
from lnfast.errors import StudyError, UsageError
from lnfast.geometry import Volume
from lnfast.phantom import SCANNERS, make_phantom
from lnfast.study import read_study

# From 100000 on seeds are for evaluation: nothing was trained or tuned on them. The two sets never overlap.
RANGE_SEEDS, CERTIFICATE_SEEDS = range(8_000_000, 8_000_100), range(8_100_000, 8_101_000)
RANGE_STUDIES, CERTIFICATE_STUDIES = 6, 24
_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class StudySet:
    """Studies that are generated or read one at a time, in each iteration anew.

    Attributes:
        source: where they are from, for the certificate; without file names, which may be those of patients.
        names: of the studies.
        load: returns a study by its name.
    """

    source: str
    names: tuple[str, ...]
    load: Callable[[str], Volume]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, Volume]]:
        return ((name, self.load(name)) for name in self.names)


def phantoms(seeds: Sequence[int]) -> StudySet:
    """Return phantoms, of each scanner in turn."""
    scanners = sorted(SCANNERS)
    by_name = {
        f"{scanners[i % len(scanners)]}-{seed}": (seed, scanners[i % len(scanners)]) for i, seed in enumerate(seeds)
    }
    source = f"digital phantoms, seeds {seeds[0]} to {seeds[-1]}" if len(seeds) else "no phantoms"
    return StudySet(source, tuple(by_name), lambda name: make_phantom(*by_name[name]).volume)


def split_phantoms(count: int) -> tuple[StudySet, StudySet]:
    """Return ``(for ranges, for the certificate)``.

    Args:
        count: how many are for the certificate.

    Raises:
        UsageError: ``bad-studies``.
    """
    if not 1 <= count <= len(CERTIFICATE_SEEDS):
        raise UsageError("bad-studies", f"got {count} studies, wanted 1 to {len(CERTIFICATE_SEEDS)}")
    return phantoms(RANGE_SEEDS[: min(count, RANGE_STUDIES)]), phantoms(CERTIFICATE_SEEDS[:count])


def split_folder(folder: Path, card: ModelCard) -> tuple[StudySet, StudySet]:
    """Split the user's own studies: every fourth for ranges, at most six; all others for the certificate.

    Args:
        folder: of NIfTI files, or in nnU-Net's raw layout, whose ``imagesTr`` is read.
        card: gives the b-values, by which one volume of several is chosen.

    Raises:
        UsageError: ``bad-calibration`` for a folder with fewer than two studies.
        StudyError: the first study that is refused.
    """
    images = folder / "imagesTr" if (folder / "imagesTr").is_dir() else folder
    try:
        paths = sorted(path for path in images.iterdir() if path.name.endswith(_SUFFIXES) and path.is_file())
    except OSError as error:
        raise UsageError("bad-calibration", f"got --calibration {folder}: {error.strerror}") from error
    if len(paths) < 2:
        raise UsageError("bad-calibration", f"{images} holds {len(paths)} NIfTI files, wanted at least two studies")
    by_name = {path.name: path for path in paths}

    def load(name: str) -> Volume:
        try:
            return read_study(by_name[name], b_targets=card.b_targets, b_range=card.b_range).volume
        except StudyError as error:
            raise StudyError(error.code, f"calibration study {error.message}") from error

    ranges = paths[::4][:RANGE_STUDIES]
    names = [[path.name for path in part] for part in (ranges, [path for path in paths if path not in ranges])]
    used = [f"{len(part)} of {counted(len(paths), 'study', 'studies')} of the user's own" for part in names]
    apart = f"{used[1]}, the other {len(names[0])} having set the ranges"
    first, second = (StudySet(source, tuple(part), load) for source, part in zip((used[0], apart), names, strict=True))
    return first, second


def counted(number: int, singular: str, plural: str) -> str:
    """Return ``"1 study"``, ``"2 studies"``."""
    return f"{number} {singular if number == 1 else plural}"
