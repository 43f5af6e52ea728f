"""Models that no runtime is given: graphs that are not what the card says, or damaged, or point outside themselves."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from model_files import SHAPE_ZYX, graph, make_model_folder, network
from onnx import TensorProto, helper
from runtime_files import BOTH, OPENVINO, folder_model, refusal

from lnfast.backends import Candidate, open_backend
from lnfast.backends import graph as graph_module
from lnfast.card import load_model
from lnfast.errors import ModelError


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
