"""lnfast embedded in a host program: its memory, threads, forks, signals and global state, with the real engine."""

from __future__ import annotations

import array
import ctypes
import mmap
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import SMALL_ZYX, small_patient
from model_files import make_model_folder
from numpy.typing import NDArray

import lnfast_ext
from lnfast import Engine, Volume
from lnfast.errors import EngineError, ModelError, StudyError, UsageError
from lnfast.geometry import Grid
from lnfast.phantom import make_phantom
from lnfast.result import Result, StudyFailure

AFFINE = np.diag((-3.0, -3.0, 5.0, 1.0))
SHAPE = SMALL_ZYX
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's /proc")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def backend_of(engine: Engine) -> Any:
    """Return the backend of an engine; the model's own graph has one for its whole grid."""
    network = engine._network
    assert network is not None
    return network.at(network.grid_zyx)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network of one operation: what is bright is node."""
    return make_model_folder(tmp_path_factory.mktemp("model") / "tiny", orientation="LPS")


@pytest.fixture(scope="module")
def light(tiny: Path) -> Iterator[Engine]:
    with Engine(model=tiny) as engine:
        yield engine


@pytest.fixture(scope="module")
def patient() -> Volume:
    return make_phantom(11, "achieva", "n1").volume


@pytest.fixture(scope="module")
def alone(engine: Engine, patient: Volume) -> Result:
    """The result for the patient when no other study runs."""
    return engine.run(patient)


def blocks(dtype: str = "i2") -> NDArray[Any]:
    """Two bright nodes in a small body, ``(z, y, x)``."""
    return small_patient(SHAPE, dtype)


def script(text: str, *words: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a host program, which must exit with 0 and write nothing to stderr."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(text), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done


# --- their memory -----------------------------------------------------------------------------------------------------


def address(lent: Any) -> int:
    """Return the address of an array's first voxel."""
    return int(lent.data_ptr() if hasattr(lent, "data_ptr") else np.asarray(lent).ctypes.data)


LENT: dict[str, Callable[[NDArray[Any]], Any]] = {
    "numpy": lambda voxels: voxels,
    "numpy, read-only": lambda voxels: np.frombuffer(voxels.tobytes(), voxels.dtype).reshape(SHAPE),
    "memoryview": memoryview,
    "memoryview of bytes": lambda voxels: memoryview(voxels.tobytes()).cast("B").cast("h", SHAPE),
    "memoryview of a bytearray": lambda voxels: memoryview(bytearray(voxels.tobytes())).cast("h", SHAPE),
    "memoryview of an array.array": lambda voxels: (
        memoryview(array.array("h", voxels.tobytes())).cast("B").cast("h", SHAPE)
    ),
    "ctypes": lambda voxels: (ctypes.c_short * SHAPE[2] * SHAPE[1] * SHAPE[0]).from_buffer_copy(voxels),
}


@pytest.mark.parametrize("lend", LENT.values(), ids=LENT)
def test_voxels_in_their_memory_are_run_where_they_lie(light: Engine, lend: Callable[..., Any]) -> None:
    wanted = light.run((blocks(), AFFINE))
    lent = lend(blocks())
    result = light.run((lent, AFFINE))
    assert result.study.volume.array.ctypes.data == address(lent)
    assert result.nodes == wanted.nodes and len(wanted.nodes) == 2
    assert light.run(Volume(lent, Grid(SHAPE, AFFINE))).study.volume.array.ctypes.data == address(lent)


def test_a_mapped_file_is_run_where_it_lies(light: Engine, tmp_path: Path) -> None:
    path = tmp_path / "voxels.raw"
    path.write_bytes(blocks().tobytes())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        lent = np.frombuffer(mapped, np.int16).reshape(SHAPE)
        result = light.run((lent, AFFINE))
        assert np.shares_memory(result.study.volume.array, lent) and not result.study.volume.array.flags.writeable
        assert result.nodes == light.run((blocks(), AFFINE)).nodes
        del lent, result


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_a_tensor_is_run_where_it_lies(light: Engine, kind: str) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(blocks(np.dtype(kind).str[1:]))
    result = light.run((tensor, torch.from_numpy(AFFINE)))
    assert result.study.volume.array.ctypes.data == tensor.data_ptr()
    assert result.nodes == light.run((tensor.numpy().copy(), AFFINE)).nodes


