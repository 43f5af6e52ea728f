"""A loaded network and the stages around it: from a study on its own grid to measured nodes.

    preprocess -> infer -> postprocess -> measure        in a window of the study's grid, where the engine has some;
                                                         slab by slab where the study has many thin slices

Serving, the self-test and export's certificate all run this path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.backends import Backend, BackendInfo, Candidate, open_backend
from lnfast.backends.engine.folder import EngineFolder
from lnfast.body import body_extent
from lnfast.card import Model
from lnfast.errors import EngineError
from lnfast.geometry import Volume
from lnfast.measure import LymphNode, Rules, ScaledVolume, measure_nodes
from lnfast.postprocess import Segmentation, segment, touches_edge
from lnfast.preprocess import Normalization, normalization, without_padding, write_input
from lnfast.slabs import add_slab, grid_for, slabs_of
from lnfast.window import Window, Zyx, choose_window, voxel_count

# Where the network was run, its logits there, and the nodes.
_Found = tuple[Window, NDArray[Any], Segmentation]


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer of a network to one study.

    Attributes:
        labels: ``(z, y, x)`` uint16, native grid, value = node id.
        nodes: measured, in order of their id.
        faint: measured likewise: what the card's peak dropped, and is no node of the result.
        window: of the study's grid (`lnfast.slabs.grid_for`) in which the network was run; all of it in slabs.
        shape_zyx: what the network was run at, one of `Network.shapes`; the deeper grid where it was run in slabs.
        timings_ms: ``preprocess``, ``infer``, ``postprocess`` and ``measure``.
    """

    labels: Volume
    nodes: tuple[LymphNode, ...]
    faint: tuple[LymphNode, ...]
    window: Window
    shape_zyx: Zyx
    timings_ms: dict[str, float]


