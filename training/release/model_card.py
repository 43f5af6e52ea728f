"""``MODEL_CARD.md``: what a person must know before trusting a number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from lnfast.atomic import write_file
from training.data.phantom_seeds import numbered_version
from training.data.provenance import sources_of

_TEXT = """# {name} {version}

**For research use only. {warning}**

{network}, {parameters:,} parameters) that marks lymph nodes on pelvic
diffusion-weighted MR at b = {b_targets} s/mm2. Which nodes are suspicious is decided afterwards, by measuring.

## Training

| | |
|---|---|
| data | {data} |
| budget | {step} steps of {batch} {patch}, {minutes} minutes, {rounds} schedule(s) |
| seed | {seed} |
| torch | {torch} |
{remark}
## Validation

{validation_cases} {held}, all protocols together, measured on the native grid
(box rule, > 8 mm), at probability {threshold}{peak}{outline}.{meaning}

| figure | value |
|---|---|
| Dice over all voxels | {dice} |
| nodes touched by a prediction | {nodes_found} of {nodes} |
| suspicious nodes found as suspicious | {suspicious_found} of {suspicious} |
| suspicious calls that are true | {called_true} of {called} |
| predicted nodes that touch no true node | {false_nodes} |
| patients with suspicious nodes called N0 | {missed_n1} |
| patients without called N1 | {false_n1} |
{holdout}
## Known failures

{failures}
- Sizes near the 8 mm limit depend on how thick the slices are; the report marks nodes where the slice limits the
  measure.
{unseen}"""

_NETWORKS = {
    "unet": "A 3D U-Net (Cicek et al. 2016, first width {width}",
    "edgenet": "A 3D U-Net at half the plane and below (`training/model/edgenet.py`, first width {width}",
    "enet": "A 3D ENet (Paszke et al. 2016, `training/model/enet.py`, first width {width}",
}
_PHANTOM = {
    "warning": "Trained on a digital phantom; it has seen no patient and has proved nothing about patients.",
    "failures": """- Real studies look different from the phantom: look at what it marks there before anything else.
  For the model that ships, two public studies and what it got wrong on them are in `docs/real-studies.md`.
- A node's outline follows the phantom's definition of its edge (half of the voxel), not a radiologist's.""",
    "unseen": """- Slices outside 2-8 mm were not seen in training, nor were fields of view outside {in_plane} mm in
  plane or {through_plane} mm through it.
""",
}
_STUDIES = {
    "warning": "What it was trained on decides whom it fits; it has been validated on no other patients.",
    "failures": "- Nobody has looked yet: write down here what it gets wrong.",
    "unseen": "",
}
# By the kind of the validation cases, which need not be that of the training cases.
_VALIDATED = {
    "phantoms": {
        "held": "phantoms with seeds kept apart from training",
        "meaning": " Phantoms, not patients: the figures say that the software works.",
    },
    "folder": {"held": "studies of patients kept apart from training", "meaning": ""},
}


# By the key of the card.
_HELD_OUT = {
    "holdout": ("Hold-out", "the default phantom", "python -m training holdout"),
    "holdout_realistic": (
        "Hold-out, realistic",
        "the realistic phantom, which is nearer to people",
        "python -m training holdout --realistic",
    ),
}
_HOLDOUT = """
## {title}

{studies} cases of {variety} ({n1} N1, {n0} N0, the paper's three scanners) whose seeds nothing was
trained, tuned or chosen on, run from files with {backend} (`{command}`, phantoms of
version {version}); intervals are of 95 %.

| figure | value | the paper, on patients |
|---|---|---|
| sensitivity for N1 | {sensitivity} | 37/37 |
| specificity | {specificity} | 37/40 |
| kappa of the stage | {kappa} | 0.922 |
| AUC of the call; of the largest short axis | {auc} | 0.963; - |
| suspicious nodes found, recall | {recall} | 226/230 |
| suspicious calls that are true, precision | {precision} | 226/231 |
| Dice a patient: all, suspicious, largest | {dice} | 0.76, 0.85, 0.88 |
| Dice a matched node: all, suspicious, largest | {matched} | - |
| short axis of matched suspicious nodes, predicted - true | {bias} | - |
"""


