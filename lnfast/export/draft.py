"""A draft: an engine in a temporary folder, built from a graph variant, not certified yet."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from lnfast._version import __version__
from lnfast.backends.choice import runtime_for
from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.engine.manifest import GRAPH, MANIFEST, Manifest, identity
from lnfast.backends.protocol import Progress
from lnfast.backends.requests import BuildRequest
from lnfast.card import Model
from lnfast.export.request import Request
from lnfast.export.target import InstalledTarget
from lnfast.export.variants import GraphVariant
from lnfast.window import Zyx


@dataclass(frozen=True)
class DraftBuilder:
    """Builds the drafts of an export: one model, one target.

    Attributes:
        model: the model of which engines are built.
        target: what they are built for.
        request: gives GPUs and threads.
    """

    model: Model
    target: InstalledTarget
    request: Request

    def build(
        self, folder: Path, precision: str, variant: GraphVariant, windows: tuple[Zyx, ...], progress: Progress
    ) -> EngineFolder:
        """Build a draft from a graph.

        Args:
            folder: emptied first.
            precision: of the engine.
            variant: its graph.
            windows: shapes to compile beside that of the whole grid.
            progress: told of the steps of the runtime.

        Raises:
            ModelError, EngineError, BackendError: the target refuses the graph.
        """
        files = {} if variant.graph is None else {GRAPH: variant.graph}
        manifest = Manifest(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            lnfast=__version__,
            model=identity(self.model),
            target=self.target.name,
            version=self.target.version,
            device=self.target.device,
            made_for=(),
            precision=precision,
            dtype=variant.dtype,
            shapes=(),
            files={},
            build=variant.facts,
            certificate=None,
        )
        candidate = self.target.candidate(precision)
        request = BuildRequest(
            self.model,
            write_draft(folder, manifest, files),
            candidate,
            windows,
            self.request.capabilities,
            self.request.threads,
        )
        build = runtime_for(self.target.name).build(request, progress)
        return write_draft(folder, replace(manifest, made_for=build.made_for, shapes=build.windows), build.files)


def write_draft(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> EngineFolder:
    """Write an engine into a temporary folder; replaces the draft that is there.

    Args:
        folder: emptied first.
        manifest: its list of files is replaced.
        files: contents by file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for entry in list(folder.iterdir()):
        entry.unlink()
    entries = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    written = replace(manifest, files=entries)
    (folder / MANIFEST).write_text(written.to_json(), encoding="utf-8")
    return EngineFolder(folder, written)
