"""``lnfast node status EXAM`` and ``--study UID``: what became of one exam."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import lnfast
from node_process import target, toml_text

from lnfast.node.ledger import Ledger, NewResult
from lnfast.node.spool import Spool

UID = "1.2.840.113619.2.1.1234567.89"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A node.toml whose spool has one exam, which is sent, and one that is dead."""
    path, root = tmp_path / "node.toml", tmp_path / "spool"
    path.write_text(toml_text({"node": {"aet": "LNFAST", "spool": root}, "target": [target(104)]}))
    spool = Spool(root)
    with Ledger(spool.ledger_path) as ledger:
        exam = spool.exam_id(UID)
        ledger.exam_received(exam)
        ledger.exam_ended_receiving(exam, "released", instances=84)
        result = ledger.store_result(NewResult(exam, 1, 1, "f" * 64, "e" * 64, "N1"))
        ledger.release(result.id, ["pacs"])
        ledger.job_sent(ledger.jobs(exam)[0].id, "0x0000")
        ledger.exam_received("0" * 16)
        ledger.kill("0" * 16, "missing-slices", "a slice is missing")
    return path


def test_an_exam_is_found_by_its_study(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast("node", "--config", config, "status", "--study", f" {UID} ", "--json") == 0
    printed = capsys.readouterr().out
    found = json.loads(printed)
    assert UID not in printed
    assert (found["exam"]["state"], found["exam"]["instances"]) == ("sent", 84)
    assert [job["state"] for job in found["jobs"]] == ["sent"] and found["results"][0]["released_at"]


def test_an_exam_is_found_by_the_beginning_of_its_id(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast("node", "status", "0000", "--config", config) == 0
    printed = capsys.readouterr().out
    assert "missing-slices: a slice is missing" in printed and "dead" in printed
    assert "sent" not in printed, "the other exam"


def test_a_sent_exam_is_shown_with_its_result_and_target(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast("node", "status", "--config", config, "--study", UID) == 0
    printed = capsys.readouterr().out
    assert "pacs" in printed and "sent" in printed and "released" in printed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--study", "1.2.3"), "no-such-exam"), (("zz",), "no-such-exam"), (("00", "--study", UID), "usage")],
)
def test_what_is_not_there_is_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: str
) -> None:
    assert lnfast("node", "status", "--config", config, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lnfast: {code}: ") and "1.2.3" not in line
