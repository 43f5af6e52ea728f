"""Lines for a person, on standard error."""

from __future__ import annotations

import os
import sys


def print_message(message: str) -> None:
    """Print one line on standard error; of several devices only the first one prints."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(message, file=sys.stderr, flush=True)
