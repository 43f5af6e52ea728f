"""The demonstration: a phantom that no model was trained on, its predicted nodes, and the comparison of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lnfast.cohort import PhantomCase
    from lnfast.matching import Comparison
    from lnfast.phantom import Phantom
    from lnfast.result import Result

# Seeds below 100 are never trained on; this is the first of them, chosen before any model had been run on it.
SEED, SCANNER = 0, "ingenia"


@dataclass(frozen=True, eq=False)
class Demonstration:
    """The phantom, the engine's result and their comparison.

    Attributes:
        phantom: the digital patient.
        case: its files, and the measured nodes of its truth mask.
        result: of the engine, from the file.
        folder: where the result was written.
        comparison: of result and truth.
    """

    phantom: Phantom
    case: PhantomCase
    result: Result
    folder: Path
    comparison: Comparison


def demonstration_phantom() -> Phantom:
    """Make the digital patient."""
    from lnfast.phantom import REALISTIC, make_phantom

    return make_phantom(SEED, SCANNER, "n1", variety=REALISTIC)


def demonstrate(out: Path, progress: Callable[[str], None]) -> Demonstration:
    """Make the phantom, run the engine on its file, write the result and compare it with the truth.

    Args:
        out: gets ``phantom/``, a folder in nnU-Net's raw layout, and ``results/``.
        progress: called with what is done next.
    """
    from lnfast.cohort import add_case
    from lnfast.engine import Engine
    from lnfast.geometry import Volume
    from lnfast.matching import NodeMap, compare

    phantom = demonstration_phantom()
    case = add_case(out / "phantom", phantom)
    progress("loading the engine")
    with Engine() as engine:
        progress(case.name)
        result = engine.run(case.image)
    folder = result.write(out / "results")
    truth = NodeMap(Volume(phantom.labels, phantom.volume.grid), case.nodes)
    return Demonstration(phantom, case, result, folder, compare(NodeMap(result.labels, result.nodes), truth))
