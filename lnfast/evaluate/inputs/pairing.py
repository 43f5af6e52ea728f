"""Folders of predictions and of truths, and which prediction belongs to which truth.

    <folder>/<name>.nii.gz               label maps; also .nii
    <folder>/<name>/labels.nii.gz        what `lnfast run` writes
    <folder>/labelsTr/<name>.nii.gz      nnU-Net's raw layout, also of `lnfast phantom`; only labelsTr is read
    <folder>/any name                    a DICOM Segmentation, or a folder that holds some; also one such file by itself

A study's name is its file name without .nii, .nii.gz and a trailing _0000; that of a Segmentation is the name that
`lnfast run` gives to the series that it refers to. Equal names belong together; where no name is equal, a run's folder
belongs to the study whose name `lnfast run` writes as that folder. Nothing is dropped in silence: an entry that looks
like a label map and cannot be opened is an error, and any other entry is named in a note.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import StudyError, UsageError
from lnfast.evaluate.inputs.find_segmentations import DICOM, FoundSegmentations, find_segmentations
from lnfast.report.folder import OWN_FILES, folder_name
from lnfast.study import is_dicom, shown, study_name

NIFTI = (".nii", ".nii.gz")
RUN_MAP, RUN_REPORT = "labels.nii.gz", "report.json"
# What lnfast and nnU-Net write beside label maps. Not labelsTs: a note must say that its truths were not read.
EXPECTED = (OWN_FILES - {RUN_MAP}) | {"dataset.json", "imagesTr", "imagesTs", "truth"}
# What nnU-Net writes beside its predictions; no program writes it beside a truth.
PREDICTION_FILES = ("predict_from_raw_data_args.json", "plans.json")
EXPECTED |= {"plans.json", "predict_from_raw_data_args.json"}

Note = tuple[str, str]


@dataclass(frozen=True)
class LabelMapEntry:
    """A label map in a folder.

    Attributes:
        name: of the study, from the name of the file or of the run's folder, or from a Segmentation's references.
        path: of the label map, a NIfTI file or a DICOM Segmentation.
        of_run: whether it lies in a folder of its study, as `lnfast run` writes it.
    """

    name: str
    path: Path
    of_run: bool


@dataclass(frozen=True)
class FolderListing:
    """The label maps of a folder.

    Attributes:
        files: by study name, in the order of names.
        ignored: names of entries that are no label maps and belong to no known layout; of DICOM files that are no
            Segmentations only how many they are, since an export is often named after its patient.
    """

    files: Mapping[str, LabelMapEntry]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class StudyPair:
    """The two label maps of one study.

    Attributes:
        name: of the study, from the name of the truth's file.
        prediction, truth: label maps.
    """

    name: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class Pairing:
    """The studies of two folders.

    Attributes:
        pairs: one for each truth, in the order of names.
        without_truth: names of predictions that have no truth.
        truths: the folder of truths.
        notes: ``(code, message)`` about ignored entries.
    """

    pairs: tuple[StudyPair, ...]
    without_truth: tuple[str, ...]
    truths: Path
    notes: tuple[Note, ...] = ()


def pair_up(predictions: Path, truths: Path) -> Pairing:
    """Match two folders by study name.

    Raises:
        UsageError: ``not-found``, ``no-label-maps``, ``ambiguous-name``, ``one-run``, ``same-folder``, ``same-file``,
            ``missing-prediction``, ``swapped``.
        StudyError: ``unreadable``; of `find_segmentations`.
        BackendError: ``backend-missing`` for Segmentations without pydicom.
    """
    if _file_kind(predictions) == _file_kind(truths) == "a folder" and predictions.samefile(truths):
        raise UsageError("same-folder", f"{predictions} was given as PREDICTIONS and as TRUTHS, wanted two folders")
    predicted, true = label_files(predictions), label_files(truths)
    _check_sides(predictions, truths, predicted, true)
    matches = _match(predicted.files, true.files)
    missing = [shown(name) for name in true.files if name not in matches]
    if missing:
        raise UsageError(
            "missing-prediction",
            f"{len(missing)} of {len(true.files)} truths have no prediction in {predictions}: {', '.join(missing)}; "
            "a study in which nothing was found needs an empty label map",
        )
    pairs = tuple(StudyPair(name, matches[name].path, file.path) for name, file in true.files.items())
    _check_different_files(pairs)
    matched_paths = {file.path for file in matches.values()}
    unmatched = tuple(name for name, file in predicted.files.items() if file.path not in matched_paths)
    sides = (("PREDICTIONS", predicted.ignored), ("TRUTHS", true.ignored))
    notes = tuple(
        ("passed-over", f"in {side}, no label maps: {', '.join(map(shown, names))}") for side, names in sides if names
    )
    return Pairing(pairs, unmatched, truths, notes)


def _check_sides(predictions: Path, truths: Path, predicted: FolderListing, true: FolderListing) -> None:
    """Refuse folders that were given the wrong way round: recall and precision would change places in silence.

    Masks alone may belong to either side: those of another reader, or those of a program. The evidence lies beside
    them: a report or plans of the program that predicted, or the truth of digital patients.

    Raises:
        UsageError: ``swapped`` when TRUTHS is shown to hold predictions and PREDICTIONS is not, or PREDICTIONS is shown
            to hold truths and TRUTHS is not.
    """
    sides = ((predictions, predicted), (truths, true))
    expected_evidence, contrary_evidence = (_prediction_file(folder, listing) for folder, listing in sides)
    truth_file, other_truth_file = (_truth_file(folder) for folder in (predictions, truths))
    if contrary_evidence and not expected_evidence:
        reason = f"TRUTHS ({truths}) holds {contrary_evidence}, which comes of predicting, and PREDICTIONS does not"
    elif truth_file and not other_truth_file:
        reason = f"PREDICTIONS ({predictions}) holds {truth_file}, the truth of digital patients, and TRUTHS does not"
    else:
        return
    raise UsageError(
        "swapped",
        f"{reason}; give predictions first, or copy the label maps into a folder of their own if they are right",
    )


def _prediction_file(folder: Path, listing: FolderListing) -> str | None:
    """Return the name of a file that only a predicting program writes; None where there is none."""
    name = next((name for name in PREDICTION_FILES if (folder / name).is_file()), None)
    runs = (file for file in listing.files.values() if file.of_run)
    return name or (RUN_REPORT if any(file.path.with_name(RUN_REPORT).is_file() for file in runs) else None)


def _truth_file(folder: Path) -> str | None:
    """Return the name of a file with the truth of a digital patient; None where there is none."""
    raw = folder.parent if folder.name == "labelsTr" else folder
    try:
        return next((f"truth/{path.name}" for path in sorted((raw / "truth").glob("*.json"))), None)
    except OSError:
        return None


def label_files(folder: Path) -> FolderListing:
    """List the label maps of a folder. A DICOM Segmentation is a folder that holds itself.

    Raises:
        UsageError: ``not-found``, ``no-label-maps``, ``ambiguous-name``, ``one-run``.
        StudyError: ``unreadable`` for a folder that cannot be listed, and for an entry that has the name of a label map
            and is not a file: a study whose truth is a dangling link must not be left out in silence; of
            `find_segmentations`.
        BackendError: ``backend-missing`` for Segmentations without pydicom.
    """
    is_one_file = _file_kind(folder) == "a file" and is_dicom(folder)
    if _file_kind(folder) != "a folder" and not is_one_file:
        raise UsageError("not-found", f"got {folder}, which is no folder; wanted one of label maps or of run outputs")
    raw = folder / "labelsTr"
    if os.path.lexists(raw) and _file_kind(raw) != "a folder":
        raise _not_a_file(raw, "a folder of label maps")
    outer_entries, label_folder = (_entries(folder), raw) if os.path.lexists(raw) else ([], folder)
    ignored = [path.name for path in outer_entries if path.name not in EXPECTED | {"labelsTr"}]
    files: dict[str, LabelMapEntry] = {}
    other_dicom = 0
    for path in [folder] if is_one_file else _entries(label_folder):
        file = _label_file(path)
        segmentations = FoundSegmentations((), 0) if file else _segmentations(path)
        other_dicom += segmentations.other_dicom
        entries_of_path = (
            [file] if file else [LabelMapEntry(name, path, of_run=False) for name, path in segmentations.files]
        )
        if not entries_of_path and not segmentations.other_dicom and path.name not in EXPECTED:
            ignored.append(path.name)
        for file in entries_of_path:
            earlier = files.setdefault(file.name, file)
            if earlier is not file:
                raise _ambiguous([earlier, file], file.name)
    if not files:
        raise UsageError(
            "no-label-maps",
            f"{folder} holds no <name>.nii.gz, no <name>/labels.nii.gz, no labelsTr/<name>.nii.gz and no DICOM "
            "Segmentation; wanted one",
        )
    if other_dicom:
        ignored.append(f"{other_dicom} DICOM files that are no Segmentations")
    return FolderListing(dict(sorted(files.items())), tuple(ignored))


def _segmentations(path: Path) -> FoundSegmentations:
    """Return the Segmentations that an entry is or holds; folders of nnU-Net's layout are not searched."""
    kind = _file_kind(path)
    if kind is None or (kind == "a folder" and path.name in EXPECTED):
        if path.name.lower().endswith(DICOM):
            raise _not_a_file(path, "a DICOM Segmentation")
        return FoundSegmentations((), 0)
    return find_segmentations(path)