def test_a_strided_tensor_stays_a_view_and_outlives_its_owner(light: Engine) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(np.ascontiguousarray(blocks().transpose(2, 0, 1))).clone().permute(1, 2, 0)
    start, strides = tensor.data_ptr(), tuple(2 * step for step in tensor.stride())
    study = light.read((tensor, AFFINE))
    del tensor
    assert (study.volume.array.ctypes.data, study.volume.array.strides) == (start, strides)
    np.testing.assert_array_equal(study.volume.array, blocks())


class OnDevice:
    """A tensor of which DLPack says that it is in a GPU's memory."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **options: object) -> object:
        raise AssertionError("nothing is asked of a device")


class OnDeviceOnly:
    """An array that supports the CUDA array interface only."""

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {"shape": SHAPE, "typestr": "<i2", "data": (4096, False), "version": 3}


def _torch(make: Callable[[Any], Any]) -> Callable[[], Any]:
    return lambda: make(pytest.importorskip("torch"))


REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "GPU by DLPack": (OnDevice, "not-on-cpu", "device's memory"),
    "GPU by CUDA's protocol": (OnDeviceOnly, "not-on-cpu", "device's memory"),
    "bytes": (lambda: blocks().tobytes(), "not-3d", r"without a shape.*frombuffer"),
    "bytearray": (lambda: bytearray(blocks().tobytes()), "not-3d", "without a shape"),
    "flat memoryview": (lambda: memoryview(blocks().tobytes()), "not-3d", "without a shape"),
    "flat map": (lambda: mmap.mmap(-1, 4096), "not-3d", "without a shape"),
    "array.array": (lambda: array.array("h", range(24)), "not-3d", r"shape \(24,\)"),
    "objects": (lambda: blocks().astype(object), "unsupported-type", "object"),
    "None": (lambda: None, "unsupported-type", "NoneType"),
    "bfloat16": (_torch(lambda t: t.zeros(SHAPE, dtype=t.bfloat16)), "unsupported-type", "bfloat16"),
    "float16": (_torch(lambda t: t.zeros(SHAPE, dtype=t.float16)), "unsupported-type", "float16"),
    "gradient": (_torch(lambda t: t.zeros(SHAPE, requires_grad=True)), "unsupported-type", r"detach\(\)"),
    "sparse": (_torch(lambda t: t.zeros(SHAPE).to_sparse()), "unsupported-type", "cannot view"),
    "no memory": (_torch(lambda t: t.zeros(SHAPE, device="meta")), "unsupported-type", "cannot view"),
    "complex": (_torch(lambda t: t.zeros(SHAPE, dtype=t.complex64)), "rgb-or-complex", "complex64"),
    # Its memory holds the negative of its values: lent as it lies, every node would be dark.
    "negated": (_torch(lambda t: t.full(SHAPE, 1 + 2j).conj().imag), "unsupported-type", r"resolve_neg\(\)"),
}


@pytest.mark.parametrize(("make", "code", "pattern"), REFUSED.values(), ids=REFUSED)
def test_memory_that_cannot_be_read_is_refused_in_one_line(
    light: Engine, make: Callable[[], Any], code: str, pattern: str
) -> None:
    for run in (lambda: light.run((make(), AFFINE)), lambda: light.run(Volume(make(), Grid(SHAPE, AFFINE)))):
        with pytest.raises(StudyError, match=pattern) as refusal:
            run()
        assert "\n" not in refusal.value.message
        if not isinstance(make(), (np.ndarray, array.array)):  # a Volume meets the shape of these first
            assert refusal.value.code == code


# --- their threads ----------------------------------------------------------------------------------------------------


def test_four_threads_get_each_their_own_patient(engine: Engine, patient: Volume, alone: Result) -> None:
    """Studies of different sizes, sides and contents run at once: shared state would change a result."""
    voxels, grid = patient.array, patient.grid
    blank = voxels.copy()
    blank[:, : voxels.shape[1] // 2] = np.median(voxels)
    fewer = np.ascontiguousarray(voxels[3:-2, 20:-20])
    studies = [(voxels, grid.affine), (voxels[:, :, ::-1], grid.affine), (blank, grid.affine), (fewer, grid.affine)]
    wanted = [alone, *(engine.run(study) for study in studies[1:])]
    assert len({result.nodes for result in wanted}) == 4
    together = threading.Barrier(4)

    def serve(study: Any) -> Result:
        together.wait(60)
        return engine.run(study)

    with ThreadPoolExecutor(4) as pool:
        for result, expected in zip(pool.map(serve, studies), wanted, strict=True):
            assert result.nodes == expected.nodes
            np.testing.assert_array_equal(result.labels.array, expected.labels.array)


def test_closing_waits_for_who_runs_and_refuses_who_waits(patient: Volume, alone: Result) -> None:
    engine = Engine()
    backend, inside = backend_of(engine), threading.Event()
    honest = backend.infer

    def infer() -> None:
        inside.set()
        honest()

    backend.infer = infer
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(engine.run, patient) for _ in range(3)]
        assert inside.wait(60)
        engine.close()
        outcomes = [run.exception(60) or run.result() for run in runs]
    served = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    refused = [outcome for outcome in outcomes if not isinstance(outcome, Result)]
    assert served and all(result.nodes == alone.nodes for result in served)
    assert all(isinstance(error, UsageError) and error.code == "engine-closed" for error in refused)
    with pytest.raises(UsageError, match="engine-closed"):
        engine.run(patient)


# --- their processes --------------------------------------------------------------------------------------------------

FORK = """
    import os, signal, sys, time, warnings
    warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads, which is the point here
    import numpy as np
    from lnfast import Engine
    from lnfast.errors import LnfastError
    voxels, affine = np.load(sys.argv[1]), np.load(sys.argv[2])
    engine = Engine()
    wanted = engine.run((voxels, affine)).nodes
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a child that hangs outlives nobody
        started = time.perf_counter()
        try:
            engine.run((voxels, affine))
        except LnfastError as error:
            print(error.code, time.perf_counter() - started < 1, flush=True)
        engine.close()
        with Engine() as own:
            print(own.run((voxels, affine)).nodes == wanted, flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), engine.run((voxels, affine)).nodes == wanted)
