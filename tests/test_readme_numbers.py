"""The README's tables of numbers are those of the kept benchmarks."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
END = "<!-- numbers: end -->"


def test_the_readme_has_the_numbers_of_the_kept_benchmarks() -> None:
    """`python docs/make_numbers.py` puts them there."""
    numbers = runpy.run_path(str(ROOT / "docs" / "make_numbers.py"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(numbers["BLOCK"].findall(text)) == {
        (f"<!-- numbers: {name} -->\n", name, END) for name in numbers["BLOCKS"]
    }
    assert numbers["filled"](text, numbers["read"]()) == text
