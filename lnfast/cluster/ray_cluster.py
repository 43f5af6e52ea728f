"""A cluster of Ray: connect to one or start one on this machine, and place workers in it.

Ray sends usage statistics and writes to the driver's stdout by default; neither is lnfast's to do. A cluster that is
started here has no dashboard and no statistics, and its files lie in a folder that goes with it.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lnfast.cluster.packages import RAY
from lnfast.cluster.protocol import LostWorkerError
from lnfast.errors import BackendError, UsageError, one_line

_logger = logging.getLogger("lnfast.cluster")
LOCAL, CLIENT = "local", "ray://"
_REACHABLE_S = 10.0
# Studies go through the file system and answers are a few kB, so Ray's object store is next to empty: its least size.
_OBJECT_STORE_BYTES = 80 << 20


@dataclass(frozen=True)
class WorkerShape:
    """What each worker takes of its machine.

    Attributes:
        cpus: whole cores, at least 1.
        gpus: of a machine; a part of 1 shares a GPU between workers.
        calls: that run at once in a worker, each in a thread.
    """

    cpus: int
    gpus: float
    calls: int


class RayCluster:
    """A `lnfast.cluster.protocol.Cluster`.

    Args:
        kind: the class of the workers; importable on every machine.
        shape: of each worker.
    """

    def __init__(self, kind: type, shape: WorkerShape) -> None:
        self._ray = RAY.load()
        self._shape = shape
        # A worker that dies is not restarted by Ray, and no call is made again: the schedule does both, by name.
        self._actor = self._ray.remote(
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=shape.calls,
            scheduling_strategy="SPREAD",
        )(kind)

    def start_worker(self) -> RayHandle:
        """Ask for a worker."""
        return RayHandle(self._ray, self._actor.remote())

    def room(self) -> int:
        """Return how many workers the machines of the cluster hold, were nothing else there."""
        shape, count = self._shape, 0
        for machine in self._ray.nodes():
            if machine["Alive"]:
                resources = machine["Resources"]
                places = resources.get("CPU", 0.0) // shape.cpus
                if shape.gpus:
                    places = min(places, _places_on_gpus(resources.get("GPU", 0.0), shape.gpus))
                count += int(places)
        return count


def _places_on_gpus(gpus: float, each: float) -> float:
    return gpus // each if each >= 1 else gpus * (1 // each)


class RayHandle:
    """A `lnfast.cluster.protocol.WorkerHandle`: an actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method; see the protocol."""
        answer: Future[Any] = Future()

        def done(future: Any) -> None:
            error = future.exception()
            if error is None:
                answer.set_result(future.result())
            else:
                answer.set_exception(_lost(self._ray.exceptions, error))

        try:
            getattr(self._actor, method).remote(*arguments).future().add_done_callback(done)
        except self._ray.exceptions.RayError as error:  # an actor that is known to be dead
            answer.set_exception(_lost(self._ray.exceptions, error))
        return answer

    def kill(self) -> None:
        """End it at once."""
        self._ray.kill(self._actor)


def _lost(exceptions: Any, error: BaseException) -> LostWorkerError:
    """Say in a line why a call has no answer. Ray's own text has addresses and ids, and goes to the log."""
    _logger.info("a worker was lost: %s", one_line(error))
    text = str(error)
    if isinstance(error, exceptions.ActorUnavailableError) or "node has died" in text or _preempted(error):
        # A broken connection is the loss of the machine: of a process alone its machine reports the death.
        return LostWorkerError("its machine was lost", with_machine=True)
    if "low on memory" in text:
        return LostWorkerError("its machine ran out of memory")
    if "creation task" in text:  # lnfast cannot be imported there, for example
        return LostWorkerError(f"it does not start there: {text.strip().splitlines()[-1]}")
    if isinstance(error, exceptions.RayActorError):
        return LostWorkerError("its process ended")
    return LostWorkerError(one_line(error))


def _make_token() -> None:
    """Make the token by which a cluster of one's own knows its user, so that Ray leaves none in the home folder."""
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ["RAY_AUTH_MODE"] = "token"


def _check_reachable(address: str) -> None:
    """Refuse within seconds what Ray would try for minutes.

    Raises:
        UsageError: ``bad-address``.
        BackendError: ``no-cluster``.
    """
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError("bad-address", f"got --address {address}, wanted local, auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHABLE_S).close()
    except (OSError, OverflowError) as error:
        raise BackendError("no-cluster", f"nothing answers at {address} ({one_line(error)}); start it there") from error


def _preempted(error: BaseException) -> bool:
    return bool(getattr(error, "preempted", False))


@contextmanager
def connected(address: str, *, cores: int | None = None) -> Iterator[None]:
    """Connect to a cluster; one that was started for it ends with the block.

    Args:
        cores: that a cluster which is started here claims to have; None for those of this machine.
        address: ``local`` starts one here, ``auto`` takes the one of this machine, ``HOST:PORT`` is one's head and
            ``ray://HOST:PORT`` its client server. Where the program is connected already, that cluster is taken.

    While it is connected SIGTERM, which a batch system sends before it kills, is an interrupt like Ctrl-C.

    Raises:
        BackendError: ``no-cluster`` when there is none, or none that can be used.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns where it is unset
    if address == LOCAL:
        _make_token()
    ray = RAY.load()
    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
    _keep_off_stdout()
    folder = tempfile.mkdtemp(prefix="lnfast-ray-", dir=_short_temporary()) if address == LOCAL else None
    try:
        with _interrupts_after():
            _init(ray, address, folder, cores)
        with _handling(signal.SIGTERM, signal.default_int_handler):
            yield
    finally:
        with _interrupts_after():
            ray.shutdown()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _init(ray: Any, address: str, folder: str | None, cores: int | None) -> None:
    here: dict[str, Any] = {}
    if folder is not None:
        here = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES, "_temp_dir": folder}
        here |= {"num_cpus": cores, "_node_ip_address": "127.0.0.1"}  # nobody else can reach it
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {} if address.startswith(CLIENT) else {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray's own
            ray.init(address=address, **quiet, **here)
    except Exception as error:  # a head of another version of Ray or Python, a port that is closed
        hint = "where it wants a token, set RAY_AUTH_MODE=token here too"
        raise BackendError("no-cluster", f"cannot use the cluster at {address}: {one_line(error)}; {hint}") from error


@contextmanager
def _interrupts_after() -> Iterator[None]:
    """Raise `KeyboardInterrupt` of SIGINT and SIGTERM at the end of the block, where one came.

    In the middle of starting or ending a cluster it would leave processes of Ray behind, or crash Ray.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)

    with _handling(signal.SIGINT, note), _handling(signal.SIGTERM, note):
        yield
    if received:
        raise KeyboardInterrupt


@contextmanager
def _handling(number: signal.Signals, handler: Callable[[int, Any], Any]) -> Iterator[None]:
    """Handle a signal in a block; Ray's own handler of SIGTERM prints a stack and ends the process."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) == signal.SIG_IGN:
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _short_temporary() -> str:
    """Return a folder for Ray's sockets, whose paths the system limits to 107 bytes."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= 20 or os.name != "posix" else "/tmp"


def _keep_off_stdout() -> None:
    """Send what Ray says of dead workers and machines to the log: it would print it on the driver's stdout."""
    worker = RAY.load("ray._private.worker")

    def log(data: dict[str, Any], *_: Any, **__: Any) -> None:
        for line in data.get("lines", ()):
            _logger.info("ray: %s", line)

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = log
