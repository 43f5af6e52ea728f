"""The kernels, called as the engine calls them: into buffers that are there before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lnfast_ext
from benchmarks.kernels.benchmark import Side, Subject
from benchmarks.kernels.checks import Measured
from benchmarks.kernels.inputs import LEVEL, NETWORK_ZYX, PERCENTILES, Inputs, Mask, Scan
from benchmarks.kernels.peers import Labelled

Nodes = Callable[..., Any]  # mask, affine, and by name what measure_components takes

NAME = "lnfast_ext"
COMPONENTS = "lnfast_ext Components"  # nodes without a volume of labels


def label() -> dict[str, Subject]:
    """Mask to labels and count, or to components."""
    return {
        NAME: Subject(lambda threads: lnfast_ext.label_components, threaded=False),
        COMPONENTS: Subject(lambda threads: _find, threaded=False, show=_labelled),
    }


def measure() -> dict[str, Subject]:
    """`Scan` to labels, count and measures with mean intensities."""

    def make(nodes: Nodes, threads: int) -> Side:
        def run(scan: Scan) -> Measured:
            return nodes(scan.mask, scan.grid.affine, threads=threads, intensity=scan.image)

        return run

    return {name: Subject(partial(make, nodes), True, show) for name, (nodes, show) in WAYS.items()}


def box() -> dict[str, Subject]:
    """Points in mm to centre, axes and edges."""
    return {NAME: Subject(lambda threads: lnfast_ext.min_volume_box, threaded=False)}


def network_input() -> dict[str, Subject]:
    """Native int16 to what the network reads."""
    return {NAME: Subject(_network_input, threaded=True)}


def resample(lo: float, hi: float, shift: float, scale: float) -> dict[str, Subject]:
    """The same with the window given."""

    def make(threads: int) -> Side:
        out = np.empty(NETWORK_ZYX, np.float32)

        def run(volume: NDArray[np.int16]) -> NDArray[np.float32]:
            lnfast_ext.resample_normalize(volume, out, lo=lo, hi=hi, shift=shift, scale=scale, threads=threads)
            return out

        return run

    return {NAME: Subject(make, threaded=True)}


def native_mask(shape: tuple[int, int, int]) -> dict[str, Subject]:
    """Logits to a mask of that shape."""
    return {NAME: Subject(partial(_native_mask, shape), threaded=True)}


def study(shape: tuple[int, int, int]) -> dict[str, Subject]:
    """`Inputs`: a file's bytes to what the network reads, then its logits to nodes on a native grid of that shape."""

    def make(nodes: Nodes, threads: int) -> Side:
        before, after = _network_input(threads), _native_mask(shape, threads)

        def run(inputs: Inputs) -> tuple[NDArray[np.float32], Measured]:
            volume = np.frombuffer(inputs.content, np.int16).reshape(shape)
            x, mask = before(volume), after(inputs.logits)
            affine = inputs.native.grid.affine
            return x, nodes(mask, affine, threads=threads, intensity=volume, logits=inputs.logits)

        return run

    def shown(show: Side, answer: tuple[Any, Any]) -> tuple[Any, Any]:
        return answer[0], show(answer[1])

    return {name: Subject(partial(make, nodes), True, partial(shown, show)) for name, (nodes, show) in WAYS.items()}


def _network_input(threads: int) -> Side:
    out = np.empty(NETWORK_ZYX, np.float32)

    def run(volume: NDArray[np.int16]) -> NDArray[np.float32]:
        _, _, mean, std, (lo, hi) = lnfast_ext.intensity_statistics(volume, PERCENTILES, clipped=True, threads=threads)
        lnfast_ext.resample_normalize(volume, out, lo=lo, hi=hi, shift=mean, scale=1 / std, threads=threads)
        return out

    return run


def _native_mask(shape: tuple[int, int, int], threads: int) -> Side:
    out = np.empty(shape, np.uint8)

    def run(logits: NDArray[np.float32]) -> Mask:
        lnfast_ext.threshold_resample(logits, out, LEVEL, threads=threads)
        return out

    return run


def _find(mask: Mask) -> lnfast_ext.Components:
    return lnfast_ext.Components(mask)


def _labelled(components: lnfast_ext.Components) -> Labelled:
    return components.label(), components.count


def _by_labels(mask: Mask, affine: NDArray[np.float64], **options: Any) -> Measured:
    labels, count = lnfast_ext.label_components(mask)
    return (labels, count), lnfast_ext.measure_components(labels, count, affine, **options)


def _by_components(mask: Mask, affine: NDArray[np.float64], **options: Any) -> tuple[Any, NDArray[np.void]]:
    components = lnfast_ext.Components(mask)
    return components, lnfast_ext.measure_components(components, components.count, affine, **options)


def _labelled_nodes(answer: tuple[Any, NDArray[np.void]]) -> Measured:
    return _labelled(answer[0]), answer[1]


def _as_they_are(answer: Measured) -> Measured:
    return answer


# From a mask to measured nodes: the labels are written and read again, or the components are handed on.
WAYS: dict[str, tuple[Nodes, Side]] = {
    NAME: (_by_labels, _as_they_are),
    COMPONENTS: (_by_components, _labelled_nodes),
}
