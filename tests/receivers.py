"""A receiver in this process, and peers that speak the upper layer byte by byte: written with pynetdicom's encoders."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

from lnfast.node.config.settings import (
    Drift,
    Keep,
    Log,
    ModelChoice,
    NodeConfig,
    Privacy,
    Receive,
    Select,
    Tls,
)
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.receiver.association import Limits
from lnfast.node.receiver.receiver import Receiver
from lnfast.node.spool import Spool

MR, VERIFICATION = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.1"
LOOPBACK = "127.0.0.1"
SECONDS = 10.0  # no answer of a receiver takes longer
QUICK = Limits(request_s=2.0, idle_s=2.0, pdu_s=2.0, message_s=2.0, drain_s=2.0)
RECEIVE = Receive(
    allow=(),
    tls=False,
    quiet_s=10,
    quiet_without_release_s=30,
    give_up_s=900,
    eager=False,
    others="drop",
    min_free_bytes=0,
    max_instance_bytes=64 << 20,
    max_associations=16,
)


def node_config(spool: Path, *, bind: str = LOOPBACK, tls: Tls | None = None, **receive: Any) -> NodeConfig:
    """What a receiver is told: loopback, a port that the system chooses, and changes of ``[receive]``."""
    return NodeConfig(
        aet="LNFAST",
        bind=bind,
        port=0,
        spool=spool,
        health_bind=LOOPBACK,
        health_port=0,
        receive=replace(RECEIVE, tls=tls is not None, **receive),
        targets=(),
        model=ModelChoice("pelvic-ln-edge", "auto", "auto", "auto", 0, "box", 8.0, "sparse"),
        select=Select((), False),
        keep=Keep(7, 30),
        tls=tls,
        watch=None,
        drift=Drift(50),
        privacy=Privacy(False),
        log=Log("text", "info"),
    )


@dataclass
class Record:
    """In place of `lnfast.node.exams.arrivals.Arrivals`: everything that the receiver says.

    Attributes:
        calls: name of the method and its arguments, in order.
        on_arrival: called by `instance_arrives`; may raise.
    """

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    on_arrival: Callable[[], None] = lambda: None
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def association_opened(self, key: int, peer: str) -> None:
        self._add("opened", key, peer)

    def instance_arrives(self, key: int, exam: str, instance: str) -> None:
        self.on_arrival()
        self._add("arrives", key, exam, instance)

    def instance_stored(self, key: int, exam: str, instance: str, outcome: str) -> None:
        self._add("stored", key, exam, instance, outcome)

    def instance_failed(self, key: int, exam: str | None, instance: str) -> None:
        self._add("failed", key, exam, instance)

    def instance_broken(self, key: int, exam: str | None, instance: str) -> None:
        self._add("broken", key, exam, instance)

    def association_closed(self, key: int, how: str) -> None:
        self._add("closed", key, how)

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of one method."""
        with self._changed:
            return [call[1:] for call in self.calls if call[0] == name]

    def endings(self, count: int) -> list[str]:
        """How the first associations ended; waits until so many have."""
        with self._changed:
            ended = lambda: [call[-1] for call in self.calls if call[0] == "closed"]  # noqa: E731
            assert self._changed.wait_for(lambda: len(ended()) >= count, SECONDS), self.calls
            return ended()

    def _add(self, *call: Any) -> None:
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()


@dataclass
class Running:
    """A receiver that runs.

    Attributes:
        record: what it said to the arrivals.
    """

    receiver: Receiver
    spool: Spool
    metrics: Metrics
    record: Record

    @property
    def port(self) -> int:
        return self.receiver.port

    def files(self) -> list[Path]:
        """All instances."""
        return sorted((self.spool.root / "exams").rglob("*.dcm"))

    def parts(self) -> list[Path]:
        """What is half in the spool."""
        return list((self.spool.root / "incoming").iterdir())

    def counted(self, outcome: str) -> float:
        """How many connections had an outcome."""
        return self.metrics.value("associations_total", outcome=outcome)

    def refused(self, code: str) -> float:
        """How many instances were refused for a reason."""
        return self.metrics.value("instances_refused_total", code=code)


@contextmanager
def running_receiver(
    folder: Path, *, limits: Limits | None = None, tls: Tls | None = None, bind: str = LOOPBACK, **receive: Any
) -> Iterator[Running]:
    """A receiver with a spool in a folder; it is stopped in any case, and its threads must be gone then."""
    config = node_config(folder / "spool", bind=bind, tls=tls, **receive)
    spool = Spool(config.spool, min_free_bytes=config.receive.min_free_bytes)
    record, metrics = Record(), Metrics()
    receiver = Receiver(config, spool, record, metrics, limits=limits)
    receiver.start()
    try:
        yield Running(receiver, spool, metrics, record)
    finally:
        receiver.stop()
    assert receiver_threads() == []


