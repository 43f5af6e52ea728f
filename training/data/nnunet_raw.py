"""nnU-Net's raw layout, as far as it can be trained on.

    DIR/dataset.json                   channel_names, labels, file_ending, numTraining
    DIR/imagesTr/<case>_0000.nii.gz    one channel: the high-b image; its .bval and .json may lie beside it
    DIR/labelsTr/<case>.nii.gz         node ids ("instance_labels": true) or classes
    DIR/patients.csv                   optional: case,patient

nnU-Net does not know patients. Two studies of one patient in training and test make a test of memory, so a patient
may be named for each case, in ``patients.csv`` or as ``"patients": {case: patient}`` in ``dataset.json``; without
either, each case is a patient of its own.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lnfast.errors import StudyError, UsageError
from training.data.labels import LabelRule

ENDINGS = (".nii.gz", ".nii")
_CHANNEL = re.compile(r"(.+)_(\d{4})", re.DOTALL)
_NODE_NAME = re.compile(r"(?<![a-z])(lns?|(lymph.?)?nodes?)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class CaseFiles:
    """The files of one study and its annotation.

    Attributes:
        name: of the case, unique in its folder.
        patient: whose study it is.
        image: the high-b image.
        label: its label map.
        rule: what the label map's values mean.
    """

    name: str
    patient: str
    image: Path
    label: Path
    rule: LabelRule = field(default_factory=LabelRule)


@dataclass(frozen=True)
class Finding:
    """A problem of a training folder, which must be mended, or a note, which may be right as it is.

    Attributes:
        case: which case; ``dataset.json`` or another file of the folder where it concerns them all.
        code: stable, in kebab case; those of the runtime where it would refuse the study.
        message: one line: what was got, what was wanted, what to do.
    """

    case: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.case}: {self.code}: {self.message}"


@dataclass(frozen=True)
class RawFolder:
    """The content of a folder.

    Attributes:
        cases: those with image and label, in the order of their names.
        problems: of the layout; no file of ``cases`` was opened.
        notes: what is odd about it and no hindrance.
    """

    cases: tuple[CaseFiles, ...]
    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()


@dataclass
class _ProblemList:
    """Collects problems."""

    problems: list[Finding] = field(default_factory=list)

    def add(self, case: str, code: str, message: str) -> None:
        self.problems.append(Finding(case, code, message))


def open_cases(folder: Path) -> tuple[CaseFiles, ...]:
    """Return the cases of a folder in the order of their names.

    Raises:
        UsageError: ``no-dataset`` where there is no ``dataset.json``.
        StudyError: with the code of the first problem and all of them in the message.
    """
    raw = scan_folder(folder)
    problems = raw.problems
    if not problems and not raw.cases:
        raise StudyError("no-cases", f"{folder} has no case; put images into imagesTr and label maps into labelsTr")
    if problems:
        raise StudyError(problems[0].code, f"{folder}: " + "; ".join(map(str, problems)))
    return raw.cases


def scan_folder(folder: Path) -> RawFolder:
    """List a folder without opening a study.

    Raises:
        UsageError: ``no-dataset`` where there is no ``dataset.json``.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        raise UsageError("no-dataset", f"{folder} has no dataset.json, wanted a folder in nnU-Net's raw layout")
    problems = _ProblemList()
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, wanted an object")
    except (OSError, ValueError, RecursionError) as error:
        problems.add("dataset.json", "bad-dataset", f"cannot be read: {error}")
        return RawFolder((), tuple(problems.problems))
    rule = _label_rule(content, problems)
    _check_channels(content, problems)
    ending = content.get("file_ending")
    if ending not in ENDINGS:
        problems.add(
            "dataset.json", "bad-dataset", f"file_ending is {ending!r}, wanted .nii.gz or .nii; convert the files"
        )
        return RawFolder((), tuple(problems.problems))
    images = _images(folder / "imagesTr", ending, problems)
    labels = _files(folder / "labelsTr", ending, problems)
    for name in sorted(images.keys() - labels.keys()):
        problems.add(name, "no-label", f"has an image and no labelsTr/{name}{ending}; add it, empty if it has no node")
    for name in sorted(labels.keys() - images.keys()):
        problems.add(
            name, "no-image", f"has a label map and no imagesTr/{name}_0000{ending}; add it or take the map away"
        )
    names = sorted(images.keys() & labels.keys())
    patients = _patients(folder, content, names, problems)
    cases = tuple(CaseFiles(name, patients.get(name, name), images[name], labels[name], rule) for name in names)
    count, notes = content.get("numTraining"), []
    if count != len(images):
        # Nothing here reads it; nnU-Net's own tools would refuse the folder.
        message = f"numTraining is {count!r} and imagesTr has {len(images)} cases"
        notes.append(Finding("dataset.json", "count-mismatch", message))
    return RawFolder(cases, tuple(problems.problems), tuple(notes))


