"""The sender against DCMTK, Orthanc and peers that misbehave: what each answer does to a job and to those after it."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from certificates import make_authority, make_certificate
from dicom_network import orthanc, reserved_port, store_scp, wait_until
from instance_files import EXPLICIT, IMPLICIT, REPORT, SEGMENTATION, data_set
from outboxes import Outbox, outbox, target
from scripted_peers import accept, hold, scripted_peer, serve, stall, store_peer

from lnfast.node.client.client import Timeouts
from lnfast.node.config.settings import Tls
from lnfast.node.outbox.backoff import Backoff

BOTH = [(SEGMENTATION, EXPLICIT), (REPORT, EXPLICIT)]
NEVER = Backoff(first_s=1000, most_s=1000)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    with outbox(tmp_path / "spool") as made:
        yield made


def sent(box: Outbox) -> bool:
    return all(job.state == "sent" for job in box.jobs())


def data_sets(folder: Path) -> dict[str, bytes]:
    """UID to data set of what a storescp keeps."""
    return {path.name.partition(".")[2]: data_set(path) for path in folder.iterdir()}


def uid(path: Path) -> str:
    from lnfast.node.client.instance_file import read_instance_file

    return read_instance_file(path).sop_uid


# ------------------------------------------------------------------------------------------------------------- success


def test_a_result_goes_out_byte_for_byte(box: Outbox, tmp_path: Path) -> None:
    files = box.release("a" * 16)
    with store_scp(tmp_path / "pacs", "+B") as peer, box.sending(target(peer.port)):
        wait_until(lambda: sent(box), "it is sent", 10)
        assert data_sets(peer.folder) == {uid(path): data_set(path) for path in files}
    assert box.ledger.exam("a" * 16).state == "sent"  # type: ignore[union-attr]
    job = box.jobs()[0]
    assert (job.state, job.status, job.code) == ("sent", "0x0000", None)
    assert box.metrics.value("results_sent_total", target="pacs") == 1
    text = box.metrics.text()
    assert 'lnfast_node_last_instance_to_sent_seconds_count{target="pacs"} 1' in text


def test_a_result_takes_one_association_that_proposes_what_it_has(box: Outbox) -> None:
    requests: list[bytes] = []

    def look(connection: socket.socket) -> None:
        requests.append(connection.recv(65536, socket.MSG_PEEK))

    box.release("a" * 16)
    with scripted_peer(look, accept, serve) as port, box.sending(target(port)):
        wait_until(lambda: sent(box), "it is sent", 10)
    (request,) = requests
    classes = re.findall(rb"\x30\0\0.([0-9.]+)", request)
    assert classes == [SEGMENTATION.encode(), REPORT.encode()] * 2, "in their own syntax, and in the default one"


@pytest.mark.parametrize(
    ("send", "nodes", "names"),
    [(("sr",), 2, ["sr.dcm"]), (("seg",), 2, ["seg.dcm"]), (("seg", "sr"), 0, ["sr.dcm"]), (("seg",), 0, [])],
)
def test_a_target_gets_what_it_is_told_to_and_what_there_is(
    box: Outbox, tmp_path: Path, send: tuple[str, ...], nodes: int, names: list[str]
) -> None:
    files = {path.name: path for path in box.release("a" * 16, nodes=nodes)}
    with store_scp(tmp_path / "pacs", "+B") as peer, box.sending(target(peer.port, send=send)):
        wait_until(lambda: sent(box), "it is sent", 10)
        assert set(data_sets(peer.folder)) == {uid(files[name]) for name in names}


def test_orthanc_gives_back_what_it_got(box: Outbox, tmp_path: Path) -> None:
    files = box.release("a" * 16)
    with orthanc() as peer, box.sending(target(peer.port, aet=peer.aet)):
        wait_until(lambda: sent(box), "it is sent", 10)
        kept = {uid(path): pydicom.dcmread(path) for path in peer.save_instances(tmp_path / "kept")}
    assert kept == {uid(path): pydicom.dcmread(path) for path in files}


def test_a_target_that_takes_the_default_syntax_only_gets_it_the_same_each_time(box: Outbox, tmp_path: Path) -> None:
    files = box.release("a" * 16)
    received = []
    for _ in range(2):
        with store_scp(tmp_path / "pacs", "+xi", "+B") as peer, box.sending(target(peer.port)):
            wait_until(lambda: sent(box), "it is sent", 10)
            received.append({path.name: path.read_bytes() for path in peer.files()})
            objects = peer.received()
        box.ledger.send_again("a" * 16, ["pacs"])
    assert received[0] == received[1]
    for path in files:
        original, arrived = pydicom.dcmread(path), objects[uid(path)]
        assert arrived.file_meta.TransferSyntaxUID == IMPLICIT and arrived == original
    assert not list((box.spool.root / "incoming").iterdir())


def test_a_warning_is_stored_and_counted(box: Outbox) -> None:
    box.release("a" * 16)
    with store_peer(lambda event: 0xB007, BOTH) as port, box.sending(target(port)):
        wait_until(lambda: sent(box), "it is sent", 10)
    assert box.jobs()[0].status == "0xB007"
    assert box.metrics.value("send_attempts_total", target="pacs", outcome="warning") == 1


def test_what_was_sent_and_not_noted_is_sent_again_with_the_same_bytes(box: Outbox, tmp_path: Path) -> None:
    """As after a crash between the answer of the target and the ledger."""
    received: list[tuple[str, bytes]] = []

    def on_store(event: Any) -> int:
        received.append((event.request.AffectedSOPInstanceUID, event.request.DataSet.getvalue()))
        return 0

    files = box.release("a" * 16)
    with store_peer(on_store, BOTH) as port:
        for _ in range(2):
            with box.sending(target(port)):
                wait_until(lambda: sent(box), "it is sent", 10)
            box.ledger.send_again("a" * 16, ["pacs"])
    once = [(uid(path), data_set(path)) for path in files]
    assert received == once + once


# ------------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (0xA900, "class-mismatch"),
        (0xC000, "cannot-understand"),
        (0x0122, "class-not-supported"),
        (0x0117, "store-refused"),
    ],
)
def test_a_status_that_lasts_is_dead_at_once_until_a_person_retries(box: Outbox, status: int, code: str) -> None:
    answers = [status]
    box.release("a" * 16)
    with store_peer(lambda event: answers[0], BOTH) as port, box.sending(target(port)):
        wait_until(lambda: box.state("a" * 16)[0] == "dead", "it is dead", 10)
        assert box.state("a" * 16) == ("dead", code, 1)
        assert box.jobs()[0].status == f"0x{status:04X}"
        assert box.ledger.exam("a" * 16).state == "dead"  # type: ignore[union-attr]
        assert box.metrics.value("results_dead_total", target="pacs", code=code) == 1
        answers[0] = 0
        box.ledger.revive("a" * 16)
        wait_until(lambda: sent(box), "it is sent", 10)


def test_a_wrong_ae_title_is_dead_at_once_until_it_was_entered_and_a_person_retries(box: Outbox) -> None:
    box.release("a" * 16)
    with reserved_port(), store_peer(lambda event: 0, BOTH, require_calling_aet=["OTHER"]) as port:
        with box.sending(target(port)):
            wait_until(lambda: box.state("a" * 16)[0] == "dead", "it is dead", 10)
        assert box.state("a" * 16) == ("dead", "ae-title-rejected", 1)
    with store_peer(lambda event: 0, BOTH, require_calling_aet=["LNFAST"]) as port, box.sending(target(port)):
        box.ledger.revive("a" * 16)
        wait_until(lambda: sent(box), "it is sent", 10)


def test_nothing_of_a_result_is_sent_unless_the_target_takes_all_of_it(box: Outbox, tmp_path: Path) -> None:
    profile = tmp_path / "profile.cfg"
    profile.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\n"
        f"[[PresentationContexts]]\n[Reports]\nPresentationContext1 = {REPORT}\\Plain\n"
        "[[Profiles]]\n[OnlyReports]\nPresentationContexts = Reports\n"
    )
    box.release("a" * 16)
    with store_scp(tmp_path / "pacs", "-xf", str(profile), "OnlyReports") as peer:
        with box.sending(target(peer.port)):
            wait_until(lambda: box.state("a" * 16)[0] == "dead", "it is dead", 10)
        assert box.state("a" * 16) == ("dead", "context-rejected", 1) and peer.files() == []
        with box.sending(target(peer.port, send=("sr",))):
            box.ledger.revive("a" * 16)
            wait_until(lambda: sent(box), "it is sent", 10)


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        (["--refuse"], {"peer-busy"}),
        (["--abort-after"], {"association-aborted"}),
        (["--abort-during"], {"association-aborted", "connection-lost"}),
        (["--sleep-during", "3"], {"no-answer"}),
    ],
)
def test_what_may_pass_is_tried_again_until_it_has(
    box: Outbox, tmp_path: Path, options: list[str], codes: set[str]
) -> None:
    files = box.release("a" * 16)
    with store_scp(tmp_path / "pacs", "+B", *options) as peer, box.sending(target(peer.port)):
        wait_until(lambda: box.state("a" * 16)[2] >= 2, "it was tried twice", 10)
        state, code, _ = box.state("a" * 16)
        assert state == "pending" and code in codes
        peer.stop()
        peer.options = ("+B",)
        peer.start()
        wait_until(lambda: sent(box), "it is sent", 10)
        assert data_sets(peer.folder) == {uid(path): data_set(path) for path in files}


def test_a_target_without_room_gets_both_again_once_it_has(box: Outbox) -> None:
    statuses = {SEGMENTATION: 0, REPORT: 0xA700}
    received: list[bytes] = []

    def on_store(event: Any) -> int:
        received.append(event.request.DataSet.getvalue())
        return statuses[event.request.AffectedSOPClassUID]

    files = box.release("a" * 16)
    with store_peer(on_store, BOTH) as port, box.sending(target(port)):
        wait_until(lambda: box.state("a" * 16)[2] >= 2, "it was tried twice", 10)
        assert box.state("a" * 16)[:2] == ("pending", "out-of-resources") and box.jobs()[0].status == "0xA700"
        statuses[REPORT] = 0
        wait_until(lambda: sent(box), "it is sent", 10)
    assert received == [data_set(path) for path in files] * (len(received) // 2)


def test_a_job_is_given_up_after_three_days_of_attempts(box: Outbox) -> None:
    box.release("a" * 16)
    brief = Backoff(first_s=0.01, most_s=0.01, give_up_s=0.3, least_attempts=4)
    with reserved_port() as port, box.sending(target(port), backoff=brief):
        wait_until(lambda: box.state("a" * 16)[0] == "dead", "it is dead", 10)
    _, code, attempts = box.state("a" * 16)
    assert code == "peer-unreachable" and attempts >= 4


def test_a_file_of_a_result_that_is_gone_is_dead_and_holds_up_nothing(box: Outbox, tmp_path: Path) -> None:
    (_, report), (segmentation, _), _ = (box.release(name * 16) for name in "abc")
    report.unlink()
    segmentation.write_bytes(segmentation.read_bytes()[:140])
    with store_scp(tmp_path / "pacs") as peer, box.sending(target(peer.port)):
        wait_until(lambda: box.state("c" * 16)[0] == "sent", "the last is sent", 10)
    assert box.state("a" * 16)[:2] == box.state("b" * 16)[:2] == ("dead", "result-unreadable")


# --------------------------------------------------------------------------------------------------------------- order


def test_an_outbox_drains_in_the_order_of_release_once_the_target_is_back(box: Outbox, tmp_path: Path) -> None:
    exams = [f"{number:016x}" for number in range(12)]
    files = [box.release(exam)[1] for exam in exams[:6]]
    order: list[str] = []

    def on_store(event: Any) -> int:
        if event.request.AffectedSOPClassUID == REPORT:
            order.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    with store_scp(tmp_path / "down", running=False) as peer, box.sending(target(peer.port)):
        wait_until(lambda: box.jobs()[0].attempts >= 3, "the first was tried", 10)
        files += [box.release(exam)[1] for exam in exams[6:]]
        assert [job.attempts > 0 for job in box.jobs()] == [True] + [False] * 11, "one asks for all"
    with store_peer(on_store, BOTH) as port, box.sending(target(port)):
        wait_until(lambda: sent(box), "all are sent", 20)
    assert order == [uid(path) for path in files]


def test_an_object_that_the_target_cannot_take_holds_up_only_the_later_ones_of_its_exam(box: Outbox) -> None:
    first, second, other = (box.release(exam) for exam in ("a" * 16, "a" * 16, "b" * 16))
    poison = uid(first[0])
    order: list[str] = []

    def on_store(event: Any) -> int:
        instance = str(event.request.AffectedSOPInstanceUID)
        if instance == poison and not released.is_set():
            event.assoc.abort()
            return 0
        order.append(instance)
        return 0

    released = threading.Event()
    with store_peer(on_store, BOTH) as port, box.sending(target(port)):
        wait_until(lambda: box.state("b" * 16)[0] == "sent", "the other exam is sent", 10)
        assert [job.state for job in box.jobs("a" * 16)] == ["pending", "pending"]
        released.set()
        wait_until(lambda: sent(box), "all are sent", 10)
    assert order == [uid(path) for path in (*other, *first, *second)]


def test_a_node_that_starts_waits_for_nothing_that_was_wrong_before(box: Outbox, tmp_path: Path) -> None:
    box.release("a" * 16)
    with reserved_port() as port, box.sending(target(port), backoff=NEVER):
        wait_until(lambda: box.state("a" * 16)[2] == 1, "it was tried", 10)
    assert box.jobs()[0].next_at > time.time() + 100
    with store_scp(tmp_path / "pacs") as peer, box.sending(target(peer.port), backoff=NEVER):
        wait_until(lambda: sent(box), "it is sent", 10)


def test_a_persons_retry_does_not_wait_for_the_backoff_of_the_target(box: Outbox, tmp_path: Path) -> None:
    box.release("a" * 16)
    with store_peer(lambda event: 0xC000, BOTH) as port, box.sending(target(port)):
        wait_until(lambda: box.state("a" * 16)[0] == "dead", "it is dead", 10)
    box.release("b" * 16)
    with store_scp(tmp_path / "pacs", running=False) as peer, box.sending(target(peer.port), backoff=NEVER):
        wait_until(lambda: box.state("b" * 16)[2] == 1, "it was tried", 10)
        peer.start()
        box.ledger.revive("a" * 16)
        wait_until(lambda: box.state("a" * 16)[0] == "sent", "it is sent", 10)


def test_a_clock_that_is_set_back_stops_nothing(box: Outbox, tmp_path: Path) -> None:
    with store_scp(tmp_path / "pacs", running=False) as peer, box.sending(target(peer.port)):
        box.release("a" * 16)
        wait_until(lambda: box.state("a" * 16)[2] == 1, "it was tried", 10)
        box.ledger.job_failed(box.jobs()[0].id, "peer-unreachable", time.time() + 86400)
        peer.start()
        wait_until(lambda: sent(box), "it is sent", 10)


def test_jitter_stays_within_a_fifth_and_the_wait_within_a_quarter_of_an_hour() -> None:
    backoff = Backoff()
    waits = [[backoff.delay_s(attempts) for _ in range(200)] for attempts in range(1, 40)]
    for attempts, values in enumerate(waits, 1):
        plain = min(5 * 2 ** (attempts - 1), 900)
        assert 0.8 * plain <= min(values) < 0.9 * plain and 1.1 * plain < max(values) <= 1.2 * plain
    assert not backoff.is_over(72 * 3600 - 1, 400) and not backoff.is_over(72 * 3600, 9)
    assert backoff.is_over(72 * 3600, 10)


# ------------------------------------------------------------------------------------------------- targets side by side


def test_a_target_that_hangs_holds_up_neither_the_others_nor_the_stop(box: Outbox, tmp_path: Path) -> None:
    box.release("a" * 16, ["hanging", "stalling", "pacs"], size=8_000_000)
    long = Timeouts(connect_s=60, acse_s=60, dimse_s=60, network_s=60)
    with (
        scripted_peer(hold) as hanging,
        scripted_peer(accept, stall, receive_buffer=4096) as stalling,
        store_scp(tmp_path / "pacs") as peer,
    ):
        targets = [target(hanging, "hanging"), target(stalling, "stalling"), target(peer.port)]
        with box.sending(*targets, timeouts=long, drain_s=0.5):
            wait_until(lambda: any(job.state == "sent" for job in box.jobs()), "one is sent", 10)
            begun = time.monotonic()
        assert time.monotonic() - begun < 3
    assert [(job.target, job.state, job.attempts) for job in box.jobs()] == [
        ("hanging", "pending", 0),
        ("stalling", "pending", 0),
        ("pacs", "sent", 0),
    ]


def test_a_target_that_is_slow_is_no_sign_of_a_dead_thread(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnfast.node.monitor.life.IDLE_S", 0.8)
    box.release("a" * 16)
    long = Timeouts(connect_s=60, acse_s=60, dimse_s=60, network_s=60)
    with scripted_peer(accept, hold) as port, box.sending(target(port), timeouts=long, drain_s=0.1) as sender:
        (life,) = sender.lives
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            assert not life.overdue()
            time.sleep(0.02)
    assert box.state("a" * 16) == ("pending", None, 0)


def test_stop_lets_the_job_that_is_being_sent_end(box: Outbox) -> None:
    def slowly(event: Any) -> int:
        time.sleep(0.3)
        return 0

    for name in "ab":
        box.release(name * 16)
    with store_peer(slowly, BOTH) as port, box.sending(target(port), drain_s=5):
        time.sleep(0.15)
    assert [job.state for job in box.jobs()] == ["sent", "pending"]


def test_a_disabled_target_is_sent_nothing(box: Outbox, tmp_path: Path) -> None:
    box.release("a" * 16, ["pacs"])
    with store_scp(tmp_path / "pacs") as peer, box.sending(target(peer.port, enabled=False)) as sender:
        assert sender.threads == ()
        sender.wake()
    assert box.state("a" * 16) == ("pending", None, 0)


def test_a_fault_of_ours_costs_one_attempt_and_not_the_thread(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lnfast.node.outbox import sender as module

    def fail(*arguments: Any) -> Any:
        raise ZeroDivisionError("SECRET")

    box.release("a" * 16)
    with store_scp(tmp_path / "pacs") as peer, monkeypatch.context() as patch:
        patch.setattr(module, "store_all", fail)
        with box.sending(target(peer.port)) as running:
            wait_until(lambda: box.state("a" * 16)[2] >= 2, "it was tried twice", 10)
            assert box.state("a" * 16)[1] == "internal"
            patch.undo()
            wait_until(lambda: sent(box), "it is sent", 10)
            assert running.threads[0].is_alive()


def test_a_ledger_that_cannot_be_written_stops_nothing_for_good(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lnfast.errors import BackendError
    from lnfast.node.outbox import sender as module

    def full(*arguments: Any) -> Any:
        raise BackendError("spool-full", "no room")

    monkeypatch.setattr(module, "_UNRECORDED_S", 0.2)
    box.release("a" * 16)
    with store_scp(tmp_path / "pacs") as peer, monkeypatch.context() as patch:
        for name in ("job_sent", "job_failed"):
            patch.setattr(box.ledger, name, full)
        with box.sending(target(peer.port)):
            wait_until(lambda: len(peer.files()) == 2, "the target has it", 10)
            time.sleep(0.3)
            assert box.state("a" * 16)[0] == "pending"
            patch.undo()
            wait_until(lambda: sent(box), "it is noted", 10)


def test_logs_say_what_happened_and_nothing_of_a_patient(
    box: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    files = box.release("a" * 16)
    box.release("b" * 16)
    statuses = iter([0xA700, 0xC000])
    with (
        store_peer(lambda event: next(statuses, 0), BOTH) as port,
        box.sending(target(port)),
    ):
        wait_until(lambda: {job.state for job in box.jobs()} == {"sent", "dead"}, "all is decided", 10)
    records = [record for record in caplog.records if record.name.startswith("lnfast.node")]
    assert {record.levelname for record in records} == {"INFO", "WARNING", "ERROR"}
    words = " ".join(str(vars(record)) for record in records)
    assert "SECRET" not in words and not any(uid(path) in words for path in files)


# ----------------------------------------------------------------------------------------------------------------- TLS


def test_both_sides_prove_who_they_are(box: Outbox, tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "tls", "authority")
    own, theirs = (make_certificate(tmp_path / "tls", name, authority) for name in ("own", "theirs"))
    stranger = make_certificate(tmp_path / "tls", "stranger", make_authority(tmp_path / "tls", "stranger-authority"))
    options = ["+tls", str(theirs.key), str(theirs.cert), "+cf", str(authority.cert)]
    files = box.release("a" * 16)
    with store_scp(tmp_path / "pacs", "+B", *options) as peer:
        secure = target(peer.port, tls=True)
        for wrong in (
            Tls(stranger.cert, stranger.key, authority.cert),  # the peer does not trust us
            Tls(own.cert, own.key, stranger.cert),  # we do not trust the peer
        ):
            attempts = box.state("a" * 16)[2]
            with box.sending(secure, tls=wrong):
                wait_until(lambda: box.state("a" * 16)[2] > attempts, "it was tried", 10)  # noqa: B023
            assert box.state("a" * 16)[:2] == ("pending", "tls-failed")
        with box.sending(secure, tls=Tls(own.cert, own.key, authority.cert)):
            wait_until(lambda: sent(box), "it is sent", 10)
        assert data_sets(peer.folder) == {uid(path): data_set(path) for path in files}


def test_a_certificate_that_cannot_be_read_is_tried_again(box: Outbox, tmp_path: Path) -> None:
    missing = Tls(tmp_path / "no.pem", tmp_path / "no.key", None)
    box.release("a" * 16)
    with reserved_port() as port, box.sending(target(port, tls=True), tls=missing):
        wait_until(lambda: box.state("a" * 16)[2] >= 2, "it was tried twice", 10)
    assert box.state("a" * 16)[:2] == ("pending", "tls-unusable")
