"""The values of a label map become numbered nodes.

Two kinds of label map are admitted: instances (each value is a node; gaps are closed) and classes (the 26-connected
components of the node's class are the nodes, as for the runtime). A file does not show which of the two it is, for a
single node of value 1 is both, so ``dataset.json`` says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.geometry import Volume
from lnfast.study import shown
from lnfast.study.labelmap import number_components, number_ids, read_label_file


@dataclass(frozen=True)
class LabelRule:
    """What the values of a label map mean.

    Attributes:
        instances: every value above 0 is a node of its own; ``node`` and ``not_node`` are not read then.
        node: values that are node, of all nodes together.
        not_node: values of other classes and of the background.
    """

    instances: bool = True
    node: tuple[int, ...] = ()
    not_node: tuple[int, ...] = (0,)


def read_labels(path: Path) -> Volume:
    """Read a label map; a message names the file without its folder, which may name a patient.

    Returns:
        ``(z, y, x)`` integers of 0 and above, native grid.

    Raises:
        StudyError: as `lnfast.study.labelmap.read_label_file`.
    """
    try:
        return read_label_file(path).values
    except StudyError as error:
        message = error.message.replace(shown(str(path)), shown(path.name), 1)
        raise StudyError(error.code, f"label {message}") from error


def number_nodes(values: NDArray[Any], rule: LabelRule) -> NDArray[np.uint16]:
    """Number nodes from 1 without a gap: instances in the order of their values, components in raster order.

    Args:
        values: ``(z, y, x)``, as `read_labels` returns them.
        rule: what they mean.

    Raises:
        StudyError: ``bad-labels`` for a value that the rule does not know, and for more than 65535 nodes.
    """
    if rule.instances:
        return number_ids(values)[0]
    unknown = [int(value) for value in np.unique(values) if value not in (*rule.node, *rule.not_node)]
    if unknown:
        raise StudyError(
            "bad-labels",
            f"holds the value {', '.join(map(str, unknown[:5]))}{', ...' if len(unknown) > 5 else ''}, which "
            'dataset.json does not name as a class; if values are nodes, add "instance_labels": true there',
        )
    return number_components(np.isin(values, rule.node))[0]
