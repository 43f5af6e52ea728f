"""Folders of predictions and of truths, and which file of one belongs to which of the other.

    <folder>/<name>.nii.gz               label maps; also .nii
    <folder>/<name>/labels.nii.gz        what `lnfast run` writes
    <folder>/labelsTr/<name>.nii.gz      nnU-Net's raw layout and `lnfast phantom`'s: labelsTr alone is looked at

A study's name is its file's without .nii, .nii.gz and a trailing _0000. Equal names belong together; where there is
none, a run's folder belongs to the study whose name `lnfast run` writes so. Nothing disappears: what looks like a label
map and cannot be opened is an error, and what else lies there is named in a note.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import StudyError, UsageError
from lnfast.report.folder import OWN_FILES, folder_name
from lnfast.study import shown, study_name

NIFTI = (".nii", ".nii.gz")
RUN_MAP, RUN_REPORT = "labels.nii.gz", "report.json"
# What lnfast and nnU-Net write beside label maps. labelsTs is not among it: truths that were not looked at are told.
EXPECTED = (OWN_FILES - {RUN_MAP}) | {"dataset.json", "imagesTr", "imagesTs", "truth"}
# What nnU-Net writes beside its predictions and nobody beside a truth.
PREDICTED = ("predict_from_raw_data_args.json", "plans.json")
EXPECTED |= {"plans.json", "predict_from_raw_data_args.json"}

Note = tuple[str, str]


@dataclass(frozen=True)
class Found:
    """A label map in a folder.

    Attributes:
        name: of the study, as the file or the run's folder says it.
        path: of the label map.
        of_run: it lies in a folder of its study, as `lnfast run` writes it.
    """

    name: str
    path: Path
    of_run: bool


@dataclass(frozen=True)
class Listing:
    """A folder's label maps.

    Attributes:
        files: by name, in the order of names.
        passed_over: names of entries that are no label maps and that no known layout has.
    """

    files: Mapping[str, Found]
    passed_over: tuple[str, ...]


@dataclass(frozen=True)
class StudyPair:
    """One study's two files.

    Attributes:
        name: of the study, as the truth's file says it.
        prediction, truth: label maps.
    """

    name: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class Pairing:
    """Two folders, matched.

    Attributes:
        pairs: one for each truth, by name.
        without_truth: names of predictions.
        truths: the folder.
        notes: ``(code, message)`` of what was passed over.
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
        StudyError: ``unreadable``.
    """
    if _kind(predictions) == _kind(truths) == "a folder" and predictions.samefile(truths):
        raise UsageError("same-folder", f"{predictions} was given as PREDICTIONS and as TRUTHS, wanted two folders")
    ours, theirs = label_files(predictions), label_files(truths)
    _check_sides(predictions, truths, ours, theirs)
    partners = _partners(ours.files, theirs.files)
    missing = [shown(name) for name in theirs.files if name not in partners]
    if missing:
        raise UsageError(
            "missing-prediction",
            f"{len(missing)} of {len(theirs.files)} truths have no prediction in {predictions}: {', '.join(missing)}; "
            "a study in which nothing was found needs an empty label map",
        )
    pairs = tuple(StudyPair(name, partners[name].path, found.path) for name, found in theirs.files.items())
    _check_two_files(pairs)
    taken = {partner.path for partner in partners.values()}
    alone = tuple(name for name, found in ours.files.items() if found.path not in taken)
    sides = (("PREDICTIONS", ours.passed_over), ("TRUTHS", theirs.passed_over))
    notes = tuple(
        ("passed-over", f"in {side}, no label maps: {', '.join(map(shown, names))}") for side, names in sides if names
    )
    return Pairing(pairs, alone, truths, notes)


def _check_sides(predictions: Path, truths: Path, ours: Listing, theirs: Listing) -> None:
    """Refuse folders that were given the wrong way round: recall and precision would change places in silence.

    Masks alone may be of either side, another reader's or a program's. What tells is what was written beside them: a
    report or plans of the program that predicted, or the truth of digital patients.

    Raises:
        UsageError: ``swapped`` when the truths are shown to be predictions and the predictions are not, or the other
            way round.
    """
    predicted = [_predicted(folder, listing) for folder, listing in ((predictions, ours), (truths, theirs))]
    known = [_has_truth(folder) for folder in (predictions, truths)]
    if predicted[1] and not predicted[0]:
        why = f"TRUTHS ({truths}) holds {predicted[1]}, which comes of predicting, and PREDICTIONS does not"
    elif known[0] and not known[1]:
        why = f"PREDICTIONS ({predictions}) holds {known[0]}, the truth of digital patients, and TRUTHS does not"
    else:
        return
    raise UsageError(
        "swapped", f"{why}; give predictions first, or copy the label maps into a folder of their own if they are right"
    )


def _predicted(folder: Path, listing: Listing) -> str | None:
    """The name of a file that only a program leaves that predicts; None where there is none."""
    left = next((name for name in PREDICTED if (folder / name).is_file()), None)
    runs = (found for found in listing.files.values() if found.of_run)
    return left or (RUN_REPORT if any(found.path.with_name(RUN_REPORT).is_file() for found in runs) else None)


def _has_truth(folder: Path) -> str | None:
    """The name of a file with the truth of a digital patient; None where there is none."""
    raw = folder.parent if folder.name == "labelsTr" else folder
    try:
        return next((f"truth/{path.name}" for path in sorted((raw / "truth").glob("*.json"))), None)
    except OSError:
        return None


def label_files(folder: Path) -> Listing:
    """The label maps of a folder.

    Raises:
        UsageError: ``not-found``, ``no-label-maps``, ``ambiguous-name``, ``one-run``.
        StudyError: ``unreadable`` for a folder that cannot be listed, and for what is called as a label map and is no
            file: a study whose truth is a dangling link is not to be left out in silence.
    """
    if _kind(folder) != "a folder":
        raise UsageError("not-found", f"got {folder}, which is no folder; wanted one of label maps or of run outputs")
    raw = folder / "labelsTr"
    if os.path.lexists(raw) and _kind(raw) != "a folder":
        raise _no_file(raw, "a folder of label maps")
    above, looked_at = (_entries(folder), raw) if os.path.lexists(raw) else ([], folder)
    passed_over = [path.name for path in above if path.name not in EXPECTED | {"labelsTr"}]
    files: dict[str, Found] = {}
    for path in _entries(looked_at):
        found = _label_map(path)
        if found is None:
            passed_over += [] if path.name in EXPECTED else [path.name]
            continue
        before = files.setdefault(found.name, found)
        if before is not found:
            raise _ambiguous([before, found], found.name)
    if not files:
        raise UsageError(
            "no-label-maps",
            f"{folder} holds no <name>.nii.gz, no <name>/labels.nii.gz and no labelsTr/<name>.nii.gz; wanted one",
        )
    return Listing(dict(sorted(files.items())), tuple(passed_over))


def _entries(folder: Path) -> list[Path]:
    """What is not hidden, by name."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from error


