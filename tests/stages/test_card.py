"""The model folder: what is missing, wrong or damaged is named, and nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import math
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from model_files import card_entries

from lnfast.card import ModelCard, load_model, shipped_models
from lnfast.errors import ModelError

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def npz(**parts: np.ndarray) -> bytes:
    """A probe with some of its parts replaced."""
    buffer = BytesIO()
    np.savez(buffer, **{"array": VOXELS, "affine": np.eye(4), "mask": np.ones((2, 3, 4), np.uint8)} | parts)
    return buffer.getvalue()


def write_folder(folder: Path, *, mask: np.ndarray | None = None, network: bytes = b"network") -> Path:
    folder.mkdir(exist_ok=True)
    probe = npz() if mask is None else npz(mask=mask)
    entries = card_entries()
    for name, content in (("model.onnx", network), ("probe.npz", probe)):
        (folder / name).write_bytes(content)
        entries["files"][name]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "card.json").write_text(json.dumps(entries))
    return folder


def test_a_card_is_read() -> None:
    card = ModelCard.from_json(json.dumps(card_entries()))
    assert card.shape_zyx == (8, 16, 16)
    assert card.level == pytest.approx(math.log(0.25 / 0.75))
    assert card.b_range == (500.0, 1500.0)
    assert card.peak is None and card.peak_level is None


def test_a_peak_is_read_and_decides_results() -> None:
    plain, entries = ModelCard.from_json(json.dumps(card_entries())), card_entries()
    entries["output"].update(peak=0.75)
    card = ModelCard.from_json(json.dumps(entries))
    assert card.peak_level == pytest.approx(math.log(3)) and card.decisive != plain.decisive
    entries["output"].update(peak=plain.threshold)
    assert ModelCard.from_json(json.dumps(entries)).peak_level is None  # each node is above the threshold


WRONG = {
    "schema": lambda card: card.update(schema="lnfast.card/9"),
    "no input": lambda card: card.pop("input"),
    "normalization": lambda card: card["input"].update(normalization="minmax"),
    "connectivity": lambda card: card["rules"].update(connectivity=6),
    "shape of two": lambda card: card["input"].update(shape_zyx=[8, 16]),
    "empty shape": lambda card: card["input"].update(shape_zyx=[8, 16, 0]),
    "orientation": lambda card: card["input"].update(orientation="LPP"),
    "percentiles": lambda card: card["input"].update(clip_percentiles=[99.9, 0.5]),
    "threshold": lambda card: card["output"].update(threshold=1.0),
    "peak below the threshold": lambda card: card["output"].update(peak=0.2),
    "peak of 1": lambda card: card["output"].update(peak=1.0),
    "text for a peak": lambda card: card["output"].update(peak="high"),
    "no b-values": lambda card: card["input"].update(b_targets=[]),
    "no hash": lambda card: card["files"].pop("probe.npz"),
    "text for a number": lambda card: card["output"].update(threshold="high"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_card_is_refused(name: str) -> None:
    card = card_entries()
    WRONG[name](card)
    with pytest.raises(ModelError) as refusal:
        ModelCard.from_json(json.dumps(card))
    assert refusal.value.code == "bad-card"
    assert refusal.value.exit_code == 4
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "3"])
def test_what_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(ModelError) as refusal:
        ModelCard.from_json(text)
    assert refusal.value.code == "bad-card"


def test_files_are_proven_against_the_card(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path))
    assert model.onnx_bytes == b"network"
    assert model.probe.mask.shape == (2, 3, 4)
    assert model.sha256 == hashlib.sha256(b"network").hexdigest()


@pytest.mark.parametrize("name", ["model.onnx", "probe.npz"])
def test_one_changed_bit_is_refused(tmp_path: Path, name: str) -> None:
    path = write_folder(tmp_path) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    model = load_model(tmp_path)
    with pytest.raises(ModelError) as refusal:
        _ = model.onnx_bytes, model.probe
    assert refusal.value.code == "model-damaged"


@pytest.mark.parametrize("name", ["model.onnx", "probe.npz", "card.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_folder(tmp_path) / name).unlink()
    with pytest.raises(ModelError, match=name) as refusal:
        model = load_model(tmp_path)
        _ = model.onnx_bytes, model.probe
    assert refusal.value.code == "model-incomplete"


@pytest.mark.parametrize("mask", [np.zeros((2, 3, 4), np.uint8), np.ones((2, 3, 5), np.uint8)])
def test_a_probe_that_proves_nothing_is_refused(tmp_path: Path, mask: np.ndarray) -> None:
    model = load_model(write_folder(tmp_path, mask=mask))
    with pytest.raises(ModelError) as refusal:
        _ = model.probe
    assert refusal.value.code == "model-damaged"


def test_a_pickled_probe_is_never_loaded(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path, mask=np.array([{"a": 1}], dtype=object)))
    with pytest.raises(ModelError) as refusal:
        _ = model.probe
    assert refusal.value.code == "model-damaged"


@pytest.mark.parametrize(
    "content",
    [b"", b"no zip", b"PK\x03\x04cut", npz()[:300], npz(array=VOXELS * 1.5), npz(array=VOXELS * 0)]
    + [npz(affine=np.eye(3)), npz(affine=np.zeros((4, 4))), npz(affine=np.full((4, 4), np.nan))]
    + [npz(array=VOXELS[None], mask=np.ones((1, 2, 3, 4), np.uint8)), npz(mask=np.ones((2, 3, 4), np.float32))],
)
def test_a_probe_of_any_other_kind_is_the_model_s_fault(tmp_path: Path, content: bytes) -> None:
    write_folder(tmp_path)
    (tmp_path / "probe.npz").write_bytes(content)
    card = json.loads((tmp_path / "card.json").read_text())
    card["files"]["probe.npz"]["sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"probe\.npz") as refusal:
        _ = load_model(tmp_path).probe
    assert (refusal.value.code, refusal.value.exit_code) == ("model-damaged", 4)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": 1e999}', "[]", "3"])
def test_a_card_of_any_other_kind_is_the_model_s_fault(text: str) -> None:
    with pytest.raises(ModelError, match="bad-card"):
        ModelCard.from_json(text)


@pytest.mark.parametrize(
    ("entry", "value"),
    [(("input", "shape_zyx"), [float("inf"), 2, 2]), (("name",), " "), (("input", "name"), "")],
)
def test_a_card_with_an_impossible_entry_is_refused(entry: tuple[str, ...], value: object) -> None:
    entries = card_entries()
    *path, last = entry
    place = entries
    for key in path:
        place = place[key]
    place[last] = value
    with pytest.raises(ModelError, match="bad-card"):
        ModelCard.from_json(json.dumps(entries))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("name", ["card.json", "model.onnx"])
def test_a_pipe_in_a_model_folder_does_not_hold_it_up(tmp_path: Path, name: str) -> None:
    (write_folder(tmp_path) / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ModelError, match="model-incomplete"):
        _ = load_model(tmp_path).onnx_bytes


def test_a_folder_that_happens_to_have_a_shipped_name_does_not_hide_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "pelvic-ln-edge")
    monkeypatch.chdir(tmp_path)
    assert load_model("pelvic-ln-edge").card.name == "pelvic-ln-edge"
    assert load_model("pelvic-ln-edge").folder.is_absolute()
    assert load_model("./pelvic-ln-edge").onnx_bytes == load_model(Path("pelvic-ln-edge")).onnx_bytes == b"network"


@pytest.mark.parametrize("name", ["no-such-model", "../models/pelvic-ln-edge/../nothing", ""])
def test_an_unknown_model_is_refused_and_the_known_ones_are_named(name: str, tmp_path: Path) -> None:
    if name == "":
        name = str(tmp_path / "absent")
    with pytest.raises(ModelError, match="pelvic-ln-edge") as refusal:
        load_model(name)
    assert refusal.value.code == "unknown-model"


def test_the_shipped_model_is_whole() -> None:
    assert shipped_models() == ("pelvic-ln-edge",)
    model = load_model("pelvic-ln-edge")
    assert model.card.shape_zyx == (32, 256, 256)
    assert len(model.onnx_bytes) > 1_000_000
    assert model.probe.mask.any()


def test_the_card_says_where_a_node_ends() -> None:
    entries = card_entries()
    entries["output"]["outline"] = "half-maximum"
    in_the_image = ModelCard.from_json(json.dumps(entries))
    assert in_the_image.outlines_at_half_maximum
    del entries["output"]["outline"]
    unsaid = ModelCard.from_json(json.dumps(entries))
    assert unsaid.outline == "threshold" and not unsaid.outlines_at_half_maximum
    assert in_the_image.decisive != unsaid.decisive
    entries["output"]["outline"] = "by hand"
    with pytest.raises(ModelError, match=r"bad-card: .*outline is 'by hand'"):
        ModelCard.from_json(json.dumps(entries))
