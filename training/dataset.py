"""Studies and annotations of your own as cases to learn from: the door to what lies behind.

raw.py      nnU-Net's raw layout -> CaseFiles
labels.py   a label map -> numbered nodes
load.py     CaseFiles -> Case, read as the runtime reads it
split.py    8:1:1 by patient, in a file
check.py    every bad case by name, before training starts
"""

from __future__ import annotations

from training.check import check_dataset
from training.load import load_case
from training.raw import CaseFiles, Trouble, open_cases
from training.split import Split, check_split, read_split, split_cases, write_split

__all__ = [
    "CaseFiles",
    "Split",
    "Trouble",
    "check_dataset",
    "check_split",
    "load_case",
    "open_cases",
    "read_split",
    "split_cases",
    "write_split",
]
