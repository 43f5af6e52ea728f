"""JSON files that are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lnfast.atomic import write_file


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file; readers see the old content or the new, never a part.

    Raises:
        OSError: what the disk said; an older file is still there.
        ValueError: ``content`` has a number that JSON does not know, NaN or an infinity.
    """
    write_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
