"""Nothing but the DICOM objects has the patient's data or UIDs: no log, ledger, page or file name, nor what is printed
when something breaks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from dicom_network import send_files, store_scp
from exam_files import SLICES, uids_of, write_exam
from node_process import NodeProcess, node, target

SECRETS = frozenset({"SECRET", "19420613"})
# What is DICOM by its nature; every other file in the spool is looked into.
DICOM = ".dcm"


def traces(service: NodeProcess, secrets: set[str]) -> list[str]:
    """Every place, other than a DICOM object, in which a secret is; their names in the spool among them."""
    command = [service.call("status"), service.call("status", "--json"), service.call("--check")]
    texts = {
        "output": service.output.read_bytes(),
        "/metrics": service.get("/metrics")[1].encode(),
        "/healthz": service.get("/healthz")[1].encode(),
        "commands": "".join(done.stdout + done.stderr for done in command).encode(),
    }
    assert all(texts.values())
    for path in sorted(service.spool.rglob("*")):
        texts[f"name of {path.name}"] = str(path.relative_to(service.spool)).encode()
        if path.is_file() and path.suffix != DICOM:
            texts[path.name] = texts.get(path.name, b"") + path.read_bytes()
    # The bytes of a page of the ledger may still have what a row no longer has, and SQLite may split a value.
    texts["ledger"] = b"\n".join(
        repr(row).encode()
        for table in service.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
        for row in service.rows(f"SELECT * FROM {table['name']}")
    )
    assert b"'exam'" in texts["ledger"] or b"'id'" in texts["ledger"]
    return [f"{secret} in {place}" for place, text in texts.items() for secret in secrets if secret.encode() in text]


@pytest.fixture(params=["text", "json"])
def log_format(request: pytest.FixtureRequest) -> Iterator[str]:
    return str(request.param)


def test_what_goes_well_and_what_does_not_tells_nothing(model_folder: Path, tmp_path: Path, log_format: str) -> None:
    whole = write_exam(tmp_path / "whole", "whole")
    half = write_exam(tmp_path / "half", "half", slices=SLICES - 1)
    damaged = write_exam(tmp_path / "damaged", "damaged")
    secrets = SECRETS | uids_of(whole + half + damaged)
    study = str(pydicom.dcmread(damaged[0]).StudyInstanceUID).encode()
    for path in damaged:
        path.write_bytes(path.read_bytes().replace(study, b"SECRET".ljust(len(study), b"9")))
    with (
        store_scp(tmp_path / "sink") as sink,
        node(
            tmp_path / "node",
            model_folder,
            [target(sink.port), target(sink.port, "nobody", aet="SINK", send=["sr"], enabled=False)],
            receive={"give_up_s": 10},
            log={"level": "debug", "format": log_format},
        ) as service,
    ):
        for files in (whole, half):
            assert len(send_files(service.port, files).accepted) == len(files)
        assert not send_files(service.port, damaged, calling="MR2").accepted
        assert not send_files(service.port, whole, called="NOBODY").accepted
        if log_format == "json":  # once is enough: giving up takes 10 s
            service.wait_settled(2)
        ends = ["dead", "sent"] if log_format == "json" else ["receiving", "sent"]
        service.wait(lambda: service.states() == ends, f"the exams are {ends}")
        assert service.stop() == 0
        service.start()
        assert traces(service, set(secrets)) == []
        for objects in sink.received().values():
            assert "SECRET" in str(objects.PatientName) and str(objects.StudyInstanceUID) in secrets


# A change of the program, and the error that it then meets.
CRASHES = {
    "storing an instance": (
        """
from lnfast.node.spool import spool
def crash(part, target): raise ValueError(f"SECRET in {part.read_bytes()!r}")
spool._outcome = crash
""",
        "ValueError",
    ),
    "running an exam": (
        """
from lnfast.engine import Engine
def crash(self, study, *arguments): raise KeyError(f"SECRET in {study}")
Engine.analyse = crash
""",
        "KeyError",
    ),
}


@pytest.mark.parametrize("place", CRASHES)
def test_a_crash_tells_nothing(model_folder: Path, tmp_path: Path, place: str) -> None:
    files = write_exam(tmp_path / "exam", "crash")
    secrets = set(SECRETS | uids_of(files))
    patch, error = CRASHES[place]
    program = (sys.executable, "-c", f"{patch}\nimport lnfast.cli\nlnfast.cli.main()")
    with node(tmp_path / "node", model_folder, [], program=program, log={"level": "debug"}) as service:
        sent = send_files(service.port, files)
        service.wait(lambda: error in service.output.read_text(), "the crash is logged")
        assert bool(sent.accepted) == (place != "storing an instance")
        assert traces(service, secrets) == []


def test_a_thread_that_ends_tells_nothing_and_ends_the_node(model_folder: Path, tmp_path: Path) -> None:
    patch = """
from lnfast.node.exams.arrivals import Arrivals
def crash(self, *arguments): raise RuntimeError("SECRET")
Arrivals.due = crash
"""
    program = (sys.executable, "-c", f"{patch}\nimport lnfast.cli\nlnfast.cli.main()")
    with node(tmp_path / "node", model_folder, [], program=program, log={"level": "debug"}, running=False) as service:
        service.start(ready=False)
        assert service.process is not None and service.process.wait(60) == 1
        output = service.output.read_text()
        assert "thread-died" in output and "RuntimeError" in output and "SECRET" not in output