def _entries(folder: Path) -> list[Path]:
    """Return the entries of a folder that are not hidden, sorted by name."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from error


def _label_file(path: Path) -> LabelMapEntry | None:
    """Return the label map that an entry of a folder is or holds; None for any other entry."""
    kind = _file_kind(path)
    inner = path / RUN_MAP
    if kind == "a folder" and (_file_kind(inner) or os.path.lexists(inner)):
        if _file_kind(inner) != "a file":
            raise _not_a_file(inner)
        return LabelMapEntry(path.name, inner, of_run=True)
    if not path.name.lower().endswith(NIFTI):
        return None
    if kind != "a file":
        raise _not_a_file(path)
    if path.name == RUN_MAP and os.path.lexists(path.with_name(RUN_REPORT)):
        # By its file name it would be the study "labels", and so would every other run.
        raise UsageError("one-run", f"{shown(str(path.parent))} is the output of one run; give its parent")
    return LabelMapEntry(study_name(path), path, of_run=False)


def _file_kind(path: Path) -> str | None:
    """Return what kind of file a path leads to, links followed; None where there is nothing."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    return "a folder" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "not an ordinary file"


def _match(predicted: Mapping[str, LabelMapEntry], true: Mapping[str, LabelMapEntry]) -> dict[str, LabelMapEntry]:
    """Return the prediction of each truth that has one, by the truth's name."""
    matches = {name: predicted[name] for name in true if name in predicted}
    unmatched = _by_folder_name(file for name, file in predicted.items() if name not in matches)
    for key, truths in _by_folder_name(file for name, file in true.items() if name not in matches).items():
        predictions = unmatched.get(key, [])
        # Two files of different names are two studies, even where a run would write both names alike.
        if not predictions or not any(file.of_run for file in (*predictions, *truths)):
            continue
        for side in (predictions, truths):
            if len(side) > 1:
                raise _ambiguous(side, key)
        matches[truths[0].name] = predictions[0]
    return matches