def holdout_record(metrics: dict[str, Any], *, version: str, backend: str) -> dict[str, Any]:
    """Return what a card keeps of ``metrics.json`` (`lnfast.evaluate`), unrounded.

    Args:
        metrics: of the hold-out patients.
        version: of the phantom's sources.
        backend: what ran the model.
    """
    patient, suspicious = metrics["patient"], metrics["detection"]["suspicious"]
    parts = {"segmentation": "dice", "segmentation_of_matched_nodes": "dice"}
    return {
        "phantoms": version,
        "backend": backend,
        "studies": metrics["counts"]["studies"],
        "patient": {
            name: patient[name] for name in ("table", "sensitivity", "specificity", "auc", "auc_short_axis", "kappa")
        },
        "suspicious": {name: value for name, value in suspicious.items() if not isinstance(value, dict)},
        **{
            name: {subset: figures[measure] for subset, figures in metrics[name].items()}
            for name, measure in parts.items()
        },
        "short_axis_mm": metrics["measurement"]["short_axis_mm"]["suspicious"],
    }


def record_holdout(folder: Path, holdout: dict[str, Any], variety: Literal["default", "realistic"]) -> None:
    """Write what `holdout_record` gives into a model folder's card and its MODEL_CARD.md; the weights stay as they are.

    Args:
        folder: of the model.
        holdout: of `holdout_record`.
        variety: of the phantom.

    Raises:
        OSError: what the disk said; each file is the old one or the new.
    """
    path = folder / "card.json"
    card = json.loads(path.read_bytes())
    card["training"]["holdout" if variety == "default" else "holdout_realistic"] = holdout
    # Both before either is written: a card for which no text can be made must not be half replaced.
    texts = {"card.json": json.dumps(card, indent=2) + "\n", "MODEL_CARD.md": model_card(card)}
    for name, text in texts.items():
        write_file(folder / name, text.encode())


def model_card(card: dict[str, Any]) -> str:
    """Return the text for a card by `training.recipe.card.card_dict` whose ``training`` entry is filled."""
    training, field = card["training"], card["input"]["field_of_view_mm"]
    figures = dict(training["validation"])
    figures["validation_cases"] = figures.pop("cases")
    config = training["config"]
    patch = config["patch_zyx"]
    field_mm = {name: "-".join(map(str, limits)) for name, limits in field.items()}
    words = dict(_PHANTOM if only_phantoms(training) else _STUDIES)
    words["unseen"] = words["unseen"].format(**field_mm)
    validated = _VALIDATED[_validated_kind(training)]
    if not only_phantoms(training) and validated is _VALIDATED["phantoms"]:
        words["warning"] = "What it was trained on decides whom it fits; it has been validated on no patient."
    return _TEXT.format(
        **words,
        **validated,
        b_targets="-".join(map(str, card["input"]["b_targets"])),
        data=describe_sources(training),
        name=card["name"],
        version=card["version"],
        parameters=training["parameters"],
        step=training["step"],
        minutes=training["minutes"],
        rounds=training.get("rounds", 1),
        torch=training["torch"],
        remark=f"\n{training['remark']}\n" if "remark" in training else "",
        network=_NETWORKS[config.get("network", "unet")].format(width=config["width"]),
        batch=config["batch"],
        seed=config["seed"],
        patch="whole studies" if patch is None else f"crops of {'x'.join(map(str, patch))} voxels",
        threshold=card["output"]["threshold"],
        peak=f", of nodes that somewhere exceed {card['output']['peak']}" if "peak" in card["output"] else "",
        outline=", outlined at their half maximum" if card["output"].get("outline") == "half-maximum" else "",
        holdout="".join(_holdout(training[key], *texts) for key, texts in _HELD_OUT.items() if key in training),
        **figures,
    )


