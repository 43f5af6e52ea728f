"""node.toml: what it may say, and every problem of it found at once.

`read_config` is for whoever needs a sound configuration, `examine_config` for whoever lists what is wrong. What can
only be seen on the machine (is the port free, is the key of TLS there) is `lnfast.node.check`'s.
"""

from __future__ import annotations

import importlib
import ipaddress
import re
from pathlib import Path
from typing import Any

from lnfast.backends.registry import AUTO, BACKENDS, PRECISIONS
from lnfast.errors import LnfastError, UsageError
from lnfast.node.config.settings import (
    Drift,
    Keep,
    Log,
    ModelChoice,
    NodeConfig,
    Peer,
    Privacy,
    Receive,
    Select,
    Target,
    Tls,
)
from lnfast.node.config.toml_table import Table, unknown_table
from lnfast.optional import Package

TABLES = ("node", "receive", "target", "model", "select", "keep", "tls", "watch", "drift", "privacy", "log")
DAY_S = 86400.0
GIB, MIB = 1 << 30, 1 << 20
MOST_INSTANCE_MIB = 64  # what `lnfast.study.dicom.scan` reads of one file
_SET = re.compile(r"\[!?\]?[^\]]*\]")  # of letters, in a pattern as a shell has them
_MOST_SECONDS = 7 * DAY_S
_TOMLI = Package("node.toml on Python 3.10", "tomli", ("tomli",), "node")


def read_config(path: Path) -> NodeConfig:
    """Read a node.toml.

    Args:
        path: of the file; paths in it that are not absolute begin in its folder.

    Raises:
        UsageError: with the code of the first problem; the message has all of them.
    """
    config, problems = examine_config(path)
    if config is None:
        error = problems[0]
        raise UsageError(error.code, f"{path}: {'; '.join(problem.message for problem in problems)}")
    return config


def examine_config(path: Path) -> tuple[NodeConfig | None, tuple[UsageError, ...]]:
    """Read a node.toml; return it, or all problems of it.

    Raises:
        BackendError: ``backend-missing`` on Python 3.10 without tomli.
    """
    problems: list[UsageError] = []
    try:
        content = _parsed(path)
    except UsageError as error:
        return None, (error,)
    config = _config(content, path.absolute().parent, problems)
    return (None if problems else config), tuple(problems)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # an editor of Windows puts a mark in front
    except UnicodeDecodeError:
        raise UsageError("config-unreadable", f"{path} is not UTF-8; save it as such") from None
    except OSError as error:
        raise UsageError(
            "config-unreadable",
            f"cannot read {path}: {error.strerror}; lnfast node --example prints one to begin with",
        ) from error
    toml = _toml()
    try:
        content: dict[str, Any] = toml.loads(text)
    except (toml.TOMLDecodeError, RecursionError) as error:
        raise UsageError("config-unreadable", f"{path} is not TOML: {error}") from None
    return content


def _toml() -> Any:
    try:
        return importlib.import_module("tomllib")
    except ModuleNotFoundError:  # Python 3.10
        return _TOMLI.load()


def _config(content: dict[str, Any], folder: Path, problems: list[UsageError]) -> NodeConfig:
    problems += (unknown_table(name, TABLES) for name in content if name not in TABLES)
    tables = {name: _table(name, content, problems) for name in TABLES if name != "target"}
    node = tables["node"]
    tls = _tls(tables["tls"], folder) if "tls" in content else None
    config = NodeConfig(
        aet=node.aet("aet"),
        bind=_address(node, "bind"),
        port=node.whole("port", 11112, 0, 65535),
        spool=node.path("spool", folder),
        health_bind=_address(node, "health_bind"),
        health_port=node.whole("health_port", 11180, 0, 65535),
        receive=_receive(tables["receive"], tls),
        targets=_targets(content.get("target", []), tls, problems),
        model=_model(tables["model"], folder),
        select=_select(tables["select"]),
        keep=_keep(tables["keep"]),
        tls=tls,
        watch=tables["watch"].path("path", folder) if "watch" in content else None,
        drift=Drift(tables["drift"].whole("every", 50, 0, 1_000_000)),
        privacy=Privacy(tables["privacy"].flag("uids", False)),
        log=_log(tables["log"]),
    )
    for table in tables.values():
        table.close()
    _check_together(config, problems)
    return config


def _table(name: str, content: dict[str, Any], problems: list[UsageError]) -> Table:
    table = content.get(name, {})
    if not isinstance(table, dict):
        problems.append(UsageError("config-value", f"{name} is no table: write [{name}] and its keys below it"))
        table = {}
    return Table(f"[{name}]", table, problems)


def _address(table: Table, key: str) -> str:
    value = table.text(key, "127.0.0.1")
    try:
        ipaddress.ip_address(value)
    except ValueError:
        table.problem(key, "an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them")
    return value


def _receive(table: Table, tls: Tls | None) -> Receive:
    return Receive(
        allow=tuple(map(_peer, table.tables("allow"))),
        tls=_use_of_tls(table, tls, tls is not None),
        quiet_s=table.number("quiet_s", 10, 1, _MOST_SECONDS),
        quiet_without_release_s=table.number("quiet_without_release_s", 30, 1, _MOST_SECONDS),
        give_up_s=table.number("give_up_s", 900, 10, _MOST_SECONDS),
        eager=table.flag("eager", False),
        others=table.choice("others", "drop", ("drop", "refuse")),
        min_free_bytes=round(table.number("min_free_gib", 2, 0, 1 << 20) * GIB),
        max_instance_bytes=round(table.number("max_instance_mib", MOST_INSTANCE_MIB, 1 / 64, MOST_INSTANCE_MIB) * MIB),
        max_associations=table.whole("max_associations", 16, 1, 256),
    )


