"""Which engine serves: the one that was exported, one from this machine's cache, or the model's own graph.

exported folder         that engine and no other
auto                    for each way to run, fastest first: a certified engine from the cache, or the model's own
                        graph; the first that proves itself on the probe
a precision by name     the same; where it takes an engine and there is none, the error has the line that makes one:
                        that takes minutes, which nobody who wants a study served should have to wait for

The logger ``lnfast`` says at INFO which engine serves and why, and at WARNING which was passed over and why.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from lnfast._version import __version__
from lnfast.backends import Candidate, candidates
from lnfast.backends.choice import each_candidate, version_of
from lnfast.backends.engine import cache as engine_cache
from lnfast.backends.engine.folder import EngineFolder, check_certified, check_here, check_model, read_engine_folder
from lnfast.backends.engine.manifest import MANIFEST
from lnfast.backends.machine import device_kind
from lnfast.backends.registry import TARGETS
from lnfast.card import SHIPPED_MODELS, Model
from lnfast.errors import BackendError, EngineError, LnfastError
from lnfast.network import Network
from lnfast.selftest import SelfTest, prove

# For the host program; without a handler of its own nothing is printed.
_logger = logging.getLogger("lnfast")
_logger.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class EngineRequest:
    """The backend, device and precision that `lnfast.Engine` is to use.

    Attributes:
        backend, device, precision: a name or ``auto``.
        threads: on a CPU; 0 takes one per core.
    """

    backend: str
    device: str
    precision: str
    threads: int

    @property
    def by_name(self) -> bool:
        """Whether backend, device and precision are all named."""
        return "auto" not in (self.backend, self.device, self.precision)


@dataclass(frozen=True, eq=False)
class Served:
    """The engine that serves.

    Attributes:
        network: loaded and proven.
        self_test: what the probe showed, now or earlier since the machine was started.
        choice: why it was taken; None when it was requested by name.
    """

    network: Network
    self_test: SelfTest
    choice: str | None


def serve(model: Model, request: EngineRequest) -> Served:
    """Load the first engine that proves itself.

    Raises:
        UsageError: unknown names.
        ModelError: the model is refused.
        EngineError: an exported engine is refused, or nothing proved itself; ``engine-missing`` where what was asked
            for takes an engine and none is here.
        BackendError: what was asked for is not available here.
    """
    served = _exported(model, request) if (model.folder / MANIFEST).exists() else _first_proven(model, request)
    info = served.network.info
    _logger.info(
        "model %s %s is served by %s %s on %s in %s: %s",
        model.card.name,
        model.card.version,
        info.name,
        info.version,
        info.device,
        info.precision,
        served.choice or "requested by name",
    )
    return served


def _first_proven(model: Model, request: EngineRequest) -> Served:
    """Load the first candidate that proves itself, fastest first."""
    refused: list[LnfastError] = []
    without: list[Candidate] = []
    for option in each_candidate(request.backend, request.device, request.precision):
        try:
            engine = cached_engine(model, option)
        except (EngineError, BackendError) as error:  # what is kept is damaged; the model's own graph is not
            refused.append(error)
            _warn_passed_over("the engine in the cache for", option, error)
            if option.needs_engine:
                continue
            engine = None
        if option.needs_engine and engine is None:
            without.append(option)
            continue
        try:
            network, proof = _proven(model, option, engine, request.threads)
        except (EngineError, BackendError) as error:
            refused.append(error)
            _warn_passed_over("", option, error)
            continue
        reasons = [option.reason, *(f"passed over: {error.message}" for error in refused)]
        if without and not option.needs_engine:
            reasons.append(f"no certified {without[0].precision} engine is here yet: {_export_line(model)} makes one")
        return Served(network, proof, None if request.by_name else "; ".join(reasons))
    if not refused:  # all there is takes an engine, and there is none
        wanted = " and ".join(dict.fromkeys(option.precision for option in without))
        raise EngineError(
            "engine-missing",
            f"{wanted} takes an engine, and none of model {model.card.name} is here; "
            "make one, which takes minutes, once: "
            f"{_export_line(model, without[0])}",
        )
    if len(refused) == 1 or all(isinstance(error, BackendError) for error in refused):
        raise refused[0]
    raise EngineError("self-test-failed", "; ".join(error.message for error in refused))


def _warn_passed_over(what: str, option: Candidate, error: LnfastError) -> None:
    candidate = f"{what} {option.backend} on {option.device} in {option.precision}".strip()
    _logger.warning("passed over %s: %s", candidate, error)


def _exported(model: Model, request: EngineRequest) -> Served:
    """Load the engine of an exported folder; no other serves in its place."""
    engine = read_engine_folder(model.folder)
    manifest = engine.manifest
    check_model(engine, model)
    engine.check_files()
    for what, wanted, got in (
        ("backend", request.backend, manifest.backend),
        ("precision", request.precision, manifest.precision),
        ("device", request.device.partition(":")[0], manifest.device),
    ):
        if wanted not in ("auto", got):
            raise BackendError(
                f"{what}-unavailable", f"{model.folder} is an engine for {what} {got}, and {wanted} was asked for"
            )
    if manifest.backend != "tensorrt":
        check_here(engine, version_of(manifest.target))
    device = _device_for(manifest.device, request.device)
    option = Candidate(manifest.backend, device, manifest.precision, "an exported engine", needs_engine=True)
    # The runtime and the device are there, or the error says what is missing.
    candidates(manifest.backend, device, "auto")
    check_certified(engine, device)
    network, proof = _proven(model, option, engine, request.threads)
    return Served(network, proof, None if request.by_name else f"exported for {manifest.target}")


def _device_for(kind: str, requested: str) -> str:
    if kind == "cpu":
        return "cpu"
    return requested if requested.startswith("cuda:") else "cuda:0"


def cached_engine(model: Model, option: Candidate) -> EngineFolder | None:
    """Return the certified engine in this machine's cache for a candidate; None where there is none.

    Raises:
        EngineError: there is one, and it is damaged.
    """
    for target, version in _targets(option.backend):
        key = engine_cache.key_of(model, target, version, (device_kind(option.device),), option.precision)
        engine = engine_cache.find(model, key, option.device)
        if engine is not None:
            return engine
    return None


def _export_line(model: Model, option: Candidate | None = None) -> str:
    """What makes the engine that is missing: as it must be typed."""
    shipped = model.folder.parent == SHIPPED_MODELS
    parts = ["lnfast", "export", model.card.name if shipped else str(model.folder)]
    if option is not None:
        target = next((target for target, _ in _targets(option.backend)), option.backend)
        parts += ["--target", target, "--precision", option.precision]
        parts += [] if option.device == "cpu" else ["--device", option.device]
    return shlex.join(parts)


def _targets(backend: str) -> Iterator[tuple[str, str]]:
    """What a backend's engines are exported for, where it is installed, and its version."""
    for target in (target for target, runner in TARGETS.items() if runner == backend):
        with suppress(BackendError):
            yield target, version_of(target)


def _proven(model: Model, option: Candidate, engine: EngineFolder | None, threads: int) -> tuple[Network, SelfTest]:
    """Load, and run the probe unless this very engine has passed since the machine was started."""
    network = Network(model, option, engine=engine, threads=threads)
    try:
        info = network.info
        what = model.sha256 if engine is None else engine.sha256
        key = engine_cache.proof_key(
            __version__,
            *model.card.sha256.values(),
            model.card.decisive,
            what,
            info.name,
            info.version,
            info.precision,
            device_kind(info.device),
        )
        proof = SelfTest.from_facts(engine_cache.read_proof(key))
        if proof is None:
            proof = prove(network)
            engine_cache.write_proof(key, asdict(proof))
    except EngineError as error:
        network.close()
        if engine is None or "lnfast export" in error.message:
            raise
        raise EngineError(error.code, f"{error.message}; {engine.again}") from error
    except BaseException:
        network.close()
        raise
    return network, proof
