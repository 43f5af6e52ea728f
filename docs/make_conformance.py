"""Write the tables of docs/conformance.md from those by which the node works.

python docs/make_conformance.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "conformance.md"
sys.path.append(str(ROOT))

from lnfast.node.conformance import fill  # noqa: E402

if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
