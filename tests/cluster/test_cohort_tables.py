"""Rows and tables of a cohort: in the order of the studies, whole or absent, in memory that does not grow."""

from __future__ import annotations

import csv
import errno
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from reports import report_of, two_nodes

from lnfast.cluster import tables
from lnfast.cluster.rows import LEADING_COLUMNS, NODE_COLUMNS, REPORT_COLUMNS, node_rows, refused_row, study_row
from lnfast.cluster.tables import TABLES, Journal, remove_tables, write_tables

COLUMNS = {**LEADING_COLUMNS, "site": "string", **REPORT_COLUMNS}


@pytest.fixture
def report() -> dict[str, Any]:
    return report_of(two_nodes()).to_dict()


def read(out: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(out / name).to_pylist()
    return rows


def test_every_column_of_a_done_study_is_filled_and_stands_in_its_report(report: dict[str, Any]) -> None:
    row, nodes = study_row(report), node_rows(report)
    beside = {"path", "code", "message", "warnings", "resumed"}  # what only the driver or a refusal has
    assert set(row) == {*LEADING_COLUMNS, *REPORT_COLUMNS} - beside
    assert row["nodes"] == len(nodes) == 2 and row["largest_short_axis_mm"] == max(n["short_axis_mm"] for n in nodes)
    for node, stated in zip(nodes, report["nodes"], strict=True):
        assert set(node) == set(NODE_COLUMNS)
        assert [node[f"box_{edge}_mm"] for edge in ("short", "mid", "long")] == stated["box_mm"]
        assert [node[f"centroid_{axis}_ras_mm"] for axis in "xyz"] == stated["centroid_ras_mm"]
        assert node["volume_mm3"] == stated["volume_mm3"] and node["id"] == stated["id"]


def test_rows_of_a_report_that_was_read_are_those_of_the_one_that_was_written(report: dict[str, Any]) -> None:
    stored = json.loads(json.dumps(report))
    assert (study_row(stored), node_rows(stored)) == (study_row(report), node_rows(report))


def test_tables_are_in_the_order_of_the_studies_whatever_ended_first(tmp_path: Path, report: dict[str, Any]) -> None:
    with Journal(tmp_path / "rows", 4) as journal:
        for index in (2, 0, 3):
            row = {**study_row(report), "study": f"s{index}", "path": 'ä, "x"\n', "site": None, "resumed": index == 0}
            journal.write(index, row, node_rows(report) if index else ())
        journal.write(1, {"study": "s1", "path": "y", **refused_row("not-found", "no, such")}, ())
        write_tables(journal, COLUMNS, tmp_path)
    studies, nodes = read(tmp_path, "studies.parquet"), read(tmp_path, "nodes.parquet")
    assert [row["study"] for row in studies] == ["s0", "s1", "s2", "s3"]
    assert studies[1]["code"] == "not-found" and studies[1]["n_stage"] is None and studies[1]["nodes"] is None
    assert len(nodes) == 4 and list(studies[0]) == list(COLUMNS)
    for name, rows in (("studies.csv", studies), ("nodes.csv", nodes)):
        with open(tmp_path / name, encoding="utf-8", newline="") as file:
            texts = list(csv.DictReader(file))
        shown = [
            {k: "" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for k, v in r.items()}
            for r in rows
        ]
        assert texts == shown
    remove_tables(tmp_path)
    assert os.listdir(tmp_path) == ["rows"]


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    with Journal(tmp_path / "rows", 1) as journal:
        journal.write(0, {"study": None, "path": "x", **refused_row("not-nifti", "no")}, ())
        write_tables(journal, COLUMNS, tmp_path)
    assert read(tmp_path, "nodes.parquet") == []
    assert (tmp_path / "nodes.csv").read_text().strip().split(",") == list(NODE_COLUMNS)


def test_what_a_full_disk_interrupts_leaves_the_older_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies.csv").write_text("older")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(tmp_path / "rows", 1) as journal:
        journal.write(0, {"study": "s", "path": "x", **refused_row("not-nifti", "no")}, ())
        monkeypatch.setattr(tables._Table, "_flush", full)
        with pytest.raises(OSError, match="No space left"):
            write_tables(journal, COLUMNS, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["rows", "studies.csv"]
    assert (tmp_path / "studies.csv").read_text() == "older" and len(TABLES) == 4


def test_memory_does_not_grow_with_the_cohort(tmp_path: Path, report: dict[str, Any]) -> None:
    row, nodes = study_row(report), node_rows(report)

    def peak(count: int) -> int:
        tracemalloc.start()
        with Journal(tmp_path / "rows", count) as journal:
            for index in range(count):
                journal.write(index, row, nodes)
            write_tables(journal, COLUMNS, tmp_path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # imports
    small, large = peak(2100), peak(8400)
    assert large < small * 1.2, (small, large)
