"""TLS: who has the certificate gets in, who has none, another one, an old protocol or no TLS does not."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import Certificate, make_authority, make_certificate
from dicom_network import program, system_path, wait_until
from exam_files import write_exam
from receivers import LOOPBACK, QUICK, RawPeer, request_pdu, running_receiver

from lnfast.errors import BackendError
from lnfast.node.config.settings import Tls
from lnfast.node.transport.tls import client_context, server_context


@dataclass(frozen=True)
class Pki:
    """What the tests need."""

    authority: Certificate
    server: Certificate
    client: Certificate
    stranger: Certificate

    def tls(self, *, mutual: bool) -> Tls:
        return Tls(self.server.cert, self.server.key, self.authority.cert if mutual else None)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    authority, foreign = make_authority(folder, "authority"), make_authority(folder, "foreign")
    signed = [make_certificate(folder, name, authority) for name in ("server", "client")]
    return Pki(authority, *signed, make_certificate(folder, "stranger", foreign))


def dcmtk(name: str, port: int, *options: str | Path, files: Sequence[Path] = ()) -> int:
    """Exit code of a program of DCMTK that asks the receiver."""
    times = ("-to", "10", "-ta", "10", "-td", "10")
    command = [program(name), *times, "-aet", "MR1", "-aec", "LNFAST", *map(str, options), LOOPBACK, str(port)]
    environment = {**os.environ, "PATH": system_path()}
    done = subprocess.run([*command, *map(str, files)], capture_output=True, timeout=60, env=environment)
    return done.returncode


def as_client(certificate: Certificate, pki: Pki) -> tuple[str | Path, ...]:
    return ("+tls", certificate.key, certificate.cert, "+cf", pki.authority.cert)


def test_dcmtk_sends_by_mutual_tls(tmp_path: Path, pki: Pki) -> None:
    files = write_exam(tmp_path / "exam", "tls")
    with running_receiver(tmp_path, tls=pki.tls(mutual=True)) as node:
        assert dcmtk("echoscu", node.port, *as_client(pki.client, pki)) == 0
        assert dcmtk("storescu", node.port, *as_client(pki.client, pki), files=files) == 0
        assert node.record.endings(1) == ["released"]
        assert len(node.files()) == len(files)


def test_without_the_right_certificate_nobody_gets_in(tmp_path: Path, pki: Pki) -> None:
    with running_receiver(tmp_path, tls=pki.tls(mutual=True), limits=QUICK) as node:
        assert dcmtk("echoscu", node.port, *as_client(pki.stranger, pki)) != 0  # signed by another authority
        assert dcmtk("echoscu", node.port, "+tla", "+cf", pki.authority.cert) != 0  # no certificate
        wait_until(lambda: node.counted("tls-failed") == 2, "both handshakes failed")
        assert dcmtk("echoscu", node.port) != 0  # no TLS
        wait_until(lambda: node.counted("tls-failed") == 3, "what is no TLS was seen")
        assert dcmtk("echoscu", node.port, *as_client(pki.client, pki)) == 0
        wait_until(lambda: node.counted("released") == 1, "the peer's release was counted")


def test_a_rejection_is_read_through_tls(tmp_path: Path, pki: Pki) -> None:
    context = client_context(Tls(pki.client.cert, pki.client.key, pki.authority.cert))
    with running_receiver(tmp_path, tls=pki.tls(mutual=True)) as node, RawPeer(node.port) as peer:
        peer.connection = context.wrap_socket(peer.connection, server_hostname=LOOPBACK)
        peer.write(request_pdu(called="OTHER"))
        assert peer.read() == (3, bytes((0, 1, 1, 7)))


def test_without_ca_the_traffic_is_encrypted_and_the_client_is_not_proven(tmp_path: Path, pki: Pki) -> None:
    with running_receiver(tmp_path, tls=pki.tls(mutual=False)) as node:
        assert dcmtk("echoscu", node.port, "+tla", "+cf", pki.authority.cert) == 0
        assert dcmtk("echoscu", node.port) != 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("newest", "works"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_older_than_1_2_is_refused(tmp_path: Path, pki: Pki, newest: str, works: bool) -> None:
    context = client_context(Tls(pki.client.cert, pki.client.key, pki.authority.cert))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = getattr(ssl.TLSVersion, newest)
    with running_receiver(tmp_path, tls=pki.tls(mutual=True)) as node, RawPeer(node.port) as peer:
        if works:
            peer.connection = context.wrap_socket(peer.connection, server_hostname=LOOPBACK)
            assert peer.connection.version() == newest.replace("_", ".")
        else:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(peer.connection, server_hostname=LOOPBACK)


def test_a_silent_handshake_keeps_nobody_out(tmp_path: Path, pki: Pki) -> None:
    """pynetdicom makes the handshake in the thread that accepts: one silent peer stops it for ever."""
    with running_receiver(tmp_path, tls=pki.tls(mutual=True), limits=QUICK) as node:
        silent = [socket.create_connection((LOOPBACK, node.port)) for _ in range(20)]
        for connection in silent[10:]:
            connection.sendall(b"\x16\x03\x01\x02\x00")  # the beginning of a ClientHello
        assert dcmtk("echoscu", node.port, *as_client(pki.client, pki)) == 0
        wait_until(lambda: node.counted("no-request") == 20, "the silent ones are closed")
        for connection in silent:
            connection.settimeout(5)
            assert connection.recv(16) == b""
            connection.close()


def test_a_request_that_comes_with_the_handshake_is_read(tmp_path: Path, pki: Pki) -> None:
    """TLS may hold bytes of the peer that the selector of the system does not show."""
    context = client_context(Tls(pki.client.cert, pki.client.key, pki.authority.cert))
    with running_receiver(tmp_path, tls=pki.tls(mutual=True)) as node, RawPeer(node.port) as peer:
        peer.connection = context.wrap_socket(peer.connection, server_hostname=LOOPBACK)
        request = request_pdu([("1.2.840.10008.5.1.4.1.1.4", ["1.2.840.10008.1.2"])] * 128)
        peer.write(request[:4])
        time.sleep(0.05)
        peer.write(request[4:])
        assert peer.read()[0] == 2


def test_a_target_must_be_signed_by_the_authority_and_have_the_name(pki: Pki) -> None:
    server = server_context(pki.tls(mutual=True))
    for authority, name, works in (
        (pki.authority, "127.0.0.1", True),
        (pki.authority, "pacs.example", False),
        (pki.stranger, "127.0.0.1", False),
    ):
        client = client_context(Tls(pki.client.cert, pki.client.key, authority.cert))
        assert _shake_hands(server, client, name) == works


def test_files_that_cannot_be_used_are_an_error_with_a_code(tmp_path: Path, pki: Pki) -> None:
    (tmp_path / "text").write_text("no PEM")
    locked = tmp_path / "locked.key"
    command = [
        program("openssl"),
        "ec",
        "-in",
        str(pki.server.key),
        "-aes128",
        "-passout",
        "pass:x",
        "-out",
        str(locked),
    ]
    subprocess.run(command, check=True, capture_output=True)
    for tls in (
        Tls(pki.server.cert, pki.client.key, None),
        Tls(tmp_path / "missing", pki.server.key, None),
        Tls(tmp_path / "text", pki.server.key, None),
        Tls(pki.server.cert, locked, None),
        Tls(pki.server.cert, pki.server.key, tmp_path / "text"),
        Tls(pki.server.cert, pki.server.key, tmp_path / "missing"),
    ):
        for context in (server_context, client_context):
            with pytest.raises(BackendError, match=r"tls-unusable: \[tls\] "):
                context(tls)


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bool:
    """Whether both sides agree, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    ]
    try:
        for _ in range(6):
            for side in sides:
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLError:
        return False
    return all(side.version() for side in sides)