"""


@needs_fork
def test_a_fork_is_refused_at_once_and_may_open_its_own(tmp_path: Path, patient: Volume) -> None:
    np.save(tmp_path / "voxels.npy", patient.array)
    np.save(tmp_path / "affine.npy", patient.grid.affine)
    done = script(FORK, tmp_path / "voxels.npy", tmp_path / "affine.npy")
    assert done.stdout.split() == ["forked", "True", "True", "0", "True"]


POOL = """
    import sys
    import numpy as np
    from lnfast import Engine
    from lnfast.errors import LnfastError

    voxels = np.load(sys.argv[1])
    affine, folder, method = np.diag((-3.0, -3.0, 5.0, 1.0)), sys.argv[2], sys.argv[3]

    def inherited(_):
        try:
            return len(ENGINE.run((voxels, affine)).nodes)
        except LnfastError as error:
            return error.code

    def own(_):
        with Engine(model=folder) as engine:
            return len(engine.run((voxels, affine)).nodes)

    if __name__ == "__main__":
        import multiprocessing, warnings
        warnings.simplefilter("ignore")
        from concurrent.futures import ProcessPoolExecutor
        ENGINE = Engine(model=folder)
        here = len(ENGINE.run((voxels, affine)).nodes)
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
            old = set(pool.map(inherited, range(4), timeout=60)) if method == "fork" else "-"
            print(here, *old, *pool.map(own, range(4), timeout=60))
