"""Lengths as they are written."""

from __future__ import annotations

from lnfast.measure import Rules


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
