"""Which of the volumes in a folder is the high-b trace image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lnfast.errors import StudyError
from lnfast.study.bvalues import SAME_SHELL, BRule
from lnfast.study.dicom.frames import Frame
from lnfast.study.dicom.scan import Contents

ACQUIRED, COMPUTED = "trace", "computed"


@dataclass(frozen=True)
class DicomChoice:
    """What a person may say about the choice.

    Attributes:
        series: number or UID of the series to take; None takes what the rules find.
        b_value: s/mm2, of images whose headers have none; None takes none such.
        synthetic: take an image that was computed for a b-value where none was acquired.
        prefer: which of several series to take that could be: patterns of their descriptions, as a shell has them,
            whatever the case; an earlier one counts before a later one.
    """

    series: str | None = None
    b_value: float | None = None
    synthetic: bool = False
    prefer: tuple[str, ...] = ()


@dataclass(frozen=True)
class DicomVolume:
    """The frames of one volume: of one series, kind and b-value.

    Attributes:
        frames: in any order.
        kind: as in `Frame`.
        code: as in `Frame`.
        b_value: s/mm2, whole; None where unknown.
        series_number: -1 where there is none.
        given: the b-value is what a person said.
    """

    frames: tuple[Frame, ...]
    kind: str
    code: str
    b_value: float | None
    series_number: int
    given: bool = False

    @property
    def series_uid(self) -> str:
        """Never printed."""
        return self.frames[0].series_uid


def volumes_of(frames: Iterable[Frame], choice: DicomChoice) -> list[DicomVolume]:
    """The volumes that frames make, by series number and b-value."""
    kinds: dict[tuple[str, str, str], list[Frame]] = {}
    for frame in frames:
        kinds.setdefault((frame.series_uid, frame.kind, frame.code), []).append(frame)
    groups = {(*kind, b_value): shell for kind, members in kinds.items() for b_value, shell in _shells(members).items()}
    volumes = []
    for (_, kind, code, b_value), members in groups.items():
        given = b_value is None and kind in ("unknown", "trace", "computed") and choice.b_value is not None
        if given and kind == "unknown":
            kind = ACQUIRED
        value = choice.b_value if given else b_value
        volumes.append(
            DicomVolume(
                tuple(members), kind, code, None if value is None else float(value), members[0].series_number, given
            )
        )
    return sorted(
        volumes, key=lambda volume: (volume.series_number, volume.series_uid, volume.b_value or 0.0, volume.kind)
    )


def _shells(frames: Iterable[Frame]) -> dict[int | None, list[Frame]]:
    """Frames by b-value in s/mm2: those of one shell, some s/mm2 apart, under the value that most of them have.

    Taken apart, every second slice of a volume could pass for a whole one.
    """
    values: dict[int | None, list[Frame]] = {}
    for frame in frames:
        values.setdefault(None if frame.b_value is None else round(frame.b_value), []).append(frame)
    shells: list[list[int]] = []
    for value in sorted(value for value in values if value is not None):
        if shells and value - shells[-1][0] <= SAME_SHELL * value:
            shells[-1].append(value)
        else:
            shells.append([value])
    merged: dict[int | None, list[Frame]] = {None: values[None]} if None in values else {}
    for shell in shells:
        commonest = max(shell, key=lambda value: len(values[value]))
        merged[commonest] = [frame for value in shell for frame in values[value]]
    return merged


def select(contents: Contents, rule: BRule, choice: DicomChoice) -> tuple[DicomVolume, list[DicomVolume]]:
    """The volume to take, and all volumes that show which slices it must have: of its series, or of its planes.

    Args:
        contents: of the folder.
        rule: which b-values the model takes.
        choice: what a person said.

    Raises:
        StudyError: ``not-dicom``, ``no-mr-image``, ``mixed-patients``, ``mixed-studies``, ``no-series``, ``mosaic``,
            ``adc-map``, ``not-dwi``, ``computed-b``, ``no-trace``, ``no-high-b``, ``no-b-value`` or ``ambiguous``.
    """
    frames = everything = _one_patient(contents)
    if choice.series is not None:
        frames = [frame for frame in frames if choice.series in (str(frame.series_number), frame.series_uid)]
        if not frames:
            raise StudyError("no-series", "the folder has no series of that number or UID; --list shows what is there")
    volumes = volumes_of(frames, choice)
    refusal = refusal_of(volumes, rule, choice)
    if refusal is not None:
        raise refusal
    usable = [volume for volume in volumes if _is_usable(volume, rule, choice)]
    best = min(usable, key=lambda volume: _rank(volume, rule))
    rivals = [volume for volume in usable if _rank(volume, rule) == _rank(best, rule)]
    rivals = _preferred(rivals, choice.prefer)
    best = rivals[0]
    if len(rivals) > 1:
        numbers = ", ".join(str(volume.series_number) for volume in rivals)
        raise StudyError(
            "ambiguous", f"{len(rivals)} series have b = {best.b_value:g} (numbers {numbers}); name one with --series"
        )
    return best, [volume for volume in volumes_of(everything, choice) if _is_sibling(volume, best)]


def _preferred(rivals: list[DicomVolume], patterns: Sequence[str]) -> list[DicomVolume]:
    """Those of some volumes that are preferred by their descriptions; all where none is."""
    for pattern in patterns:
        matching = [volume for volume in rivals if fnmatchcase(volume.frames[0].description.lower(), pattern.lower())]
        rivals = matching or rivals
    return rivals


def _is_sibling(volume: DicomVolume, chosen: DicomVolume) -> bool:
    """Whether a volume shows which slices another must have: of its series, or of its examination on its planes.

    Scanners also write each b-value, and the ADC map, as a series of its own.
    """
    if volume.series_uid == chosen.series_uid:
        return True
    first, other = chosen.frames[0], volume.frames[0]
    same_planes = (
        volume.b_value is not None
        and other.frame_of_reference == first.frame_of_reference
        and (other.orientation, other.spacing_mm) == (first.orientation, first.spacing_mm)
        and (other.pixels.rows, other.pixels.columns) == (first.pixels.rows, first.pixels.columns)
    )
    if not same_planes:
        return False
    positions = {_rounded(frame) for frame in chosen.frames}
    shared = positions & {_rounded(frame) for frame in volume.frames}
    return len(shared) > len(positions) / 2


def _rounded(frame: Frame) -> tuple[float, ...]:
    return tuple(round(value, 1) for value in frame.position_mm)


def refusal_of(volumes: Sequence[DicomVolume], rule: BRule, choice: DicomChoice) -> StudyError | None:
    """Why none of some volumes can be taken; None where one can."""
    if any(_is_usable(volume, rule, choice) for volume in volumes):
        return None
    return _refusal(volumes, rule)


def _one_patient(contents: Contents) -> list[Frame]:
    frames = list(contents.frames)
    if not frames:
        if contents.others:
            raise StudyError("no-mr-image", f"none of {contents.others} DICOM files is an MR image; give the MR study")
        if not contents.not_dicom:
            raise StudyError("not-dicom", "the folder has no files; give the folder of a series")
        raise StudyError(
            "not-dicom",
            f"none of {contents.not_dicom} files is DICOM; give the folder of a series, or a NIfTI file itself",
        )
    if len({frame.patient for frame in frames}) > 1:
        raise StudyError("mixed-patients", "the images are of more than one patient; give one patient's folder")
    if len({frame.study_uid for frame in frames}) > 1:
        raise StudyError("mixed-studies", "the images are of more than one study; give one study's folder")
    return frames


def _is_usable(volume: DicomVolume, rule: BRule, choice: DicomChoice) -> bool:
    return volume.kind in ((ACQUIRED, COMPUTED) if choice.synthetic else (ACQUIRED,)) and _in_range(volume, rule)


def _in_range(volume: DicomVolume, rule: BRule) -> bool:
    return volume.b_value is not None and rule.low <= volume.b_value <= rule.high


def _rank(volume: DicomVolume, rule: BRule) -> tuple[bool, bool, float, float]:
    """A b-value of the header before one that a person gave, acquired before computed, the nearest to a target, the
    higher.
    """
    value = volume.b_value or 0.0
    return volume.given, volume.kind == COMPUTED, min(abs(value - target) for target in rule.targets), -value


def _refusal(volumes: Sequence[DicomVolume], rule: BRule) -> StudyError:
    """Why nothing can be taken: what came nearest to it decides the code."""
    in_range = {volume.kind for volume in volumes if _in_range(volume, rule)}
    if COMPUTED in in_range:
        return StudyError(
            "computed-b",
            "the only image with such a b-value was computed and not acquired; give the acquired series, or take it "
            "with --synthetic",
        )
    if in_range & {"directional", "unknown"}:
        return StudyError(
            "no-trace", "the images with such a b-value show single directions, wanted their trace (mean) image"
        )
    if any(volume.kind == "tiled" for volume in volumes):
        return StudyError("mosaic", "the slices are tiled into one image; export the series without mosaic")
    values = sorted({volume.b_value for volume in volumes if volume.b_value is not None and volume.kind != "map"})
    if values:
        got = ", ".join(f"{value:g}" for value in values[:8]) + (", ..." if len(values) > 8 else "")
        return StudyError("no-high-b", f"has b = {got}, wanted {rule.text()}; give the series with the high b-value")
    # Of another sequence without a b-value that it has none says more.
    maps = {volume.code for volume in volumes if volume.kind == "map" and (volume.b_value or volume.code == "adc-map")}
    if "adc-map" in maps:
        return StudyError("adc-map", "is an ADC map, wanted a high-b diffusion-weighted image; give that series")
    if maps:
        return StudyError("not-dwi", "is a map or another sequence, wanted a high-b diffusion-weighted image")
    return StudyError(
        "no-b-value", "no image has a b-value in its header; name the series with --series and its b with --b-value"
    )
