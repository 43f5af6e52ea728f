"""The engine: a model, loaded once and proven, that turns studies into measured nodes.

    read -> admit -> preprocess -> infer -> postprocess -> measure -> report -> write

This is the only module that composes the stages. Each works on what the one before it left; the two big arrays, the
network's input and output, belong to the runtime and are written once and read once for each study.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Literal
from weakref import WeakSet

from numpy.typing import ArrayLike

from lnfast.admission import admit
from lnfast.backends import BackendInfo
from lnfast.card import Model, load_model
from lnfast.errors import BackendError, LnfastError, StudyError, UsageError
from lnfast.geometry import Volume
from lnfast.measure import LymphNode, Rules
from lnfast.network import Network
from lnfast.report import (
    EngineFacts,
    Notice,
    Report,
    add_files,
    add_page,
    distinct_names,
    make_report,
    write_study_folder,
)
from lnfast.selftest import SelfTest
from lnfast.serving import Asked, serve
from lnfast.study import DicomChoice, Study, is_dicom, read_study, study_from_array

# Studies read ahead of the network by run_many: one is read while one is inferred. More would hold more memory and
# gain nothing, since reading is faster than the network.
READ_AHEAD = 2

SegFrames = Literal["sparse", "all"]
StudyInput = str | Path | Volume | tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True, eq=False)
class Result:
    """What the engine says of one study.

    Attributes:
        study: what was read; its ``name`` names the folder that `write` makes.
        nodes: measured nodes in order of their id.
        labels: ``(z, y, x)`` uint16 on the native grid, value = node id.
        report: everything that is written, as `lnfast.report.Report`.
        folder: the study folder, where `Engine.run_many` wrote it.
        page_problem: why that folder has no report.html, where one was wanted; the report stands without it.
        dicom_problem: the same of seg.dcm and sr.dcm.
    """

    study: Study
    nodes: tuple[LymphNode, ...]
    labels: Volume
    report: Report
    folder: Path | None = None
    page_problem: Notice | None = None
    dicom_problem: Notice | None = None
    _sample: int | None = None

    @property
    def n_stage(self) -> str:
        """``"N0"`` or ``"N1"`` by the chosen short-axis rule."""
        return self.report.n_stage

    @property
    def timings_ms(self) -> dict[str, float]:
        """Wall-clock milliseconds by stage; ``write`` is 0 until the result is written."""
        return dict(self.report.timings_ms)

    @property
    def warnings(self) -> tuple[Any, ...]:
        """What the reader of the numbers must know, as ``(code, message)`` records."""
        return self.report.warnings

    def write(
        self,
        out: str | Path,
        *,
        name: str | None = None,
        html: bool = True,
        dicom: bool = True,
        seg_frames: SegFrames = "sparse",
    ) -> Path:
        """Write ``out/<study name>/`` with report.json, report.txt and labels.nii.gz: whole or not at all.

        Then report.html, whole or not at all, with the study's voxels, and of a study that was read from DICOM seg.dcm
        and sr.dcm, the second last. Where they cannot be written the report stands, and a RuntimeWarning
        ``page-not-written`` or ``dicom-not-written`` says why.

        Args:
            out: folder of study folders, made where it is missing.
            name: another name for the study, in the report as well: two inputs may have the same file name.
            html: write the page too.
            dicom: write seg.dcm and sr.dcm too; the study's files must still be there.
            seg_frames: ``"all"`` writes a frame of every segment for every slice, ``"sparse"`` those with voxels.

        Returns:
            The study folder.

        Raises:
            UsageError: ``output-exists`` when something else of that name is there, such as another study's report.
            OSError: what the disk said; nothing is left behind.
        """
        written = self._written(Path(out), name or self.study.name, Parts(html, dicom, seg_frames))
        for problem in (written.page_problem, written.dicom_problem):
            if problem is not None:
                warnings.warn(str(problem), RuntimeWarning, stacklevel=2)
        assert written.folder is not None
        return written.folder

    def _written(self, out: Path, name: str, parts: Parts) -> Result:
        """The same result with the report as it was written, and where."""
        report = replace(self.report, study=replace(self.report.study, name=name))
        folder, report = write_study_folder(report, self.labels, out, name)
        written = replace(self, report=report, folder=folder)
        if parts.html:
            written = replace(written, page_problem=self._add_page(folder, report))
        if parts.dicom and self.study.provenance.dicom is not None:
            written = replace(written, dicom_problem=self._add_dicom(folder, report, parts.seg_frames))
        return written

    def _add_page(self, folder: Path, report: Report) -> Notice | None:
        """Write the page; why it could not be. Whatever that is, a report that is filed is not taken back for it."""
        try:
            if self._sample not in (None, _sample_of(self.study)):
                raise UsageError("array-changed", "the study's array holds other values than when it was run")
            from lnfast.report.page import render

            add_page(folder, report, render(report, self.study, self.labels))
        except Exception as error:
            reason = error if isinstance(error, (LnfastError, OSError)) else f"{type(error).__name__}: {error}"
            return Notice("page-not-written", " ".join(f"report.html is missing: {reason}".split()))
        return None

    def _add_dicom(self, folder: Path, report: Report, seg_frames: SegFrames) -> Notice | None:
        """Write seg.dcm and sr.dcm; why they could not be, without any text of a header."""
        try:
            from lnfast.report.dicom import render_dicom

            files = render_dicom(self.study, self.labels, report, all_frames=seg_frames == "all")
            add_files(folder, report, files)
        except Exception as error:
            reason = error if isinstance(error, (LnfastError, OSError)) else type(error).__name__
            return Notice("dicom-not-written", " ".join(f"seg.dcm and sr.dcm are missing: {reason}".split()))
        return None


@dataclass(frozen=True)
class Parts:
    """What is written beside the report; see `Result.write`."""

    html: bool = True
    dicom: bool = True
    seg_frames: SegFrames = "sparse"


@dataclass(frozen=True)
class StudyFailure:
    """A study that `Engine.run_many` could not serve, in its place among the results.

    Attributes:
        source: the path as it was given, or "array".
        error: why: the study is refused (`StudyError`), the network's answer to it is (`EngineError`), a part of the
            engine that it needs cannot be loaded, or the place for its report is taken (`UsageError`).
    """

    source: str
    error: LnfastError


@dataclass(frozen=True, eq=False)
class _Read:
    """What the reading thread hands over: a study, or why there is none."""

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
        self.rules = rules or Rules()
        self.model: Model = load_model(model)
        self._lock = threading.RLock()
        self._threads = threads
        self._serving = self._closing = False
        served = serve(self.model, Asked(backend, device, precision, threads))
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
        """Give the runtime's memory back; a second call does nothing.

        From a signal handler that came in the middle of a study of this thread: as soon as the study is done.
        """
        with self._lock:
            self._closing = True
            if self._network is not None and not self._serving:
                self._network.close()
                self._network = None

    @property
    def info(self) -> BackendInfo:
        """Which runtime, device and precision serve, as the runtime itself says."""
        return self._open().info

    def read(self, study: StudyInput, *, choice: DicomChoice | None = None) -> Study:
        """Read a study as the model's card asks for it.

        Args:
            study: the path of a NIfTI file, of a folder of DICOM files or of an enhanced DICOM file, a `Volume`, or
                ``(array_zyx, affine)``.
            choice: what a person says of the DICOM series to take.

        Raises:
            StudyError: the study is refused.
        """
        card = self.model.card
        if isinstance(study, (str, Path)):
            return read_study(study, b_targets=card.b_targets, b_range=card.b_range, choice=choice)
        if isinstance(study, Volume):
            return study_from_array(study.array, study.grid.affine)
        if isinstance(study, tuple) and len(study) == 2:
            array, affine = study
            return study_from_array(array, affine)
        raise UsageError("bad-study", f"got a {type(study).__name__}, wanted a path, a Volume or (array_zyx, affine)")

    def run(self, study: StudyInput, *, choice: DicomChoice | None = None) -> Result:
        """Find and measure the nodes of one study.

        Args:
            study, choice: as for `read`.

        Raises:
            StudyError: the study is refused.
            BackendError: ``backend-missing`` where a DICOM file needs a package that is not installed.
            EngineError: the network failed or its answer cannot be trusted.
            UsageError: ``engine-closed``; ``engine-busy`` from a signal handler in the middle of another study.
        """
        started = perf_counter()
        read = self.read(study, choice=choice)
        return self._analyse(read, (perf_counter() - started) * 1e3)

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
                own, as `lnfast.report.distinct_names` says. One from DICOM has its own name, which says nothing of the
                patient or of the folder.
            html: write report.html too, after the report; `Result.page_problem` says why one is missing.
            dicom, seg_frames: as for `Result.write`; `Result.dicom_problem` says why the objects are missing.
            choice: as for `read`, of every study.

        Yields:
            A result, or a `StudyFailure` in its place. What is wrong with the disk or the call ends the iteration.
        """
        if out is None:
            yield from self._answers(iter(studies), choice)
            return
        studies = list(studies)
        answers = self._answers(iter(studies), choice)
        parts = Parts(html, dicom, seg_frames)
        with ThreadPoolExecutor(1, thread_name_prefix="lnfast-write") as writer:
            before: Future[Result | StudyFailure] | None = None
            for name in _names(studies):
                failure: Exception | None = None
                try:
                    answer = next(answers)
                except Exception as error:
                    failure = error
                if before is not None:
                    yield before.result()  # what was finished before a failure is still handed over
                if failure is not None:
                    raise failure
                before = writer.submit(_write, answer, Path(out), name, parts)
            if before is not None:
                yield before.result()

    def _answers(self, studies: Iterator[StudyInput], choice: DicomChoice | None) -> Iterator[Result | StudyFailure]:
        with ThreadPoolExecutor(1, thread_name_prefix="lnfast-read") as reader:
            pending = deque(reader.submit(self._read_next, studies, choice) for _ in range(READ_AHEAD))
            try:
                while (read := pending.popleft().result()) is not None:
                    pending.append(reader.submit(self._read_next, studies, choice))
                    yield self._answer(read)
            finally:
                for future in pending:
                    future.cancel()

    def _read_next(self, studies: Iterator[StudyInput], choice: DicomChoice | None) -> _Read | None:
        for study in studies:
            started = perf_counter()
            try:
                read: Study | LnfastError = self.read(study, choice=choice)
            except (StudyError, BackendError) as error:
                read = error
            return _Read(_source(study), read, (perf_counter() - started) * 1e3)
        return None

    def _answer(self, read: _Read) -> Result | StudyFailure:
        if isinstance(read.study, LnfastError):
            return StudyFailure(read.source, read.study)
        try:
            return self._analyse(read.study, read.read_ms)
        except UsageError:
            raise
        except LnfastError as error:  # also of a window that is loaded when a study first needs it
            return StudyFailure(read.source, error)

    def _analyse(self, study: Study, read_ms: float) -> Result:
        started = perf_counter()
        admission = admit(study.volume, self.model.card, threads=self._threads)
        admit_ms = (perf_counter() - started) * 1e3
        with self._turn() as network:
            answer = network.answer(study.volume, self.rules, norm=admission.normalization, intensity=study)
            facts = self._facts(network)
        timings_ms = {**answer.timings_ms, "read": read_ms, "preprocess": admit_ms + answer.timings_ms["preprocess"]}
        report = make_report(study, self.model, facts, self.rules, answer.nodes, timings_ms, admission=admission)
        return Result(study, answer.nodes, answer.labels, report, _sample=_sample_of(study))

    @contextmanager
    def _turn(self) -> Iterator[Network]:
        """The network, for one thread at a time, and not for a signal handler that interrupts that thread."""
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

    def _facts(self, network: Network) -> EngineFacts:
        info, engine = network.info, network.engine
        return EngineFacts(
            backend=info.name,
            backend_version=info.version,
            device=info.device,
            precision=info.precision,
            engine_sha256=self.model.sha256 if engine is None else engine.sha256,
            certificate=None if engine is None else engine.manifest.certificate,
            choice=self.choice,
        )

    def _open(self) -> Network:
        if self._network is None:
            raise UsageError("engine-closed", "this engine was closed; make a new one")
        return self._network


