"""The kernels, called as the engine calls them: into buffers that exist before the call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lnfast_ext
from benchmarks.harness.grids import NETWORK_ZYX
from benchmarks.kernels.benchmark import Implementation, KernelSubject
from benchmarks.kernels.checks import MeasuredNodes
from benchmarks.kernels.inputs import LEVEL, PERCENTILES, KernelInputs, KernelScan, Mask
from benchmarks.kernels.peers import Labelled

MeasureMask = Callable[..., Any]  # mask, affine, and keywords of measure_components

NAME = "lnfast_ext"
COMPONENTS = "lnfast_ext Components"  # nodes without a volume of labels


def label() -> dict[str, KernelSubject]:
    """Return the kernels from mask to labels and count, or to components."""
    return {
        NAME: KernelSubject(lambda threads: lnfast_ext.label_components, threaded=False),
        COMPONENTS: KernelSubject(lambda threads: _components, threaded=False, convert=_labelled),
    }


def measure() -> dict[str, KernelSubject]:
    """Return the kernels from `KernelScan` to labels, count and measures with mean intensities."""

    def make(measure_mask: MeasureMask, threads: int) -> Implementation:
        def run(scan: KernelScan) -> Any:
            return measure_mask(scan.mask, scan.grid.affine, threads=threads, intensity=scan.image)

        return run

    return {
        name: KernelSubject(partial(make, measure_mask), True, convert)
        for name, (measure_mask, convert) in MEASURES.items()
    }


def box() -> dict[str, KernelSubject]:
    """Return the kernel from points in mm to centre, axes and edges."""
    return {NAME: KernelSubject(lambda threads: lnfast_ext.min_volume_box, threaded=False)}


def network_input() -> dict[str, KernelSubject]:
    """Return the kernels from native int16 to the network's input."""
    return {NAME: KernelSubject(_network_input, threaded=True)}


def resample(lo: float, hi: float, shift: float, scale: float) -> dict[str, KernelSubject]:
    """Return the kernel of the same with known clip levels, shift and scale."""

    def make(threads: int) -> Implementation:
        out = np.empty(NETWORK_ZYX, np.float32)

        def run(volume: NDArray[np.int16]) -> NDArray[np.float32]:
            lnfast_ext.resample_normalize(volume, out, lo=lo, hi=hi, shift=shift, scale=scale, threads=threads)
            return out

        return run

    return {NAME: KernelSubject(make, threaded=True)}


def native_mask(shape: tuple[int, int, int]) -> dict[str, KernelSubject]:
    """Return the kernel from logits to a mask of that shape."""
    return {NAME: KernelSubject(partial(_native_mask, shape), threaded=True)}


def study(shape: tuple[int, int, int]) -> dict[str, KernelSubject]:
    """Return all kernels: a file's bytes to the network's input, and logits to nodes on a grid of that shape."""

    def make(measure_mask: MeasureMask, threads: int) -> Implementation:
        make_input, make_mask = _network_input(threads), _native_mask(shape, threads)

        def run(inputs: KernelInputs) -> tuple[NDArray[np.float32], Any]:
            volume = np.frombuffer(inputs.content, np.int16).reshape(shape)
            x, mask = make_input(volume), make_mask(inputs.logits)
            affine = inputs.native.grid.affine
            return x, measure_mask(mask, affine, threads=threads, intensity=volume, logits=inputs.logits)

        return run

    def convert_nodes(convert: Implementation, answer: tuple[Any, Any]) -> tuple[Any, Any]:
        return answer[0], convert(answer[1])

    return {
        name: KernelSubject(partial(make, measure_mask), True, partial(convert_nodes, convert))
        for name, (measure_mask, convert) in MEASURES.items()
    }


def _network_input(threads: int) -> Implementation:
    out = np.empty(NETWORK_ZYX, np.float32)

    def run(volume: NDArray[np.int16]) -> NDArray[np.float32]:
        _, _, mean, std, (lo, hi) = lnfast_ext.intensity_statistics(volume, PERCENTILES, clipped=True, threads=threads)
        lnfast_ext.resample_normalize(volume, out, lo=lo, hi=hi, shift=mean, scale=1 / std, threads=threads)
        return out

    return run


def _native_mask(shape: tuple[int, int, int], threads: int) -> Implementation:
    out = np.empty(shape, np.uint8)

    def run(logits: NDArray[np.float32]) -> Mask:
        lnfast_ext.threshold_resample(logits, out, LEVEL, threads=threads)
        return out

    return run


def _components(mask: Mask) -> lnfast_ext.Components:
    return lnfast_ext.Components(mask)


def _labelled(components: lnfast_ext.Components) -> Labelled:
    return components.label(), components.count


def _by_labels(mask: Mask, affine: NDArray[np.float64], **options: Any) -> MeasuredNodes:
    labels, count = lnfast_ext.label_components(mask)
    return (labels, count), lnfast_ext.measure_components(labels, count, affine, **options)


def _by_components(mask: Mask, affine: NDArray[np.float64], **options: Any) -> tuple[Any, NDArray[np.void]]:
    components = lnfast_ext.Components(mask)
    return components, lnfast_ext.measure_components(components, components.count, affine, **options)


def _labelled_nodes(answer: tuple[Any, NDArray[np.void]]) -> MeasuredNodes:
    return _labelled(answer[0]), answer[1]


def _unchanged(answer: MeasuredNodes) -> MeasuredNodes:
    return answer


# From a mask to measured nodes: through labels that are written and read again, or through components.
MEASURES: dict[str, tuple[MeasureMask, Implementation]] = {
    NAME: (_by_labels, _unchanged),
    COMPONENTS: (_by_components, _labelled_nodes),
}
