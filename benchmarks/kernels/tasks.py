"""Which kernel is compared with which library on which input, and the wanted ratio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.grids import NETWORK_ZYX
from benchmarks.harness.settings import Settings
from benchmarks.kernels import checks, peers, subjects
from benchmarks.kernels.benchmark import Implementation, KernelBenchmark, KernelTask, read
from benchmarks.kernels.inputs import (
    NODES,
    PERCENTILES,
    SCANNER,
    THRESHOLD,
    KernelInputs,
    KernelScan,
    Mask,
    with_noise,
)
from benchmarks.peers.nodes import box_edges_mm

Measure = Callable[[Mask, NDArray[np.float64]], checks.PeerMeasuredNodes]

DENSE_ZYX = (256, 512, 512)
NOISE = (0.001, 0.01)


def kernel_benchmarks(settings: Settings, inputs: KernelInputs) -> Iterator[KernelBenchmark]:
    """Yield all tasks on all their inputs; each is prepared when it is requested."""
    for benchmarks_of in (_label, _measure, _box, _network_input, _native_mask, _study):
        yield from benchmarks_of(settings, inputs)


def _label(settings: Settings, inputs: KernelInputs) -> Iterator[KernelBenchmark]:
    libraries: dict[str, Implementation] = {"cc3d": peers.label}
    if not settings.quick:
        libraries |= {"scipy.ndimage": peers.label_scipy, "scikit-image": peers.label_skimage}
        libraries["SimpleITK"] = peers.label_sitk
    # Pages of the labels without a node are zeros from the start, so of a sparse mask nothing need be written.
    sparse = KernelTask("label", subjects.label(), libraries, checks.same_components, read, {})
    for name, scan in _scans(inputs):
        task = replace(sparse, targets={"cc3d": 10.0}) if scan is inputs.network else sparse
        yield KernelBenchmark(task, name, [scan.mask], settings.threads)
    rng = np.random.default_rng(settings.seed)
    dense = {f"{NETWORK}, {share:.1%} noise": with_noise(inputs.network.mask, share, rng) for share in NOISE}
    if not settings.quick:
        dense[f"{_sizes(DENSE_ZYX)}, all ones"] = np.ones(DENSE_ZYX, np.uint8)
    for name, mask in dense.items():
        written = partial(np.copyto, np.zeros(mask.shape, np.int32))
        # scikit-image takes half a minute for the largest, an hour for all rounds; all others take less than a second.
        fast = {peer: run for peer, run in libraries.items() if peer != "scikit-image" or mask.shape != DENSE_ZYX}
        yield KernelBenchmark(replace(sparse, peers=fast, floor=written), name, [mask], settings.threads)


def _measure(settings: Settings, inputs: KernelInputs) -> Iterator[KernelBenchmark]:
    def floor(scan: KernelScan) -> None:
        read(scan.mask)

    def peer(measure: Measure, scan: KernelScan) -> checks.PeerMeasuredNodes:
        return measure(scan.mask, scan.grid.affine)

    name = "cc3d + trimesh"
    libraries: dict[str, Implementation] = {name: partial(peer, peers.label_and_measure)}
    if not settings.quick:
        libraries["scikit-image + trimesh"] = partial(peer, peers.label_and_measure_skimage)
        libraries["SimpleITK + trimesh"] = partial(peer, peers.label_and_measure_sitk)
    task = KernelTask("label + measure", subjects.measure(), libraries, checks.same_measures, floor, {name: 10.0})
    for study, scan in _scans(inputs):
        yield KernelBenchmark(task, study, [scan], settings.threads)


def _box(settings: Settings, inputs: KernelInputs) -> Iterator[KernelBenchmark]:
    task = KernelTask("box", subjects.box(), {"trimesh": box_edges_mm}, checks.box_no_larger, read, {"trimesh": 2.0})
    for mask in (inputs.network.mask, inputs.big_node):
        labels, count = peers.label(mask)
        name = f"each of {count} nodes" if count > 1 else f"one node of {np.count_nonzero(mask)} voxels"
        yield KernelBenchmark(task, name, peers.corners_of_nodes(labels, inputs.network.grid.affine), settings.threads)


def _network_input(settings: Settings, inputs: KernelInputs) -> Iterator[KernelBenchmark]:
    volume = inputs.native.image
    written = np.zeros(NETWORK_ZYX, np.float32)

    def floor(image: NDArray[np.int16]) -> None:
        read(image)
        written.fill(0)

    def peer(image: NDArray[np.int16]) -> NDArray[np.float32]:
        return peers.resize(peers.normalize(image, PERCENTILES), NETWORK_ZYX)

    name, study = "numpy + torch", f"{_sizes(volume.shape)} to {NETWORK}"
    ours = subjects.network_input()
    whole = KernelTask("statistics + resample", ours, {name: peer}, checks.same_values, floor, {name: 8.0})
    yield KernelBenchmark(whole, study, [volume], settings.threads)

    low, high = np.percentile(volume, PERCENTILES)
    clipped = np.clip(volume, low, high)
    window = {"lo": low, "hi": high, "shift": clipped.mean(), "scale": 1 / clipped.std()}
    scaled = peers.normalize(volume, PERCENTILES)

    def peer_of_scaled(_image: NDArray[np.int16]) -> NDArray[np.float32]:
        return peers.resize(scaled, NETWORK_ZYX)

    ours = subjects.resample(**window)
    part = KernelTask("resample", ours, {"torch": peer_of_scaled}, checks.same_values, floor, {})
    yield KernelBenchmark(part, study, [volume], settings.threads)


def _native_mask(settings: Settings, inputs: KernelInputs) -> Iterator[KernelBenchmark]:
    shape = inputs.native.image.shape
    written = np.zeros(shape, np.uint8)

    def floor(logits: NDArray[np.float32]) -> None:
        read(logits)
        written.fill(0)

    def peer(logits: NDArray[np.float32]) -> Mask:
        return peers.above(peers.native_probability(logits, shape), THRESHOLD)

    ours, study = subjects.native_mask(shape), f"{NETWORK} to {_sizes(shape)}"
    task = KernelTask("threshold + resample", ours, {"torch": peer}, checks.same_masks, floor, {"torch": 8.0})
    yield KernelBenchmark(task, study, [inputs.logits], settings.threads)


def _study(settings: Settings, inputs: KernelInputs) -> Iterator[KernelBenchmark]:
    shape = inputs.native.image.shape
    written_x, written_mask = np.zeros(NETWORK_ZYX, np.float32), np.zeros(shape, np.uint8)

    def floor(item: KernelInputs) -> None:
        read(np.frombuffer(item.content, np.int16), item.logits)
        written_x.fill(0)
        written_mask.fill(0)

    def peer(item: KernelInputs) -> tuple[NDArray[np.float32], checks.PeerMeasuredNodes]:
        volume = np.frombuffer(item.content, np.int16).reshape(shape)
        x = peers.resize(peers.normalize(volume, PERCENTILES), NETWORK_ZYX)
        probability = peers.native_probability(item.logits, shape)
        labelled = peers.label(peers.above(probability, THRESHOLD))
        return x, (labelled, peers.measure(labelled[0], item.native.grid.affine, volume, probability))

    name = "numpy + torch + cc3d + trimesh"
    task = KernelTask("all", subjects.study(shape), {name: peer}, checks.same_study, floor, {name: 20.0})
    yield KernelBenchmark(task, f"{SCANNER} {_sizes(shape)}", [inputs], settings.threads)


def _scans(inputs: KernelInputs) -> list[tuple[str, KernelScan]]:
    """All scans with `NODES` nodes, by name: on the network's grid and on each scanner's."""
    natives = [
        (f"{scanner} {_sizes(scan.mask.shape)}, {NODES} nodes", scan) for scanner, scan in inputs.natives.items()
    ]
    return [(f"{NETWORK}, {NODES} nodes", inputs.network), *natives]


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


NETWORK = _sizes(NETWORK_ZYX)
