"""From validated weights to a model folder, and the proof that the folder computes what was trained.

model.onnx      FP32, batch normalization folded, fixed shape, one file
probe.npz       a phantom that was never trained on, and the nodes that FP32 finds in it, on its own grid
card.json       what the runtime must know
MODEL_CARD.md   what a person must know
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from lnfast.atomic import replacing_folder
from lnfast.card import Model, ModelCard, load_model
from lnfast.errors import ModelError, UsageError
from lnfast.export.source import probe_bytes
from lnfast.matching import dice
from lnfast.phantom import Phantom, make_phantom
from lnfast.preprocess import write_slabs
from training.data.phantom_seeds import SMALL_FIELDS
from training.data.provenance import sources_of
from training.fit.validation import find_nodes
from training.model.networks import count_parameters, fuse
from training.model.weights_file import WEIGHTS_FILE, load_weights, network_from, save_compact_weights
from training.recipe.card import card_dict, draft_card
from training.release.model_card import model_card, trained_on

OPSET = 20
# A reserved seed (training.data.phantom_cache) whose patient is N1 and has nodes on both sides of 8 mm.
PROBE_SEED = 10
# Of the range of the logits on the probe; FP32 sums in another order differ by some 1e-6 of it.
LOGIT_TOLERANCE = 1e-3
DICE_WANTED = 0.9999
OWN_FILES = frozenset({"model.onnx", "probe.npz", "card.json", "MODEL_CARD.md"})

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ExportConfig:
    """Name and version of a model folder.

    Attributes:
        name, version: of the model.
    """

    name: str
    version: str


def export_folder(run: Path, out: Path, config: ExportConfig) -> Model:
    """Write the model folder of a run's weights, complete or not at all; an older model folder is replaced.

    Threshold and peak are those that the weights were validated at.

    Raises:
        UsageError: ``output-exists`` when something is there that is no model folder and nothing else.
        ModelError: ``not-validated`` for averaged weights that were not validated, ``runtimes-disagree`` when ONNX
            Runtime does not compute what torch computes, ``blank`` when the network finds nothing on the probe. Nothing
            is written then.
    """
    out = Path(os.path.abspath(out))
    _check_replaceable(out)
    tensors, header = load_weights(run / WEIGHTS_FILE)
    if "validation" not in header:
        raise ModelError("not-validated", f"{run} was never validated; run `python -m training validate {run}` first")
    model = network_from(run / WEIGHTS_FILE, tensors, header)
    card = draft_card(header["config"], header["threshold"], header.get("peak"))
    trained = header | {"parameters": count_parameters(model), "sources": sources_of(header)}
    with replacing_folder(out, OWN_FILES, _check_replaceable) as folder:
        write_onnx(fuse(model), folder / "model.onnx", card.shape_zyx)
        _write_probe(model, folder, card)
        _write_texts(folder, config, trained)
        load_model(folder).probe  # noqa: B018  # the runtime's own reader has the last word
    return load_model(out)


def export_weights(run: Path, path: Path) -> None:
    """Write the weights of a run for `fit --start`.

    Raises:
        ModelError: ``no-snapshot``, ``bad-snapshot``.
    """
    tensors, header = load_weights(run / WEIGHTS_FILE)
    network_from(run / WEIGHTS_FILE, tensors, header)
    save_compact_weights(path, tensors, header)


def _check_replaceable(out: Path) -> None:
    """Refuse to replace anything but a model folder: a run would be lost with it.

    Raises:
        UsageError: ``output-exists``.
    """
    if not os.path.lexists(out):
        return
    present = {entry.name for entry in os.scandir(out)} if out.is_dir() and not out.is_symlink() else {str(out)}
    strange = sorted(present - OWN_FILES)
    if strange or (present and "card.json" not in present):
        what = f"holds {strange[0]!r}" if strange else "holds no card.json"
        raise UsageError("output-exists", f"{out} is no model folder ({what}); move it or give another -o")


def write_onnx(model: nn.Module, path: Path, shape_zyx: tuple[int, int, int]) -> None:
    """Write the network as one ONNX file: input ``dwi``, output ``logits``, both ``(1, 1, z, y, x)`` float32."""
    example = torch.zeros((1, 1, *shape_zyx))
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        # The exporter warns of its own dependencies' deprecations, and of packages that this network has no use for.
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["dwi"],
            output_names=["logits"],
            verbose=False,
        )
    logger.setLevel(level)
    assert program is not None
    graph = program.model_proto
    # The exporter notes for each node the stack that made it: the paths of the exporting machine.
    for part in (
        graph,
        graph.graph,
        *graph.graph.node,
        *graph.graph.input,
        *graph.graph.output,
        *graph.graph.value_info,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    for weight in graph.graph.initializer:
        del weight.metadata_props[:]
    onnx.save(graph, str(path))
    onnx.checker.check_model(str(path), full_check=True)


def logit_difference(expected: Floats, got: Floats) -> float:
    """Return the largest difference of two logit volumes, as a share of the range of the first."""
    return float(np.abs(expected - got).max() / np.ptp(expected))


def check_agreement(expected: Floats, got: Floats, mask: NDArray[np.uint8], mask_got: NDArray[np.uint8]) -> None:
    """Refuse a graph that computes anything but what the weights compute, or finds no node.

    Raises:
        ModelError: ``runtimes-disagree`` or ``blank``.
    """
    difference, overlap = logit_difference(expected, got), dice(mask, mask_got)
    overlap = 1.0 if overlap is None else overlap  # there is no Dice where both are empty
    if not (difference < LOGIT_TOLERANCE and overlap > DICE_WANTED):  # written so that NaN fails
        raise ModelError(
            "runtimes-disagree",
            f"torch and ONNX Runtime differ by {difference:.2g} of the logit range (wanted < {LOGIT_TOLERANCE:g}) and "
            f"their masks' Dice is {overlap:.6f} (wanted > {DICE_WANTED}); nothing was written",
        )
    if not mask_got.any():
        raise ModelError(
            "blank", "the network finds no node in the probe, so the probe would prove nothing; train longer"
        )


def run_onnx(path: Path, image: Floats) -> Floats:
    """Return the logits by ONNX Runtime's CPU provider."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits: Floats = session.run(["logits"], {"dwi": image[None, None]})[0][0, 0]
    return logits


