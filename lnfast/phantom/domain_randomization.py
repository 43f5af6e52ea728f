"""Domain randomisation: how far patients depart from the default.

Tests, certificates and benchmarks use the default, and so does the hold-out unless realistic phantoms are asked for. A
network that only sees ordinary pelves learns what lies where in them, and real pelves are different. So the phantoms of
`TRAINING` depart from the default in some ways: any field, organs present or absent, other contrasts, coils and
artefacts, nodes of all sizes, cut by the edge of the field or grown together. Those of `REALISTIC` are only nearer to
people; one of them is the demo's patient.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Variety:
    """The share of patients, 0 to 1, that depart from the default in each way; set one to 0 to ablate it.

    Attributes:
        any_field: the field lies about any part of the stations, not mid-pelvis or at the prostate.
        rim_nodes: nodes cut by the edge of the field, labelled as far as they lie in it.
        chains: nodes that touch in a row, one component and one label.
        all_sizes: nodes of 3 to about 25 pixels.
        bright_nodes: nodes up to four times as bright, relative to their surroundings, as in the default.
        empty_bladder: a small bladder.
        no_prostate: no gland, no seminal vesicles.
        no_bowel: no small bowel, no sigmoid.
        no_perineum: no penis, no testes, no spermatic cords.
        clusters: intensities drawn at random for clusters within tissues.
        endorectal_coil: a coil in the rectum.
        flare: a bright region below the skin, next to a coil's element.
        bias: strong, slow shading.
        ghost: a strong N/2 ghost.
        blur: additional in-plane blur.
        any_noise: from hardly any noise to more than the default's.
        realistic: nearer to people: fatty hila of a third to two thirds in many nodes of 5 mm and more, most of all in
            the groin; brighter and longer nodes, which need not follow their vessel; brighter fat, left unsuppressed in
            long bands; veins as dark as a high b-value makes them; dimmer nerves; thinner streaks, hardly any blobs in
            muscle; the grain of two real studies.
    """

    any_field: float = 0.0
    rim_nodes: float = 0.0
    chains: float = 0.0
    all_sizes: float = 0.0
    bright_nodes: float = 0.0
    empty_bladder: float = 0.0
    no_prostate: float = 0.0
    no_bowel: float = 0.0
    no_perineum: float = 0.0
    clusters: float = 0.0
    endorectal_coil: float = 0.0
    flare: float = 0.0
    bias: float = 0.0
    ghost: float = 0.0
    blur: float = 0.0
    any_noise: float = 0.0
    realistic: float = 0.0

    def departures(self) -> dict[str, float]:
        """Return the shares that are not the default's; empty for the default."""
        shares = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        return {name: share for name, share in shares if share}

    def sample(self, rng: np.random.Generator) -> Variety:
        """Draw one patient's variety: every share becomes 1 or 0.

        Each share takes one draw, whatever its value. The default takes none, because the sequence of its patients'
        draws was fixed before there was any other variety.
        """
        if self == LIFELIKE:
            return self
        return Variety(**{entry.name: float(rng.random() < getattr(self, entry.name)) for entry in fields(self)})


# The default, which the figures of `pelvic-ln-edge` 0.2.0 were measured on: it does not change.
LIFELIKE = Variety()
# Nearer to people than the default, with nothing else unusual.
REALISTIC = Variety(realistic=1.0)
TRAINING = Variety(
    any_field=0.75,
    rim_nodes=0.8,
    chains=0.5,
    all_sizes=0.4,
    bright_nodes=0.4,
    empty_bladder=0.15,
    no_prostate=0.2,
    no_bowel=0.25,
    no_perineum=0.2,
    clusters=0.4,
    endorectal_coil=0.1,
    flare=0.25,
    bias=0.4,
    ghost=0.3,
    blur=0.3,
    any_noise=0.4,
    realistic=1.0,
)