"""


@pytest.mark.parametrize("method", [pytest.param("fork", marks=needs_fork), "spawn"])
def test_a_pool_of_processes(tmp_path: Path, tiny: Path, method: str) -> None:
    np.save(tmp_path / "voxels.npy", blocks())
    program = tmp_path / "host.py"  # what is spawned imports its program from a file
    program.write_text(textwrap.dedent(POOL))
    command = [sys.executable, program, tmp_path / "voxels.npy", tiny, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["2", "forked" if method == "fork" else "-", "2", "2", "2", "2"]


# --- what is theirs alone ---------------------------------------------------------------------------------------------

STATE = """
    import ctypes, gc, locale, logging, os, signal, sys, threading, warnings
    import numpy as np

    libc = ctypes.CDLL(None)

    def c_environment():
        table, found = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ"), []
        while table[len(found)]:
            found.append(table[len(found)])
        return sorted(found)

    def state():
        with open("/proc/self/status") as lines:
            status = dict(line.split(":", 1) for line in lines)
        mask = os.umask(0)
        os.umask(mask)
        tiny = np.float32([1.5e-39]) * np.float32(0.5)  # 0 where denormals are flushed
        return {
            "signals": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
            "handlers": [repr(signal.getsignal(number)) for number in signal.valid_signals()],
            "logging": (logging.root.level, logging.root.handlers[:], logging.root.disabled, logging.root.filters[:],
                        logging.root.manager.disable, logging.raiseExceptions, logging.getLoggerClass()),
            "warnings": (warnings.filters[:], warnings.showwarning),
            "locale": locale.setlocale(locale.LC_ALL),
            "environment": (dict(os.environ), c_environment()),
            "folder": os.getcwd(),
            "umask": mask,
            "numpy": (np.geterr(), np.geterrcall(), np.get_printoptions(), np.random.get_state()[1].tobytes()),
            "denormals": (float(tiny[0]) > 0, sys.float_info.min / 2 > 0),
            "rounding": libc.fegetround(),
            "processors": os.sched_getaffinity(0),
            "priority": os.getpriority(os.PRIO_PROCESS, 0),
            "streams": (sys.stdin, sys.stdout, sys.stderr, sys.excepthook, threading.excepthook, sys.unraisablehook),
            "interpreter": (sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold(),
                            sys.path[:], sys.gettrace(), sys.getprofile(), threading.gettrace()),
        }

    def compare(when):
        now = state()
        for name in before:
            assert before[name] == now[name], (when, name, before[name], now[name])

    voxels, affine = np.load(sys.argv[1]), np.load(sys.argv[2])
    before = state()
    import lnfast
    compare("import")
    with lnfast.Engine(backend=sys.argv[3]) as engine:
        compare("load")
        engine.run((voxels, affine))
        compare("run")
    compare("close")
"""


@needs_proc
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_nothing_of_the_host_is_changed_and_nothing_printed(tmp_path: Path, tiny: Path, backend: str) -> None:
    """The other runtime on a small network: what it would change does not depend on that."""
    np.save(tmp_path / "voxels.npy", blocks())
    np.save(tmp_path / "affine.npy", AFFINE)
    text = STATE if backend == "openvino" else STATE.replace("lnfast.Engine(", f"lnfast.Engine({str(tiny)!r}, ")
    done = script(text, tmp_path / "voxels.npy", tmp_path / "affine.npy", backend)
    assert done.stdout == ""


THREADS = """
    import os, sys
    import numpy as np
    from lnfast import Engine
    voxels = np.load(sys.argv[1])
    counts = []
    for _ in range(4):
        with Engine(model=sys.argv[2], threads=4) as engine:
            engine.run((voxels, np.diag((-3.0, -3.0, 5.0, 1.0))))
        counts.append(len(os.listdir("/proc/self/task")))
    print(*counts)
