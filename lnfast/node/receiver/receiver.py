"""The receiver: a Storage and Verification SCP that stores every instance durably before it says so."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

from lnfast.errors import BackendError
from lnfast.node.config.settings import NodeConfig
from lnfast.node.exams.arrivals import Arrivals
from lnfast.node.monitor.life import Life
from lnfast.node.monitor.logs import place
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.receiver.acceptor import Acceptor, Requestor
from lnfast.node.receiver.access import Access
from lnfast.node.receiver.association import AcceptedAssociation, Ending, Limits
from lnfast.node.receiver.seldom import SeldomLogger
from lnfast.node.receiver.session import Remote, Session
from lnfast.node.spool import Spool
from lnfast.node.transport import acceptor_pdu as pdu
from lnfast.node.transport import contexts
from lnfast.node.transport.sockets import Wire, break_off
from lnfast.node.transport.tls import server_context

_logger = logging.getLogger("lnfast.node.receiver")
_BACKLOG = 128
_LAST_WORDS_S = 2.0  # for a peer to close the connection after the release


class Receiver:
    """Receives instances into the spool.

    Args:
        config: of the node.
        spool: where instances go.
        arrivals: learns what came, what failed and how each association ended.
        metrics: of the node.
        limits: how long it waits.
    """

    def __init__(
        self, config: NodeConfig, spool: Spool, arrivals: Arrivals, metrics: Metrics, *, limits: Limits | None = None
    ) -> None:
        self._config, self._spool, self._arrivals, self._metrics = config, spool, arrivals, metrics
        self._limits = limits or Limits()
        self._access = Access(config.aet, config.receive.allow)
        self._supported = contexts.accepted(config.receive.others)
        self._seldom = SeldomLogger(_logger)
        self._port = config.port
        self._acceptor: Acceptor | None = None
        self._lock = threading.Lock()
        self._opened = 0
        self._open: set[int] = set()  # numbers of the associations
        self._threads: dict[threading.Thread, Wire] = {}
        self._stop_read = self._stop_write = -1
        metrics.gauge("associations_open", lambda: len(self._open))

    @property
    def port(self) -> int:
        """The port of TCP that is listened on; where the configuration says 0 the system chose it."""
        return self._port

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that accepts, from `start` to `stop`; afterwards those of associations that have not ended yet."""
        if self._acceptor is not None:
            return (self._acceptor.thread,)
        with self._lock:
            return tuple(self._threads)

    @property
    def lives(self) -> tuple[Life, ...]:
        """Its signs of life."""
        return () if self._acceptor is None else (self._acceptor.life,)

    def start(self) -> None:
        """Listen and receive, in threads.

        Raises:
            BackendError: ``port-unavailable``, ``tls-unusable``.
        """
        receive, tls = self._config.receive, self._config.tls
        context = server_context(tls) if receive.tls and tls is not None else None
        listener = listen(self._config.bind, self._config.port)
        self._port = int(listener.getsockname()[1])
        self._stop_read, self._stop_write = os.pipe()
        self._acceptor = Acceptor(
            listener,
            context,
            self._admit,
            self._note_refused,
            seconds=self._limits.request_s,
            stop=self._stop_read,
        )
        self._acceptor.start()

    def stop(self) -> None:
        """Take no new association, let the instances that are arriving end, and abort the associations.

        It takes `Limits.drain_s` at most, and a few seconds more where a peer does not close its connections.
        """
        if self._acceptor is None:
            return
        os.write(self._stop_write, b"\0")  # nobody reads it: it stays readable for all
        self._acceptor.thread.join()
        self._acceptor = None
        self._join(time.monotonic() + self._limits.drain_s)
        with self._lock:
            wires = list(self._threads.values())
        for wire in wires:
            break_off(wire.connection)
        self._join(time.monotonic() + _LAST_WORDS_S)
        if not self._threads:  # one that the disk holds up still looks at it
            os.close(self._stop_read)
            os.close(self._stop_write)

    def _join(self, deadline: float) -> None:
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _admit(self, requestor: Requestor) -> pdu.Rejection | None:
        why = self._access.check(requestor.request, requestor.address)
        if why is None and len(self._open) >= self._config.receive.max_associations:
            why = pdu.TOO_MANY_REJECTED
        if why is None and not self._begin(requestor):
            why = pdu.TOO_MANY_REJECTED
        if why is not None:
            peer = self._access.shown(requestor.request.calling, requestor.address)
            self._metrics.count("associations_total", outcome=why.code)
            self._seldom.warn("an association is rejected", code=why.code, peer=peer)
        return why

    def _begin(self, requestor: Requestor) -> bool:
        """Begin to serve a requestor in a thread; return whether the system had one to give."""
        self._opened += 1
        wire = Wire(requestor.connection)
        name = f"lnfast-association-{self._opened}"
        thread = threading.Thread(target=self._serve, args=(self._opened, requestor, wire), name=name, daemon=True)
        with self._lock:
            self._open.add(self._opened)
            self._threads[thread] = wire
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._open.discard(self._opened)
                del self._threads[thread]
            return False
        return True

    def _serve(self, number: int, requestor: Requestor, wire: Wire) -> None:
        """Serve an association, in its thread."""
        try:
            self._converse(number, requestor, wire)
        except Exception as error:
            _logger.error("%s at %s ended an association", type(error).__name__, place(error))
        finally:
            wire.finish(_LAST_WORDS_S)
            with self._lock:
                del self._threads[threading.current_thread()]

    def _converse(self, number: int, requestor: Requestor, wire: Wire) -> None:
        title, address = requestor.request.calling, requestor.address
        remote = Remote(f"{title}@{address}", self._access.shown(title, address))
        session = Session(number, remote, self._config.receive, self._spool, self._arrivals, self._metrics)
        rules = self._supported, session, self._limits, self._stop_read
        association = AcceptedAssociation(wire, requestor.request, *rules)
        ending: Ending = "aborted"
        try:
            session.open(association.accepted)
            ending = association.run()
        finally:
            with self._lock:
                self._open.discard(number)
            session.close(ending, association.violation)

    def _note_refused(self, code: str, address: str) -> None:
        self._metrics.count("associations_total", outcome=code)
        if code != "no-request":  # whoever looks whether the port is open does that, every few seconds
            self._seldom.warn("a connection is refused", code=code, peer=address)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raise `BackendError` ``port-unavailable`` where that is impossible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise BackendError(
            "port-unavailable", f"cannot listen on {host} port {port}: {error.strerror}; give another bind or port"
        ) from error
    return listener
