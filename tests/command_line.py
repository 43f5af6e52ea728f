"""The command line run in this process, its input and checks of its output."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_files import write_nifti

from lnfast.cli import main

SHAPE_ZYX = (12, 24, 24)  # of study and network alike, so that nothing is interpolated
STUDY_FILES = {"report.json", "report.txt", "report.html", "labels.nii.gz"}


def write_block_study(path: Path) -> Path:
    """Write a study whose one node measures 10 x 12 x 15 mm: 4 x 6 x 5 voxels of 2.5 x 2 x 3 mm (z, y, x)."""
    array = np.full(SHAPE_ZYX, 100, np.int16)
    array[4:8, 10:16, 12:17] = 1000
    srow = (-3.0, 0.0, 0.0, 60.0, 0.0, -2.0, 0.0, 40.0, 0.0, 0.0, 2.5, -20.0)
    return write_nifti(path, array, bval="1000", srow=srow, pixdim=(1, 3, 2, 2.5, 1, 1, 1, 1))


def lnfast(*arguments: object) -> int:
    """Run the command line in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def check_whole(out: Path, *, killed: bool = False) -> int:
    """Check that every visible folder is a whole study folder; return their number. A kill may leave out the page."""
    folders = [path for path in out.glob("*") if not path.name.startswith(".")] if out.exists() else []
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names == STUDY_FILES or (killed and names == STUDY_FILES - {"report.html"})
        assert "report.html" not in names or (folder / "report.html").read_bytes().endswith(b"</html>\n")
        report = json.loads((folder / "report.json").read_text())
        labels = np.asanyarray(nibabel.load(folder / "labels.nii.gz").dataobj)
        assert int(labels.max()) == report["summary"]["nodes"]
        assert "research use only" in (folder / "report.txt").read_text().lower()
    return len(folders)
