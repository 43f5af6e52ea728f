"""``MODEL_CARD.md``: what a person must know before trusting a number."""

from __future__ import annotations

from typing import Any

_TEXT = """# {name} {version}

**For research use only. {warning}**

A 3D U-Net (Cicek et al. 2016, first width {width}, {parameters:,} parameters) that marks lymph nodes on pelvic
diffusion-weighted MR at b = 800-1000 s/mm2. Which nodes are suspicious is decided afterwards, by measuring.

## Training

| | |
|---|---|
| data | {data} |
| budget | {step} steps of {batch} {patch}, {minutes} minutes, {rounds} schedule(s) |
| seed | {seed} |
| torch | {torch} |

## Validation

{validation_cases} {held}, all protocols together, measured on the native grid
(box rule, > 8 mm), at probability {threshold}.{meaning}

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

{failures}
- Sizes near the 8 mm limit depend on slices of 3-8 mm; the report marks nodes where the slice limits the measure.
- Fields of view outside {in_plane} mm in plane or {through_plane} mm through it were not seen in training.
"""

_PHANTOM = {
    "warning": "Trained on a digital phantom; it has seen no patient and has proved nothing about patients.",
    "held": "phantoms with seeds kept apart from training",
    "meaning": " Phantoms, not patients: the figures say that the software works.",
    "failures": """- Real studies look different from the phantom. On two public prostate studies (no node truth) it
  marks 24 and 30 small bright structures, whether or not they are nodes. In the first it calls a bright spot inside
  the prostate suspicious and leaves most of the very bright inguinal nodes unmarked.
- In noisy studies it marks dozens of specks, too small to be suspicious.
- A node's outline follows the phantom's definition of its edge (half of the voxel), not a radiologist's.""",
}
_STUDIES = {
    "warning": "What it was trained on decides whom it fits; it has been validated on no other patients.",
    "held": "studies of patients kept apart from training",
    "meaning": "",
    "failures": "- Nobody has looked yet: write down here what it gets wrong.",
}


def model_card(card: dict[str, Any], notes: str = "") -> str:
    """The text for a card as written by `training.card.card_dict`, with its ``training`` entry filled."""
    training, field = card["training"], card["input"]["field_of_view_mm"]
    found = dict(training["validation"])
    found["validation_cases"] = found.pop("cases")
    config = training["config"]
    patch = config["patch_zyx"]
    words = _PHANTOM if only_phantoms(training) else _STUDIES
    return _TEXT.format(
        **words,
        data=told(training),
        name=card["name"],
        version=card["version"],
        parameters=training["parameters"],
        step=training["step"],
        minutes=training["minutes"],
        rounds=training.get("rounds", 1),
        torch=training["torch"],
        width=config["width"],
        batch=config["batch"],
        seed=config["seed"],
        patch="whole studies" if patch is None else f"patches of {'x'.join(map(str, patch))} voxels",
        threshold=card["output"]["threshold"],
        in_plane="-".join(map(str, field["in_plane"])),
        through_plane="-".join(map(str, field["through_plane"])),
        notes=notes,
        **found,
    )


def only_phantoms(training: dict[str, Any]) -> bool:
    """Whether no patient was learned from."""
    return all(source["kind"] == "phantoms" for source in training["sources"])


def told(training: dict[str, Any]) -> str:
    """What was learned from, in one line."""
    return "; then ".join(
        f"{source['cases']} phantoms of `lnfast.phantom`, seeds {source['seeds'][0]}-{source['seeds'][1] - 1}"
        if source["kind"] == "phantoms"
        else f"{source['cases']} studies of the data set `{source['name']}`"
        for source in training["sources"]
    )


def trained_on(training: dict[str, Any]) -> str:
    """What the card, and so every report, says of it; cases that were learned from twice count once."""
    if only_phantoms(training):
        counts = {tuple(source["seeds"]): source["cases"] for source in training["sources"]}
        return f"digital phantom ({sum(counts.values())} cases), no patient data"
    return told(training).replace("`", "")
