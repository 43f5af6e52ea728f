"""Both runtimes against a numpy oracle, in place, and refusing whatever is not what the card says."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from model_files import SHAPE_ZYX, graph, make_model_folder, network
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lnfast import optional
from lnfast.backends import Backend, Candidate, backend_status, candidates, choice, open_backend, trt
from lnfast.backends import graph as graph_module
from lnfast.backends import openvino as ov_backend
from lnfast.backends import ort as ort_backend
from lnfast.card import Model, load_model
from lnfast.errors import BackendError, EngineError, LnfastError, ModelError, UsageError

OPENVINO = Candidate("openvino", "cpu", "fp32", "")
ONNXRUNTIME = Candidate("onnxruntime", "cpu", "fp32", "")
BOTH = pytest.mark.parametrize("candidate", [OPENVINO, ONNXRUNTIME], ids=["openvino", "onnxruntime"])
NO_TENSORRT = pytest.mark.parametrize(
    ("package_there", "code", "message"),
    [
        (False, "backend-missing", r"neither is installed: pip install 'lnfast\[rtx\]'"),
        (True, "device-missing", "needs an NVIDIA GPU"),
    ],
    ids=["no package", "no GPU"],
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(make_model_folder(tmp_path_factory.mktemp("model"), network()))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test what holds without an NVIDIA GPU on machines with a GPU as well."""
    for module in (choice, ort_backend, trt):
        monkeypatch.setattr(module, "nvidia_gpus", lambda: 0)


def show_tensorrt(monkeypatch: pytest.MonkeyPatch, package_there: bool) -> None:
    """Make TensorRT-RTX look installed or not; TensorRT is not."""
    real = optional.find_spec

    def find_spec(name: str) -> Any:
        if name.startswith("tensorrt"):
            return SimpleNamespace(origin=name) if package_there and name == "tensorrt_rtx" else None
        return real(name)

    monkeypatch.setattr(optional, "find_spec", find_spec)


@pytest.fixture
def study() -> NDArray[np.float32]:
    return np.random.default_rng(7).standard_normal((1, 1, *SHAPE_ZYX)).astype(np.float32)


