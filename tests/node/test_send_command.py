"""``lnfast send`` and ``lnfast echo``: a line for each file and peer, exit codes, and nothing of a patient."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from certificates import make_authority, make_certificate
from command_line import lnfast
from dicom_network import orthanc, reserved_port, store_scp
from instance_files import EXPLICIT, IMPLICIT, JPEG_LS, MR, REPORT, data_set, write_instance
from scripted_peers import accept, answer, hold, scripted_peer, serve, store_peer

Capture = pytest.CaptureFixture[str]


def peer(port: int, aet: str = "SINK") -> str:
    return f"{aet}@127.0.0.1:{port}"


def patch_sleep(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], None]) -> None:
    """Let ``lnfast send`` wait otherwise; its module has the name of its command."""
    monkeypatch.setattr(sys.modules["lnfast.cli.send"], "time", SimpleNamespace(sleep=sleep))


def test_files_and_folders_arrive_byte_for_byte(tmp_path: Path, capsys: Capture) -> None:
    one = write_instance(tmp_path / "one", MR, EXPLICIT)
    others = [
        write_instance(tmp_path / "folder" / "b" / "2.dcm", REPORT, IMPLICIT),
        write_instance(tmp_path / "folder" / "c.dcm", MR, JPEG_LS),
    ]
    (tmp_path / "folder" / "a.txt").write_text("no DICOM")
    (tmp_path / "folder" / "empty").touch()
    write_instance(tmp_path / "folder" / "DICOMDIR", "1.2.840.10008.1.3.10")
    with store_scp(tmp_path / "pacs", "+xa", "+B") as sink:
        assert lnfast("send", one.path, tmp_path / "folder", one.path, "--to", peer(sink.port)) == 0
        arrived = {path.name.partition(".")[2]: data_set(path) for path in sink.files()}
    assert arrived == {file.sop_uid: data_set(file.path) for file in (one, *others)}
    output = capsys.readouterr()
    assert output.out.splitlines() == [f"{file.path}: stored" for file in (one, others[1], others[0])]
    assert output.err == "lnfast: 3 files in the folders are no DICOM and were passed over\n"
    assert "SECRET" not in output.out + output.err


def test_what_run_writes_is_sent_to_orthanc(tmp_path: Path, capsys: Capture) -> None:
    files = [write_instance(tmp_path / "out" / f"{name}.dcm", REPORT) for name in ("seg", "sr")]
    with orthanc() as archive:
        assert lnfast("send", tmp_path / "out", "--to", peer(archive.port, archive.aet)) == 0
        assert len(archive.ids()) == 2
    assert len(capsys.readouterr().out.splitlines()) == len(files)


def test_each_file_that_cannot_be_sent_has_its_line_and_stops_no_other(tmp_path: Path, capsys: Capture) -> None:
    good = write_instance(tmp_path / "good.dcm")
    text, cut, pipe = tmp_path / "text.dcm", tmp_path / "cut.dcm", tmp_path / "pipe"
    text.write_text("no DICOM")
    cut.write_bytes(good.path.read_bytes()[:150])
    os.mkfifo(pipe)
    (tmp_path / "empty").mkdir()
    names = (text, cut, pipe, tmp_path / "missing", tmp_path / "empty", good.path)
    with store_scp(tmp_path / "pacs") as sink:
        assert lnfast("send", *names, "--to", peer(sink.port)) == 3
        assert len(sink.files()) == 1
    output = capsys.readouterr()
    assert output.out == f"{good.path}: stored\n"
    lines = output.err.splitlines()
    assert [line.split(": ")[1:3] for line in lines] == [
        ["not-dicom", str(text)],
        ["damaged", str(cut)],
        ["not-a-file", str(pipe)],
        ["not-found", str(tmp_path / "missing")],
        ["not-dicom", str(tmp_path / "empty")],
    ]


def test_a_damaged_file_in_a_folder_is_not_passed_over(tmp_path: Path, capsys: Capture) -> None:
    good = write_instance(tmp_path / "in" / "good.dcm")
    (tmp_path / "in" / "cut.dcm").write_bytes(good.path.read_bytes()[:150])
    with store_scp(tmp_path / "pacs") as sink:
        assert lnfast("send", tmp_path / "in", "--to", peer(sink.port)) == 3
    assert "damaged: " in capsys.readouterr().err


def test_answers_are_told_apart(tmp_path: Path, capsys: Capture) -> None:
    paths = [write_instance(tmp_path / f"{number}.dcm").path for number in range(5)]
    steps = [answer(status) for status in (0, 0xB007, 0xA700, 0xC001, 0x0111)]
    with scripted_peer(accept, *steps, hold) as port:
        assert lnfast("send", *paths, "--to", peer(port)) == 5
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        f"{paths[0]}: stored",
        f"{paths[1]}: stored, warning 0xB007",
        f"{paths[4]}: the peer has it already, warning 0x0111",
    ]
    assert [line.split(": ")[1:3] for line in output.err.splitlines()] == [
        ["out-of-resources", str(paths[2])],
        ["cannot-understand", str(paths[3])],
    ]


def test_a_peer_that_is_not_there_has_one_line_for_all_files(tmp_path: Path, capsys: Capture) -> None:
    paths = [write_instance(tmp_path / f"{number}.dcm").path for number in range(3)]
    with reserved_port() as port:
        assert lnfast("send", *paths, "--to", peer(port)) == 5
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("lnfast: peer-unreachable: ") and line.endswith("; 3 of 3 files are not sent")
    assert output.out == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--to", "nowhere"], "bad-peer"),
        (["--to", "A\\B@localhost:104"], "bad-ae-title"),
        (["--to", f"{'A' * 17}@localhost:104"], "bad-ae-title"),
        (["--to", "A@localhost:104", "--from", "A" * 17], "bad-ae-title"),
        ([], "usage"),
    ],
)
def test_a_call_that_makes_no_sense_sends_nothing(
    tmp_path: Path, capsys: Capture, arguments: list[str], code: str
) -> None:
    file = write_instance(tmp_path / "one.dcm")
    assert lnfast("send", file.path, *arguments) == 2
    assert capsys.readouterr().err.startswith(f"lnfast: {code}: ")


def test_the_calling_ae_title_is_the_one_that_was_named(tmp_path: Path) -> None:
    file = write_instance(tmp_path / "one.dcm")
    with store_peer(lambda event: 0, [(MR, EXPLICIT)], require_calling_aet=["scanner 1"]) as port:
        assert lnfast("send", file.path, "--to", peer(port), "--from", "scanner 1") == 0
        assert lnfast("echo", peer(port), "--from", "scanner 1") == 0
        assert lnfast("echo", peer(port)) == 5


def test_retries_go_on_until_everything_is_stored(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            sink.start()

    patch_sleep(monkeypatch, wait)
    paths = [write_instance(tmp_path / "own" / f"{number}.dcm").path for number in range(2)]
    with store_scp(tmp_path / "pacs", running=False) as sink:
        assert lnfast("send", *paths, "--to", peer(sink.port), "--retry") == 0
    for number, seconds in enumerate(waits):
        assert 0.8 * 5 * 2**number <= seconds <= 1.2 * 5 * 2**number
    output = capsys.readouterr()
    assert output.out.splitlines() == [f"{path}: stored" for path in paths]
    assert output.err.count("peer-unreachable") == 3 and output.err.count("2 files are tried again in") == 3


def test_retries_leave_out_what_is_stored_and_what_lasts(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_sleep(monkeypatch, lambda seconds: None)
    files = [write_instance(tmp_path / f"{number}.dcm") for number in range(3)]
    statuses = {files[0].sop_uid: [0], files[1].sop_uid: [0xC000], files[2].sop_uid: [0xA700, 0xA700, 0]}

    def on_store(event: Any) -> int:
        return statuses[event.request.AffectedSOPInstanceUID].pop(0)

    with store_peer(on_store, [(MR, EXPLICIT)]) as port:
        assert lnfast("send", *(file.path for file in files), "--to", peer(port), "--retry") == 5
    assert not any(statuses.values())
    assert capsys.readouterr().out.splitlines() == [f"{files[0].path}: stored", f"{files[2].path}: stored"]


@pytest.mark.parametrize("arguments", [["--retry"], []], ids=["between", "during"])
def test_ctrl_c_ends_it(tmp_path: Path, arguments: list[str]) -> None:
    file = write_instance(tmp_path / "one.dcm")
    with reserved_port() as closed, scripted_peer(accept, hold) as silent:
        there = peer(closed if arguments else silent)
        command = [sys.executable, "-m", "lnfast", "send", str(file.path), "--to", there, *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 130 and errors.endswith("lnfast: interrupted\n")


def test_an_echo_has_one_line(tmp_path: Path, capsys: Capture) -> None:
    with store_scp(tmp_path / "pacs") as sink:
        assert lnfast("echo", peer(sink.port)) == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"{peer(sink.port)} answers, ") and output.out.endswith(" ms\n")
    with reserved_port() as port:
        assert lnfast("echo", peer(port)) == 5
    assert capsys.readouterr().err.startswith("lnfast: peer-unreachable: ")
    assert lnfast("echo", "SINK@no-such-host.invalid:104") == 5
    assert capsys.readouterr().err.startswith("lnfast: unknown-host: ")


def test_tls_with_and_without_a_certificate_of_our_own(tmp_path: Path, capsys: Capture) -> None:
    authority = make_authority(tmp_path / "made", "authority")
    ours, theirs = (make_certificate(tmp_path / "made", name, authority) for name in ("ours", "theirs"))
    both, alone = tmp_path / "both", tmp_path / "alone"
    for folder in (both, alone):
        folder.mkdir()
        shutil.copy(authority.cert, folder / "ca.pem")
    shutil.copy(ours.cert, both / "cert.pem")
    shutil.copy(ours.key, both / "key.pem")
    file = write_instance(tmp_path / "one.dcm")
    options = ["+tls", str(theirs.key), str(theirs.cert), "+cf", str(authority.cert)]
    with store_scp(tmp_path / "pacs", "+B", *options) as sink:
        assert lnfast("send", file.path, "--to", peer(sink.port), "--tls", both) == 0
        assert lnfast("echo", peer(sink.port), "--tls", both) == 0
        assert lnfast("echo", peer(sink.port), "--tls", alone) == 5
        assert "tls-failed" in capsys.readouterr().err
        assert lnfast("echo", peer(sink.port)) == 5, "a peer with TLS takes nothing without"
        assert [data_set(path) for path in sink.files()] == [data_set(file.path)]
    with store_scp(tmp_path / "lenient", *options, "-ic") as sink:
        assert lnfast("echo", peer(sink.port), "--tls", alone) == 0
        assert lnfast("echo", f"SINK@localhost:{sink.port}", "--tls", alone) == 0
    capsys.readouterr()
    assert lnfast("echo", peer(1), "--tls", tmp_path / "missing") == 5
    assert "tls-unusable" in capsys.readouterr().err
    assert lnfast("echo", peer(1), "--tls", tmp_path) == 5
    assert "tls-unusable" in capsys.readouterr().err


def test_names_that_a_terminal_would_obey_are_shown_without_it(tmp_path: Path, capsys: Capture) -> None:
    file = write_instance(tmp_path / "a\x1b[31mb\n.dcm")
    with scripted_peer(accept, serve) as port:
        assert lnfast("send", file.path, "--to", peer(port)) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_reader_that_goes_away_ends_it(tmp_path: Path) -> None:
    paths = [str(write_instance(tmp_path / f"{number}.dcm").path) for number in range(50)]
    with scripted_peer(accept, serve) as port:
        command = [sys.executable, "-m", "lnfast", "send", *paths, "--to", peer(port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.wait(20) == 141
            assert process.stderr.read() == b""


def test_sending_needs_no_package_of_dicom(tmp_path: Path) -> None:
    file = write_instance(tmp_path / "one.dcm")
    code = (
        "import sys; from lnfast.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {'pydicom', 'pynetdicom'} & {name.partition('.')[0] for name in sys.modules}"
    )
    with scripted_peer(accept, serve) as port:
        arguments = ["send", str(file.path), "--to", peer(port)]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