def _label_rule(content: dict[str, Any], problems: _ProblemList) -> LabelRule:
    """Return the rule that ``labels`` means; the rule for instances, and a problem, where it cannot be used."""
    if content.get("instance_labels") is True:
        return LabelRule()
    try:
        classes = {str(name): _values(value) for name, value in content["labels"].items()}
    except (KeyError, TypeError, AttributeError):
        problems.add(
            "dataset.json", "bad-dataset", 'labels is not {"background": 0, name: value}; write it as nnU-Net v2'
        )
        return LabelRule()
    # What is to be ignored is neither node nor background: a map that holds it is refused as one with a strange value.
    known = {name: values for name, values in classes.items() if name != "ignore"}
    front = {name: values for name, values in known.items() if values != (0,)}
    node_label = content.get("node_label")
    nodes = [name for name in front if (name == node_label if node_label is not None else _NODE_NAME.search(name))]
    if len(front) == 1 and node_label is None:
        nodes = list(front)
    if len(nodes) != 1:
        problems.add(
            "dataset.json",
            "no-node-label",
            f'cannot tell which of the labels {", ".join(front) or "(none)"} is the node; add "node_label": its name',
        )
        return LabelRule()
    node = front[nodes[0]]
    not_node = {0, *(value for values in known.values() for value in values)} - set(node)
    return LabelRule(instances=False, node=node, not_node=tuple(sorted(not_node)))


def _values(value: Any) -> tuple[int, ...]:
    """Return the values of a class: one, or, for a region of nnU-Net, several."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(item) is int for item in values):
        raise TypeError(value)
    return tuple(values)


def _check_channels(content: dict[str, Any], problems: _ProblemList) -> None:
    names = content.get("channel_names")
    if not isinstance(names, dict) or not names:
        problems.add("dataset.json", "bad-dataset", 'channel_names is not {"0": "DWI"}; write it as nnU-Net v2')
    elif len(names) > 1:
        problems.add(
            "dataset.json", "more-channels", f"has {len(names)} channels, wanted one; keep the high-b image as _0000"
        )
    if "dataset" in content:
        problems.add(
            "dataset.json", "bad-dataset", "lists its files under 'dataset'; put them into imagesTr and labelsTr"
        )


def _images(folder: Path, ending: str, problems: _ProblemList) -> dict[str, Path]:
    """Return images by case; any other channel than the first is a problem."""
    images = {}
    for stem, path in _files(folder, ending, problems).items():
        match = _CHANNEL.fullmatch(stem)
        if match is None:
            problems.add(stem, "bad-name", f"imagesTr/{path.name} does not end in _0000{ending}; rename it")
        elif match[2] != "0000":
            problems.add(match[1], "more-channels", f"has channel {match[2]}, wanted only 0000; keep the high-b image")
        else:
            images[match[1]] = path
    return images


def _files(folder: Path, ending: str, problems: _ProblemList) -> dict[str, Path]:
    """Return the NIfTI files of a folder by their names without the ending, sorted."""
    if not folder.is_dir():
        problems.add(folder.name, "no-folder", "is not there; nnU-Net's raw layout has imagesTr and labelsTr")
        return {}
    paths = {}
    for path in sorted(folder.iterdir()):
        actual = next((known for known in ENDINGS if path.name.endswith(known)), None)
        if path.name.startswith(".") or actual is None:
            continue  # sidecars, and what operating systems leave
        if actual != ending:
            problems.add(path.name, "bad-name", f"ends in {actual} where dataset.json says {ending}; convert it")
        else:
            paths[path.name.removesuffix(ending)] = path
    return paths


def _patients(folder: Path, content: dict[str, Any], names: list[str], problems: _ProblemList) -> dict[str, str]:
    """Return the patient of each case; empty where nothing names them."""
    table = folder / "patients.csv"
    stated: Any = content.get("patients")
    source = "dataset.json" if stated is not None else table.name
    if stated is not None and table.exists():
        problems.add(table.name, "bad-patients", "both patients.csv and dataset.json name patients; keep one")
        return {}
    try:
        if stated is None and not table.exists():
            return {}
        mapping = _mapping(stated) if stated is not None else _read_table(table)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        problems.add(source, "bad-patients", f"does not name a patient a case ({error}); wanted columns case,patient")
        return {}
    for name in names:
        if name not in mapping:
            # Taken for a patient of its own, it might stand on both sides of a split.
            problems.add(name, "no-patient", f"{source} names the patients of other cases and not of this; add it")
    return mapping


def _mapping(stated: Any) -> dict[str, str]:
    if not isinstance(stated, dict) or not all(type(value) in (str, int) and value != "" for value in stated.values()):
        raise ValueError('"patients" is not {case: patient}')
    return {case: str(patient) for case, patient in stated.items()}


def _read_table(path: Path) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for row in csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))):
        case, patient = (row["case"] or "").strip(), (row["patient"] or "").strip()
        if not case or not patient or mapping.get(case, patient) != patient:
            raise ValueError(f"case {case!r} has no patient or two")
        mapping[case] = patient
    return mapping