def oracle(x: NDArray[np.float32], onnx_bytes: bytes) -> NDArray[np.float64]:
    """What `model_files.network` computes, spelled out; ``(1, 1, z, y, x)``."""
    weights = {w.name: numpy_helper.to_array(w) for w in onnx.load_from_string(onnx_bytes).graph.initializer}
    skip = np.maximum(_conv3(x[0].astype(np.float64), weights["w1"], weights["b1"]), 0)
    c, z, y, x_ = skip.shape
    pooled = skip.reshape(c, z // 2, 2, y // 2, 2, x_ // 2, 2).max(axis=(2, 4, 6))
    deep = np.maximum(_conv3(pooled, weights["w2"], weights["b2"]), 0)
    lifted = np.einsum("czyx,codef->ozdyexf", deep, weights["w3"]).reshape(4, z, y, x_)
    joined = np.concatenate([lifted + weights["b3"][:, None, None, None], skip])
    logits = np.einsum("czyx,oc->ozyx", joined, weights["w4"][:, :, 0, 0, 0]) + weights["b4"]
    return logits[None]


def _conv3(x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """3x3x3, zero padding 1; `x` is ``(channels, z, y, x)``."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1)))
    z, y, x_ = x.shape[1:]
    out = np.zeros((len(weight), z, y, x_)) + bias[:, None, None, None]
    for i, j, k in np.ndindex(3, 3, 3):
        out += np.einsum("czyx,oc->ozyx", padded[:, i : i + z, j : j + y, k : k + x_], weight[:, :, i, j, k])
    return out


# --- what they compute, and where -------------------------------------------------------------------------------------


def test_every_candidate_computes_what_the_oracle_computes(model: Model, study: NDArray[np.float32]) -> None:
    wanted = oracle(study, model.onnx_bytes)
    offered = [candidate for candidate in candidates() if not candidate.needs_engine]
    assert {("openvino", "fp32"), ("onnxruntime", "fp32")} <= {
        (candidate.backend, candidate.precision) for candidate in offered
    }
    for candidate in offered:
        with closing(open_backend(model, candidate, threads=1)) as backend:
            backend.input[...] = study
            backend.infer()
            worst = np.abs(backend.output - wanted).max() / np.abs(wanted).max()
            assert worst < (1e-5 if candidate.precision == "fp32" else 2e-2), candidate
            info = backend.info
            assert (info.name, info.device, info.precision) == (candidate.backend, "cpu", candidate.precision)
            assert info.version.count(".") == 2


def test_bf16_is_used_where_it_is_promised(model: Model, study: NDArray[np.float32]) -> None:
    promised = [candidate for candidate in candidates("openvino") if candidate.precision == "bf16"]
    if not promised:
        pytest.skip("this CPU has no bf16")
    with closing(open_backend(model, promised[0])) as backend:
        backend.input[...] = study
        backend.infer()
        error = np.abs(backend.output - oracle(study, model.onnx_bytes)).max()
    assert error > 1e-4, "fp32 is more exact than this: the requested precision was not used"


@BOTH
def test_the_runtime_works_in_the_buffers_themselves(
    model: Model, study: NDArray[np.float32], candidate: Candidate
) -> None:
    with closing(open_backend(model, candidate, threads=1)) as backend:
        assert np.isnan(backend.output).all(), "what was never inferred must not look like an empty mask"
        source, target = backend.input, backend.output
        addresses = source.ctypes.data, target.ctypes.data
        for array in (source, target):
            assert array.dtype == np.float32 and array.shape == (1, 1, *SHAPE_ZYX)
            assert array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % 64 == 0
        for factor in (1, -2, 3):
            source[...] = study * factor
            target.fill(np.nan)
            backend.infer()
            assert np.abs(target - oracle(study * factor, model.onnx_bytes)).max() < 1e-4
        assert np.array_equal(source, study * 3), "the runtime scribbled over its input"
        assert (backend.input.ctypes.data, backend.output.ctypes.data) == addresses
        assert backend.input is source and backend.output is target


@BOTH
def test_infer_allocates_no_volume(tmp_path: Path, candidate: Candidate) -> None:
    shape = (16, 64, 64)
    model = load_model(make_model_folder(tmp_path, network(shape), shape_zyx=shape))
    with closing(open_backend(model, candidate, threads=1)) as backend:
        backend.infer()
        tracemalloc.start()
        try:
            backend.infer()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < backend.output.nbytes // 8


def test_a_runtime_that_copies_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    shared = openvino.Tensor
    monkeypatch.setattr(openvino, "Tensor", lambda array, shared_memory: shared(array, shared_memory=False))
    assert refusal(EngineError, lambda: open_backend(model, OPENVINO)) == "not-in-place"


@BOTH
def test_infer_lets_other_threads_run(tmp_path: Path, candidate: Candidate) -> None:
    shape = (64, 128, 128)
    model = load_model(make_model_folder(tmp_path, network(shape), shape_zyx=shape))
    with closing(open_backend(model, candidate, threads=1)) as backend:
        backend.infer()
        for _ in range(20):
            window: list[float] = []

            def work(window: list[float] = window, backend: Backend = backend) -> None:
                window.append(time.perf_counter())
                backend.infer()
                window.append(time.perf_counter())

            thread, ticks = threading.Thread(target=work), []
            thread.start()
            while thread.is_alive():
                ticks.append(time.perf_counter())
                time.sleep(0.0005)
            start, end = window
            quarter = (end - start) / 4
            if any(start + quarter < tick < end - quarter for tick in ticks):
                return
    pytest.fail("no other thread ever ran in the middle half of an inference")


def test_backends_in_several_threads_do_not_disturb_each_other(model: Model, study: NDArray[np.float32]) -> None:
    wrong: list[str] = []

    def work(candidate: Candidate, factor: int) -> None:
        with closing(open_backend(model, candidate, threads=1)) as backend:
            backend.input[...] = study * factor
            for _ in range(5):
                backend.infer()
            if np.abs(backend.output - oracle(study * factor, model.onnx_bytes)).max() > 1e-4:
                wrong.append(f"{candidate} {factor}")

    threads = [
        threading.Thread(target=work, args=(candidate, i)) for i in (1, 2) for candidate in (OPENVINO, ONNXRUNTIME)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@BOTH
def test_a_working_runtime_prints_nothing(
    tmp_path: Path, candidate: Candidate, capfd: pytest.CaptureFixture[str]
) -> None:
    chatty = network()
    chatty.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "used_by_nobody"))
    with closing(open_backend(folder_model(tmp_path, chatty), candidate)) as backend:
        backend.infer()
    assert capfd.readouterr() == ("", "")


# --- life and death ---------------------------------------------------------------------------------------------------


@BOTH
def test_close_twice_and_then_infer(model: Model, candidate: Candidate) -> None:
    backend = open_backend(model, candidate)
    backend.infer()
    logits = backend.output.copy()
    backend.close()
    backend.close()
    assert refusal(EngineError, backend.infer) == "backend-closed"
    assert np.array_equal(backend.output, logits), "the arrays outlive the runtime"


@BOTH
def test_a_failing_runtime_is_told_with_its_own_exception(model: Model, candidate: Candidate) -> None:
    def fail() -> None:
        raise RuntimeError("Exception from src/somewhere.cpp:12:\nno\nmemory\n")

    backend = open_backend(model, candidate)
    backend._run = fail  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="no memory") as caught:
        backend.infer()
    assert caught.value.code == "inference-failed" and "somewhere" not in caught.value.message
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@BOTH
def test_a_forked_child_gets_an_error_and_does_not_hang(tmp_path: Path, candidate: Candidate) -> None:
    """In a process of its own: a fork of the test process would carry the threads of all other tests."""
    make_model_folder(tmp_path, network())
    script = f"""
import os, pathlib, signal, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads, which is the point here
from lnfast.backends import candidates, open_backend
from lnfast.card import load_model
from lnfast.errors import EngineError
model = load_model(pathlib.Path({str(tmp_path)!r}))
candidate = candidates({candidate.backend!r}, "cpu", "fp32")[0]
backend = open_backend(model, candidate, threads=1)
backend.infer()
child = os.fork()
if not child:
    signal.alarm(30)  # a child that hangs outlives nobody
    try:
        backend.infer()
    except EngineError as error:
        print(error.code, flush=True)
    backend.close()
    del backend
    own = open_backend(model, candidate, threads=1)
    own.infer()
    print("own", flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.returncode) == (["forked", "own"], 0), done.stderr


def test_importing_is_light_and_nothing_is_sent(tmp_path: Path) -> None:
    """OpenVINO's own import starts a process that reports to a web address, unless CI is set or the user opted out."""
    make_model_folder(tmp_path / "model", network())
    script = f"""
import sys
seen = []
sys.addaudithook(lambda name, args: seen.append(name))
import lnfast.backends as backends
assert not {{"openvino", "onnxruntime", "onnx", "torch"}} & set(sys.modules), "an import that is not light"
import pathlib
from lnfast.card import load_model
for candidate in (offer for offer in backends.candidates() if not offer.needs_engine):
    backends.open_backend(load_model(pathlib.Path({str(tmp_path / "model")!r})), candidate, threads=1).infer()
assert "openvino" in sys.modules
assert "openvino_telemetry" not in sys.modules, "the package that sends was imported"
bad = [name for name in seen if name.startswith(("socket.", "subprocess.", "os.fork", "os.posix_spawn", "urllib."))]
assert not bad, bad
"""
    home = tmp_path / "home"
    home.mkdir()
    quiet = {"CI", "TF_BUILD", "JENKINS_URL"}  # these would silence OpenVINO and hide a failure of ours
    env = {key: value for key, value in os.environ.items() if key not in quiet} | {"HOME": str(home)}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not [path for path in home.rglob("*") if "intel" in str(path.relative_to(home)).lower()]


# --- models that are refused ------------------------------------------------------------------------------------------


def refusal(kind: type[LnfastError], call: Callable[[], object]) -> str:
    """The code of the error that `call` raises; its message is one line."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and "\n" not in caught.value.message
    return caught.value.code


def folder_model(folder: Path, content: onnx.ModelProto | bytes, **entries: Any) -> Model:
    return load_model(make_model_folder(folder, content, **entries))


def half_network() -> onnx.ModelProto:
    return graph([helper.make_node("Relu", ["input"], ["logits"])], [], SHAPE_ZYX, dtype=TensorProto.FLOAT16)


def two_inputs() -> onnx.ModelProto:
    model = graph([helper.make_node("Add", ["input", "more"], ["logits"])], [], SHAPE_ZYX)
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1, 1, *SHAPE_ZYX]))
    return model


@BOTH
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (network((8, 16, 32)), "32"),
        (network((16, 16, 8)), "16"),
        (network(("depth", 16, 16)), "input float32"),
        (network(input_name="image"), "image"),
        (half_network(), "16"),
        (two_inputs(), "more"),
    ],
    ids=["wider", "turned", "free", "named", "half", "two"],
)
def test_a_graph_that_is_not_what_the_card_says(
    tmp_path: Path, candidate: Candidate, content: onnx.ModelProto, message: str
) -> None:
    model = folder_model(tmp_path, content)
    with pytest.raises(ModelError, match=message) as caught:
        open_backend(model, candidate)
    assert caught.value.code == "model-mismatch" and "card.json of model tiny wants" in caught.value.message


@BOTH
@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 64, b"not a model at all", b"<?xml version='1.0'?><net name='x' version='11'></net>", b"\xff" * 99],
    ids=["empty", "zeros", "text", "xml", "ones"],
)
def test_bytes_that_are_no_model(tmp_path: Path, candidate: Candidate, content: bytes) -> None:
    model = folder_model(tmp_path, content)
    assert refusal(ModelError, lambda: open_backend(model, candidate)) == "bad-onnx"


@BOTH
def test_a_model_cut_short(tmp_path: Path, candidate: Candidate, capfd: pytest.CaptureFixture[str]) -> None:
    whole = network().SerializeToString()
    for i, length in enumerate((1, 2, 30, len(whole) // 2, len(whole) - 6, len(whole) - 1)):
        model = folder_model(tmp_path / str(i), whole[:length])
        assert refusal(ModelError, lambda model=model: open_backend(model, candidate)) == "bad-onnx"
    assert capfd.readouterr() == ("", ""), "what is raised is not printed as well"


def test_no_cut_and_no_flipped_byte_breaks_the_walk(tmp_path: Path) -> None:
    """The walk says `ModelError` or nothing; it neither raises anything else nor runs for ever."""
    whole = network().SerializeToString()
    rng = np.random.default_rng(0)
    variants = [whole[:cut] for cut in range(0, len(whole), 41)]
    for _ in range(150):
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        variants.append(bytes(flipped))
    for content in variants:
        with suppress(ModelError):
            graph_module.check_file(content, "model.onnx of model tiny")


@BOTH
def test_an_operator_that_nobody_knows(tmp_path: Path, candidate: Candidate) -> None:
    model = folder_model(tmp_path, graph([helper.make_node("Frobnicate", ["input"], ["logits"])], [], SHAPE_ZYX))
    with pytest.raises(ModelError, match="Frobnicate") as caught:
        open_backend(model, candidate)
    assert caught.value.code == "unsupported-op"


@BOTH
def test_weights_outside_the_file_are_refused_even_where_they_could_be_found(
    tmp_path: Path, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO finds them when the current folder is theirs, so the runtimes cannot be left to refuse."""
    saved = tmp_path / "saved.onnx"
    onnx.save_model(network(), str(saved), save_as_external_data=True, location="weights.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    model = folder_model(tmp_path / "model", saved.read_bytes())
    assert refusal(ModelError, lambda: open_backend(model, candidate)) == "external-data"


def test_weights_outside_the_file_are_seen_in_constants_and_bodies(tmp_path: Path) -> None:
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="/etc/passwd")
    body = helper.make_graph([helper.make_node("Constant", [], ["w"], value=outside)], "body", [], [])
    for i, attributes in enumerate(({"value": outside}, {"then_branch": body}, {"else_branch": body})):
        content = graph([helper.make_node("Constant" if i == 0 else "If", [], ["logits"], **attributes)], [], SHAPE_ZYX)  # type: ignore[arg-type]
        model = folder_model(tmp_path / str(i), content)
        assert refusal(ModelError, lambda model=model: open_backend(model, OPENVINO)) == "external-data"


def test_a_changed_file_is_refused_before_any_runtime_sees_it(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path, network())
    (folder / "model.onnx").write_bytes(network(seed=1).SerializeToString())
    assert refusal(ModelError, lambda: open_backend(load_model(folder), OPENVINO)) == "model-damaged"


# --- requested and actual ---------------------------------------------------------------------------------------------


def test_auto_order_is_fastest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order = [(candidate.backend, candidate.device, candidate.precision) for candidate in candidates(device="cpu")]
    fp32 = [("openvino", "cpu", "fp32"), ("onnxruntime", "cpu", "fp32")]
    assert [candidate for candidate in order if candidate[2] == "fp32"] == fp32
    assert all(candidate.reason and "\n" not in candidate.reason for candidate in candidates())

    cores = {
        "native": ("bf16", ["int8", "bf16", "fp32"]),
        "emulated": ("f32", ["int8", "fp32", "bf16"]),
        "none": (None, ["int8", "fp32"]),
    }
    for default, wanted in cores.values():
        properties = {
            "OPTIMIZATION_CAPABILITIES": ["FP32"] + ["BF16"] * (default is not None),
            "INFERENCE_PRECISION_HINT": SimpleNamespace(get_type_name=lambda default=default: default),
        }
        core = SimpleNamespace(get_property=lambda _, name, properties=properties: properties[name])
        monkeypatch.setattr(ov_backend, "_load", lambda core=core: SimpleNamespace(Core=lambda: core))
        assert [candidate.precision for candidate in candidates("openvino")] == wanted
        assert [candidate.precision for candidate in candidates("openvino") if candidate.needs_engine] == ["int8"]


def test_what_is_named_is_the_only_one() -> None:
    assert {candidate.backend for candidate in candidates("onnxruntime")} == {"onnxruntime"}
    assert {candidate.precision for candidate in candidates(precision="fp32")} == {"fp32"}
    assert [(candidate.backend, candidate.precision) for candidate in candidates("openvino", "cpu", "fp32")] == [
        ("openvino", "fp32")
    ]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"backend": "torch"}, "unknown-backend"),
        ({"device": "gpu"}, "unknown-device"),
        ({"device": "cuda:x"}, "unknown-device"),
        ({"device": "cuda:"}, "unknown-device"),
        ({"precision": "float32"}, "unknown-precision"),
    ],
)
def test_unknown_names(request_: dict[str, str], code: str) -> None:
    assert refusal(UsageError, lambda: candidates(**request_)) == code


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({"backend": "openvino", "device": "cuda:0"}, "device-missing", "here: cpu"),
        ({"device": "cuda:77"}, "device-missing", "onnxruntime-gpu"),
        ({"precision": "fp16"}, "precision-unavailable", "onnxruntime cpu fp32"),
        ({"backend": "onnxruntime", "device": "cpu", "precision": "bf16"}, "precision-unavailable", "fp32"),
        ({"backend": "openvino", "precision": "fp16"}, "precision-unavailable", "openvino cpu fp32"),
    ],
)
@pytest.mark.usefixtures("no_gpu")
def test_what_this_machine_lacks(request_: dict[str, str], code: str, message: str) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        candidates(**request_)
    assert caught.value.code == code and caught.value.exit_code == 5


