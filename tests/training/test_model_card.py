"""What MODEL_CARD.md and card.json say of a model's training, validation and hold-out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

import lnfast
from training.fit.validation import ValidationCounts
from training.recipe.card import card_dict
from training.recipe.presets import PAPER
from training.release.model_card import model_card, record_holdout, trained_on

SHIPPED = Path(lnfast.__file__).parent / "models" / "pelvic-ln-edge"


def test_the_sources_of_an_older_card_are_described() -> None:
    card = json.loads((SHIPPED / "card.json").read_text())
    for name in ("sources", "validated_on"):
        card["training"].pop(name, None)
    card["training"] |= {"seeds": [1000, 1512], "cases": 512}
    card["training"].pop("holdout", None)
    assert trained_on(card["training"]) == "digital phantom (512 cases), no patient data"
    text = model_card(card)
    assert "512 phantoms of `lnfast.phantom`, seeds 1000-1511" in text
    assert f"{card['training']['validation']['cases']} phantoms with seeds" in text
    assert "docs/real-studies.md" in text and "specks" not in text and "{" not in text


def test_if_one_card_cannot_be_written_neither_is(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes((SHIPPED / "card.json").read_bytes())
    with pytest.raises(KeyError):
        record_holdout(tmp_path, {"not": "a hold-out"}, "default")
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]
    assert (tmp_path / "card.json").read_bytes() == (SHIPPED / "card.json").read_bytes()


def test_a_phantom_counts_once_for_each_version() -> None:
    def source(version: str, cases: int, *ranges: tuple[int, int]) -> dict[str, Any]:
        seeds = [ranges[0][0], ranges[-1][1]]
        return {"kind": "phantoms", "seeds": seeds, "version": version, "cases": cases, "ranges": ranges}

    first = source("a", 512, (1000, 1512))
    for second, count in (
        (source("a", 128, (1384, 1512)), 512),
        (source("a", 200, (1400, 1600)), 600),
        (source("b", 512, (1000, 1512)), 1024),
        (source("a", 3, (1003, 1004), (1600, 1602)), 514),
    ):
        text = trained_on({"sources": [first, second]})
        assert text == f"digital phantom ({count} cases), no patient data"
    scattered = source("a", 3, (1003, 1004), (1011, 1012), (1019, 1020))
    older = {name: value for name, value in scattered.items() if name != "ranges"}
    assert "(3 cases)" in trained_on({"sources": [older, scattered]})
    del first["ranges"]
    assert "(600 cases)" in trained_on({"sources": [first, source("a", 200, (1400, 1600))]})


@pytest.mark.parametrize(
    ("learned", "validated", "has", "lacks"),
    [
        (
            "folder",
            "phantoms",
            ("validated on no patient", "phantoms with seeds", "Phantoms, not"),
            ("of patients kept",),
        ),
        ("folder", "folder", ("studies of patients kept",), ("Phantoms, not", "2-8 mm", "Slices outside")),
        ("phantoms", "folder", ("it has seen no patient", "studies of patients kept"), ("Phantoms, not",)),
        ("folder", None, ("studies of patients kept",), ("Phantoms, not",)),
        ("phantoms", None, ("phantoms with seeds", "2-8 mm"), ()),
    ],
)
def test_the_validation_table_names_its_cases(
    learned: str, validated: str | None, has: tuple[str, ...], lacks: tuple[str, ...]
) -> None:
    sources = {
        "phantoms": {"kind": "phantoms", "seeds": [1000, 1004], "cases": 4, "version": "0"},
        "folder": {"kind": "folder", "name": "Ward7", "cases": 9},
    }
    training = {"config": {"seed": 1, **asdict(PAPER)}, "step": 1, "minutes": 1, "torch": "2", "parameters": 7}
    training |= {"validation": ValidationCounts(cases=2).summary(), "sources": [sources[learned]]}
    if validated is not None:
        training["validated_on"] = {"kind": validated, "cases": 2}
    text = model_card(card_dict(training["config"], training=training))
    assert all(words in text for words in has) and not any(words in text for words in lacks)


def test_the_card_says_whether_patients_were_trained_on() -> None:
    phantoms = {"kind": "phantoms", "seeds": [1000, 1004], "cases": 4, "version": "0"}
    studies = {"kind": "folder", "name": "Ward7", "cases": 9}
    assert trained_on({"sources": [phantoms, phantoms]}) == "digital phantom (4 cases), no patient data"
    both = {"sources": [phantoms, studies]}
    assert trained_on(both) == "4 phantoms of lnfast.phantom, seeds 1000-1003; then 9 studies of the data set Ward7"
    score = ValidationCounts(cases=2).summary()
    header = {"config": {"seed": 1, **asdict(PAPER)}, "step": 1, "minutes": 1, "torch": "2", "parameters": 7}
    texts = []
    for sources in ([phantoms], both["sources"]):
        training = header | {"validation": score, "sources": sources}
        texts.append(model_card(card_dict(training["config"], training=training)))
    assert "no patient" in texts[0] and "no patient" not in texts[1]
    assert "10 whole studies" in texts[1] and "Ward7" in texts[1]