class Network:
    """A model's network in a runtime, on the whole grid and in the windows that its engine has. For one thread.

    Args:
        model: whose network it is.
        candidate: how it is run.
        engine: made for that; None for the model's own graph, which has no windows.
        threads: for the network and the kernels; 0 takes one per core.

    Raises:
        ModelError, EngineError, BackendError: as `lnfast.backends.open_backend`.
    """

    def __init__(
        self, model: Model, candidate: Candidate, *, engine: EngineFolder | None = None, threads: int = 0
    ) -> None:
        self.model = model
        self.candidate = candidate
        self.engine = engine
        self.grid_zyx: Zyx = model.card.shape_zyx
        self.windows: tuple[Zyx, ...] = () if engine is None else engine.manifest.shapes
        self._threads = threads
        self._process = os.getpid()
        self._loaded: dict[Zyx, Backend] = {}
        self.info: BackendInfo = self.at(min(self.shapes, key=voxel_count)).info

    @property
    def shapes(self) -> tuple[Zyx, ...]:
        """All that the network can be run at, the whole grid first."""
        return (self.grid_zyx, *self.windows)

    def at(self, shape_zyx: Zyx) -> Backend:
        """The backend for a shape, loaded when it is first asked for.

        Raises:
            EngineError: ``forked`` in a child process of the one that made the network; else as `Network`.
        """
        if os.getpid() != self._process:  # a runtime that was started before a fork loads nothing after it
            message = f"the network was loaded in process {self._process} and is used in its fork {os.getpid()}"
            raise EngineError("forked", f"{message}; load one in each process")
        if shape_zyx not in self._loaded:
            self._loaded[shape_zyx] = open_backend(
                self.model, self.candidate, engine=self.engine, shape_zyx=shape_zyx, threads=self._threads
            )
        return self._loaded[shape_zyx]

    def close(self) -> None:
        """Release the runtime; a second call does nothing."""
        for backend in self._loaded.values():
            backend.close()

    def grid_of(self, volume: Volume) -> Zyx:
        """The grid on which a study is analysed; see `lnfast.slabs.grid_for`."""
        card = self.model.card
        return grid_for(volume.oriented(card.orientation).grid, self.grid_zyx, kept=card.keeps_slices)

    def grid_at_once(self, volume: Volume) -> Zyx:
        """The grid of a study in a single inference, into which many slices are squeezed; that of the probe."""
        depth, height, width = self.grid_of(volume)
        return min(depth, self.grid_zyx[0]), height, width

    def window_for(self, volume: Volume) -> Window:
        """The smallest window with the patient in it, of the study's grid; all of that where the engine has none."""
        grid_zyx = self.grid_of(volume)
        if not self.windows or grid_zyx[0] > self.grid_zyx[0]:
            return Window.whole(grid_zyx)
        chosen = choose_window(body_extent(volume, self.model.card), self.windows, self.grid_zyx)
        return chosen.with_slices(grid_zyx[0])

    def shape_for(self, window: Window) -> Zyx:
        """What the network is run at for a window or a slab of a study's grid: the window may have fewer slices."""
        return (self.grid_zyx[0], *window.shape_zyx[1:])

    def answer(
        self,
        volume: Volume,
        rules: Rules,
        *,
        norm: Normalization | None = None,
        intensity: ScaledVolume | None = None,
        window: Window | None = None,
    ) -> Answer:
        """Find and measure the nodes of a study.

        Args:
            volume: native grid.
            rules: of the measurement.
            norm: of this study, as `lnfast.admission.admit` gives it; measured here when None.
            intensity: the study on the same grid, for the mean intensity.
            window: to run the network in; None lets the patient decide. A node at its face sends the study through
                the whole grid: there may be more of it, or others, beyond.

        Raises:
            StudyError: the study is refused.
            EngineError: the network failed or its answer cannot be trusted.
        """
        card, watch = self.model.card, _Watch()
        with watch("preprocess"):
            grid_zyx = self.grid_of(volume) if window is None else window.grid_zyx
            norm = norm or normalization(volume, card, threads=self._threads)
        if grid_zyx[0] <= self.grid_zyx[0]:
            chosen, logits, segmentation = self._find(volume, norm, window, watch)
        else:
            chosen, logits, segmentation = self._find_in_slabs(volume, norm, grid_zyx, watch)
        with watch("measure"):
            measure = partial(
                measure_nodes,
                rules=rules,
                orientation=card.orientation,
                intensity=intensity,
                logits=logits,
                window=chosen,
                threads=self._threads,
            )
            nodes = measure(segmentation.labels, segmentation.count)
            faint = () if segmentation.faint is None else measure(segmentation.faint, segmentation.faint_count)
        shape_zyx = self.shape_for(chosen) if grid_zyx[0] <= self.grid_zyx[0] else grid_zyx
        return Answer(segmentation.labels, nodes, faint, chosen, shape_zyx, watch.spent_ms)

    def _find(self, volume: Volume, norm: Normalization, window: Window | None, watch: _Watch) -> _Found:
        """Find nodes in a window, in the patient's where it is None; then a node at its face takes the whole grid."""
        with watch("preprocess"):
            chosen = self.window_for(volume) if window is None else window
        logits = self._infer(volume, norm, chosen, watch)
        segmentation = self._segment(logits, volume, norm, chosen, watch)
        if window is None and touches_edge(segmentation, chosen, self.model.card):
            return self._find(volume, norm, Window.whole(chosen.grid_zyx), watch)
        return chosen, logits, segmentation

    def _find_in_slabs(self, volume: Volume, norm: Normalization, grid_zyx: Zyx, watch: _Watch) -> _Found:
        whole, joined = Window.whole(grid_zyx), np.zeros(grid_zyx, np.float32)
        with watch("preprocess"):
            source, plain = without_padding(volume, self.model.card, norm)
        for slab in slabs_of(grid_zyx, self.grid_zyx):
            logits = self._infer(source, plain, slab, watch)
            with watch("postprocess"):
                add_slab(joined, slab, logits)
        return whole, joined, self._segment(joined, volume, norm, whole, watch)

    def _infer(self, volume: Volume, norm: Normalization, window: Window, watch: _Watch) -> NDArray[Any]:
        """Return the window's part of the network's output buffer, which the next inference at its shape overwrites."""
        with watch("preprocess"):
            backend = self.at(self.shape_for(window))
            write_input(volume, self.model.card, backend.input[0, 0], norm=norm, window=window, threads=self._threads)
        with watch("infer"):
            backend.infer()
        return window.part_of(backend.output[0, 0])

    def _segment(
        self, logits: NDArray[Any], volume: Volume, norm: Normalization, window: Window, watch: _Watch
    ) -> Segmentation:
        with watch("postprocess"):
            card = self.model.card
            image = without_padding(volume, card, norm)[0] if card.outlines_at_half_maximum else None
            return segment(logits, volume.grid, card, image=image, floor=norm.lo, window=window, threads=self._threads)


class _Watch:
    """Wall-clock milliseconds by stage; a stage that is entered twice adds up."""

    def __init__(self) -> None:
        self.spent_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = perf_counter()
        yield
        self.spent_ms[stage] = self.spent_ms.get(stage, 0.0) + (perf_counter() - started) * 1e3
