"""kill -9 of the node in the middle of a load: after restarts nothing is missing, lost or different.

``LNFAST_KILLS=20 LNFAST_KILL_SEED=1 pytest tests/node/test_kill.py --log-cli-level=info`` kills as often as one likes,
and prints in which states the exams were.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from dicom_network import StoreScp, dataset_bytes, send_files, store_scp, wait_until
from exam_files import NODES, SLICES, write_exam
from node_process import NodeProcess, node, target

import lnfast
from lnfast.study.dicom.identity import exam_id, load_key

KILLS = int(os.environ.get("LNFAST_KILLS", "5"))
SEED = int(os.environ.get("LNFAST_KILL_SEED", "18"))
EXAMS = 10
# The last exam is half and stays so.
HALF = EXAMS - 1
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
# Give up after the shortest time that a node.toml may name: the half exam is waited for.
RECEIVE = {"quiet_s": 1, "quiet_without_release_s": 2, "give_up_s": 10}
_logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """The files of each exam."""
    folder = tmp_path_factory.mktemp("exams")
    stages = list(NODES)
    return [
        write_exam(folder / str(number), f"exam {number}", stages[number % 3], slices=SLICES - (number == HALF))
        for number in range(EXAMS)
    ]


@pytest.fixture(scope="module")
def undisturbed(
    exams: list[list[Path]], model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What `lnfast run` writes of the whole exams: SOP instance UID to encoded object."""
    out = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in EPOCH.items():
            patch.setenv(name, value)
        with lnfast.Engine(str(model_folder), "onnxruntime", precision="fp32", threads=1) as engine:
            for files in exams[:HALF]:
                engine.run(files[0].parents[1]).write(out, html=False)
    return {uid_of(path): dataset_bytes(path) for path in out.rglob("*.dcm")}


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def send_whole(port: int, files: list[Path], until: float) -> set[Path]:
    """Send an exam as a scanner does: all of it again, until an association took all of it. Return what was taken."""
    taken: set[Path] = set()
    while time.monotonic() < until:
        sent = send_files(port, files)
        taken.update(sent.accepted)
        if len(sent.accepted) == len(files) and sent.exit_code == 0:  # and the release was answered
            return taken
        time.sleep(0.1)
    raise AssertionError(f"{len(taken)} of {len(files)} instances were taken in time")


def wait_for_a_moment(rng: random.Random, sink: StoreScp) -> None:
    """Wait for up to two seconds, in which receiving, quiet time, running, releasing and sending lie.

    Sending takes milliseconds: one of three lives ends as soon as an object came, whose result has another one, or of
    which the ledger does not know yet.
    """
    end = time.monotonic() + (2.0 if (is_sending := rng.random() < 1 / 3) else rng.uniform(0.0, 2.0))
    before = len(sink.files())
    while time.monotonic() < end and not (is_sending and len(sink.files()) > before):
        time.sleep(0.0005)


def kill_at_random_moments(
    service: NodeProcess, sink: StoreScp, exams: list[list[Path]], rng: random.Random
) -> set[Path]:
    """Send all exams, some in each life of the node, and end each life but the last at a random moment.

    Returns:
        Every file that was answered 0x0000.
    """
    until = time.monotonic() + 60 + 10 * KILLS
    with ThreadPoolExecutor(2) as scanner:
        sendings = []
        for life in range(KILLS):
            service.start(ready=rng.random() < 0.75)  # else the kill hits the start
            due = exams[life * EXAMS // KILLS : (life + 1) * EXAMS // KILLS] or [rng.choice(exams[: life // 2 + 1])]
            sendings += [scanner.submit(send_whole, service.port, files, until) for files in due]
            wait_for_a_moment(rng, sink)
            service.kill()
            _logger.info("kill %d: %s", life + 1, dict(Counter(service.states())))
        service.start()
        return set().union(*(sending.result() for sending in sendings))


def test_nothing_is_lost_or_different(
    exams: list[list[Path]], undisturbed: Mapping[str, bytes], model_folder: Path, tmp_path: Path
) -> None:
    with (
        store_scp(tmp_path / "sink", "+B", "+uf") as sink,
        node(
            tmp_path / "node", model_folder, [target(sink.port)], running=False, environment=EPOCH, receive=RECEIVE
        ) as service,
    ):
        taken = kill_at_random_moments(service, sink, exams, random.Random(SEED))
        rows = service.wait_settled(EXAMS)
        if any(row["code"] == "worker-died" for row in rows.values()):  # one whose run was killed three times
            assert service.call("retry", "--all").returncode == 0
            rows = service.wait_settled(EXAMS)
        key = load_key(service.spool / "id.key")
        names = [exam_id(str(pydicom.dcmread(files[0]).StudyInstanceUID), key) for files in exams]
        endings = [(rows[name]["state"], rows[name]["code"]) for name in names]
        assert endings[:HALF] == [("sent", None)] * HALF, service.output.read_text()
        assert endings[HALF] in (("dead", "too-few-slices"), ("dead", "missing-slices"))
        check_objects(sink, service, undisturbed)
        for name, files in zip(names, exams, strict=True):
            check_instances(service, name, [path for path in files if path in taken])
        assert taken == {path for files in exams for path in files}
        assert list((service.spool / "incoming").iterdir()) == []
        assert service.stop() == 0
        assert "Traceback" not in service.output.read_text()


def check_objects(sink: StoreScp, service: NodeProcess, undisturbed: Mapping[str, bytes]) -> None:
    """Every object came, however often, in the bytes of an undisturbed run, and no other did."""
    released = {
        uid_of(path): dataset_bytes(path)
        for row in service.results()
        for path in service.result_folder(row["exam"], row["number"]).glob("*.dcm")
    }
    assert released == undisturbed
    came = [(uid_of(path), dataset_bytes(path)) for path in sink.files()]
    assert {uid for uid, _ in came} == set(undisturbed)
    assert all(undisturbed[uid] == content for uid, content in came)


def check_instances(service: NodeProcess, exam: str, files: list[Path]) -> None:
    """What was answered 0x0000 is in the spool, byte for byte."""
    for path in files:
        name = hashlib.sha256(uid_of(path).encode()).hexdigest()[:32]
        stored = service.spool / "exams" / exam / "instances" / f"{name}.dcm"
        assert stored.exists() and dataset_bytes(stored) == dataset_bytes(path)


def test_a_node_that_is_stopped_in_time_goes_on_where_it_was(model_folder: Path, tmp_path: Path) -> None:
    """SIGTERM while an exam waits for its quiet time: the exit code is 0, and the next start releases it."""
    files = write_exam(tmp_path / "exam", "stopped")
    with (
        store_scp(tmp_path / "sink") as sink,
        node(tmp_path / "node", model_folder, [target(sink.port)], receive={"quiet_s": 5}) as service,
    ):
        assert len(send_files(service.port, files).accepted) == len(files)
        assert service.stop() == 0
        assert service.states() == ["receiving"]
        service.start()
        service.wait_settled(1)
        wait_until(lambda: len(sink.files()) == 2, "both objects came")
        assert service.states() == ["sent"]