def _label_map(path: Path) -> Found | None:
    """The label map that an entry of a folder is or holds; None for anything else."""
    kind = _kind(path)
    inner = path / RUN_MAP
    if kind == "a folder" and (_kind(inner) or os.path.lexists(inner)):
        if _kind(inner) != "a file":
            raise _no_file(inner)
        return Found(path.name, inner, of_run=True)
    if not path.name.lower().endswith(NIFTI):
        return None
    if kind != "a file":
        raise _no_file(path)
    if path.name == RUN_MAP and os.path.lexists(path.with_name(RUN_REPORT)):
        # Named by its file it would be study "labels", and so would the run of any other patient.
        raise UsageError("one-run", f"{shown(str(path.parent))} is the output of one run; give its parent")
    return Found(study_name(path), path, of_run=False)


def _kind(path: Path) -> str | None:
    """What a path, its links followed, leads to; None for nothing."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    return "a folder" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "not an ordinary file"


def _partners(ours: Mapping[str, Found], theirs: Mapping[str, Found]) -> dict[str, Found]:
    """The prediction of each truth that has one, by the truth's name."""
    partners = {name: ours[name] for name in theirs if name in ours}
    left = _by_folder_name(found for name, found in ours.items() if name not in partners)
    for key, wanted in _by_folder_name(found for name, found in theirs.items() if name not in partners).items():
        found = left.get(key, [])
        # Two files of different names are two studies, even where a run would write both names alike.
        if not found or not any(one.of_run for one in (*found, *wanted)):
            continue
        for side in (found, wanted):
            if len(side) > 1:
                raise _ambiguous(side, key)
        partners[wanted[0].name] = found[0]
    return partners


def _by_folder_name(files: Iterable[Found]) -> dict[str, list[Found]]:
    groups: dict[str, list[Found]] = {}
    for found in files:
        groups.setdefault(found.name if found.of_run else folder_name(found.name), []).append(found)
    return groups


def _check_two_files(pairs: Sequence[StudyPair]) -> None:
    """A truth compared with itself scores 1.0, whatever folder or link it was reached through."""
    same = [shown(pair.name) for pair in pairs if pair.prediction.samefile(pair.truth)]
    if same:
        raise UsageError(
            "same-file", f"prediction and truth are one file in {len(same)} of {len(pairs)} studies: {', '.join(same)}"
        )


def _ambiguous(files: Sequence[Found], name: str) -> UsageError:
    one, other = (shown(str(found.path)) for found in files[:2])
    return UsageError("ambiguous-name", f"{one} and {other} are both of study {shown(name)}; take one of them away")


def _no_file(path: Path, wanted: str = "a label map") -> StudyError:
    got = _kind(path) or "a link to nothing"
    return StudyError("unreadable", f"{shown(str(path))}: is {got}, wanted {wanted}; mend or remove it")


def unreadable(path: Path, error: OSError) -> StudyError:
    """``unreadable``: what the disk said, as a refusal of one line."""
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return StudyError("unreadable", f"{shown(str(path))}: cannot be read ({reason}); check its permissions")