def _peer(table: Table) -> Peer:
    aet = table.aet("aet", "") or None
    host = table.text("host", "")
    network = None
    if host:
        try:
            network = str(ipaddress.ip_network(host, strict=False))
        except ValueError:
            table.problem("host", "an address or a network: 10.0.0.5, 10.0.0.0/24")
    elif aet is None:
        table.problems.append(UsageError("config-missing-key", f"{table.name} needs aet, host or both"))
    table.close()
    return Peer(aet, network)


def _targets(content: Any, tls: Tls | None, problems: list[UsageError]) -> tuple[Target, ...]:
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        problems.append(UsageError("config-value", "target is no list of tables: write [[target]], for each one"))
        return ()
    targets = []
    for number, item in enumerate(content, 1):
        table = Table(f"[[target]] {number}", item, problems)
        target = Target(
            name=table.text("name"),
            aet=table.aet("aet"),
            host=table.text("host"),
            port=table.whole("port", None, 1, 65535),
            send=table.texts("send", ("seg", "sr")),
            enabled=table.flag("enabled", True),
            tls=_use_of_tls(table, tls, False),
        )
        if not target.send or not set(target.send) <= {"seg", "sr"}:
            table.problem("send", '["seg", "sr"], or one of them')
        table.close()
        targets.append(target)
    names = [target.name for target in targets]
    problems += (
        UsageError("config-duplicate-target", f"{names.count(name)} targets have the name {name!r}; give each its own")
        for name in sorted(set(names))
        if name and names.count(name) > 1
    )
    return tuple(targets)


def _use_of_tls(table: Table, tls: Tls | None, default: bool) -> bool:
    use = table.flag("tls", default)
    if use and tls is None:
        table.problem("tls", "false, or a table [tls] with cert and key")
    return use


def _model(table: Table, folder: Path) -> ModelChoice:
    from lnfast.measure import Rules

    name = table.text("name", "pelvic-ln-edge")
    if "/" in name or "\\" in name:
        name = str(folder / Path(name).expanduser())
    choice = ModelChoice(
        name=name,
        backend=table.choice("backend", AUTO, (AUTO, *BACKENDS)),
        device=table.text("device", AUTO),
        precision=table.choice("precision", AUTO, (AUTO, *PRECISIONS)),
        threads=table.whole("threads", 0, 0, 1024),
        short_axis=table.choice("short_axis", "box", ("box", "axial", "ellipsoid")),
        suspicious_mm=table.number("suspicious_mm", 8, 0, 1000),
        seg_frames=table.choice("seg_frames", "sparse", ("sparse", "all")),
    )
    try:
        Rules(choice.short_axis, choice.suspicious_mm)
    except LnfastError as error:
        table.problems.append(UsageError("config-value", f"{table.name} suspicious_mm: {error.message}"))
    return choice


def _select(table: Table) -> Select:
    prefer = table.texts("prefer", ())
    if any("[" in _SET.sub("", pattern) for pattern in prefer):
        table.problem("prefer", "patterns whose brackets are closed; [[] stands for a bracket itself")
    elif len(set(prefer)) < len(prefer):
        table.problem("prefer", "each pattern once")
    return Select(prefer, table.flag("synthetic", False))


def _keep(table: Table) -> Keep:
    return Keep(table.number("days", 7, 0, 36500), table.number("dead_days", 30, 0, 36500))


def _tls(table: Table, folder: Path) -> Tls:
    ca = table.path("ca", folder) if table.has("ca") else None
    table.optional("ca")
    return Tls(table.path("cert", folder), table.path("key", folder), ca)


def _log(table: Table) -> Log:
    return Log(
        table.choice("format", "text", ("text", "json")),
        table.choice("level", "info", ("debug", "info", "warning", "error")),
    )


def _check_together(config: NodeConfig, problems: list[UsageError]) -> None:
    """Find what is wrong only in view of another key."""
    receive = config.receive
    if not receive.allow and not _is_loopback(config.bind):
        problems.append(
            UsageError(
                "config-nobody-allowed",
                f"[node] bind = {config.bind!r} listens to other machines, and [receive] allow is empty, which takes "
                "this machine only; name who may send, or bind 127.0.0.1",
            )
        )
    if receive.give_up_s < max(receive.quiet_s, receive.quiet_without_release_s):
        problems.append(
            UsageError("config-value", "[receive] give_up_s is shorter than quiet_s or quiet_without_release_s")
        )
    if config.port and config.port == config.health_port:
        problems.append(UsageError("config-value", f"[node] port and health_port are both {config.port}"))
    if config.watch not in (None, Path()) and _overlap(config.watch, config.spool):
        problems.append(UsageError("config-value", "[watch] path and [node] spool lie within each other"))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a problem already
        return True


def _overlap(a: Path, b: Path) -> bool:
    first, second = a.resolve(), b.resolve()
    return first == second or first in second.parents or second in first.parents
