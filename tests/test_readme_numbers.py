"""The tables of docs/benchmarks.md are those of the kept benchmarks, and the README's numbers are theirs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
END = "<!-- numbers: end -->"
# The README's row, and where its figures stand: the block, the row, and the columns of lnfast, PyTorch and their ratio.
HEADLINES = {
    "a study, file on disk to report on disk, engine loaded": ("study", "warm, a study, median of three scanners"),
    "of it, everything but the network": ("study", "of it, all but the network"),
    "the network alone, on its whole grid": ("network", "OpenVINO INT8, certified"),
    "one study from the start of a process": ("study", "from the start of a process"),
    "peak memory of that process": ("study", "peak memory of such a process"),
}


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the Markdown tables in a text."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_the_tables_have_the_numbers_of_the_kept_benchmarks() -> None:
    """`python docs/make_numbers.py` puts them there."""
    numbers = runpy.run_path(str(ROOT / "docs" / "make_numbers.py"))
    text = PAGE.read_text(encoding="utf-8")
    assert set(numbers["BLOCK"].findall(text)) == {
        (f"<!-- numbers: {name} -->\n", name, END) for name in numbers["BLOCKS"]
    }
    assert numbers["filled"](text, numbers["read"]()) == text


def test_the_readme_has_five_of_these_numbers() -> None:
    page = PAGE.read_text(encoding="utf-8")
    blocks = {name: rows(body) for name, body in re.findall(rf"<!-- numbers: (\w+) -->\n(.*?){END}", page, re.DOTALL)}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, table = readme.partition("<!-- headline -->\n")
    _, _, *shown = rows(table.partition("\n\n")[0])
    expected = []
    for name, (block, first_cell) in HEADLINES.items():
        (row,) = (row for row in blocks[block] if row[0] == first_cell)
        if block == "network":  # milliseconds without a unit; PyTorch's stand in the heading
            lnfast, ratio = f"{row[1]} ms", row[2]
            peer = blocks[block][0][2].rpartition(": ")[2]
        else:
            lnfast, peer = row[1].partition(",")[0], row[2]
            ratio = row[-1].partition(",")[0] + " times"
        expected.append([name, lnfast, peer, ratio])
    assert shown == expected