def _holdout(holdout: dict[str, Any], title: str, variety: str, command: str) -> str:
    patient, suspicious, table = holdout["patient"], holdout["suspicious"], holdout["patient"]["table"]

    def estimate(of: dict[str, Any], count: str = "") -> str:
        if of["value"] is None:
            return f"undefined: {of['reason']}"
        interval = "" if of["low"] is None else f" ({of['low']:.3f}-{of['high']:.3f})"
        return f"{count}{of['value']:.3f}{interval}"

    def share(part: int, whole: int, name: str) -> str:
        value = "undefined" if suspicious[name] is None else f"{suspicious[name]:.3f}"
        return f"{part}/{whole}: {value}"

    def three(of: dict[str, Any]) -> str:
        means = (of[subset]["mean"] for subset in ("all", "suspicious", "largest"))
        return ", ".join("undefined" if mean is None else f"{mean:.2f}" for mean in means)

    short = holdout["short_axis_mm"]
    limits = "undefined" if short["bias"] is None else f"{short['bias']:+.2f} mm"
    if short["loa_low"] is not None:
        limits += f" ({short['loa_low']:+.2f} to {short['loa_high']:+.2f})"
    return _HOLDOUT.format(
        title=title,
        variety=variety,
        command=command,
        studies=holdout["studies"],
        n1=table["tp"] + table["fn"],
        n0=table["tn"] + table["fp"],
        version=holdout["phantoms"],
        backend=holdout["backend"],
        sensitivity=estimate(patient["sensitivity"], f"{table['tp']}/{table['tp'] + table['fn']}: "),
        specificity=estimate(patient["specificity"], f"{table['tn']}/{table['tn'] + table['fp']}: "),
        kappa=estimate(patient["kappa"]),
        auc=f"{estimate(patient['auc'])}; {estimate(patient['auc_short_axis'])}",
        recall=share(suspicious["tp"], suspicious["tp"] + suspicious["fn"], "recall"),
        precision=share(suspicious["tp"], suspicious["tp"] + suspicious["fp"], "precision"),
        dice=three(holdout["segmentation"]),
        matched=three(holdout["segmentation_of_matched_nodes"]),
        bias=limits,
    )


def only_phantoms(training: dict[str, Any]) -> bool:
    """Return whether only phantoms were trained on."""
    return all(source["kind"] == "phantoms" for source in sources_of(training))


def _validated_kind(training: dict[str, Any]) -> str:
    """ "phantoms" or "folder"; an older header does not say: then validation and training cases are of one kind."""
    default = "phantoms" if only_phantoms(training) else "folder"
    kind: str = training.get("validated_on", {}).get("kind", default)
    return kind


def describe_sources(training: dict[str, Any]) -> str:
    """Describe what was trained on, in one line."""
    return "; then ".join(
        f"{source['cases']} phantoms of `lnfast.phantom`, seeds {source['seeds'][0]}-{source['seeds'][1] - 1}"
        if source["kind"] == "phantoms"
        else f"weights of `{source['name']}`, which do not say what they learned from"
        if source["kind"] == "unknown"
        else f"{source['cases']} studies of the data set `{source['name']}`"
        for source in sources_of(training)
    )


def trained_on(training: dict[str, Any]) -> str:
    """Return what the card, and so every report, says of the training data; cases used twice count once."""
    if only_phantoms(training):
        return f"digital phantom ({_phantoms(sources_of(training))} cases), no patient data"
    return describe_sources(training).replace("`", "")


def _phantoms(sources: list[dict[str, Any]]) -> int:
    """Count the phantoms of sources whose seeds may overlap; the same seed of another version is another phantom."""
    known: set[tuple[Any, int]] = set()
    uncertain: dict[tuple[Any, ...], int] = {}
    for source in sources:
        first, end = source["seeds"]
        version = numbered_version(source["version"])
        # An older weights file has only the outermost seeds: which of them there were is certain if all were.
        ranges = source.get("ranges") or ([(first, end)] if source["cases"] == end - first else None)
        if ranges is None:
            uncertain[version, first, end] = source["cases"]
        else:
            known |= {(version, seed) for a, b in ranges for seed in range(a, b)}
    ranged = {
        (numbered_version(source["version"]), *source["seeds"], source["cases"])
        for source in sources
        if source.get("ranges")
    }
    return len(known) + sum(cases for key, cases in uncertain.items() if (*key, cases) not in ranged)
