"""/healthz: what makes it 503, what is only a notice, and that looking never fails."""

from __future__ import annotations

import json
from typing import Any

from lnfast._version import __version__
from lnfast.node.monitor.health import Finding, Health

DISK = Finding("disk-full", "1.0 GiB are free, 2.0 GiB are wanted")


def answer(health: Health) -> tuple[int, dict[str, Any]]:
    page = health.page()
    assert page.content_type == "application/json" and page.text.endswith("}\n")
    return page.status, json.loads(page.text)


def test_it_is_starting_then_well_then_stopping() -> None:
    health = Health({}, {}, {"exams": lambda: {"done": 3}})
    status, content = answer(health)
    assert (status, content["status"], content["reasons"]) == (503, "starting", [])
    assert not health.healthy()
    health.phase = "running"
    status, content = answer(health)
    assert (status, content["status"], content["version"]) == (200, "ok", __version__)
    assert content["exams"] == {"done": 3} and content["uptime_s"] >= 0
    assert health.healthy()
    health.phase = "stopping"
    status, content = answer(health)
    assert (status, content["status"]) == (503, "stopping")


def test_what_a_check_finds_is_a_reason_as_long_as_it_is_so() -> None:
    found = [DISK]
    health = Health({"disk": lambda: found}, {}, {})
    health.phase = "running"
    status, content = answer(health)
    assert (status, content["status"]) == (503, "unhealthy")
    assert content["reasons"] == [{"code": "disk-full", "message": DISK.message}]
    found.clear()
    assert answer(health)[0] == 200


def test_a_notice_does_not_make_it_unhealthy() -> None:
    health = Health({}, {"dead": lambda: [Finding("dead-exams", "2 exams are dead: lnfast node status")]}, {})
    health.phase = "running"
    status, content = answer(health)
    assert status == 200 and content["notices"][0]["code"] == "dead-exams" and health.healthy()


def test_a_failure_stays_and_is_told_once() -> None:
    health = Health({}, {}, {})
    health.phase = "running"
    health.fail(Finding("thread-died", "lnfast-worker"))
    health.fail(Finding("thread-died", "lnfast-sender-pacs"))
    status, content = answer(health)
    assert status == 503
    assert content["reasons"] == [{"code": "thread-died", "message": "lnfast-worker"}]


def test_what_cannot_be_looked_at_is_not_well_and_its_words_are_not_told() -> None:
    def locked() -> list[Finding]:
        raise OSError("SECRET^NAME is locked")

    health = Health({"ledger": locked}, {"disk": locked}, {"exams": locked})
    health.phase = "running"
    status, content = answer(health)
    assert status == 503 and "SECRET" not in json.dumps(content)
    assert content["reasons"] == [{"code": "ledger-failed", "message": "ledger could not be checked: OSError"}]
    assert content["notices"][0]["code"] == "disk-failed" and content["exams"] is None
