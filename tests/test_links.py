"""Every link of the documents leads to a file and a heading that are there, and every page is in the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        ROOT / "training" / "README.md",
        ROOT / "benchmarks" / "LOG.md",
        *ROOT.glob("lnfast/models/*/*.md"),
    )
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def links(document: Path) -> list[str]:
    """The targets of the links and pictures of a document, without those of the web."""
    text = CODE.sub("", document.read_text(encoding="utf-8"))
    return [target for target in LINK.findall(text) if not target.startswith(("http://", "https://", "mailto:"))]


def anchors(document: Path) -> set[str]:
    """The names that a page's headings get on GitHub."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = (title.replace("`", "").lower() for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in links(document):
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{name_of(document)}: no {path}"
        assert not anchor or anchor in anchors(file), f"{name_of(document)}: {path or 'it'} has no heading #{anchor}"


def test_the_index_has_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    assert {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"} <= set(links(index))


def test_every_heading_counts_and_code_does_not(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n```sh\n# no heading [x](nowhere)\n```\n`[y](nowhere)` [z](z.md#a)\n", encoding="utf-8")
    assert anchors(page) == {"a-b-c"} and links(page) == ["z.md#a"]