def _by_folder_name(files: Iterable[LabelMapEntry]) -> dict[str, list[LabelMapEntry]]:
    groups: dict[str, list[LabelMapEntry]] = {}
    for file in files:
        groups.setdefault(file.name if file.of_run else folder_name(file.name), []).append(file)
    return groups


def _check_different_files(pairs: Sequence[StudyPair]) -> None:
    """Refuse a truth compared with itself, whatever folder or link it was reached through: it would have Dice 1.0."""
    same = [shown(pair.name) for pair in pairs if pair.prediction.samefile(pair.truth)]
    if same:
        raise UsageError(
            "same-file", f"prediction and truth are one file in {len(same)} of {len(pairs)} studies: {', '.join(same)}"
        )


def _ambiguous(files: Sequence[LabelMapEntry], name: str) -> UsageError:
    first, second = (shown(str(file.path)) for file in files[:2])
    return UsageError("ambiguous-name", f"{first} and {second} are both of study {shown(name)}; take one of them away")


def _not_a_file(path: Path, wanted: str = "a label map") -> StudyError:
    got = _file_kind(path) or "a link to nothing"
    return StudyError("unreadable", f"{shown(str(path))}: is {got}, wanted {wanted}; mend or remove it")


def unreadable(path: Path, error: OSError) -> StudyError:
    """Return the refusal ``unreadable`` with the reason that the system gives."""
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return StudyError("unreadable", f"{shown(str(path))}: cannot be read ({reason}); check its permissions")
