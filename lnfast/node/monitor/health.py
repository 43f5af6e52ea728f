"""Whether the node does its work, as a page for a monitor and for the service manager.

``/healthz`` answers 200 with ``"status": "ok"``, or 503 with ``"starting"``, ``"stopping"`` or ``"unhealthy"`` and the
reasons. What needs a person but stops nothing, such as a dead exam, is a notice and leaves the answer at 200.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lnfast._version import __version__
from lnfast.node.monitor.http import Page

Phase = Literal["starting", "running", "stopping"]
Fact = Callable[[], Any]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        code: in kebab case, stable.
        message: one line, without anything of a patient.
    """

    code: str
    message: str


Check = Callable[[], Iterable[Finding]]


class Health:
    """What is wrong with the node, asked anew each time. Safe from many threads.

    Args:
        checks: by what they look at; what one finds makes the node unhealthy.
        notices: the same of what needs a person and stops nothing.
        facts: further entries of the page.
    """

    def __init__(self, checks: Mapping[str, Check], notices: Mapping[str, Check], facts: Mapping[str, Fact]) -> None:
        self._checks, self._notices, self._facts = dict(checks), dict(notices), dict(facts)
        self._started = time.monotonic()
        self.phase: Phase = "starting"
        self._lock = threading.Lock()
        self._failures: dict[str, Finding] = {}

    def fail(self, finding: Finding) -> None:
        """Keep something that does not get better by itself; a second one of the same code is left out."""
        with self._lock:
            self._failures.setdefault(finding.code, finding)

    def reasons(self) -> list[Finding]:
        """Everything that makes the node unhealthy now."""
        with self._lock:
            failures = list(self._failures.values())
        return failures + _findings(self._checks)

    def healthy(self) -> bool:
        """Whether the node runs and nothing is wrong."""
        return self.phase == "running" and not self.reasons()

    def page(self) -> Page:
        """Return the page ``/healthz``."""
        reasons = self.reasons()
        status = "unhealthy" if reasons and self.phase == "running" else self.phase
        content = {
            "status": "ok" if status == "running" else status,
            "reasons": [finding.__dict__ for finding in reasons],
            "notices": [finding.__dict__ for finding in _findings(self._notices)],
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started, 1),
            **{name: _fact(fact) for name, fact in self._facts.items()},
        }
        return Page(200 if status == "running" else 503, "application/json", json.dumps(content, indent=2) + "\n")


def _findings(checks: Mapping[str, Check]) -> list[Finding]:
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            found += check()
        except Exception as error:  # what cannot be looked at is not well
            found.append(Finding(f"{name}-failed", f"{name} could not be checked: {type(error).__name__}"))
    return found


def _fact(fact: Fact) -> Any:
    try:
        return fact()
    except Exception:  # the checks say what is wrong
        return None
