"""``lnfast node`` at the command line: its forms, status, retry and purge beside a node and without one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from command_line import lnfast
from node_process import toml_text

from lnfast.node.config.templates import example_text, unit_text
from lnfast.node.ledger import Ledger, NewResult
from lnfast.node.spool import Spool

A, B = "a" * 8 + "0" * 8, "a" * 8 + "1" * 8
Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, **keep: float) -> Path:
    path = folder / "node.toml"
    target = {"name": "pacs", "aet": "SINK", "host": "127.0.0.1", "port": 9}
    tables = {"node": {"aet": "LNFAST", "spool": "spool"}, "target": [target], "keep": keep}
    path.write_text(toml_text(tables))
    return path


@pytest.fixture
def spool(config: Path) -> Spool:
    return Spool(config.parent / "spool")


def received(spool: Spool, ledger: Ledger, exam: str) -> None:
    ledger.exam_received(exam)
    part = spool.new_part()
    part.write_bytes(b"image")
    spool.store(part, exam, "1.2")
    ledger.exam_ended_receiving(exam, "released", instances=1)


def sent(spool: Spool, ledger: Ledger, exam: str) -> None:
    received(spool, ledger, exam)
    result = ledger.store_result(NewResult(exam, 1, 1, "f", "r", "N1"))
    ledger.release(result.id, ["pacs"])
    ledger.job_sent(ledger.jobs(exam)[0].id)


def exit_and_lines(capsys: Capsys, *arguments: object) -> tuple[int, list[str], str]:
    code = lnfast("node", *arguments)
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


# ---------------------------------------------------------------------------------------------------------------- forms


def test_the_configuration_may_stand_before_or_after_the_command(config: Path, spool: Spool, capsys: Capsys) -> None:
    Ledger(spool.ledger_path).close()
    outputs = {
        tuple(exit_and_lines(capsys, *form)[1])
        for form in (("--config", config, "status"), ("status", "--config", config))
    }
    assert len(outputs) == 1 and "the node does not run" in next(iter(outputs))[0]


def test_the_configuration_may_be_named_by_the_environment(
    config: Path, spool: Spool, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(spool.ledger_path).close()
    monkeypatch.setenv("LNFAST_NODE_CONFIG", str(config))
    assert lnfast("node", "status") == 0
    assert "does not run" in capsys.readouterr().out


@pytest.mark.parametrize("form", [("--check", "status"), ("--example", "purge"), ("--unit", "retry", "--all")])
def test_what_does_not_go_together_is_refused(config: Path, capsys: Capsys, form: tuple[str, ...]) -> None:
    code, lines, error = exit_and_lines(capsys, "--config", config, *form)
    assert code == 2 and lines == [] and error.startswith("lnfast: usage: --check, --example and --unit do not go with")


def test_example_and_unit_are_printed_as_they_are(capsys: Capsys) -> None:
    for option, text in (("--example", example_text()), ("--unit", unit_text())):
        assert lnfast("node", option) == 0
        assert capsys.readouterr().out == text


@pytest.mark.parametrize("command", [(), ("status",), ("retry", "--all"), ("purge",)])
def test_every_problem_of_a_configuration_is_a_line(tmp_path: Path, capsys: Capsys, command: tuple[str, ...]) -> None:
    (tmp_path / "node.toml").write_text('[node]\nport = "x"\n[tarjet]\n')
    code, lines, error = exit_and_lines(capsys, "--config", tmp_path / "node.toml", *command)
    assert code == 2 and lines == []
    assert [line.split(": ")[:2] for line in error.splitlines()] == [
        ["lnfast", "config-unknown-key"],
        ["lnfast", "config-missing-key"],
        ["lnfast", "config-value"],
        ["lnfast", "config-missing-key"],
    ]


@pytest.mark.parametrize("command", [("status",), ("retry", "--all"), ("purge",)])
def test_where_no_node_worked_nothing_is_made(config: Path, capsys: Capsys, command: tuple[str, ...]) -> None:
    code, _, error = exit_and_lines(capsys, "--config", config, *command)
    assert code == 2 and error.startswith("lnfast: no-ledger: ")
    assert not (config.parent / "spool").exists()


def test_a_damaged_ledger_is_told_and_left_to_the_node(config: Path, spool: Spool, capsys: Capsys) -> None:
    spool.ledger_path.write_bytes(b"\xa5" * 8192)
    for command in (("status",), ("retry", "--all"), ("purge",)):
        code, _, error = exit_and_lines(capsys, "--config", config, *command)
        assert code == 1 and error.startswith("lnfast: ledger-damaged: ")
    assert spool.ledger_path.read_bytes() == b"\xa5" * 8192


# --------------------------------------------------------------------------------------------------------------- status


def test_status_tells_what_waits_for_a_person(config: Path, spool: Spool, capsys: Capsys) -> None:
    with Ledger(spool.ledger_path) as ledger, spool.lock():
        sent(spool, ledger, A)
        received(spool, ledger, B)
        ledger.kill(B, "ambiguous", "2 series have b = 800 (numbers 4, 8); name one with --series")
        received(spool, ledger, "c" * 16)
        result = ledger.store_result(NewResult("c" * 16, 1, 1, "f", "r", "N1"))
        ledger.release(result.id, ["pacs", "old"])
        ledger.job_failed(ledger.jobs("c" * 16)[0].id, "peer-unreachable", time.time() + 400)
        code, lines, _ = exit_and_lines(capsys, "--config", config, "status")
        text = "\n".join(lines)
        assert code == 0 and lines[0] == "the node runs" and str(spool.root) in lines[1]
        assert lines[2].rstrip() == "exams: 0 receiving, 1 done, 1 sent, 0 refused, 1 dead"
        assert "ambiguous: 2 series have b = 800 (numbers 4, 8)" in " ".join(text.split()).replace("| ", "")
        assert "peer-unreachable" in text and "in 7 min" in text and "missing" in text
        assert all(len(line) <= 100 for line in lines[2:]) and "lnfast node retry EXAM" in lines[-1]
        code, lines, _ = exit_and_lines(capsys, "--config", config, "status", "--json")
        found = json.loads("\n".join(lines))
    assert code == 0 and found["running"] and found["exams"]["dead"] == 1 and found["dead"] == {"ambiguous": 1}
    assert [exam["id"] for exam in found["waiting"]] == [B, "c" * 16]
    assert found["targets"]["pacs"] == {"configured": True, "enabled": True, "pending": 1, "sent": 1, "dead": 0}
    assert not found["targets"]["old"]["configured"]
    assert {job["target"]: job["code"] for job in found["outbox"]} == {"pacs": "peer-unreachable", "old": None}


# ---------------------------------------------------------------------------------------------------------------- retry


def test_retry_takes_the_beginning_of_an_id_and_keeps_a_choice(config: Path, spool: Spool, capsys: Capsys) -> None:
    with Ledger(spool.ledger_path) as ledger:
        for exam in (A, B):
            received(spool, ledger, exam)
            ledger.kill(exam, "ambiguous", "")
        options = ("--series", "8", "--b-value", "800", "--synthetic")
        code, lines, _ = exit_and_lines(capsys, "--config", config, "retry", A[:9], *options)
        assert (code, lines) == (0, [f"{A}: is run when the node starts"])
        row = ledger.exam(A)
        assert row and row.state == "receiving"
        assert row.choice == {"series": "8", "b_value": 800.0, "synthetic": True}
        other = ledger.exam(B)
        assert other and other.state == "dead"
        assert ledger.changed_outside()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "usage: give the ids of exams, or --all"),
        (("--all", A), "usage: give the ids of exams, or --all without ids"),
        ((A, B, "--series", "8"), "usage: --series, --b-value and --synthetic are said of one exam"),
        (("--all", "--synthetic"), "usage: --series, --b-value and --synthetic are said of one exam"),
        ((A, "--send-again", "--synthetic"), "usage: --send-again sends the results"),
        (("--all", "--send-again"), "usage: --send-again sends the results"),
        (("ffff",), "no-such-exam: there is no exam ffff"),
        (("",), "no-such-exam: there is no exam "),
        (("aaaa",), "no-such-exam: 2 exams begin with aaaa"),
        ((A,), f"nothing-to-retry: exam {A} is sent"),
        ((B, "--send-again"), f"nothing-to-retry: exam {B} has no result"),
        ((A, "--b-value", "nan"), "usage: Invalid value for '--b-value'"),
    ],
)
def test_what_cannot_be_retried_is_one_line(
    config: Path, spool: Spool, capsys: Capsys, arguments: tuple[str, ...], error: str
) -> None:
    with Ledger(spool.ledger_path) as ledger:
        sent(spool, ledger, A)
        received(spool, ledger, B)
        before = ledger.exams()
        code, lines, printed = exit_and_lines(capsys, "--config", config, "retry", *arguments)
        assert (code, lines) == (2, []) and printed.startswith(f"lnfast: {error}") and printed.count("\n") == 1
        assert ledger.exams() == before


def test_retry_of_all_and_of_what_could_not_be_sent(config: Path, spool: Spool, capsys: Capsys) -> None:
    assert Ledger(spool.ledger_path).close() is None
    assert exit_and_lines(capsys, "--config", config, "retry", "--all") == (0, ["no exam is dead"], "")
    with Ledger(spool.ledger_path) as ledger, spool.lock():
        received(spool, ledger, A)
        ledger.kill(A, "transfer-aborted", "")
        received(spool, ledger, B)
        result = ledger.store_result(NewResult(B, 1, 1, "f", "r", "N1"))
        ledger.release(result.id, ["pacs"])
        ledger.job_dead(ledger.jobs(B)[0].id, "ae-title-rejected")
        code, lines, _ = exit_and_lines(capsys, "--config", config, "retry", "--all")
        assert (code, sorted(lines)) == (0, [f"{A}: is run", f"{B}: is sent"])
        assert [job.state for job in ledger.jobs(B)] == ["pending"]


def test_a_result_is_sent_again(config: Path, spool: Spool, capsys: Capsys) -> None:
    with Ledger(spool.ledger_path) as ledger:
        sent(spool, ledger, A)
        code, lines, _ = exit_and_lines(capsys, "--config", config, "retry", A, "--send-again")
        assert (code, lines) == (0, [f"{A}: is sent again to pacs when the node starts"])
        assert [job.state for job in ledger.jobs(A)] == ["pending"]


# ---------------------------------------------------------------------------------------------------------------- purge


def test_purge_says_what_it_deletes_and_a_dry_run_deletes_nothing(tmp_path: Path, capsys: Capsys) -> None:
    config = written(tmp_path, days=0)
    spool = Spool(tmp_path / "spool")
    with Ledger(spool.ledger_path) as ledger, spool.lock():
        sent(spool, ledger, A)
        received(spool, ledger, B)
        line = f"{A}: sent for 0.0 days, 1 instances"
        dry = exit_and_lines(capsys, "--config", config, "purge", "--dry-run")
        assert dry == (0, [line, "1 exams would be deleted"], "") and spool.count_instances(A) == 1
        assert exit_and_lines(capsys, "--config", config, "purge") == (0, [line, "1 exams are deleted"], "")
        assert exit_and_lines(capsys, "--config", config, "purge") == (0, ["0 exams are deleted"], "")
        assert spool.exams() == (B,) and [exam.id for exam in ledger.exams()] == [B]


# -------------------------------------------------------------------------------------------------------------- signals


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_of_a_check_ends_it_in_one_line(config: Path, tmp_path: Path) -> None:
    """The target takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = config.read_text().replace("port = 9", f"port = {silent.getsockname()[1]}")
        config.write_text(text + '[model]\nname = "none-such"\n')
        command = [sys.executable, "-m", "lnfast", "node", "--config", str(config), "--check"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                _, error = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, error) == (130, "lnfast: interrupted\n")


def test_what_the_reader_of_stdout_leaves_unread_is_no_fault(config: Path, spool: Spool) -> None:
    Ledger(spool.ledger_path).close()
    command = f"{sys.executable} -m lnfast node --config {config} status --json | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert done.stdout == "{" and done.returncode in (0, 141) and done.stderr == ""


def test_the_default_configuration_is_that_of_the_unit() -> None:
    assert str(import_module("lnfast.cli.node").DEFAULT_CONFIG) in unit_text()
