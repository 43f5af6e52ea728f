"""OUT/<study>/: a study folder is whole or absent, also after a power cut, and never replaces that of another patient.

.<study>.<random>.tmp/   written and flushed to the disk
    | `lnfast.folder_exchange`: renamed, or exchanged with an older report of the same study
<study>/                 the old one, now under the temporary name, is deleted

The page is added later by a rename of its own, so that no report waits for it; it is whole or absent as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from lnfast.atomic import flush, replacing_folder
from lnfast.errors import UsageError
from lnfast.folder_exchange import discard, temporary_name
from lnfast.geometry import Volume
from lnfast.report.record import Report
from lnfast.study.label_writer import label_map_bytes

# No other file is ever deleted: a folder that holds any other file is not lnfast's.
PAGE = "report.html"
OWN_FILES = frozenset({"report.json", "report.txt", PAGE, "labels.nii.gz", "seg.dcm", "sr.dcm"})
_NAME_BYTES_AT_MOST = 200  # of 255, so that the temporary name fits as well


def write_study_folder(report: Report, labels: Volume, out_dir: Path, name: str) -> tuple[Path, Report]:
    """Write ``out_dir/<name>/`` with labels.nii.gz, report.txt and report.json, replacing an older report of the study.

    ``timings_ms.write`` of report.json ends when the other two files are on the disk: report.json is written last, so
    its own flush and the rename (about 3 ms of 7 on an ext4 disk) are not included.

    Args:
        report: its ``timings_ms["write"]`` is not read.
        labels: value = node id, native grid.
        out_dir: made where it is missing.
        name: of the study; see `folder_name`.

    Returns:
        The study folder, and the report as it was written.

    Raises:
        UsageError: ``output-exists`` when something of that name is there that lnfast did not write, or that it wrote
            for another study: a patient's report never replaces that of another, also when another process writes it
            at the same time.
        OSError: of the disk, with the file's name. Nothing is left behind, and an older report is still there.
    """
    started = time.perf_counter()
    target = Path(out_dir) / folder_name(name)

    def check(folder: Path) -> None:
        _check_replaceable(folder, report.study.sha256)

    check(target)
    with replacing_folder(target, OWN_FILES, check, flushed=frozenset({"labels.nii.gz", "report.txt"})) as work:
        (work / "labels.nii.gz").write_bytes(label_map_bytes(labels))
        (work / "report.txt").write_text(report.text(), encoding="ascii", newline="\n")
        flush(work / "labels.nii.gz", work / "report.txt")
        written = report.written_in((time.perf_counter() - started) * 1e3)
        (work / "report.json").write_text(written.json(), encoding="ascii", newline="\n")
    return target, written


def add_page(folder: Path, report: Report, page: bytes) -> None:
    """Put report.html into a study folder; see `add_files`."""
    add_files(folder, report, {PAGE: page})


def add_files(folder: Path, report: Report, files: Mapping[str, bytes]) -> None:
    """Put files into a study folder beside its report.json, each whole or not at all, in their order.

    Args:
        folder: as `write_study_folder` returned it.
        report: as `write_study_folder` returned it: the files must not be put beside another report.
        files: name, of `OWN_FILES`, to content.

    Raises:
        UsageError: ``report-replaced`` when the folder holds another report by now.
        OSError: of the disk. Nothing half-written is left behind.
    """
    work = temporary_name(folder)
    try:
        work.mkdir()
        for name, content in files.items():
            (work / name).write_bytes(content)
        flush(*(work / name for name in files))
        with _opened(folder) as descriptor:
            # The descriptor stays with this folder, also if another run renames it.
            _check_report(folder, descriptor, report)
            if descriptor is not None:
                for name in files:
                    os.rename(work / name, name, dst_dir_fd=descriptor)
                return
            for name in files:
                os.replace(work / name, folder / name)
            try:  # without a descriptor another folder may have got the name in between
                _check_report(folder, None, report)
            except UsageError:
                for name in files:
                    (folder / name).unlink(missing_ok=True)
                raise
    finally:
        discard(work, OWN_FILES)


def _check_report(folder: Path, descriptor: int | None, report: Report) -> None:
    if _read("report.json", folder, descriptor) != report.json().encode("ascii"):
        raise UsageError("report-replaced", f"{folder} holds the report of another run by now")


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """Open a descriptor of a folder, which stays with it through renames; None where the system has none."""
    if os.rename not in os.supports_dir_fd:
        yield None
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(name: str, folder: Path, descriptor: int | None) -> bytes:
    if descriptor is None:
        return (folder / name).read_bytes()
    with open(os.open(name, os.O_RDONLY, dir_fd=descriptor), "rb") as file:
        return file.read()


def folder_name(name: str, number: int | None = None) -> str:
    """Return a study's name as a safe file name: no separators, no leading dot, printable, at most 200 bytes.

    Different names may become equal (``a/b`` and ``a_b``): the caller makes them distinct.

    Args:
        name: of the study.
        number: appended to the name when given.
    """
    safe = "".join("_" if letter in '/\\:*?"<>|' or not letter.isprintable() else letter for letter in name)
    suffix = "" if number is None else f"_{number}"
    safe = safe.lstrip(". ").encode()[: _NAME_BYTES_AT_MOST - len(suffix)].decode(errors="ignore")
    return (safe.rstrip(". ") or "study") + suffix


def _check_replaceable(target: Path, sha256: str | None) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise UsageError("output-exists", f"{target} is there and is not a folder; move it or give another -o")
    foreign = sorted(entry.name for entry in os.scandir(target) if entry.name not in OWN_FILES)
    if foreign:
        raise UsageError(
            "output-exists",
            f"{target} holds {foreign[0]!r}, which lnfast did not write; move it or give another -o",
        )
    if any(target.iterdir()) and (sha256 is None or _study_sha256(target) != sha256):
        raise UsageError(
            "output-exists",
            f"{target} is the report of another study of that name, or of one that cannot be told from this; move it, "
            "or give another -o or name",
        )


def _study_sha256(folder: Path) -> str | None:
    """Return the hash of the study that a folder's report is of; None where the report has none."""
    try:
        report = json.loads((folder / "report.json").read_bytes())
        sha256 = report["study"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return sha256 if isinstance(sha256, str) else None