"""


@needs_proc
def test_threads_do_not_gather(tmp_path: Path, tiny: Path) -> None:
    """Memory that a runtime does not release in `close` does not grow with every engine."""
    np.save(tmp_path / "voxels.npy", blocks())
    counts = [int(count) for count in script(THREADS, tmp_path / "voxels.npy", tiny).stdout.split()]
    assert counts[1] == counts[2] == counts[3], counts


UNCLOSED = """
    import sys
    import numpy as np
    from lnfast import Engine
    engines = [Engine(model=sys.argv[2], backend=backend) for backend in ("openvino", "onnxruntime")]
    voxels, affine = np.load(sys.argv[1]), np.diag((-3.0, -3.0, 5.0, 1.0))
    print(*(len(engine.run((voxels, affine)).nodes) for engine in engines))
"""


def test_a_process_may_end_with_engines_open(tmp_path: Path, tiny: Path) -> None:
    np.save(tmp_path / "voxels.npy", blocks())
    assert script(UNCLOSED, tmp_path / "voxels.npy", tiny).stdout.split() == ["2", "2"]


MEMORY = """
    import resource, sys
    import numpy as np
    from lnfast import Engine
    voxels, affine = np.load(sys.argv[1]), np.load(sys.argv[2])
    peaks = []
    with Engine() as engine:
        for run in range(12):
            engine.run((voxels, affine))
            if run in (2, 11):
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    print(*peaks)
"""


@needs_proc
def test_twelve_studies_need_no_more_memory_than_three(tmp_path: Path, patient: Volume) -> None:
    np.save(tmp_path / "voxels.npy", patient.array)
    np.save(tmp_path / "affine.npy", patient.grid.affine)
    three_kb, twelve_kb = map(int, script(MEMORY, tmp_path / "voxels.npy", tmp_path / "affine.npy").stdout.split())
    assert twelve_kb - three_kb < 8 << 10, f"{three_kb >> 10} MB after three, {twelve_kb >> 10} MB after twelve"


# --- their exceptions -------------------------------------------------------------------------------------------------


def test_an_affine_that_cannot_be_read_is_a_refusal(light: Engine) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(StudyError, match="bad-geometry"):
        light.run((blocks(), torch.from_numpy(AFFINE).requires_grad_()))


def test_what_the_runtime_raised_comes_along(light: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = RuntimeError("out of something")

    def fail() -> None:
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(backend_of(light), "_run", fail)
        with pytest.raises(EngineError, match="inference-failed") as caught:
            light.run((blocks(), AFFINE))
        assert caught.value.__cause__ is raised
        answers = list(light.run_many([(blocks(), AFFINE)]))
        assert [answer.error.__cause__ for answer in answers if not isinstance(answer, Result)] == [raised]
    assert len(light.run((blocks(), AFFINE)).nodes) == 2


@pytest.mark.parametrize("kind", [KeyError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [False, True], ids=["", "written"])
def test_what_their_iterable_raises_arrives_as_it_is(
    light: Engine, tmp_path: Path, kind: type[BaseException], written: bool
) -> None:
    raised, before = kind("theirs"), threading.active_count()

    def studies() -> Iterator[Any]:
        yield blocks(), AFFINE
        raise raised

    with pytest.raises(kind) as caught:
        for answer in light.run_many(studies(), out=tmp_path / "out" if written else None):
            assert isinstance(answer, Result)
    assert caught.value is raised
    assert threading.active_count() == before
    assert len(light.run((blocks(), AFFINE)).nodes) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupted_run_leaves_the_engine_as_it_was(
    engine: Engine, patient: Volume, alone: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C during inference is raised when the network is done, and the next study is served."""
    backend = backend_of(engine)
    honest = backend.infer

    def infer() -> None:
        timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.start()
        honest()
        timer.join()  # however fast the network is, nobody is interrupted later

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(backend, "infer", infer)
            with pytest.raises(KeyboardInterrupt):
                engine.run(patient)
    finally:
        signal.signal(signal.SIGINT, before)
    assert engine.run(patient).nodes == alone.nodes


