"""``MODEL_CARD.md``: what a person must know before trusting a number."""

from __future__ import annotations

from typing import Any

_TEXT = """# {name} {version}

**For research use only. Trained on a digital phantom; it has seen no patient and has proved nothing about patients.**

A 3D U-Net (Cicek et al. 2016, first width {width}, {parameters:,} parameters) that marks lymph nodes on pelvic
diffusion-weighted MR at b = 800-1000 s/mm2. Which nodes are suspicious is decided afterwards, by measuring.

## Training

| | |
|---|---|
| data | {cases} phantoms of `lnfast.phantom`, seeds {first}-{last}: the paper's three scanners, two small fields |
| budget | {step} steps of {batch} patches of {patch} voxels, {minutes} minutes on two CPU cores, {rounds} schedule(s) |
| seed | {seed} |
| torch | {torch} |

This is a small budget: a longer run, a wider network and, above all, patients' data would each do better.

## Validation

{validation_cases} phantoms with seeds kept apart from training, all protocols together, measured on the native grid
(box rule, > 8 mm), at probability {threshold}. Phantoms, not patients: the figures say that the software works.

| figure | value |
|---|---|
| Dice over all voxels | {dice} |
| nodes touched by a prediction | {nodes_found} of {nodes} |
| suspicious nodes found as suspicious | {suspicious_found} of {suspicious} |
| suspicious calls that are true | {called_true} of {called} |
| predicted nodes that touch no true node | {false_nodes} |
| patients with suspicious nodes called N0 | {missed_n1} |
| patients without called N1 | {false_n1} |
{notes}
## Known failures

- Real studies look different from the phantom. On two public prostate studies (no node truth) it marks 24 and 30 small
  bright structures, whether or not they are nodes. In the first it calls a bright spot inside the prostate suspicious
  and leaves most of the very bright inguinal nodes unmarked.
- In noisy studies it marks dozens of specks, too small to be suspicious.
- A node's outline follows the phantom's definition of its edge (half of the voxel), not a radiologist's.
- Sizes near the 8 mm limit depend on slices of 3-8 mm; the report marks nodes where the slice limits the measure.
- Fields of view outside {in_plane} mm in plane or {through_plane} mm through it were not seen in training.
"""


def model_card(card: dict[str, Any], notes: str = "") -> str:
    """The text for a card as written by `training.card.card_dict`, with its ``training`` entry filled."""
    training, field = card["training"], card["input"]["field_of_view_mm"]
    found = dict(training["validation"])
    found["validation_cases"] = found.pop("cases")
    config = training["config"]
    return _TEXT.format(
        name=card["name"],
        version=card["version"],
        parameters=training["parameters"],
        cases=training["cases"],
        first=training["seeds"][0],
        last=training["seeds"][1] - 1,
        step=training["step"],
        minutes=training["minutes"],
        rounds=training.get("rounds", 1),
        torch=training["torch"],
        width=config["width"],
        batch=config["batch"],
        seed=config["seed"],
        patch="x".join(map(str, config["patch_zyx"])),
        threshold=card["output"]["threshold"],
        in_plane="-".join(map(str, field["in_plane"])),
        through_plane="-".join(map(str, field["through_plane"])),
        notes=notes,
        **found,
    )
