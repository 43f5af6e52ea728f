"""Is a configuration sound, and would the node work on this machine now? One line for each thing that is looked at."""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from lnfast.errors import BackendError, LnfastError, PeerError, UsageError
from lnfast.node.config import examine_config
from lnfast.node.config.settings import NodeConfig, Target
from lnfast.node.spool import is_running
from lnfast.node.spool.disk import free_bytes, nearest, unsafe_disk

_GIB = 1 << 30
_PEER_S = 5.0  # a PACS on the same network answers in milliseconds
_PEERS_AT_ONCE = 8
_PRIVATE = 0o077


@dataclass(frozen=True)
class CheckItem:
    """What was found about one thing.

    Attributes:
        subject: what was looked at.
        found: what is well, in words.
        error: what is not, or only deserves a look.
        is_warning: it only deserves a look.
    """

    subject: str
    found: str = ""
    error: LnfastError | None = None
    is_warning: bool = False

    def line(self) -> str:
        """Return the line that is printed."""
        kind = "ok" if self.error is None else "warning" if self.is_warning else "problem"
        return f"{kind:7}  {self.subject}: {self.found if self.error is None else self.error}"


def check(path: Path) -> Iterator[CheckItem]:
    """Check a node.toml, and this machine by it. Nothing is made or changed, but for a file in the spool for a moment.

    Args:
        path: of the configuration.

    Yields:
        What was found, as soon as it is; the last, the engine and the targets, take seconds.
    """
    config, problems = examine_config(path)
    for problem in problems:
        yield CheckItem("configuration", error=problem)
    if config is None:
        return
    yield CheckItem("configuration", str(path))
    yield from _exposure(config)
    yield from _tls(config)
    yield from _spool(config)
    if is_running(config.spool):
        yield CheckItem("ports", "a node with this spool is running and has them")
    else:
        yield _port("port", config.bind, config.port)
        yield _port("health port", config.health_bind, config.health_port)
    if config.watch is not None:
        yield _folder("watch folder", config.watch)
    yield from _engine(config)
    yield from _targets(config)


def _warning(subject: str, error: LnfastError) -> CheckItem:
    return CheckItem(subject, error=error, is_warning=True)


def _attempt(subject: str, action: Callable[[], str]) -> CheckItem:
    try:
        return CheckItem(subject, action())
    except LnfastError as error:
        return CheckItem(subject, error=error)


def _exposure(config: NodeConfig) -> Iterator[CheckItem]:
    """Find out who may reach the node."""
    by_certificate = config.receive.tls and config.tls is not None and config.tls.ca is not None
    open_peers = [peer for peer in config.receive.allow if peer.host is None]
    if open_peers and not by_certificate and not ipaddress.ip_address(config.bind).is_loopback:
        aets = ", ".join(str(peer.aet) for peer in open_peers)
        yield _warning(
            "who may send",
            UsageError(
                "config-any-address",
                f"{aets} may send from any address, and an AE title is no secret; add host, or ca in [tls]",
            ),
        )
    if not ipaddress.ip_address(config.health_bind).is_loopback:
        yield _warning(
            "health port",
            UsageError(
                "config-health-exposed", f"/healthz and /metrics are open to all who reach {config.health_bind}"
            ),
        )
    if not config.enabled_targets:
        yield _warning("targets", UsageError("config-no-target", "results are sent nowhere; add a [[target]]"))


def _tls(config: NodeConfig) -> Iterator[CheckItem]:
    if config.tls is None:
        return
    from lnfast.node.transport.tls_trial import EXPIRES_SOON_DAYS, days_left

    tls = config.tls
    try:
        days = days_left(tls)
    except LnfastError as error:
        yield CheckItem("certificate", error=error)
        return
    if days < EXPIRES_SOON_DAYS:
        message = f"{tls.cert} expires in {days:.0f} days; have it renewed"
        yield _warning("certificate", BackendError("tls-expiring", message))
    else:
        yield CheckItem("certificate", f"{tls.cert}, {days:.0f} days left")
    if os.name == "posix" and tls.key.stat().st_mode & _PRIVATE:
        yield CheckItem(
            "certificate", error=BackendError("tls-key-exposed", f"others may read {tls.key}; chmod 600 it")
        )


