"""Lengths and positions as they are written."""

from __future__ import annotations

from lnfast.measure import Rules

# The letters of LPS axes, each with the one of the other way.
SIGNS = (("L", "R"), ("P", "A"), ("S", "I"))


def length_text(value_mm: float, rules: Rules) -> str:
    """Return millimetres with the fewest decimals (at least one) that show on which side of the limit they are.

    8.04 of a node above the limit of 8 is "8.04", since "8.0" would contradict the word "suspicious".
    """
    text = ""
    for digits in range(1, 8):
        text = f"{value_mm:.{digits}f}"
        if (float(text) > rules.suspicious_mm) == rules.exceeded(value_mm):
            break
    return text


def direction_text(ras_mm: tuple[float, float, float]) -> str:
    """Return a position as radiologists write it: ``L 12, P 30, S 45 mm``."""
    lps = (-ras_mm[0], -ras_mm[1], ras_mm[2])
    parts = (f"{signs[value < 0]} {abs(round(value))}" for value, signs in zip(lps, SIGNS, strict=True))
    return ", ".join(parts) + " mm"
