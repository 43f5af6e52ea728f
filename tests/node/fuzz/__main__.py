"""Fuzz the receiver over its port: ``python tests/node/fuzz SECONDS [SEED]``.

Conversations that a sound sender has are mutated, cut, repeated and joined, and sent in pieces of any size. Whatever
comes: the connection ends in time, the receiver answers the next echo, its memory, threads and descriptors are what
they were, its log has no exception, nothing half lies in the spool, and every instance in it is one that can be read.
What breaks this is printed as bytes, for a test.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import pydicom
from dicom_network import echo
from receiver_process import ReceiverProcess, receiver_process
from receivers import (
    ABORT,
    LOOPBACK,
    MR,
    RELEASE,
    VERIFICATION,
    command_pdu,
    echo_pdus,
    encoded_image,
    request_pdu,
    store_pdus,
)

LIMITS = {"request_s": 0.5, "idle_s": 0.5, "pdu_s": 0.5, "message_s": 0.5}
PATIENCE_S = 8.0  # all limits together, on a busy machine
CHECK_EVERY = 100
MIB = 1 << 20
MOST_GROWTH = 32 * MIB
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
CONTEXTS = [(VERIFICATION, [IMPLICIT, EXPLICIT]), (MR, [EXPLICIT]), (MR, [IMPLICIT])]
INTERESTING = (0, 1, 2, 3, 4, 5, 6, 7, 8, 0x20, 0x30, 0x40, 0x50, 0x7F, 0x80, 0xFE, 0xFF)

Conversation = list[bytes]


def sound_conversations() -> list[Conversation]:
    """What a sender says, PDU by PDU."""
    request = request_pdu(CONTEXTS)
    image = encoded_image("1.2.3", pixels=3000)
    split = [command_pdu(part, control=control) for part, control in ((image[:100], 0), (image[100:], 2))]
    return [
        [request, *echo_pdus(), RELEASE],
        [request, *store_pdus(image), RELEASE],
        [request, *store_pdus(image, size=256), *store_pdus(encoded_image("1.2.4"), sop_uid="1.2.4"), RELEASE],
        [request, *store_pdus(image)[:1], *split, *echo_pdus(), RELEASE],
        [request, *store_pdus(image)[:-1], ABORT],
        [request_pdu([(MR, [EXPLICIT, IMPLICIT])] * 128), *store_pdus(image, context_id=255), RELEASE],
    ]


def mutated(conversation: Conversation, others: list[Conversation], chance: random.Random) -> Conversation:
    """A conversation with some things wrong in it."""
    pdus = list(conversation)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4, 16))):
        index = chance.randrange(len(pdus))
        match chance.randrange(9):
            case 0 | 1 | 2:
                pdus[index] = with_bytes(pdus[index], chance)
            case 3:
                pdus[index] = with_length(pdus[index], chance)
            case 4:
                pdus[index] = pdus[index][: chance.randrange(len(pdus[index]) + 1)]
            case 5:
                pdus.insert(index, chance.choice(chance.choice(others)))
            case 6:
                pdus.insert(chance.randrange(len(pdus) + 1), chance.randbytes(chance.choice((1, 6, 40, 2000))))
            case 7:
                pdus[index:index] = [pdus[index]] * chance.choice((1, 3, 50))
            case 8 if len(pdus) > 1:
                del pdus[index]
    return pdus


def with_bytes(pdu: bytes, chance: random.Random) -> bytes:
    """A PDU with a few bytes changed, mostly where its structure is."""
    data = bytearray(pdu)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if data:
            most = len(data) if chance.random() < 0.3 else min(len(data), 150)
            value = chance.choice(INTERESTING) if chance.random() < 0.6 else chance.randrange(256)
            data[chance.randrange(most)] = value
    return bytes(data)


def with_length(pdu: bytes, chance: random.Random) -> bytes:
    """A PDU with another number somewhere at its beginning."""
    data = bytearray(pdu)
    near = (len(pdu), len(pdu) - 7, len(pdu) + 1)
    number = chance.choice((0, 1, 5, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x00020001, *near))
    form, size = chance.choice(((">I", 4), ("<I", 4), (">H", 2), ("<H", 2)))
    at = 2 if chance.random() < 0.4 else chance.randrange(min(len(data), 120) or 1)
    data[at : at + size] = struct.pack(form, number & (0xFFFFFFFF if size == 4 else 0xFFFF))
    return bytes(data)


def talk(port: int, pdus: Conversation, chance: random.Random) -> float:
    """Say it, in pieces; return the seconds until the receiver had closed the connection."""
    begin = time.monotonic()
    with socket.create_connection((LOOPBACK, port), timeout=PATIENCE_S) as connection:
        try:
            if chance.random() < 0.2:  # without waiting for any answer, in pieces across the PDUs
                data = b"".join(pdus)
                while data:
                    size = chance.choice((1, 7, 100, 5000, 100_000))
                    connection.sendall(data[:size])
                    data = data[size:]
            else:
                connection.sendall(pdus[0])
                connection.settimeout(0.3)
                with suppress(TimeoutError):
                    connection.recv(1 << 16)
                connection.settimeout(PATIENCE_S)
                for pdu in pdus[1:]:
                    connection.sendall(pdu)
            if chance.random() < 0.3:
                return 0.0  # and go
            while connection.recv(1 << 16):
                pass
        except (ConnectionError, BrokenPipeError):
            pass
    return time.monotonic() - begin


def problems(node: ReceiverProcess, rest: tuple[int, int]) -> list[str]:
    """What is not as it should be."""
    wrong = [] if node.process.poll() is None else ["it ended"]
    if wrong or not echo(node.port):
        return [*wrong, "no echo"]
    end = time.monotonic() + PATIENCE_S
    while (node.threads(), node.descriptors()) != rest and time.monotonic() < end:
        time.sleep(0.05)
    if (node.threads(), node.descriptors()) != rest:
        wrong.append(f"threads and descriptors {node.threads(), node.descriptors()}, at rest {rest}")
    if "Traceback" in node.log() or " at node/" in node.log():
        wrong.append("an exception in the log")
    if list((node.folder / "spool" / "incoming").iterdir()):
        wrong.append("something half in the spool")
    for path in node.files():
        dataset = pydicom.dcmread(path, specific_tags=["SOPInstanceUID", "StudyInstanceUID"], stop_before_pixels=True)
        if not dataset.SOPInstanceUID or not dataset.StudyInstanceUID:
            wrong.append(f"{path.name} has no UIDs")
    return wrong


def main(seconds: float, seed: int) -> int:
    """Fuzz for some time; return how many problems there were."""
    chance = random.Random(seed)
    sound = sound_conversations()
    count = 0
    with tempfile.TemporaryDirectory() as folder, receiver_process(Path(folder), limits=LIMITS) as node:
        assert echo(node.port)
        time.sleep(1)
        rest, resident = (node.threads(), node.descriptors()), node.resident_bytes()
        end = time.monotonic() + seconds
        recent: list[Conversation] = []
        while time.monotonic() < end:
            pdus = mutated(chance.choice(sound), sound, chance)
            recent = [*recent[-CHECK_EVERY:], pdus]
            took = talk(node.port, pdus, chance)
            count += 1
            found = [f"the connection was open for {took:.1f} s"] if took > PATIENCE_S else []
            if found or count % CHECK_EVERY == 0:
                found += problems(node, rest)
            if found:
                for each in recent[-3:]:
                    report(str([pdu[:400] for pdu in each]))
                report(node.log()[-3000:])
                report(f"seed {seed}, conversation {count}: {found}")
                return len(found)
        grown, peak = (size - resident for size in (node.resident_bytes(), node.peak_bytes()))
        report(f"{count} conversations, {len(node.files())} instances, seed {seed}")
        report(f"memory {grown / MIB:+.1f} MiB, at most {peak / MIB:+.1f} MiB, processor {node.cpu_s():.1f} s")
        for name, value in node.counted().items():
            if name.startswith(("associations", "instances")):
                report(f"{value:6g} {name}")
        return int(peak > MOST_GROWTH)


def report(line: str) -> None:
    """Print."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32))
