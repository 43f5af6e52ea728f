"""What a job sends: the files of a result, all or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from lnfast.errors import LnfastError, StudyError
from lnfast.node.client.answers import StoreAnswer
from lnfast.node.client.client import ClientAssociation
from lnfast.node.client.instance_file import InstanceFile, read_instance_file
from lnfast.node.client.transfer import offers
from lnfast.node.outbox.implicit import write_implicit
from lnfast.node.transport.contexts import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from lnfast.node.transport.requestor_pdu import Offer

_CONVERTED = frozenset({EXPLICIT_LITTLE_ENDIAN})
# In the order of sending: the report refers to the segmentation.
_NAMES = {"seg": "seg.dcm", "sr": "sr.dcm"}


def result_files(folder: Path, send: Iterable[str]) -> tuple[InstanceFile, ...]:
    """Return the files of a result that go to a target; a result without nodes has no segmentation.

    Args:
        folder: of the result.
        send: of the target: ``seg``, ``sr``.

    Raises:
        LnfastError: ``result-unreadable``: a file is missing or damaged.
    """
    try:
        has_nodes = bool(json.loads((folder / "report.json").read_bytes())["nodes"])
        names = [name for kind, name in _NAMES.items() if kind in send and (has_nodes or kind != "seg")]
        return tuple(read_instance_file(folder / name) for name in names)
    except (OSError, ValueError, TypeError, KeyError, StudyError) as error:
        raise _unreadable(error) from error


def result_offers(files: Iterable[InstanceFile]) -> tuple[Offer, ...]:
    """Return what is proposed for some files of a result: their own syntax, and the default one of DICOM."""
    own = offers(files)
    return own + tuple(Offer(offer.sop_class, IMPLICIT_LITTLE_ENDIAN) for offer in own if offer.syntax in _CONVERTED)


def store_all(
    association: ClientAssociation,
    files: Sequence[InstanceFile],
    new_part: Callable[[], Path],
    alive: Callable[[], None],
) -> StoreAnswer:
    """Send the files of a result; return the answer that decides: the first failure, else a warning, else success.

    Nothing is sent unless the peer takes all of them: a report must not stand there without its segmentation.

    Args:
        association: that was asked for with `result_offers`.
        files: of a result.
        new_part: gives a free name in the spool for a file that is deleted again.
        alive: as in `ClientAssociation.store`.

    Raises:
        PeerError: ``context-rejected``, or the association broke.
        LnfastError: ``result-unreadable``.
        CancelledError: the association was ended by another thread.
    """
    answers = []
    with ExitStack() as copies:
        for file in [_as_taken(association, file, new_part, copies) for file in files]:
            try:
                answer = association.store(file, alive)
            except (OSError, StudyError) as error:
                raise _unreadable(error) from error
            if answer.problem is not None:
                return answer
            answers.append(answer)
    return next((answer for answer in answers if answer.warning), answers[0])


def _as_taken(
    association: ClientAssociation, file: InstanceFile, new_part: Callable[[], Path], copies: ExitStack
) -> InstanceFile:
    """Return a file as the peer takes it: as it is, or in the default syntax where it takes no other.

    Raises:
        PeerError: ``context-rejected``.
        LnfastError: ``result-unreadable``.
    """
    implicit = file.syntax in _CONVERTED and association.takes(file.sop_class, IMPLICIT_LITTLE_ENDIAN)
    if not implicit or association.takes(file.sop_class, file.syntax):
        association.check_accepted(file)
        return file
    part = new_part()
    copies.callback(part.unlink, missing_ok=True)
    try:
        write_implicit(file.path, part)
        return read_instance_file(part)
    except Exception as error:  # pydicom raises whatever it likes
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> LnfastError:
    reason = error.code if isinstance(error, StudyError) else type(error).__name__
    return LnfastError(
        "result-unreadable", f"a file of the result is missing or damaged ({reason}); run the exam again"
    )
