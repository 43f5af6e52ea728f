"""The model folder: ``model.onnx``, ``card.json`` and ``probe.npz``, all of them data.

The card has all that the runtime must know of a model: the input grid, how intensities are normalised, the probability
above which a voxel is node, the wanted b-values. Nothing is unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import ModelError
from lnfast.geometry import Grid

CARD_SCHEMA = "lnfast.card/1"
SHIPPED_MODELS = Path(__file__).parent / "models"
_FILES = ("model.onnx", "probe.npz")
_CARD_BYTES_AT_MOST = 1 << 20


@dataclass(frozen=True)
class ZScore:
    """Normalization to mean 0 and deviation 1 of the whole study, after clipping.

    Attributes:
        clip_percentiles: of all voxels.
    """

    clip_percentiles: tuple[float, float]


@dataclass(frozen=True)
class Body:
    """Normalization that maps floor and tissue, as `lnfast_ext.body_statistics` measures them, to two values.

    Attributes:
        floor, tissue: of the network's input.
        ceiling: of the network's input; brighter values are clipped to it, and darker ones to the floor.
    """

    floor: float
    tissue: float
    ceiling: float


@dataclass(frozen=True)
class ModelCard:
    """The validated content of ``card.json``.

    Attributes:
        name, version, trained_on: for people and for the report.
        input_name, output_name: the graph's one input and one output.
        shape_zyx: voxels of the network's input and output.
        orientation: direction of growing index for (x, y, z), as in `lnfast.geometry.Volume.oriented`.
        normalization: `ZScore` or `Body`, how greys become the network's input.
        b_targets, b_range: b-values wanted and accepted, s/mm2.
        in_plane_mm, through_plane_mm: fields of view seen in training (low, high); outside them the report warns.
        threshold: probability above which a voxel is node.
        peak: probability that a node exceeds in at least one voxel; without one it is dropped. None drops none.
        slices: ``"resampled"`` to those of the network's input, or ``"kept"``: a study of fewer slices takes as many of
            the input's, in its middle, and the others are air.
        outline: where a node ends: where its probability falls below the ``"threshold"``, or at its ``"half-maximum"``,
            where the image is halfway between the node and what surrounds it (`lnfast.postprocess`).
        sha256: of ``model.onnx`` and ``probe.npz`` by file name.
        admission: with ``"pelvis"`` `lnfast.admission` checks that a study can be a pelvic DWI; ``"none"`` is for
            models of other images, and every report then says that its study was not checked.
    """

    name: str
    version: str
    trained_on: str
    input_name: str
    output_name: str
    shape_zyx: tuple[int, int, int]
    orientation: str
    normalization: ZScore | Body
    b_targets: tuple[float, ...]
    b_range: tuple[float, float]
    in_plane_mm: tuple[float, float]
    through_plane_mm: tuple[float, float]
    threshold: float
    sha256: dict[str, str]
    admission: str = "pelvis"
    peak: float | None = None
    slices: str = "resampled"
    outline: str = "threshold"

    @property
    def outlines_at_half_maximum(self) -> bool:
        """Return whether nodes are outlined in the image."""
        return self.outline == "half-maximum"

    @property
    def keeps_slices(self) -> bool:
        """Return whether a study's slices are kept."""
        return self.slices == "kept"

    @property
    def least_grid_zyx(self) -> tuple[int, int, int]:
        """Return the smallest grid on which a study is analysed; only its number of slices may be larger."""
        depth, height, width = self.shape_zyx
        return (1 if self.keeps_slices else depth, height, width)

    @property
    def level(self) -> float:
        """Return the threshold as a logit."""
        return logit(self.threshold)

    @property
    def peak_level(self) -> float | None:
        """Return the peak as a logit; None where no node is dropped for it."""
        return None if self.peak is None or self.peak <= self.threshold else logit(self.peak)

    @property
    def decisive(self) -> str:
        """Return all on which results depend beside the weights: an engine's certificate holds for this only."""
        names = ("input_name", "output_name", "shape_zyx", "orientation", "normalization", "threshold", "peak")
        values = tuple(getattr(self, name) for name in names)
        # Engines of cards from before there were choices keep their certificates.
        if self.keeps_slices:
            values = (*values, self.slices)
        return repr((*values, self.outline) if self.outlines_at_half_maximum else values)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card.

        Raises:
            ModelError: ``bad-card`` naming the entry that is missing or wrong.
        """
        try:
            card = json.loads(text)
            if card["schema"] != CARD_SCHEMA:
                raise ModelError("bad-card", f"got a card of schema {card['schema']!r}, wanted {CARD_SCHEMA!r}")
            return cls._from_dict(card)
        except KeyError as error:
            raise ModelError("bad-card", f"card.json lacks the entry {error}") from error
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise ModelError("bad-card", f"card.json cannot be used: {error}") from error

    @classmethod
    def _from_dict(cls, content: dict[str, Any]) -> ModelCard:
        source, target = content["input"], content["output"]
        if content["rules"]["connectivity"] != 26:
            raise ValueError(f"connectivity is {content['rules']['connectivity']!r}, wanted 26")
        card = cls(
            name=str(content["name"]),
            version=str(content["version"]),
            trained_on=str(content["trained_on"]),
            input_name=str(source["name"]),
            output_name=str(target["name"]),
            shape_zyx=_three(source["shape_zyx"]),
            orientation=str(source["orientation"]),
            normalization=_normalization(source),
            b_targets=tuple(float(b) for b in source["b_targets"]),
            b_range=_rising(source["b_range"], 0.0, 10_000.0),
            in_plane_mm=_rising(source["field_of_view_mm"]["in_plane"], 0.0, 2_000.0),
            through_plane_mm=_rising(source["field_of_view_mm"]["through_plane"], 0.0, 2_000.0),
            threshold=float(target["threshold"]),
            sha256={name: str(content["files"][name]["sha256"]) for name in _FILES},
            admission=str(source.get("admission", "pelvis")),
            peak=None if target.get("peak") is None else float(target["peak"]),
            slices=str(source.get("slices", "resampled")),
            outline=str(target.get("outline", "threshold")),
        )
        if card.slices not in ("resampled", "kept"):
            raise ValueError(f"slices is {card.slices!r}, wanted 'resampled' or 'kept'")
        if card.outline not in ("threshold", "half-maximum"):
            raise ValueError(f"outline is {card.outline!r}, wanted 'threshold' or 'half-maximum'")
        if card.admission not in ("pelvis", "none"):
            raise ValueError(f"admission is {card.admission!r}, wanted 'pelvis' or 'none'")
        if not 0.0 < card.threshold < 1.0:
            raise ValueError(f"threshold is {card.threshold}, wanted a probability between 0 and 1")
        if card.peak is not None and not card.threshold <= card.peak < 1.0:
            raise ValueError(f"peak is {card.peak}, wanted a probability from the threshold, {card.threshold}, to 1")
        if sorted(card.orientation.translate(str.maketrans("LPI", "RAS"))) != ["A", "R", "S"]:
            raise ValueError(f"orientation is {card.orientation!r}, wanted one letter of each of R/L, A/P, S/I")
        if not card.b_targets:
            raise ValueError("b_targets is empty")
        for entry in ("name", "version", "trained_on", "input_name", "output_name"):
            if not getattr(card, entry).strip():
                raise ValueError(f"{entry} is empty")
        return card


@dataclass(frozen=True, eq=False)
class Probe:
    """The volume of the self-test and its FP32 answer, which are part of the model.

    Attributes:
        array: ``(z, y, x)`` integers.
        affine: (4, 4) index ``(x, y, z, 1)`` to RAS+ mm.
        mask: ``(z, y, x)`` uint8 or uint16, the nodes of the FP32 reference on the native grid: the id of each, or 1
            for all, where they are the 26-connected components in raster order.
        ellipsoid_short_mm: ``(nodes,)`` of these nodes, from the FP32 logits; None in a folder that is older than that
            rule.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    mask: NDArray[np.uint8 | np.uint16]
    ellipsoid_short_mm: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Model:
    """A model folder with its card; the other files are checked against the card when they are first used."""

    folder: Path
    card: ModelCard

    @property
    def sha256(self) -> str:
        """Return the hash of ``model.onnx`` from the card; `onnx_bytes` checks it."""
        return self.card.sha256["model.onnx"]

    @cached_property
    def onnx_bytes(self) -> bytes:
        """Read the network and check its hash.

        Raises:
            ModelError: ``model-damaged`` when the file is not the one that the card names.
        """
        return self._read_checked("model.onnx")

    @cached_property
    def probe(self) -> Probe:
        """Read the probe and check its hash.

        Raises:
            ModelError: ``model-damaged`` when the file is not the one that the card names or cannot be used.
        """
        from io import BytesIO

        content = self._read_checked("probe.npz")
        try:
            with np.load(BytesIO(content), allow_pickle=False) as stored:
                shorts = stored["ellipsoid_short_mm"] if "ellipsoid_short_mm" in stored.files else None
                return _probe(stored["array"], stored["affine"], stored["mask"], shorts)
        except Exception as error:  # any kind of bad content: the hash is right, so the file was written wrong
            raise ModelError("model-damaged", f"probe.npz of model {self.card.name} cannot be used: {error}") from error

    def _read_checked(self, name: str) -> bytes:
        path = self.folder / name
        try:
            content = _ordinary_file(path).read_bytes()
        except OSError as error:
            raise ModelError("model-incomplete", f"model {self.card.name} lacks {name}: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != self.card.sha256[name]:
            raise ModelError(
                "model-damaged",
                f"{name} of model {self.card.name} is not the file that card.json names (sha256 differs); "
                "install or export the model again",
            )
        return content


def load_model(model: str | Path) -> Model:
    """Find a model by shipped name or by folder and read its card.

    Args:
        model: a shipped name, which comes before a folder of that name, or the path of a model folder.

    Raises:
        ModelError: ``unknown-model``, ``model-incomplete`` or ``bad-card``.
    """
    shipped = isinstance(model, str) and model in shipped_models()
    folder = SHIPPED_MODELS / model if shipped else Path(model)
    if not folder.is_dir():
        known = ", ".join(shipped_models()) or "none"
        raise ModelError("unknown-model", f"got model {str(model)!r}, wanted a model folder or one of: {known}")
    path = folder / "card.json"
    try:
        if _ordinary_file(path).stat().st_size > _CARD_BYTES_AT_MOST:
            raise ModelError("bad-card", f"{path.name} is larger than {_CARD_BYTES_AT_MOST} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError("model-incomplete", f"{folder.name} has no readable card.json: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError("bad-card", "card.json is not UTF-8 text") from error
    return Model(folder, ModelCard.from_json(text))


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models inside the package, sorted."""
    return tuple(sorted(path.parent.name for path in SHIPPED_MODELS.glob("*/card.json")))


def _ordinary_file(path: Path) -> Path:
    """Return the path, unless it is a pipe or a device, which would never end.

    Raises:
        OSError: it is not an ordinary file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not an ordinary file")
    return path


def _probe(array: NDArray[Any], affine: NDArray[Any], mask: NDArray[Any], shorts_mm: NDArray[Any] | None) -> Probe:
    """Return the probe, if it can prove an engine.

    Raises:
        ValueError, StudyError: it cannot.
    """
    if array.dtype.kind not in "iu" or mask.dtype not in (np.uint8, np.uint16) or affine.dtype.kind != "f":
        got = f"got types {array.dtype}, {affine.dtype} and {mask.dtype}"
        raise ValueError(f"{got}, wanted integers, floats and uint8 or uint16")
    Grid(array.shape, affine)
    if mask.shape != array.shape or not mask.any():
        raise ValueError("it proves nothing: its mask is blank or of another shape")
    if array.min() == array.max():
        raise ValueError("it proves nothing: all voxels are equal")
    if shorts_mm is not None and not (shorts_mm.dtype == np.float64 and shorts_mm.ndim == 1 and (shorts_mm > 0).all()):
        raise ValueError("its ellipsoids are no positive lengths")
    return Probe(array, affine.astype(np.float64), mask, shorts_mm)


def _normalization(source: dict[str, Any]) -> ZScore | Body:
    kind = source["normalization"]
    if kind == "zscore":
        return ZScore(_rising(source["clip_percentiles"], 0.0, 100.0))
    if kind != "body":
        raise ValueError(f"normalization is {kind!r}, wanted 'zscore' or 'body'")
    values = Body(*(float(source["body"][name]) for name in ("floor", "tissue", "ceiling")))
    if not -100.0 <= values.floor < values.tissue < values.ceiling <= 100.0:
        raise ValueError(f"body is {source['body']}, wanted floor < tissue < ceiling from -100 to 100")
    return values


def logit(probability: float) -> float:
    """Return the logit of a probability between 0 and 1, both excluded."""
    return math.log(probability / (1.0 - probability))


def _three(values: Any) -> tuple[int, int, int]:
    z, y, x = (int(value) for value in values)
    if min(z, y, x) < 1:
        raise ValueError(f"shape_zyx is {values}, wanted three positive numbers")
    return z, y, x


def _rising(values: Any, low: float, high: float) -> tuple[float, float]:
    first, second = (float(value) for value in values)
    if not low <= first < second <= high:
        raise ValueError(f"got {values}, wanted two rising numbers from {low:g} to {high:g}")
    return first, second
