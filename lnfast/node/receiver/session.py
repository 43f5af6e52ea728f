"""What an association brings: its instances go to the spool, and arrivals and metrics learn what became of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from lnfast.errors import LnfastError
from lnfast.node.config.settings import Receive
from lnfast.node.exams.arrivals import Arrivals
from lnfast.node.monitor.logs import place
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.receiver.association import Ending
from lnfast.node.receiver.instance import DISK_FAILED, FAILED, Incoming, Refusal
from lnfast.node.spool import Spool, instance_name
from lnfast.node.transport import contexts
from lnfast.node.transport.messages import Command
from lnfast.node.transport.pdu import AbortReason

_logger = logging.getLogger("lnfast.node.receiver")
_KEPT = frozenset(sop_class.uid for sop_class in contexts.KEPT)


@dataclass(frozen=True)
class Remote:
    """The other side of an association.

    Attributes:
        peer: AE title and address: two associations of one sender have the same. Not for the log.
        shown: what the log calls it.
    """

    peer: str
    shown: str


class Session:
    """The instances of one association.

    Args:
        key: names it in what is said to the arrivals.
        remote: who sends.
        receive: what is kept, and how large it may be.
        spool: where it goes.
        arrivals, metrics: what is told of it.
    """

    def __init__(
        self, key: int, remote: Remote, receive: Receive, spool: Spool, arrivals: Arrivals, metrics: Metrics
    ) -> None:
        self._key, self._remote, self._receive = key, remote, receive
        self._spool, self._arrivals, self._metrics = spool, arrivals, metrics
        self._is_open = False
        self._stored: dict[str, int] = {}  # instances by exam
        self._failed = 0

    def open(self, accepted: dict[int, tuple[str, str]]) -> None:
        """Say that the association begins, if images may come by it.

        Args:
            accepted: its contexts.
        """
        if any(sop_class in _KEPT for sop_class, _ in accepted.values()):
            self._arrivals.association_opened(self._key, self._remote.peer)
            self._is_open = True

    def close(self, ending: Ending, violation: AbortReason | None = None) -> None:
        """Say how the association ended.

        Args:
            ending: of it.
            violation: for which it was aborted from this side.
        """
        self._metrics.count("associations_total", outcome=ending)
        self._close(ending)
        level = logging.INFO if ending == "released" and not self._failed else logging.WARNING
        if level > logging.INFO or self._stored:
            stored = sum(self._stored.values())
            extra: dict[str, object] = {"peer": self._remote.shown, "instances": stored, "refused": self._failed}
            if violation is not None:
                extra["code"] = violation.name.lower().replace("_", "-")
            _logger.log(level, "an association has ended: %s", ending, extra=extra)
            for exam, instances in self._stored.items():
                _logger.info("instances of an exam are stored", extra={"exam": exam, "instances": instances})

    def release(self) -> None:
        """Say that the sender has nothing more to give."""
        self._close("released")

    def _close(self, ending: Ending) -> None:
        if self._is_open:
            self._is_open = False
            self._arrivals.association_closed(self._key, ending)

    def begin(self, command: Command, context: tuple[str, str]) -> Incoming:
        """Begin to take an instance."""
        keep = context[0] in _KEPT
        return Incoming(command, context, self._spool, most_bytes=self._receive.max_instance_bytes, keep=keep)

    def end(self, incoming: Incoming) -> Refusal | None:
        """Store an instance that has come whole, and say so; return why it is refused."""
        try:
            self._store(incoming)
            refusal = incoming.refusal
        except LnfastError as error:  # the ledger shares the disk with the spool
            refusal = Refusal(DISK_FAILED.status, error.code, DISK_FAILED.comment)
        except Exception as error:
            _logger.error("%s at %s while an instance was stored", type(error).__name__, place(error))
            refusal = FAILED
        if refusal is not None:
            self._fail(incoming, refusal)
        return refusal

    def lose(self, incoming: Incoming) -> None:
        """Note an instance of which only a part came before the association ended: it must come again."""
        if incoming.keep and self._is_open:
            name = instance_name(incoming.command.sop_instance)
            self._arrivals.instance_broken(self._key, incoming.exam_of_head(), name)

    def _store(self, incoming: Incoming) -> None:
        exam = incoming.identify()
        if exam is None:
            if incoming.refusal is None:
                self._metrics.count("instances_received_total", outcome="dropped")
            return
        name = instance_name(incoming.command.sop_instance)
        self._arrivals.instance_arrives(self._key, exam, name)
        stored = incoming.store()
        if stored is None:
            return
        self._arrivals.instance_stored(self._key, exam, name, stored.outcome)
        self._stored[exam] = self._stored.get(exam, 0) + 1
        self._metrics.count("instances_received_total", outcome=stored.outcome)
        self._metrics.count("received_bytes_total", incoming.size)

    def _fail(self, incoming: Incoming, refusal: Refusal) -> None:
        self._failed += 1
        self._metrics.count("instances_refused_total", code=refusal.code)
        extra = {"code": refusal.code, "exam": incoming.exam, "status": f"0x{refusal.status:04X}"}
        _logger.warning("an instance is refused", extra=extra)
        if incoming.keep and self._is_open:
            exam = incoming.exam or incoming.exam_of_head()
            self._arrivals.instance_failed(self._key, exam, instance_name(incoming.command.sop_instance))