@NO_TENSORRT
@pytest.mark.usefixtures("no_gpu")
def test_tensorrt_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch, package_there: bool, code: str, message: str
) -> None:
    show_tensorrt(monkeypatch, package_there)
    for device in ("auto", "cuda:0"):
        with pytest.raises(BackendError, match=message) as caught:
            candidates("tensorrt", device)
        assert caught.value.code == code and caught.value.exit_code == 5
    assert {candidate.backend for candidate in candidates()} == {"openvino", "onnxruntime"}, (
        "the others do not go with it"
    )


def test_a_runtime_that_falls_back_to_the_cpu_is_caught(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime with CUDA and a driver that does not fit it makes a CPU session and says nothing."""
    import onnxruntime

    real = onnxruntime.InferenceSession
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(ort_backend, "nvidia_gpus", lambda: 1)

    def fall_back(content: bytes, options: object, providers: list[Any], **_: object) -> object:
        assert providers == [("CUDAExecutionProvider", {"device_id": "0", "use_tf32": "0"})]
        return real(content, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    first = next(candidate for candidate in candidates() if not candidate.needs_engine)
    assert (first.backend, first.device, first.precision) == ("onnxruntime", "cuda:0", "fp32")
    assert [candidate for candidate in candidates("onnxruntime", "cuda") if not candidate.needs_engine] == [first]
    assert refusal(EngineError, lambda: open_backend(model, first)) == "device-mismatch"


def test_a_runtime_that_computes_in_another_precision_is_caught(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ov_backend._settings
    monkeypatch.setattr(ov_backend, "_settings", lambda _, threads: settings(OPENVINO, threads))
    requested = Candidate("openvino", "cpu", "bf16", "")
    assert refusal(EngineError, lambda: open_backend(model, requested)) == "precision-mismatch"
    requested = Candidate("openvino", "cuda:0", "fp32", "")
    assert refusal(EngineError, lambda: open_backend(model, requested)) == "device-mismatch"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_candidate_that_was_never_offered(model: Model, backend: str, precision: str) -> None:
    with pytest.raises(EngineError):
        open_backend(model, Candidate(backend, "cpu", precision, ""))


def test_threads(model: Model, study: NDArray[np.float32]) -> None:
    assert refusal(UsageError, lambda: open_backend(model, OPENVINO, threads=-1)) == "bad-threads"
    for candidate in (OPENVINO, ONNXRUNTIME):
        for threads in (0, 1, 2):
            with closing(open_backend(model, candidate, threads=threads)) as backend:
                backend.input[...] = study
                backend.infer()
                assert np.abs(backend.output - oracle(study, model.onnx_bytes)).max() < 1e-4


# --- packages that are missing or broken ------------------------------------------------------------------------------


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make packages look as if they were not installed."""
    real = optional.find_spec

    def hide(*names: str) -> None:
        monkeypatch.setattr(optional, "find_spec", lambda name: None if name in names else real(name))

    return hide  # type: ignore[return-value]


@pytest.mark.usefixtures("no_gpu")
def test_a_missing_runtime(hide: Callable[..., None]) -> None:
    hide("openvino")
    assert {candidate.backend for candidate in candidates()} == {"onnxruntime"}
    with pytest.raises(BackendError, match=r"pip install 'lnfast\[cpu\]'") as caught:
        candidates("openvino")
    assert caught.value.code == "backend-missing"
    hide("openvino", "onnxruntime")
    with pytest.raises(BackendError, match=r"openvino or onnxruntime\): pip install 'lnfast\[cpu\]'") as caught:
        candidates()
    assert caught.value.code == "backend-missing"
    for status, extra in zip(backend_status()[:2], ("cpu", "onnxruntime"), strict=True):
        assert not status.installed and status.mend == f"pip install 'lnfast[{extra}]'"
        assert "not installed" in str(status.problem)


@pytest.mark.usefixtures("no_gpu")
def test_a_broken_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def broken(name: str) -> Any:
        if name == "openvino":
            raise OSError("libtbb.so.12: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    assert {candidate.backend for candidate in candidates()} == {"onnxruntime"}
    assert refusal(BackendError, lambda: candidates("openvino")) == "backend-broken"
    status = backend_status()[0]
    assert status.installed and status.devices == () and "libtbb.so.12" in str(status.problem) and status.mend


def test_a_folder_that_an_uninstall_left_is_not_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    left = optional.Package("x", "left_behind", ("left-behind",), "x")
    assert not left.installed() and left.version() is None and left.present() == ()
    assert not optional.Package("x", "no.such.package", ("left-behind",), "").installed()


@NO_TENSORRT
@pytest.mark.usefixtures("no_gpu")
def test_status_of_this_machine(monkeypatch: pytest.MonkeyPatch, package_there: bool, code: str, message: str) -> None:
    show_tensorrt(monkeypatch, package_there)
    openvino, onnxruntime, tensorrt = backend_status()
    assert [status.name for status in (openvino, onnxruntime, tensorrt)] == ["openvino", "onnxruntime", "tensorrt"]
    for status in (openvino, onnxruntime):
        assert status.installed and status.version and "cpu" in status.devices and "fp32" in status.precisions
        assert status.problem is None and status.mend is None
    assert tensorrt.installed == package_there and tensorrt.devices == tensorrt.precisions == ()
    assert re.search(message, str(tensorrt.problem))
    assert tensorrt.mend == (None if package_there else "pip install 'lnfast[rtx]'")

    monkeypatch.setattr(optional, "_version", lambda name: "1.0")
    status = backend_status()[1]
    assert "installed over each other" in str(status.problem) and str(status.mend).startswith(
        "pip uninstall onnxruntime"
    )


def test_status_survives_whatever_a_runtime_throws(monkeypatch: pytest.MonkeyPatch) -> None:
    def throw() -> None:
        raise SystemError("bad\nthings")

    monkeypatch.setattr(choice.RUNTIMES["openvino"], "offers", throw)
    assert backend_status()[0].problem == "bad things"
