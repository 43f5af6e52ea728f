"""``lnfast node --check``: each thing that is wrong is one line with its code, and what is well is said too."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificate, make_authority, make_certificate
from command_line import lnfast
from dicom_network import reserved_port
from node_process import toml_text
from receivers import LOOPBACK, running_receiver
from small_disks import needs_tmpfs, small_disk

from lnfast.errors import LnfastError
from lnfast.node.ledger import Ledger
from lnfast.node.spool import Spool
from lnfast.node.spool import disk as spool_disk

__all__ = ["small_disk"]  # a fixture


@pytest.fixture
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of tests may lie in memory or in a container."""
    monkeypatch.setattr(spool_disk, "file_system", lambda folder: "ext4")


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port() as port:
        yield port


class Desk:
    """A node.toml that is well, tables of which are changed for a test."""

    def __init__(self, folder: Path, model: Path, port: int) -> None:
        self.folder = folder
        self.tables: dict[str, Any] = {
            "node": {"aet": "LNFAST", "port": 0, "spool": folder / "spool", "health_port": 0},
            "receive": {"min_free_gib": 0},
            "model": {"name": str(model), "backend": "onnxruntime"},
            "target": [{"name": "pacs", "aet": "LNFAST", "host": LOOPBACK, "port": port}],
        }

    def check(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
        """Exit code and lines."""
        path = self.folder / "node.toml"
        path.write_text(toml_text(self.tables))
        code = lnfast("node", "--config", path, "--check")
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, printed.out.splitlines()

    def problems(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
        """Exit code, and ``SUBJECT: CODE`` of each line that is not well; a warning has a mark."""
        code, lines = self.check(capsys)
        found = []
        for line in lines:
            match = re.fullmatch(r"(ok|warning|problem) +([a-z0-9 ]+): (.*)", line)
            assert match, line
            if match[1] != "ok":
                found.append(f"{'?' * (match[1] == 'warning')}{match[2]}: {match[3].partition(':')[0]}")
        return code, found


@pytest.fixture
def desk(tmp_path: Path, model_folder: Path, port: int, on_a_disk: None) -> Iterator[Desk]:
    with running_receiver(tmp_path / "pacs") as pacs:
        yield Desk(tmp_path, model_folder, pacs.port)


Capsys = pytest.CaptureFixture[str]


def test_all_is_well(desk: Desk, capsys: Capsys) -> None:
    code, lines = desk.check(capsys)
    assert code == 0 and all(line.startswith("ok ") for line in lines)
    text = "\n".join(lines)
    for words in (
        "configuration: ",
        "will be made",
        "127.0.0.1 port of choice",
        "self-test passed",
        "takes seg and sr",
    ):
        assert words in text
    assert not (desk.folder / "spool").exists(), "nothing is made"


def test_a_broken_configuration_is_all_that_is_told(desk: Desk, capsys: Capsys) -> None:
    desk.tables["node"]["prot"] = 1
    desk.tables["node"]["bind"] = "0.0.0.0"
    del desk.tables["target"][0]["port"]
    assert desk.problems(capsys) == (
        2,
        [
            "configuration: config-missing-key",
            "configuration: config-unknown-key",
            "configuration: config-nobody-allowed",
        ],
    )


def test_no_configuration(tmp_path: Path, capsys: Capsys) -> None:
    assert lnfast("node", "--config", tmp_path / "none.toml", "--check") == 2
    assert "config-unreadable: cannot read" in capsys.readouterr().out


def test_a_port_that_another_program_has(desk: Desk, capsys: Capsys) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken, socket.create_server((LOOPBACK, 0)) as health:
        desk.tables["node"] |= {"port": taken.getsockname()[1], "health_port": health.getsockname()[1]}
        assert desk.problems(capsys) == (5, ["port: port-unavailable", "health port: port-unavailable"])


def test_an_address_that_this_machine_does_not_have(desk: Desk, capsys: Capsys) -> None:
    desk.tables["node"]["bind"] = "192.0.2.1"  # for documents only
    desk.tables["receive"]["allow"] = [{"host": "192.0.2.0/24"}]
    assert desk.problems(capsys) == (5, ["port: port-unavailable"])


def test_ports_of_a_node_that_runs_are_not_taken_by_another(desk: Desk, capsys: Capsys) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken, Spool(desk.folder / "spool").lock():
        desk.tables["node"]["port"] = taken.getsockname()[1]
        code, lines = desk.check(capsys)
    assert code == 0 and any("ports: a node with this spool is running" in line for line in lines)


def test_who_reaches_the_node_is_warned_of(desk: Desk, capsys: Capsys) -> None:
    desk.tables["node"] |= {"bind": "0.0.0.0", "health_bind": "0.0.0.0"}
    desk.tables["receive"]["allow"] = [{"aet": "MR1"}, {"aet": "MR2", "host": "10.0.0.5"}]
    del desk.tables["target"]
    assert desk.problems(capsys) == (
        0,
        ["?who may send: config-any-address", "?health port: config-health-exposed", "?targets: config-no-target"],
    )


@pytest.mark.parametrize("what", ["file above it", "not writable", "link to nothing"])
def test_a_spool_that_cannot_be_written(desk: Desk, capsys: Capsys, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = desk.folder / "spool"
    if what == "file above it":
        spool.write_text("")
        desk.tables["node"]["spool"] = spool / "below"
    elif what == "link to nothing":
        spool.symlink_to(desk.folder / "nothing")
    else:

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write everywhere
    assert desk.problems(capsys) == (5, ["spool: spool-failed"])


def test_too_little_room(desk: Desk, capsys: Capsys) -> None:
    desk.tables["receive"]["min_free_gib"] = 1_000_000
    assert desk.problems(capsys) == (5, ["spool: spool-full"])


@needs_tmpfs
def test_a_spool_in_memory(tmp_path: Path, model_folder: Path, small_disk: Path, capsys: Capsys) -> None:
    desk = Desk(tmp_path, model_folder, 9)
    del desk.tables["target"]
    desk.tables["node"]["spool"] = small_disk / "below" / "spool"
    assert desk.problems(capsys) == (5, ["?targets: config-no-target", "spool: spool-in-memory"])


@pytest.mark.parametrize(
    ("kind", "code"), [("nfs4", "spool-on-network"), ("overlay", "spool-in-container"), ("xfs", None), (None, None)]
)
def test_disks_that_do_not_keep_a_spool(monkeypatch: pytest.MonkeyPatch, kind: str | None, code: str | None) -> None:
    monkeypatch.setattr(spool_disk, "file_system", lambda folder: kind)
    error = spool_disk.unsafe_disk(Path("/var/lib/lnfast"))
    assert (None if error is None else error.code) == code


def test_the_file_system_of_a_folder_is_told() -> None:
    if not Path("/proc/self/mountinfo").exists():
        pytest.skip("the system does not tell")
    assert spool_disk.file_system(Path("/proc/self/nothing")) == "proc"
    assert spool_disk.file_system(Path("/nothing/at/all")) == spool_disk.file_system(Path("/"))


def test_a_damaged_ledger(desk: Desk, capsys: Capsys) -> None:
    spool = Spool(desk.folder / "spool")
    Ledger(spool.ledger_path).close()
    assert desk.problems(capsys) == (0, [])
    spool.ledger_path.write_bytes(b"\xa5" * 8192)
    assert desk.problems(capsys) == (5, ["ledger: ledger-damaged"])


# ------------------------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_authority(tmp_path_factory.mktemp("authority"), "authority")


def with_tls(desk: Desk, certificate: Certificate) -> Desk:
    desk.tables["tls"] = {"cert": certificate.cert, "key": certificate.key}
    return desk


def test_a_certificate_says_how_long_it_lasts(desk: Desk, capsys: Capsys, authority: Certificate) -> None:
    certificate = make_certificate(desk.folder, "new", authority, days=100)
    certificate.key.chmod(0o600)
    code, lines = with_tls(desk, certificate).check(capsys)
    assert code == 0 and any("days left" in line for line in lines)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        ("soon", ["?certificate: tls-expiring"]),
        ("expired", ["certificate: tls-expired"]),
        ("no cert", ["certificate: tls-unusable"]),
        ("no key", ["certificate: tls-unusable"]),
        ("no ca", ["certificate: tls-unusable"]),
        ("other key", ["certificate: tls-unusable"]),
        ("exposed", ["?certificate: tls-expiring", "certificate: tls-key-exposed"]),
    ],
)
def test_what_is_wrong_with_a_certificate(
    desk: Desk, capsys: Capsys, authority: Certificate, make: str, found: list[str]
) -> None:
    certificate = make_certificate(desk.folder, "a", authority, days=-1 if make == "expired" else 2)
    certificate.key.chmod(0o644 if make == "exposed" else 0o600)
    with_tls(desk, certificate)
    if make == "no ca":
        desk.tables["tls"]["ca"] = desk.folder / "none.pem"
    elif make == "other key":
        desk.tables["tls"]["key"] = authority.key
    elif make in ("no cert", "no key"):
        desk.tables["tls"][make.removeprefix("no ")] = desk.folder / "none.pem"
    code, problems = desk.problems(capsys)
    assert problems == found and code == (5 if any(not problem.startswith("?") for problem in found) else 0)


# ----------------------------------------------------------------------------------------------------- engine, targets


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"name": "none-such"}, "engine: unknown-model"),
        ({"name": "./none"}, "engine: unknown-model"),
        ({"precision": "int8"}, "engine: engine-missing"),
        ({"device": "cuda:77"}, "engine: device-missing"),
        ({"device": "moon"}, "engine: unknown-device"),
    ],
)
def test_what_is_wrong_with_the_engine(
    desk: Desk, capsys: Capsys, changes: dict[str, Any], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "cache"))
    desk.tables["model"] |= changes
    code, problems = desk.problems(capsys)
    assert problems == [found] and code == (2 if "unknown-device" in found else 5)


