"""The engine: a model that is loaded once, proves itself, and turns studies into measured nodes.

    read -> admit -> preprocess -> infer -> postprocess -> measure -> report -> write

This is the only module that composes the stages. Each takes the output of the one before; the two big arrays, the
network's input and output, belong to the runtime. They are written and read once for each study, of many thin slices
once for each slab.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from weakref import WeakSet

from numpy.typing import ArrayLike

from lnfast.admission import admit
from lnfast.backends import BackendInfo
from lnfast.batch import read_ahead, write_behind
from lnfast.card import Model, load_model
from lnfast.errors import BackendError, LnfastError, StudyError, UsageError
from lnfast.geometry import Volume
from lnfast.measure import Rules
from lnfast.network import Network
from lnfast.report import EngineFacts, folder_names, make_report
from lnfast.result import Parts, Result, SegFrames, StudyFailure, sample_of, write_outcome
from lnfast.selftest import SelfTest
from lnfast.serving import EngineRequest, serve
from lnfast.study import DicomChoice, Study, read_study, study_from_array

StudyInput = str | Path | Volume | tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True, eq=False)
class _Read:
    """A study as the reading thread returns it, or the error in its place."""

    source: str
    study: Study | LnfastError
    read_ms: float


class Engine:
    """A resident engine. Loading proves it on the model's probe; then it serves any number of studies.

    Safe from many threads: they take turns at the network, whose buffers exist once. Use as a context manager, or call
    `close`.

    Args:
        model: shipped name, model folder, or a folder that ``lnfast export`` wrote.
        backend: ``auto``, ``openvino``, ``onnxruntime`` or ``tensorrt``. What is named is used or is an error.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``. ``auto`` takes what can serve at once. Where the
            one that is named takes an engine and ``lnfast export`` has made none, the error has the line that does.
        rules: which short axis decides and at how many millimetres.
        threads: for the network and the kernels; 0 takes one per core.
        progress: deprecated, and never called: loading exports nothing any more.

    Attributes:
        model: the model folder, as `lnfast.card.load_model` read it.
        rules: by which nodes are measured and staged.
        self_test: what the probe showed, now or earlier since the machine was started.
        choice: one line on why this engine was taken; None when it was requested by name.

    Raises:
        ModelError: the model folder is refused.
        EngineError: no engine proved itself on the probe; ``engine-missing`` when what is named takes one.
        BackendError: a backend or device is not available here.
    """

    def __init__(
        self,
        model: str | Path = "pelvic-ln-edge",
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        *,
        rules: Rules | None = None,
        threads: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        if progress is not None:
            warnings.warn(
                "Engine(progress=...) has no meaning any more: loading exports nothing; leave it out",
                DeprecationWarning,
                stacklevel=2,
            )
        self.rules: Rules = rules or Rules()
        self.model: Model = load_model(model)
        self._lock = threading.RLock()
        self._threads = threads
        self._serving = self._closing = False
        served = serve(self.model, EngineRequest(backend, device, precision, threads))
        self._network: Network | None = served.network
        self.self_test: SelfTest = served.self_test
        self.choice: str | None = served.choice
        _engines.add(self)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the runtime's memory; a second call does nothing.

        Called by a signal handler in the middle of a study of this thread, it releases it once the study is done.
        """
        with self._lock:
            self._closing = True
            if self._network is not None and not self._serving:
                self._network.close()
                self._network = None

    @property
    def info(self) -> BackendInfo:
        """The runtime, device and precision that serve, as the runtime itself says."""
        return self._open().info

    @property
    def facts(self) -> EngineFacts:
        """The facts of this engine that its reports state."""
        return _facts(self, self._open())

    def read(self, study: StudyInput, *, choice: DicomChoice | None = None) -> Study:
        """Read a study as the model's card asks for it.

        Args:
            study: the path of a NIfTI file, of a folder of DICOM files or of an enhanced DICOM file, a `Volume`, or
                ``(array_zyx, affine)``.
            choice: of the DICOM series to take.

        Raises:
            StudyError: the study is refused.
            BackendError: ``backend-missing`` where a DICOM file needs a package that is not installed.
        """
        card = self.model.card
        if isinstance(study, (str, Path)):
            return read_study(study, b_targets=card.b_targets, b_range=card.b_range, choice=choice)
        if isinstance(study, Volume):
            return study_from_array(study.array, study.grid.affine)
        if isinstance(study, tuple) and len(study) == 2:
            return study_from_array(*study)
        raise UsageError("bad-study", f"got a {type(study).__name__}, wanted a path, a Volume or (array_zyx, affine)")

    def run(self, study: StudyInput, *, choice: DicomChoice | None = None) -> Result:
        """Find and measure the nodes of one study.

        Args:
            study, choice: as for `read`.

        Raises:
            StudyError: the study is refused.
            BackendError: as for `read`.
            EngineError: the network failed or its answer cannot be trusted.
            UsageError: ``engine-closed``; ``engine-busy`` from a signal handler in the middle of another study.
        """
        started = perf_counter()
        read = self.read(study, choice=choice)
        return self.analyse(read, (perf_counter() - started) * 1e3)

    def analyse(self, study: Study, read_ms: float = 0.0) -> Result:
        """Run a study that `read` returned.

        Args:
            study: of `read`, of this engine or of one with the same model.
            read_ms: how long reading it took, for the report; milliseconds.

        Raises:
            StudyError, EngineError, UsageError: as `run`.
        """
        started = perf_counter()
        admission = admit(study.volume, self.model.card, threads=self._threads)
        admit_ms = (perf_counter() - started) * 1e3
        with self._turn() as network:
            answer = network.answer(study.volume, self.rules, norm=admission.normalization, intensity=study)
            facts = _facts(self, network)
        timings_ms = {**answer.timings_ms, "read": read_ms, "preprocess": admit_ms + answer.timings_ms["preprocess"]}
        report = make_report(
            study, self.model, facts, self.rules, answer.nodes, timings_ms, admission=admission, faint=answer.faint
        )
        return Result(study, answer.nodes, answer.labels, report, _sample=sample_of(study))

    def run_many(
        self,
        studies: Iterable[StudyInput],
        *,
        out: str | Path | None = None,
        html: bool = True,
        dicom: bool = True,
        seg_frames: SegFrames = "sparse",
        choice: DicomChoice | None = None,
    ) -> Iterator[Result | StudyFailure]:
        """Run studies in order, reading the next ones while the network works on this one.

        Args:
            studies: as `run` takes them; taken one by one from a thread of their own, so that one that is still to come
                holds up none before it. Leaving early waits for the study that is being read.
            out: where results are written, each while the network works on the next; a result is yielded once its
                folder is complete. Then all studies are looked at first, because those of one name get folders of their
                own, as `lnfast.report.distinct_names` says. A study from DICOM has a name of its own, which says
                nothing of the patient or of the folder.
            html: write report.html too, after the report; `Result.page_problem` says why one is missing.
            dicom, seg_frames: as for `Result.write`; `Result.dicom_problem` says why the objects are missing.
            choice: as for `read`, of every study.

        Yields:
            A result, or a `StudyFailure` in its place. What is wrong with the disk or the call ends the iteration.
        """
        if out is None:
            yield from self._outcomes(iter(studies), choice)
            return
        studies, folder, parts = list(studies), Path(out), Parts(html, dicom, seg_frames)

        def write(outcome: Result | StudyFailure, name: str | None) -> Result | StudyFailure:
            return write_outcome(outcome, folder, name, parts)

        yield from write_behind(self._outcomes(iter(studies), choice), folder_names(studies), write)

    def _outcomes(self, studies: Iterator[StudyInput], choice: DicomChoice | None) -> Iterator[Result | StudyFailure]:
        def read(study: StudyInput) -> _Read:
            return self._read_timed(study, choice)

        with closing(read_ahead(studies, read)) as reads:
            for outcome in reads:
                yield self._outcome(outcome)

    def _read_timed(self, study: StudyInput, choice: DicomChoice | None) -> _Read:
        started = perf_counter()
        outcome: Study | LnfastError
        try:
            outcome = self.read(study, choice=choice)
        except (StudyError, BackendError) as error:
            outcome = error
        return _Read(_source(study), outcome, (perf_counter() - started) * 1e3)

    def _outcome(self, read: _Read) -> Result | StudyFailure:
        if isinstance(read.study, LnfastError):
            return StudyFailure(read.source, read.study)
        try:
            return self.analyse(read.study, read.read_ms)
        except UsageError:
            raise
        except LnfastError as error:  # also of a window that is loaded when a study first needs it
            return StudyFailure(read.source, error)

    @contextmanager
    def _turn(self) -> Iterator[Network]:
        """Lend the network to one thread at a time, and not to a signal handler that interrupts that thread."""
        with self._lock:
            if self._serving:
                raise UsageError(
                    "engine-busy", "this thread is in the middle of a study; a signal handler must not run one"
                )
            network = self._open()
            self._serving = True
            try:
                yield network
            finally:
                self._serving = False
                if self._closing:
                    self.close()

    def _open(self) -> Network:
        if self._network is None:
            raise UsageError("engine-closed", "this engine was closed; make a new one")
        return self._network


def _facts(engine: Engine, network: Network) -> EngineFacts:
    info, built = network.info, network.engine
    return EngineFacts(
        backend=info.name,
        backend_version=info.version,
        device=info.device,
        precision=info.precision,
        engine_sha256=engine.model.sha256 if built is None else built.sha256,
        certificate=None if built is None else built.manifest.certificate,
        choice=engine.choice,
    )


def _source(study: StudyInput) -> str:
    return str(study) if isinstance(study, (str, Path)) else "array"


_engines: WeakSet[Engine] = WeakSet()


def _unlock_all() -> None:
    for engine in tuple(_engines):
        engine._lock, engine._serving = threading.RLock(), False


if sys.platform != "win32":
    # In a forked child the thread that held a lock does not exist; the backends refuse to run there by themselves.
    os.register_at_fork(after_in_child=_unlock_all)