def _spool(config: NodeConfig) -> Iterator[CheckItem]:
    spool = config.spool
    folder = _folder("spool", nearest(spool))
    if folder.error is not None:
        yield folder
        return
    unsafe = unsafe_disk(spool)
    if unsafe is not None:
        yield CheckItem("spool", error=unsafe)
    free, wanted = free_bytes(spool), config.receive.min_free_bytes
    if free < wanted:
        message = f"{free / _GIB:.1f} GiB are free, and min_free_gib is {wanted / _GIB:g}: nothing would be taken"
        yield CheckItem("spool", error=BackendError("spool-full", f"{message}; make room"))
    elif unsafe is None:
        yield CheckItem("spool", f"{spool}, {free / _GIB:.1f} GiB free" + ("" if spool.exists() else "; will be made"))
    if spool.exists() and os.name == "posix" and os.geteuid() == 0 and (owner := spool.stat().st_uid) != 0:
        message = f"{spool} belongs to the user {owner}, and this is root: start the node as its owner, not as root"
        yield _warning("spool", UsageError("spool-of-another", message))
    if (spool / "ledger.sqlite").exists():
        yield _attempt("ledger", lambda: _ledger(spool / "ledger.sqlite"))


def _ledger(path: Path) -> str:
    from lnfast.node.ledger import LedgerReader

    with LedgerReader(path) as ledger:
        states = ledger.counts().exams
    return ", ".join(f"{number} {state}" for state, number in states.items())


def _folder(subject: str, folder: Path) -> CheckItem:
    """Find out whether a folder can be written, by a file that is deleted at once."""
    try:
        if not folder.is_dir():
            raise NotADirectoryError(20, "it is no folder" if os.path.lexists(folder) else "it is not there")
        with tempfile.TemporaryFile(dir=folder):
            return CheckItem(subject, str(folder))
    except OSError as error:
        message = f"{folder} cannot be written: {error.strerror or type(error).__name__}"
        return CheckItem(subject, error=BackendError("spool-failed", message))


def _port(subject: str, bind: str, port: int) -> CheckItem:
    from lnfast.node.receiver.receiver import listen

    def attempt() -> str:
        listen(bind, port).close()
        return f"{bind} port {port or 'of choice'}"

    return CheckItem(subject, "none") if subject == "health port" and not port else _attempt(subject, attempt)


def _engine(config: NodeConfig) -> Iterator[CheckItem]:
    from lnfast.study.dicom.packages import HIGHDICOM, PYDICOM

    for package in (PYDICOM, HIGHDICOM):
        if not package.installed():
            yield _attempt("packages", lambda package=package: package.check_installed() or "")  # type: ignore[misc]
    yield _attempt("engine", lambda: _loaded(config))


def _loaded(config: NodeConfig) -> str:
    from lnfast.node.exams.runs import engine_facts, load_engine

    with load_engine(config.model) as engine:
        facts = engine_facts(engine)
        serves = f"{facts['model']} {facts['version']} by {facts['backend']} {facts['backend_version']}"
        certified = "not certified" if facts["certificate"] == "none" else f"certified ({facts['certificate']})"
        how = f"{facts['precision']} on {facts['device']}, {certified}"
        return f"{serves}, {how}; self-test passed, Dice {engine.self_test.dice:.4f} with FP32"


def _targets(config: NodeConfig) -> Iterator[CheckItem]:
    with ThreadPoolExecutor(_PEERS_AT_ONCE) as pool:
        enabled = config.enabled_targets
        answers = pool.map(lambda target: _attempt(f"target {target.name}", lambda: _asked(config, target)), enabled)
        yield from answers
    for target in config.targets:
        if not target.enabled:
            yield CheckItem(f"target {target.name}", "not enabled")


def _asked(config: NodeConfig, target: Target) -> str:
    """Associate with a target as the sender would.

    Raises:
        PeerError: it is not reached, or does not take what would be sent.
        BackendError: ``tls-unusable``.
    """
    from lnfast.node.client.client import VERIFICATION, ClientAssociation, Route, Timeouts
    from lnfast.node.config.address import Address
    from lnfast.node.transport import contexts
    from lnfast.node.transport.requestor_pdu import Offer
    from lnfast.node.transport.tls import client_context

    classes = {"seg": contexts.SEGMENTATION, "sr": contexts.COMPREHENSIVE_SR}
    offers = {kind: [Offer(classes[kind].uid, syntax.uid) for syntax in contexts.NATIVE] for kind in target.send}
    timeouts = Timeouts(connect_s=_PEER_S, acse_s=_PEER_S, dimse_s=_PEER_S, network_s=_PEER_S)
    tls = client_context(config.tls) if target.tls and config.tls is not None else None
    peer = Address(target.aet, target.host, target.port)
    route = Route(peer, config.aet, tls, timeouts)
    with ClientAssociation(route, (VERIFICATION, *chain(*offers.values()))) as association:
        rejected = [kind for kind, both in offers.items() if set(both) <= set(association.rejected)]
        if VERIFICATION not in association.rejected:
            association.echo()
    if rejected:
        kinds = " and ".join(rejected)
        raise PeerError(
            "context-rejected",
            f"{peer} does not take {kinds}; have it accept {kinds} from {config.aet}, or change send",
        )
    return f"{peer} takes {' and '.join(offers)}"
