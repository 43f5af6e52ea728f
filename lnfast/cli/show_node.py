"""The tables that ``lnfast node status`` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from lnfast.cli.console import stdout, table

MOST_ROWS = 20


def show_status(found: dict[str, Any], now: float) -> None:
    """Print what `lnfast.node.status.status` returned.

    Args:
        found: that.
        now: Unix seconds.
    """
    console = stdout()
    console.print("the node runs" if found["running"] else "the node does not run")
    disk = f"{found['free_gib']:.1f} GiB free, {found['min_free_gib']:.1f} wanted, in {found['spool']}"
    console.print(Text(disk, style="" if found["takes_instances"] else "red"), soft_wrap=True)
    console.print("exams: " + ", ".join(f"{number} {state}" for state, number in found["exams"].items()), "")
    if found["waiting"]:
        _show_exams(console, found["waiting"], now)
    if found["last_refused"]:
        _show_exams(console, found["last_refused"][-MOST_ROWS:], now)
    if found["targets"]:
        _show_targets(console, found["targets"])
    if found["outbox"]:
        _show_outbox(console, found["outbox"], now)
    if found["exams"]["dead"]:
        console.print("dead exams wait for a person: mend the reason, then lnfast node retry EXAM, or --all")


def show_exam(found: dict[str, Any], now: float) -> None:
    """Print what `lnfast.node.status.exam_status` returned, the last event at the end."""
    console = stdout()
    _show_exams(console, [found["exam"]], now)
    if found["results"]:
        rows = table(console, "result", "made", "released", right=("result",))
        for result in found["results"]:
            released = result["released_at"]
            rows.add_row(
                str(result["number"]), ago(now - result["created_at"]), ago(now - released) if released else ""
            )
        console.print(rows, "")
    if found["jobs"]:
        _show_outbox(console, found["jobs"], now)
    if found["events"]:
        rows = table(console, "event", "when", "code", "")
        for event in reversed(found["events"]):
            rows.add_row(event["kind"], ago(now - event["at"]), event["code"] or "", Text(event["message"] or ""))
        console.print(rows)


def _show_exams(console: Console, exams: list[dict[str, Any]], now: float) -> None:
    rows = table(console, "exam", "state", "images", "last image", "reason", right=("images",))
    for exam in exams[:MOST_ROWS]:
        state = "running" if exam["running"] else exam["state"]
        reason = f"{exam['code']}: {exam['message']}" if exam["code"] else _wait(exam)
        style = "red" if exam["state"] == "dead" else ""
        rows.add_row(
            exam["id"], Text(state, style=style), str(exam["instances"]), ago(now - exam["last_at"]), Text(reason)
        )
    console.print(rows, *_left_out(exams), "")


def _wait(exam: dict[str, Any]) -> str:
    """Return what an exam without a code waits for."""
    if exam["state"] == "done":
        return "waits to be sent"
    waits = {
        None: "images may still come",
        "released": "waits until nothing more comes",
        "retried": "is taken up again",
    }
    return waits.get(exam["ended"], "the transfer broke off; waits for the rest")


def _show_targets(console: Console, targets: dict[str, dict[str, Any]]) -> None:
    rows = table(console, "target", "pending", "sent", "dead", "in node.toml", right=("pending", "sent", "dead"))
    for name, target in targets.items():
        note = "enabled" if target["enabled"] else "not enabled" if target["configured"] else "missing"
        rows.add_row(name, str(target["pending"]), str(target["sent"]), str(target["dead"]), note)
    console.print(rows, "")


def _show_outbox(console: Console, jobs: list[dict[str, Any]], now: float) -> None:
    rows = table(console, "exam", "target", "state", "queued", "tries", "last answer", "next try", right=("tries",))
    for job in jobs[:MOST_ROWS]:
        answer = " ".join(str(part) for part in (job["code"], job["status"]) if part)
        due = f"in {span(job['next_at'] - now)}" if job["next_at"] > now else "in its turn"
        style = "red" if job["state"] == "dead" else ""
        rows.add_row(
            job["exam"],
            job["target"],
            Text(job["state"], style=style),
            ago(now - job["first_at"]),
            str(job["attempts"]),
            answer,
            due if job["state"] == "pending" else "",
        )
    console.print(rows, *_left_out(jobs), "")


def _left_out(rows: list[dict[str, Any]]) -> list[str]:
    return [f"... and {len(rows) - MOST_ROWS} more; --json lists them"] if len(rows) > MOST_ROWS else []


def ago(seconds: float) -> str:
    """Return how long ago something was, in words."""
    return f"{span(seconds)} ago" if seconds >= 1 else "now"


def span(seconds: float) -> str:
    """Return a span of time in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