def probe_phantom() -> Phantom:
    """Make the study of the probe: of the smallest protocol, to keep the folder small."""
    return make_phantom(PROBE_SEED, stage="n1", protocol=SMALL_FIELDS[0])


def _write_probe(model: nn.Module, folder: Path, card: ModelCard) -> None:
    """Compare torch with ONNX Runtime on the probe, and write the probe."""
    volume = probe_phantom().volume
    image = np.empty(card.shape_zyx, np.float32)
    (slab,) = write_slabs(volume, card, image)
    with torch.inference_mode():
        expected: Floats = np.ascontiguousarray(slab.part_of(model(torch.from_numpy(image)[None, None])[0, 0].numpy()))
    got = slab.part_of(run_onnx(folder / "model.onnx", image))
    by_torch, by_onnx = (find_nodes(logits, volume, card) for logits in (expected, got))
    masks = [(nodes.labels.array > 0).astype(np.uint8) for nodes in (by_torch, by_onnx)]
    check_agreement(expected, got, *masks)
    (folder / "probe.npz").write_bytes(probe_bytes(volume, by_onnx))


def _write_texts(folder: Path, config: ExportConfig, trained: dict[str, Any]) -> None:
    contents = {name: (folder / name).read_bytes() for name in ("model.onnx", "probe.npz")}
    card = card_dict(
        trained["config"],
        name=config.name,
        version=config.version,
        trained_on=trained_on(trained),
        threshold=trained["threshold"],
        peak=trained.get("peak"),
        files={n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in contents.items()},
        training=trained,
    )
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(model_card(card), encoding="utf-8")
