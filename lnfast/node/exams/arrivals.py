"""All exams that are being received: who gives them instances, and which may be run or released now.

The receiver and the watch folder say what happens, the worker asks what is due. Whatever is said here is in the ledger
before the call returns, as far as a restart needs it: an exam that was being received when the process ended counts as
broken off.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from lnfast.errors import LnfastError
from lnfast.node.config.settings import Receive
from lnfast.node.exams.reception import NOT_STORED, Association, Reading, Reception, Step, Strays, bounded_name
from lnfast.node.ledger import Ledger
from lnfast.node.spool import Spool

_logger = logging.getLogger("lnfast.node.arrivals")


@dataclass(frozen=True)
class Due:
    """Something that is to be done with an exam now.

    Attributes:
        exam: id.
        step: what: ``read`` (and run) it, ``release`` the result, or ``give-up``.
        change: of the exam when this became due.
        flaw: code of why the transfer was not whole, or empty.
        refusal: code and message of the last reading where that was refused, else empty.
    """

    exam: str
    step: Step
    change: int
    flaw: str
    refusal: tuple[str, str]


class Arrivals:
    """The receptions of all exams. Safe from many threads.

    Args:
        receive: how long to wait.
        spool, ledger: what outlives the process.
        clock: monotonic seconds.
    """

    def __init__(
        self, receive: Receive, spool: Spool, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._receive = receive
        self._ledger = ledger
        self._spool = spool
        self._clock = clock
        self._changed = threading.Condition(threading.RLock())
        self._associations: dict[Hashable, Association] = {}
        self._begun = 0
        self._receptions: dict[str, Reception] = {}
        self._strays = Strays(receive.give_up_s, clock)

    # ------------------------------------------------------------------------------- said by the receiver and the watch

    def association_opened(self, key: Hashable, peer: str) -> None:
        """Note an association in which images may be stored.

        Args:
            key: names the association in the other calls.
            peer: who sends, such as AE title and address; two associations of one sender have the same.
        """
        with self._changed:
            self._begun += 1
            self._associations[key] = Association(self._begun, peer, self._clock())

    def instance_arrives(self, key: Hashable, exam: str, instance: str) -> None:
        """Note an instance before it is stored; `instance_stored` or `instance_failed` follows.

        Args:
            key: of the association.
            exam: id.
            instance: the stem of its file's name in the spool.

        Raises:
            BackendError: the ledger cannot be written; the instance must not be stored, and has failed.
        """
        with self._changed:
            association = self._associations[key]
            reception = self._join(association, exam)
            association.arriving.setdefault(exam, set()).add(instance)
            self._touch(reception)

    def instance_stored(
        self, key: Hashable, exam: str, instance: str, outcome: Literal["new", "same", "replaced"]
    ) -> None:
        """Note an instance that is stored, before the sender is told."""
        with self._changed:
            association = self._associations[key]
            reception = self._join(association, exam)  # again: it may have been given up while the disk was slow
            association.arriving.get(exam, set()).discard(instance)
            association.given[exam].add(instance)
            self._strays.discard(instance)
            if instance in reception.failed:
                self._ledger.instance_arrived(exam, instance)
            reception.add(instance, changed=outcome != "same")
            reception.replaced += outcome == "replaced"
            self._touch(reception)

    def instance_failed(self, key: Hashable, exam: str | None, instance: str) -> None:
        """Note an image that is answered with a failure, before the sender is told.

        Args:
            key: of the association.
            exam: id; None where it is not known.
            instance: as in `instance_arrives`, which need not have been called.
        """
        with self._changed:
            association = self._associations[key]
            if exam is None:
                self._strays.add(instance, association.peer)
                self._changed.notify_all()
                return
            reception = self._join_anyway(association, exam)
            association.arriving.get(exam, set()).discard(instance)
            self._fail(exam, reception, instance)

    def instance_broken(self, key: Hashable, exam: str | None, instance: str) -> None:
        """Note that an association ended within an image; `association_closed` follows.

        A sender that tries again, with all of it or with the rest, begins with this image at the latest.

        Args:
            key, exam, instance: as in `instance_failed`.
        """
        with self._changed:
            association = self._associations[key]
            association.broken = instance
            if exam is not None:
                self._join_anyway(association, exam)

    def association_closed(self, key: Hashable, how: Literal["released", "aborted", "lost", "idle"]) -> None:
        """Note the end of an association.

        Args:
            key: of the association.
            how: ``released`` by the sender; ``aborted`` by the sender or by us; ``lost`` with its connection;
                ``idle``: ended by us because nothing came, which of one that gave instances is the same as lost.
        """
        with self._changed:
            association = self._associations.pop(key)
            concerned = [item for item in self._receptions.items() if association in item[1].open]
            for exam, reception in concerned:
                reception.open.discard(association)
                for instance in association.arriving.get(exam, ()):
                    self._fail(exam, reception, instance)
            if how == "released":
                given = set().union(*association.given.values())
                healed = [item for item in self._receptions.items() if item[1].repay(association, given)]
                concerned += [item for item in healed if item not in concerned]
            else:
                concerned += [item for item in self._receptions.items() if _is_in_doubt(item[1], association, how)]
                for _, reception in concerned:
                    reception.break_off(association, self._begun, "aborted" if how == "aborted" else "lost")
            for exam, reception in concerned:
                self._touch(reception)
                self._record(exam, reception)
            self._changed.notify_all()

    # ----------------------------------------------------------------------------------------------- said by the worker

    def resume(self, exam: str, *, whole: bool) -> None:
        """Take up an exam that is ``receiving`` in the ledger, after a restart or when a person revived it.

        Args:
            exam: id.
            whole: nothing speaks against it but that its images may not have been looked at.
        """
        with self._changed:
            if exam not in self._receptions:
                self._reception(exam, whole)
                self._changed.notify_all()

    def knows(self, exam: str) -> bool:
        """Whether an exam is being received."""
        with self._changed:
            return exam in self._receptions

    def due(self) -> list[Due]:
        """What is to be done now: decisions first, then what has waited longest to be read."""
        with self._changed:
            now = self._clock()
            steps = [(reception.last, self._due(exam, reception, now)) for exam, reception in self._receptions.items()]
            ready = [(due.step == "read", last, due) for last, due in steps if due is not None]
            return [due for *_, due in sorted(ready, key=lambda item: item[:2])]

    def next_due(self) -> float:
        """Seconds until something is due if nothing happens before; infinity where no exam is being received."""
        with self._changed:
            now = self._clock()
            times = (self._next_step(exam, reception)[1] - now for exam, reception in self._receptions.items())
            return max(0.0, min(times, default=math.inf))

    def wait(self, seconds: float) -> None:
        """Wait until something is due or happens, at most some seconds."""
        with self._changed:
            self._changed.wait(min(seconds, self.next_due()))

    def wake(self) -> None:
        """End every `wait`."""
        with self._changed:
            self._changed.notify_all()

    def was_read(
        self, due: Due, reading: Reading, *, refusal: tuple[str, str] = ("", ""), confirmed: bool = False
    ) -> None:
        """Note what reading an exam gave: a ``result``, which is stored by now, or a refusal.

        Args:
            due: what was done.
            reading, refusal, confirmed: as in `lnfast.node.exams.reception.Reception`.
        """
        with self._changed:
            reception = self._receptions.get(due.exam)
            if reception is not None:
                reception.read_at, reception.reading = due.change, reading
                reception.refusal, reception.confirmed = refusal, confirmed

    def conclude(self, due: Due, action: Callable[[], None]) -> bool:
        """Release, refuse or give up an exam, unless something of it happened since this became due.

        Args:
            due: as `due` returned it.
            action: writes the ledger. No instance is noted meanwhile, so none can get lost behind a decision.

        Returns:
            Whether it was done.
        """
        with self._changed:
            reception = self._receptions.get(due.exam)
            if reception is None or self._due(due.exam, reception, self._clock()) != due:
                return False
            action()
            del self._receptions[due.exam]
            return True

    # -------------------------------------------------------------------------------------------------------- decisions

    def _due(self, exam: str, reception: Reception, now: float) -> Due | None:
        step, at = self._next_step(exam, reception)
        if at > now:
            return None
        return Due(exam, step, reception.change, reception.flaw or self._stray_flaw(reception), reception.refusal)

    def _next_step(self, exam: str, reception: Reception) -> tuple[Step, float]:
        held = bool(self._stray_flaw(reception)) or any(
            self._is_expected(reception, association) for association in self._associations.values()
        )
        return reception.next_step(self._receive, exam, held=held)

    def _is_expected(self, reception: Reception, association: Association) -> bool:
        """Whether an open association that gave nothing yet may be about to bring a part of an exam.

        One that its sender opens later, and keeps in reserve, is no reason to wait.
        """
        is_fresh = not association.given and association.opened <= reception.last + self._receive.quiet_s
        return is_fresh and association.peer in reception.peers

    def _stray_flaw(self, reception: Reception) -> str:
        return NOT_STORED if self._strays.are_of(reception.peers) else ""

    # ---------------------------------------------------------------------------------------------------------- keeping

    def _join(self, association: Association, exam: str) -> Reception:
        """The reception of an exam to which an association gives instances, noted durably when it begins to."""
        reception = self._receptions.get(exam)
        if reception is None or association not in reception.open:
            whole = reception is not None or self._was_whole(exam)
            self._ledger.exam_received(exam)
            reception = reception or self._reception(exam, whole)
            reception.open.add(association)
            reception.peers.add(association.peer)
            association.given.setdefault(exam, set())
        return reception

    def _join_anyway(self, association: Association, exam: str) -> Reception:
        """The same where the ledger cannot be written: a full disk, most likely that of which the instance failed."""
        try:
            return self._join(association, exam)
        except LnfastError:
            return self._receptions.get(exam) or self._reception(exam, whole=False)

    def _was_whole(self, exam: str) -> bool:
        """Whether all that was received of an exam before is whole, as far as its transfer goes."""
        row = self._ledger.exam(exam)
        if row is None:
            return not self._spool.count_instances(exam)
        return row.state in ("done", "sent") or row.ended in ("released", "retried")

    def _reception(self, exam: str, whole: bool) -> Reception:
        folder = self._spool.instances(exam)
        names = {path.stem for path in folder.glob("*.dcm")}
        reception = Reception(self._clock(), instances=names, failed=set(self._ledger.missing(exam)))
        if not whole:
            reception.owe(0, names, "lost")
        self._receptions[exam] = reception
        return reception

    def _fail(self, exam: str, reception: Reception, instance: str) -> None:
        name = bounded_name(instance, reception.failed)
        if name not in reception.failed:
            reception.failed.add(name)
            with suppress(LnfastError):  # until the association has ended the exam is not whole in the ledger anyway
                self._ledger.instance_failed(exam, name)
        self._touch(reception)

    def _record(self, exam: str, reception: Reception) -> None:
        """Note in the ledger how a reception stands once no association gives to it."""
        if reception.open:
            return
        count, changed = len(reception.instances), reception.change != reception.recorded
        whole = not reception.debts and not self._stray_flaw(reception)
        try:
            ending = "released" if whole else reception.ending
            self._ledger.exam_ended_receiving(exam, ending, instances=count, changed=changed)
            reception.recorded = reception.change
            if reception.replaced:
                self._ledger.note("instance-replaced", exam, message=f"{reception.replaced} instances have other bytes")
                reception.replaced = 0
        except LnfastError as error:  # after a restart it counts as broken off
            _logger.warning("the end of a reception is not recorded", extra={"exam": exam, "code": error.code})

    def _touch(self, reception: Reception) -> None:
        reception.last = self._clock()
        self._changed.notify_all()


def _is_in_doubt(reception: Reception, association: Association, how: str) -> bool:
    """Whether an instance that never came may be of an exam to which its association gave nothing."""
    is_empty = not association.given and association.peer in reception.peers
    return is_empty and (how != "idle" or bool(association.broken))
