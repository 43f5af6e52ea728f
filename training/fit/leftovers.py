"""What a killed process leaves in a run folder."""

from __future__ import annotations

import shutil
from pathlib import Path


def remove_leftovers(run: Path) -> None:
    """Remove temporary files of a run, and checkpoints without their last file."""
    patterns = (".*.tmp", "*.tmp", "checkpoints/.*.tmp", "checkpoints/*.tmp")
    temporary = [path for pattern in patterns for path in run.glob(pattern)]
    incomplete = [path for path in (run / "checkpoints").glob("step-*") if not (path / "state.json").exists()]
    for path in {*temporary, *incomplete}:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
