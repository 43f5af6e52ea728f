"""The UIDs of a data set as it arrives, held to pydicom on real files, made ones and mutated ones."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from receivers import MR, encoded_image

from lnfast.node.transport.dataset_head import WANTED, TooShortError, UnreadableError, read_uids
from lnfast.study.dicom.peek import read_meta

IMPLICIT = "1.2.840.10008.1.2"


def nested(depth: int = 3, *, defined: bool = False) -> Dataset:
    """Sequences in sequences, of defined and undefined length, before and between the UIDs."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.StudyInstanceUID = MR, "1.2.3", "1.2.9"
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "9.9"
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedSOPClassUID, outer.StudyInstanceUID = "9.8", "9.7"  # not those of the top
        outer.ReferencedImageSequence = Sequence([inner, Dataset()])
        outer["ReferencedImageSequence"].is_undefined_length = not defined
        outer.is_undefined_length_sequence_item = not defined
        inner = outer
    dataset.ReferencedStudySequence = Sequence([inner, inner])
    dataset["ReferencedStudySequence"].is_undefined_length = not defined
    dataset.private_block(0x0019, "CREATOR", create=True).add_new(1, "SQ", Sequence([inner]))
    dataset.SeriesInstanceUID = "1.2.10"
    return dataset


def encoded(dataset: Dataset, *, explicit: bool) -> bytes:
    """A data set in little endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, not explicit
    write_dataset(buffer, dataset)
    return buffer.getvalue()


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("depth", [0, 3, 12])
def test_sequences_are_passed_over(explicit: bool, defined: bool, depth: int) -> None:
    data = encoded(nested(depth, defined=defined), explicit=explicit)
    assert list(read_uids(data, explicit=explicit).values()) == [MR, "1.2.3", "1.2.9"]


def test_a_private_sequence_of_an_unknown_representation_is_implicit_inside() -> None:
    """PS3.5 6.2.2: UN of undefined length."""
    inner = encoded(nested(0), explicit=False)
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner + b"\xfe\xff\x0d\xe0\0\0\0\0"
    unknown = b"\x19\0\x01\x10UN\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    image = encoded_image()
    study = image.index(b"\x20\0\x0d\0")
    data = image[:study] + unknown + image[study:]
    assert list(read_uids(data, explicit=True).values()) == [MR, "1.2.3", "1.2.9"]


def test_real_files_have_the_uids_that_pydicom_reads(shared_data: Path) -> None:
    count = 0
    for path in sorted((shared_data.parent / "dicom" / "data").rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        if data[128:132] != b"DICM":
            continue
        _, start = read_meta(data)
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        uids = read_uids(data[start:], explicit=dataset.file_meta.TransferSyntaxUID != IMPLICIT)
        assert [uids[tag] for tag in WANTED] == [dataset[tag].value for tag in WANTED]
        count += 1
    assert count > 200


@pytest.mark.parametrize("explicit", [True, False])
def test_whatever_the_bytes_are_it_ends_in_time_in_uids_that_pydicom_reads_too_or_says_why_not(explicit: bool) -> None:
    chance = random.Random(3)
    sound = encoded(nested(2), explicit=explicit)
    outcomes = {"read": 0, "unreadable": 0, "too short": 0}
    begin = time.monotonic()
    for _ in range(4000):
        data = bytearray(sound)
        for _ in range(chance.choice((1, 1, 2, 6))):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0xFE, 0xFF, chance.randrange(256)))
        data = data[: chance.choice((len(data), len(data), chance.randrange(len(data))))]
        try:
            uids = read_uids(bytes(data), explicit=explicit)
        except UnreadableError:
            outcomes["unreadable"] += 1
        except TooShortError:
            outcomes["too short"] += 1
        else:
            outcomes["read"] += 1
            assert list(uids) == list(WANTED)
    assert min(outcomes.values()) > 200, outcomes
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("explicit", [True, False])
def test_bytes_after_the_uids_do_not_matter_and_all_before_them_do(explicit: bool) -> None:
    data = encoded(nested(1), explicit=explicit)
    needed = next(size for size in range(len(data)) if not is_too_short(data[:size], explicit))
    assert read_uids(data[:needed] + b"\xff" * 100, explicit=explicit) == read_uids(data, explicit=explicit)
    assert all(is_too_short(data[:size], explicit) for size in range(needed))
    assert needed < len(data)


def is_too_short(data: bytes, explicit: bool) -> bool:
    try:
        read_uids(data, explicit=explicit)
    except TooShortError:
        return True
    return False


@pytest.mark.parametrize(
    "data",
    [
        encoded_image()[30:] + encoded_image()[:30],  # not in the order of tags
        encoded_image()[:30] + encoded_image(),  # a tag twice
        encoded_image(study_uid=""),
        encoded_image(study_uid="1" * 300),
        encoded_image().replace(b"UI", b"ui"),
        encoded(nested(30), explicit=True),  # deeper than anybody nests
        b"\x09\0\0\x10OB\0\0\xff\xff\xff\xff" + encoded_image(),  # undefined length where there is none
    ],
)
def test_what_is_no_sound_data_set_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_uids(data, explicit=True)