@pytest.fixture
def struck(light: Engine, tiny: Path) -> Iterator[Callable[[Callable[[Engine], object]], list[object]]]:
    """Return a function that runs a study; a signal handler uses the same engine in the middle of it."""
    before = signal.getsignal(signal.SIGALRM)

    def run(handler: Callable[[Engine], object]) -> list[object]:
        with Engine(model=tiny) as engine:
            backend, answers = backend_of(engine), []
            honest = backend.infer

            def infer() -> None:
                signal.raise_signal(signal.SIGALRM)
                honest()

            def handle(number: int, frame: object) -> None:
                try:
                    answers.append(handler(engine))
                except Exception as error:
                    answers.append(error)

            backend.infer = infer
            signal.signal(signal.SIGALRM, handle)
            answers.append(len(engine.run((blocks(), AFFINE)).nodes))
            backend.infer = honest
            answers.append(engine)
            try:
                answers.append(len(engine.run((blocks(), AFFINE)).nodes))
            except UsageError as error:
                answers.append(error.code)
        return answers

    yield run
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_handler_that_runs_a_study_is_refused_instead_of_waiting_for_ever(struck: Any) -> None:
    refused, served, _, again = struck(lambda engine: engine.run((blocks(), AFFINE)))
    assert isinstance(refused, UsageError) and refused.code == "engine-busy"
    assert served == again == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_handler_may_close_the_engine_that_it_interrupts(struck: Any) -> None:
    done, served, engine, again = struck(lambda engine: engine.close())
    assert done is None and served == 2
    assert again == "engine-closed" and engine._network is None


def test_a_window_that_cannot_be_loaded_costs_its_study_and_no_other(
    light: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = light._network
    assert network is not None
    honest, raised = network.at, ModelError("model-damaged", "model.onnx was changed")
    studies = iter([True, False])

    def at(shape_zyx: Any) -> Any:
        if next(studies):
            raise raised
        return honest(shape_zyx)

    monkeypatch.setattr(network, "at", at)
    failure, result = light.run_many([(blocks(), AFFINE)] * 2)
    assert isinstance(failure, StudyFailure) and failure.error is raised
    assert isinstance(result, Result) and len(result.nodes) == 2


def test_an_array_that_changes_under_the_kernels_does_no_harm() -> None:
    """A host thread writes into the voxels that a kernel reads: any numbers may result, but no invalid access."""
    voxels = np.zeros((8, 64, 64), np.float32)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            voxels[:] = 1e30
            voxels[:] = 0.0
            voxels[::2] = np.linspace(-1e-3, 1e-3, 64, dtype=np.float32)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            with suppress(RuntimeError):
                lnfast_ext.intensity_statistics(voxels, percentiles=(1.0, 99.0))
    finally:
        stop.set()
        writer.join()


def test_the_page_for_vendors_names_codes_that_exist() -> None:
    root = Path(__file__).resolve().parents[2]
    table = (root / "docs" / "vendors.md").read_text(encoding="utf-8").partition("### Errors")[2].partition("###")[0]
    named = set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", table))
    source = "".join(path.read_text(encoding="utf-8") for path in (root / "lnfast").rglob("*.py"))
    # Some are put together: f"unknown-{what}".
    composed = {
        f"{subject}-{how}" for subject in ("backend", "device", "precision") for how in ("mismatch", "unavailable")
    }
    composed |= {f"unknown-{subject}" for subject in ("backend", "device", "precision")}
    assert len(named) > 40
    assert not {code for code in named - composed if f'"{code}"' not in source}


def test_the_page_for_vendors_shows_code_that_works(tiny: Path) -> None:
    """Run on the small network."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "vendors.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- test: python -->\n```python\n")[2].partition("```")[0]
    assert "lnfast.Engine()" in shown
    host: dict[str, Any] = {}
    exec(shown.replace("lnfast.Engine()", f"lnfast.Engine({str(tiny)!r})"), host)
    with host["engine"]:
        assert host["serve"](blocks(), AFFINE)["summary"]["nodes"] == 2
        assert host["serve"](np.zeros(SHAPE), AFFINE)["refused"] == "constant"
        backend = backend_of(host["engine"])
        backend.output[:] = np.nan
        backend.infer = lambda: None
        assert host["serve"](blocks(), AFFINE)["failed"] == "non-finite-logits"
