"""Peers of the benchmarks: their network has the subject's weights, and its input is normalized as the subject's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
pytest.importorskip("trimesh")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from benchmarks.harness.agreement import WrongAnswerError  # noqa: E402
from benchmarks.peers import inference  # noqa: E402
from benchmarks.peers.onnx_to_torch import OnnxModule  # noqa: E402
from benchmarks.peers.pipeline import normalize_for_network  # noqa: E402
from benchmarks.peers.setup import check_same_weights  # noqa: E402
from lnfast.card import load_model, shipped_models  # noqa: E402
from lnfast.phantom import make_phantom  # noqa: E402
from lnfast.preprocess import write_input  # noqa: E402
from training.recipe.card import draft_card  # noqa: E402

ON_GPU = ["eager fp32", "amp fp16", "channels_last_3d amp fp16", "compile amp fp16"]
ON_CPU = ["eager fp32", "channels_last_3d fp32", "compile channels_last_3d fp32"]
ON_BF16 = [*ON_CPU[:2], "channels_last_3d bf16 autocast", "compile channels_last_3d bf16 autocast"]


def graph(nodes: list[Any], weights: dict[str, Any], shape: tuple[int | str, ...]) -> bytes:
    """An ONNX file with one input ``x`` and one output ``y``."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    stored = [
        numpy_helper.from_array(array if array.dtype == np.int64 else array.astype(np.float32), name)
        for name, array in arrays.items()
    ]
    onnx_graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def small_unet(seed: int = 0) -> bytes:
    """All five operators, a skip that is read late, one convolution without bias."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(size=(4, 1, 3, 3, 3)),
        "b1": rng.normal(size=4),
        "w2": rng.normal(size=(6, 4, 3, 3, 3)),
        "w3": rng.normal(size=(6, 5, 2, 2, 2)),
        "b3": rng.normal(size=5),
        "w4": rng.normal(size=(1, 9, 1, 1, 1)),
        "b4": rng.normal(size=1),
    }
    same = {"pads": [1] * 6, "kernel_shape": [3] * 3}
    half = {"kernel_shape": [2] * 3, "strides": [2] * 3}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], **same),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], **half),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], **same),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("ConvTranspose", ["r2", "w3", "b3"], ["u1"], **half),
        helper.make_node("Concat", ["u1", "r1"], ["k1"], axis=1),
        helper.make_node("Conv", ["k1", "w4", "b4"], ["y"], kernel_shape=[1] * 3),
    ]
    return graph(nodes, weights, (1, 1, "z", "y", "x"))


def through_ort(content: bytes, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    return np.asarray(y)


def random_input() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(1, 1, 8, 16, 32)).astype(np.float32)


def test_the_torch_network_is_the_onnx_network() -> None:
    content, x = small_unet(), random_input()
    assert check_same_weights(OnnxModule(content), x, through_ort(content, x)) < 1e-5


@pytest.mark.skipif(not shipped_models(), reason="no model is shipped in this checkout")
def test_the_shipped_model_is_read() -> None:
    content, x = load_model(shipped_models()[0]).onnx_bytes, random_input()
    model = onnx.load_from_string(content)
    for value in (*model.graph.input, *model.graph.output):  # any size, so that a small one will do
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            dimension.dim_param = f"d{axis}"
    del model.graph.value_info[:]
    assert check_same_weights(OnnxModule(content), x, through_ort(model.SerializeToString(), x)) < 1e-4


def test_wrong_weights_are_noticed() -> None:
    x = random_input()
    with pytest.raises(WrongAnswerError, match="differs from ONNX Runtime"):
        check_same_weights(OnnxModule(small_unet(seed=5)), x, through_ort(small_unet(), x))


@pytest.mark.parametrize(
    ("operator", "attributes", "message"),
    [
        ("Sigmoid", {}, "operator Sigmoid"),
        ("Conv", {"auto_pad": "SAME_UPPER"}, "auto_pad"),
        ("Conv", {"pads": [0, 0, 0, 1, 1, 1]}, "both ends"),
        ("MaxPool", {"kernel_shape": [2] * 3, "ceil_mode": 1}, "ceil_mode"),
        ("DepthToSpace", {"blocksize": 2}, "mode DCR"),
    ],
)
def test_unknown_operators_and_attributes_are_refused(operator: str, attributes: dict[str, Any], message: str) -> None:
    inputs = ["x", "w"] if operator == "Conv" else ["x"]
    content = graph(
        [helper.make_node(operator, inputs, ["y"], **attributes)], {"w": np.ones((1, 1, 1, 1, 1))}, (1,) * 5
    )
    with pytest.raises(NotImplementedError, match=message):
        OnnxModule(content)(torch.zeros(1, 1, 4, 4, 4))


def test_pixels_are_shuffled_as_in_the_shipped_network() -> None:
    """Squeeze, transpose, depth to space and back: how the network of preset `edge` returns to the whole plane."""
    rng = np.random.default_rng(2)
    weights = {"w": rng.normal(size=(4, 1, 1, 1, 1)), "axes": np.array([0], np.int64)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1] * 3),
        helper.make_node("Squeeze", ["c", "axes"], ["s"]),
        helper.make_node("Transpose", ["s"], ["t"], perm=[1, 0, 2, 3]),
        helper.make_node("DepthToSpace", ["t"], ["d"], blocksize=2, mode="CRD"),
        helper.make_node("Transpose", ["d"], ["u"], perm=[1, 0, 2, 3]),
        helper.make_node("Unsqueeze", ["u", "axes"], ["y"]),
    ]
    content, x = graph(nodes, weights, (1, 1, "z", "y", "x")), random_input()
    assert through_ort(content, x).shape == (1, 1, 8, 32, 64)
    assert check_same_weights(OnnxModule(content), x, through_ort(content, x)) < 1e-6


def test_a_peer_normalizes_as_lnfast_does() -> None:
    volume = make_phantom(3, "achieva").volume
    for name in ("body", "zscore"):
        card = draft_card({"normalization": name, "shape_zyx": volume.array.shape})
        ours = np.empty(card.shape_zyx, np.float32)
        write_input(volume, card, ours)
        oriented = volume.oriented(card.orientation).array.astype(np.float32)
        theirs = normalize_for_network(oriented.transpose(2, 1, 0), card).transpose(2, 1, 0)
        np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize(("where", "names"), [("gpu", ON_GPU), ("fp32", ON_CPU), ("bf16", ON_BF16)])
def test_pytorch_computes_what_the_network_computes(
    where: str, names: list[str], compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU's peers on the CPU in place of one. A network that does not compile is left out with a message. Compilers
    take longer than tests may, so here a compiled network is the network itself."""

    def compiler(module: torch.nn.Module) -> torch.nn.Module:
        if not compiles:
            raise RuntimeError("no compiler\nat all")
        return module

    monkeypatch.setattr(torch, "compile", compiler)
    x = np.linspace(-1, 1, 4 * 8 * 8, dtype=np.float32).reshape(1, 1, 4, 8, 8)
    kernel = np.full((1, 1, 3, 3, 3), 0.1, np.float32)
    content = graph([helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 6)], {"w": kernel}, x.shape)
    wanted = through_ort(content, x)
    messages: list[str] = []
    model = OnnxModule(content).eval()
    if where == "gpu":
        peers = inference.gpu_peers(model, x, torch.device("cpu"), messages.append)
    else:
        peers = inference.cpu_peers(model, x, messages.append, bf16=where == "bf16", compiled=True)
        assert list(inference.cpu_peers(model, x, messages.append, bf16=False, compiled=False)) == list(peers)[:2]
    expected = [f"pytorch {name}" for name in names]
    assert list(peers) == (expected if compiles else expected[:-1])
    assert all(np.abs(peer() - wanted).max() < 1e-2 for peer in peers.values())
    assert messages == ([] if compiles else [f"network: without {expected[-1]}: no compiler at all"])
