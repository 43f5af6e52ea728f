"""What a job sends: the files of a result, all or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lnfast.errors import LnfastError, StudyError
from lnfast.node.transport.answers import StoreAnswer
from lnfast.node.transport.client import ClientAssociation
from lnfast.node.transport.instance_file import InstanceFile, read_instance_file

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


def store_all(association: ClientAssociation, files: Sequence[InstanceFile], alive: Callable[[], None]) -> StoreAnswer:
    """Send the files of a result; return the answer that decides: the first failure, else a warning, else success.

    Nothing is sent unless the peer takes all of them: a report must not stand there without its segmentation.

    Raises:
        PeerError: ``context-rejected``, or the association broke.
        LnfastError: ``result-unreadable``.
        CancelledError: the association was ended by another thread.
    """
    for file in files:
        association.check_accepted(file)
    answers = []
    for file in files:
        try:
            answer = association.store(file, alive)
        except (OSError, StudyError) as error:
            raise _unreadable(error) from error
        if answer.problem is not None:
            return answer
        answers.append(answer)
    return next((answer for answer in answers if answer.warning), answers[0])


def _unreadable(error: Exception) -> LnfastError:
    reason = error.code if isinstance(error, StudyError) else type(error).__name__
    return LnfastError(
        "result-unreadable", f"a file of the result is missing or damaged ({reason}); run the exam again"
    )