def receiver_threads() -> list[str]:
    """Names of the threads of receivers in this process."""
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith(("lnfast-receiver", "lnfast-association"))]


def request_pdu(
    contexts: list[tuple[str, list[str]]] | None = None, *, called: str = "LNFAST", calling: str = "MR1"
) -> bytes:
    """An A-ASSOCIATE-RQ; contexts are SOP class and transfer syntaxes, with the ids 1, 3, 5 ..."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.called_ae_title, primitive.calling_ae_title = called, calling
    proposed = []
    default = [(VERIFICATION, [ExplicitVRLittleEndian]), (MR, [ExplicitVRLittleEndian])]
    for index, (sop_class, syntaxes) in enumerate(default if contexts is None else contexts):
        context = build_context(sop_class, syntaxes)
        context.context_id = 2 * index + 1
        proposed.append(context)
    primitive.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, "1.2.3.4"
    primitive.user_information = [length, implementation]
    return A_ASSOCIATE_RQ(primitive).encode()


def store_pdus(
    data: bytes, *, sop_uid: str = "1.2.3", sop_class: str = MR, context_id: int = 3, size: int = 16384
) -> list[bytes]:
    """The P-DATA-TFs of a C-STORE of an encoded data set."""
    request = C_STORE()
    request.MessageID, request.Priority = 7, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop_uid
    request.DataSet = BytesIO(data)
    return _pdus(C_STORE_RQ(), request, context_id, size)


def echo_pdus(context_id: int = 1) -> list[bytes]:
    """The P-DATA-TF of a C-ECHO."""
    request = C_ECHO()
    request.MessageID, request.AffectedSOPClassUID = 5, VERIFICATION
    return _pdus(C_ECHO_RQ(), request, context_id, 16384)


def command_pdu(command: bytes, *, context_id: int = 3, control: int = 3) -> bytes:
    """A P-DATA-TF with one fragment, whatever it holds."""
    return struct.pack(">BxIIBB", 4, len(command) + 6, len(command) + 2, context_id, control) + command


def _pdus(message: Any, primitive: Any, context_id: int, size: int) -> list[bytes]:
    message.primitive_to_message(primitive)
    return [P_DATA_TF(part).encode() for part in message.encode_msg(context_id, size)]


RELEASE = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0))


class RawPeer:
    """A connection on which a test writes what it likes."""

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self.connection = socket.create_connection((host, port), timeout=SECONDS)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def write(self, *parts: bytes) -> None:
        self.connection.sendall(b"".join(parts))

    def read(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; (0, b"") where the connection ended."""
        head = self._read(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxI", head)
        return kind, self._read(length)

    def associate(self, *contexts: tuple[str, list[str]], **titles: str) -> None:
        """Get an association."""
        self.write(request_pdu(list(contexts) or None, **titles))
        kind, body = self.read()
        assert kind == 2, (kind, body)

    def status(self) -> int:
        """The status of the next answer."""
        kind, body = self.read()
        assert kind == 4, (kind, body)
        return int(decode(BytesIO(body[6:]), True, True).Status)

    def ended(self) -> tuple[int, bytes]:
        """The last PDU of the receiver, behind which it closed the connection."""
        last = self.read()
        assert self.read() == (0, b"")
        return last

    def _read(self, size: int) -> bytes:
        data = b""
        try:
            while len(data) < size:
                part = self.connection.recv(size - len(data))
                if not part:
                    break
                data += part
        except ConnectionResetError:
            pass
        return data


def encoded_image(sop_uid: str = "1.2.3", study_uid: str = "1.2.9", *, sop_class: str = MR, pixels: int = 512) -> bytes:
    """A data set in explicit VR little endian with the UIDs and some pixels."""
    texts = ((8, 0x16, b"UI", sop_class), (8, 0x18, b"UI", sop_uid), (0x20, 0xD, b"UI", study_uid))
    parts = []
    for group, element, vr, text in texts:
        value = text.encode() + b"\0" * (len(text) % 2)
        parts.append(struct.pack("<HH2sH", group, element, vr, len(value)) + value)
    return b"".join(parts) + struct.pack("<HH2s2xI", 0x7FE0, 0x10, b"OW", pixels) + bytes(pixels)