def test_an_engine_that_fails_its_self_test(desk: Desk, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(choice: Any) -> None:
        raise LnfastError("self-test-failed", "Dice 0.1 with FP32")

    monkeypatch.setattr("lnfast.node.exams.runs.load_engine", fail)
    assert desk.problems(capsys) == (5, ["engine: self-test-failed"])


def test_missing_packages(desk: Desk, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from lnfast.study.dicom.packages import HIGHDICOM

    object.__setattr__(HIGHDICOM, "module", "none_such")
    try:
        code, problems = desk.problems(capsys)
    finally:
        object.__setattr__(HIGHDICOM, "module", "highdicom")
    assert (code, problems[0]) == (5, "packages: backend-missing")


def test_targets_that_do_not_answer(desk: Desk, capsys: Capsys, port: int) -> None:
    first = desk.tables["target"][0]
    desk.tables["target"] += [
        first | {"name": "silent", "port": port},
        first | {"name": "stranger", "aet": "OTHER"},
        first | {"name": "nowhere", "host": "none.invalid"},
        first | {"name": "off", "port": port, "enabled": False},
    ]
    silent, stranger, nowhere = "peer-unreachable", "ae-title-rejected", "unknown-host"
    assert desk.problems(capsys) == (
        5,
        [f"target silent: {silent}", f"target stranger: {stranger}", f"target nowhere: {nowhere}"],
    )


def test_a_target_that_does_not_take_an_object(
    tmp_path: Path, model_folder: Path, capsys: Capsys, on_a_disk: None
) -> None:
    with running_receiver(tmp_path / "pacs", others="refuse") as choosy:
        code, lines = Desk(tmp_path, model_folder, choosy.port).check(capsys)
    assert code == 5
    assert "context-rejected: LNFAST@127.0.0.1:" in lines[-1] and "does not take seg and sr" in lines[-1]


def test_root_is_warned_of_anothers_spool(desk: Desk, capsys: Capsys) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    spool = Spool(desk.folder / "spool")
    os.chown(spool.root, 12345, 12345)
    assert desk.problems(capsys) == (0, ["?spool: spool-of-another"])


def test_a_watch_folder_must_be_there(desk: Desk, capsys: Capsys) -> None:
    desk.tables["watch"] = {"path": desk.folder / "in"}
    assert desk.problems(capsys) == (5, ["watch folder: spool-failed"])
    (desk.folder / "in").mkdir()
    assert desk.problems(capsys) == (0, [])
