"""What a node.toml says, as values: `lnfast.node.config` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Peer:
    """Who may send: an AE title, an address, or both.

    Attributes:
        aet: calling AE title; None takes any.
        host: its network, as `ipaddress.ip_network` takes it (an address is a network of one); None takes any.
    """

    aet: str | None
    host: str | None


@dataclass(frozen=True)
class Receive:
    """Table ``[receive]``: who may send, and when an exam is complete.

    Attributes:
        allow: who may send; empty takes whoever sends from this machine, and nobody else.
        tls: the port speaks TLS only.
        quiet_s: without new instances, after the last association ended with a release.
        quiet_without_release_s: the same, of an association that is still open, where other images of the exam show
            that the volume is whole; a lone series waits for the release. Also of a folder of ``[watch]`` without
            ``.complete``.
        give_up_s: after which half an exam is dead.
        eager: release after 2 s where the other b-values show that the volume is whole.
        others: what is done with instances that are no MR images.
        min_free_bytes: on the disk of the spool, below which nothing is taken.
        max_instance_bytes: of one instance.
        max_associations: at a time.
    """

    allow: tuple[Peer, ...]
    tls: bool
    quiet_s: float
    quiet_without_release_s: float
    give_up_s: float
    eager: bool
    others: Literal["drop", "refuse"]
    min_free_bytes: int
    max_instance_bytes: int
    max_associations: int


@dataclass(frozen=True)
class Target:
    """A table ``[[target]]``: where results are sent.

    Attributes:
        name: of the target, in the ledger, logs and metrics.
        aet: called AE title.
        host: name or address.
        port: of TCP.
        send: which objects: ``seg``, ``sr``.
        enabled: False stops sending; what is pending waits, and new results are not queued for it.
        tls: the connection is by TLS, with the certificate of ``[tls]``.
    """

    name: str
    aet: str
    host: str
    port: int
    send: tuple[str, ...]
    enabled: bool
    tls: bool


@dataclass(frozen=True)
class ModelChoice:
    """Table ``[model]``: the engine, as `lnfast.Engine` and `lnfast.measure.Rules` take it."""

    name: str
    backend: str
    device: str
    precision: str
    threads: int
    short_axis: Literal["box", "axial", "ellipsoid"]
    suspicious_mm: float
    seg_frames: Literal["sparse", "all"]


@dataclass(frozen=True)
class Select:
    """Table ``[select]``: globs of series descriptions, the preferred first, and whether a computed b is taken."""

    prefer: tuple[str, ...]
    synthetic: bool


@dataclass(frozen=True)
class Keep:
    """Table ``[keep]``: days after which what was sent, and what is dead, is deleted."""

    days: float
    dead_days: float


@dataclass(frozen=True)
class Tls:
    """Table ``[tls]``: PEM files. With ``ca`` the other side must show a certificate that it signed."""

    cert: Path
    key: Path
    ca: Path | None


@dataclass(frozen=True)
class Drift:
    """Table ``[drift]``: after how many studies one is run again in FP32; 0 is never."""

    every: int


@dataclass(frozen=True)
class Privacy:
    """Table ``[privacy]``: whether DICOM UIDs may stand in report.json."""

    uids: bool


@dataclass(frozen=True)
class Log:
    """Table ``[log]``: of stderr."""

    format: Literal["text", "json"]
    level: Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class NodeConfig:
    """A node.toml without problems.

    Attributes:
        aet: AE title of the node, that a sender must call.
        bind: address to listen on.
        port: of TCP; 0 lets the system choose.
        spool: folder of everything that the node keeps.
        health_bind: address of /healthz and /metrics.
        health_port: of TCP; 0 is none.
        watch: folder whose subfolders are taken in as exams; None watches nothing.
    """

    aet: str
    bind: str
    port: int
    spool: Path
    health_bind: str
    health_port: int
    receive: Receive
    targets: tuple[Target, ...]
    model: ModelChoice
    select: Select
    keep: Keep
    tls: Tls | None
    watch: Path | None
    drift: Drift
    privacy: Privacy
    log: Log

    @property
    def enabled_targets(self) -> tuple[Target, ...]:
        """The targets to which new results go."""
        return tuple(target for target in self.targets if target.enabled)