def _sample_of(study: Study) -> int | None:
    """By which an array is known that its owner may have filled anew (0.2 ms); None for a file, which stays."""
    return zlib.crc32(study.volume.array[:, ::4, ::4].tobytes()) if study.provenance.path is None else None


def _source(study: StudyInput) -> str:
    return str(study) if isinstance(study, (str, Path)) else "array"


def _names(studies: Sequence[StudyInput]) -> list[str | None]:
    """The name of each study's folder, no two alike; None of DICOM, where it is the study's own."""
    dicom = [isinstance(study, (str, Path)) and is_dicom(Path(study)) for study in studies]
    others = iter(distinct_names(_source(study) for study, own in zip(studies, dicom, strict=True) if not own))
    return [None if own else next(others) for own in dicom]


def _write(answer: Result | StudyFailure, out: Path, name: str | None, parts: Parts) -> Result | StudyFailure:
    if isinstance(answer, StudyFailure):
        return answer
    try:
        return answer._written(out, name or answer.study.name, parts)
    except UsageError as error:
        return StudyFailure(answer.study.provenance.path or "array", error)


_engines: WeakSet[Engine] = WeakSet()


def _unlock_all() -> None:
    for engine in tuple(_engines):
        engine._lock, engine._serving = threading.RLock(), False


if sys.platform != "win32":
    # Whoever held a lock is not there in a fork; the backends refuse to run there by themselves.
    os.register_at_fork(after_in_child=_unlock_all)
