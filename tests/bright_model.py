"""A model folder without training: its network marks bright voxels as nodes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from lnfast.card import load_model
from lnfast.geometry import Grid, Volume
from lnfast.phantom import make_phantom
from lnfast.postprocess import segment
from lnfast.preprocess import write_slabs
from training.recipe.card import card_dict


def bright_model(folder: Path, slices: str = "resampled") -> Path:
    """Write a model folder whose network marks bright voxels: logit = (mean of 3x3x3 - 1.5 deviations) / 2.

    Args:
        folder: to write.
        slices: of the card.
    """
    shape = (24, 64, 64)  # a phantom of 28 slices needs no slabs on it
    weights = {"w": np.full((1, 1, 3, 3, 3), 1 / 27), "s": np.full((1, 1, 1, 1, 1), 0.5), "b": [-0.75]}
    nodes = [
        helper.make_node("Conv", ["dwi", "w"], ["c"], pads=[1] * 6),
        helper.make_node("Conv", ["c", "s", "b"], ["logits"]),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 1, *shape)) for n in ("dwi", "logits")]
    stored = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], stored), opset_imports=opset, ir_version=8
    )
    content = model.SerializeToString()

    def save(probe: bytes) -> None:
        files = {"model.onnx": content, "probe.npz": probe}
        hashes = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
        }
        card = card_dict(name="bright", files=hashes)
        card["input"] |= {"shape_zyx": list(shape), "slices": slices}
        folder.mkdir(exist_ok=True)
        (folder / "card.json").write_text(json.dumps(card))
        for name, data in files.items():
            (folder / name).write_bytes(data)

    save(b"")
    card = load_model(folder).card
    volume = make_phantom(3, "achieva", "n1").volume
    x = np.empty((1, 1, *shape), np.float32)
    (slab,) = write_slabs(volume, card, x[0, 0])
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"dwi": x})
    nodes = segment(slab.part_of(logits[0, 0]), volume.grid, card, image=volume, window=slab)
    mask = (nodes.labels.array > 0).astype(np.uint8)
    np.savez(folder / "probe.npz", array=volume.array, affine=volume.grid.affine, mask=mask)
    save((folder / "probe.npz").read_bytes())
    return folder


def probe_of(folder: Path) -> Volume:
    """The study that the model proves itself on."""
    with np.load(folder / "probe.npz") as probe:
        array = probe["array"]
        return Volume(array, Grid(array.shape, probe["affine"]))
